//! Deadlines of a login, measured from accept.

use tokio::time::{Instant, timeout_at};

use super::outcome::LoginError;
use crate::config::LimitSettings;
use crate::refusal::Stage;
use crate::telemetry::login_metrics::{LoginMetrics, LoginStep};
use crate::telemetry::login_trace::{LoginTrace, SpanName};

/// The deadlines of a login.
#[derive(Clone, Copy)]
pub(super) struct LoginDeadlines<'t> {
    /// Moment of accept.
    pub(super) accepted: Instant,
    /// Deadline of the client's token.
    pub(super) client: Instant,
    /// Deadline of ReadyForQuery.
    pub(super) login: Instant,
    /// Trace of the login, if it has one.
    pub(super) trace: Option<&'t LoginTrace>,
}

impl<'t> LoginDeadlines<'t> {
    /// Deadlines of a login that was accepted at this moment.
    pub(super) fn of(limits: &LimitSettings, accepted: Instant, trace: Option<&'t LoginTrace>) -> Self {
        Self {
            accepted,
            client: accepted + limits.client_login_timeout,
            login: accepted + limits.login_timeout,
            trace,
        }
    }

    /// Records in the trace, if there is one.
    pub(super) fn traced(&self, record: impl FnOnce(&LoginTrace)) {
        if let Some(trace) = self.trace {
            record(trace);
        }
    }
}

/// Runs one step of a login and records its duration, also if it fails.
pub(super) async fn timed<V>(
    (metrics, due): (&LoginMetrics, LoginDeadlines<'_>),
    step: LoginStep,
    work: impl Future<Output = V>,
) -> V {
    let begun = Instant::now();
    let result = work.await;
    metrics.step(step, begun.elapsed());
    due.traced(|trace| trace.step(SpanName::Step(step), begun));
    result
}

/// Runs one step within the login's deadline. `stage` is named in the error if it passes.
pub(super) async fn within<V, E>(
    due: LoginDeadlines<'_>,
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
