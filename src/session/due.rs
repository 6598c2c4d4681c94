//! Deadlines of a login, measured from accept.

use tokio::time::{Instant, timeout_at};

use super::outcome::LoginError;
use crate::config::LimitSettings;
use crate::refusal::Stage;
use crate::telemetry::login_metrics::{LoginMetrics, LoginStep};

/// The deadlines of a login.
#[derive(Clone, Copy)]
pub(super) struct LoginDeadlines {
    /// Moment of accept.
    pub(super) accepted: Instant,
    /// Deadline of the client's token.
    pub(super) client: Instant,
    /// Deadline of ReadyForQuery.
    pub(super) login: Instant,
}

impl LoginDeadlines {
    /// Deadlines of a login that begins now.
    pub(super) fn of(limits: &LimitSettings) -> Self {
        let accepted = Instant::now();
        Self {
            accepted,
            client: accepted + limits.client_login_timeout,
            login: accepted + limits.login_timeout,
        }
    }
}

/// Runs one step of a login and records its duration, also if it fails.
pub(super) async fn timed<V>(metrics: &LoginMetrics, step: LoginStep, work: impl Future<Output = V>) -> V {
    let begun = Instant::now();
    let result = work.await;
    metrics.step(step, begun.elapsed());
    result
}

/// Runs one step within the login's deadline. `stage` is named in the error if it passes.
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
