//! The one clock of a login, started at accept.

use tokio::time::{Instant, timeout_at};

use super::SessionLimits;
use super::outcome::LoginError;
use crate::refusal::Stage;

/// The deadlines of a login.
#[derive(Clone, Copy)]
pub(super) struct LoginDeadlines {
    /// Of the client's token.
    pub(super) client: Instant,
    /// Of ReadyForQuery.
    pub(super) login: Instant,
}

impl LoginDeadlines {
    /// The deadlines of a login that begins now.
    pub(super) fn of(limits: &SessionLimits) -> Self {
        let accepted = Instant::now();
        Self { client: accepted + limits.client_login_timeout, login: accepted + limits.login_timeout }
    }
}

/// Runs one step inside the login's deadline; `stage` is to blame when it passes.
pub(super) async fn within<V, E>(
    due: LoginDeadlines,
    stage: Stage,
    step: impl Future<Output = Result<V, E>>,
) -> Result<V, LoginError>
where
    LoginError: From<E>,
{
    match timeout_at(due.login, step).await {
        Ok(result) => result.map_err(LoginError::from),
        Err(_) => Err(LoginError::TimedOut(stage)),
    }
}
