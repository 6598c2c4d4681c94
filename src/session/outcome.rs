//! Ends of connections as facts: responsible party, log line, audit record. `explain.rs` words them for
//! clients.

use std::net::SocketAddr;
use std::time::Duration;

use super::login_rate::QueueFull;
use super::permits::{AdmissionError, ConnectionAdmission, LimitScope};
use super::registry::AccessWithdrawn;
use crate::aws::iam_token::SignError;
use crate::aws::sts::StsError;
use crate::identity::{PolicyError, TokenFault, VerifyError};
use crate::names::SessionId;
use crate::net::dial::DialError;
use crate::net::tls_error;
use crate::postgres::cancel::CancelIgnored;
use crate::postgres::client::TokenError;
use crate::postgres::error_response::sqlstate;
use crate::postgres::message::WireError;
use crate::postgres::negotiate::NegotiationError;
use crate::postgres::oauthbearer::BearerError;
use crate::postgres::server_login::UpstreamLoginError;
use crate::postgres::startup::StartupError;
use crate::refusal::{Refusal, Stage};
use crate::relay::{EndCause, RelayEnd, RelayReport};
use crate::telemetry::audit::SessionOutcome;
use crate::telemetry::log_queue::AuditBlocked;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::noise::NoiseLimiter;

/// Reason why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Error in the first packets.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// No permit.
    #[error(transparent)]
    NoPlace(#[from] AdmissionError),
    /// The client did not send its token in time.
    #[error("the client did not send its token within limits.client_login_timeout")]
    ClientTimedOut,
    /// No token, or an unreadable one.
    #[error(transparent)]
    Ask(#[from] TokenError),
    /// The token was rejected.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The access policy denied the login.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The person's access was withdrawn.
    #[error(transparent)]
    Withdrawn(#[from] AccessWithdrawn),
    /// The audit record could be lost.
    #[error("audit records cannot be written: {0}")]
    Audit(AuditBlocked),
    /// STS failed.
    #[error(transparent)]
    Sts(#[from] StsError),
    /// The IAM token could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The upstream could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The cluster's login queue is full.
    #[error(transparent)]
    Queue(#[from] QueueFull),
    /// The upstream refused the login.
    #[error(transparent)]
    Upstream(#[from] UpstreamLoginError),
    /// The login exceeded `limits.login_timeout` in this stage.
    #[error("limits.login_timeout passed at stage {}", .0.word())]
    TimedOut(Stage),
}

impl From<AuditBlocked> for LoginError {
    fn from(why: AuditBlocked) -> Self {
        Self::Audit(why)
    }
}

/// The party that has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The person who runs the client.
    Client,
    /// The operator of the issuer, AWS or the database, or nobody.
    Outside,
    /// The person who configured role, policy or limits.
    Operator,
    /// The developers of the proxy.
    Proxy,
}

impl LoginError {
    /// The party that has to act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Verify(VerifyError::Unverified(TokenFault::KeysUnavailable { .. })) => Fault::Outside,
            Self::Startup(_)
            | Self::ClientTimedOut
            | Self::Ask(_)
            | Self::Verify(_)
            | Self::Policy(_)
            | Self::Withdrawn(_)
            | Self::Sts(StsError::Refused { .. })
            | Self::Upstream(UpstreamLoginError::NotIam { .. }) => Fault::Client,
            Self::Upstream(UpstreamLoginError::Refused(error)) => match error.class() {
                "" | "08" | "53" | "57" | "58" | "F0" | "XX" => Fault::Outside,
                _ => Fault::Client,
            },
            Self::NoPlace(AdmissionError::LimitReached(full)) => match full.scope {
                LimitScope::Address | LimitScope::User(_) => Fault::Client,
                LimitScope::Clients | LimitScope::Logins | LimitScope::Cluster(_) | LimitScope::Group(_) => {
                    Fault::Operator
                }
            },
            Self::NoPlace(AdmissionError::Descriptors)
            | Self::Audit(_)
            | Self::Queue(_)
            | Self::Sts(StsError::Misconfigured { .. }) => Fault::Operator,
            Self::Sts(_) | Self::Dial(_) | Self::Upstream(_) | Self::TimedOut(_) => Fault::Outside,
            Self::Sign(_) => Fault::Proxy,
        }
    }

    /// True if psql ends the connection to prompt for a password, or libpq to get a token; both come back.
    /// Not counted as a failed login.
    pub fn is_before_login(&self) -> bool {
        matches!(self, Self::Ask(why) if why.is_before_login())
    }
}

/// End of a connection.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection never spoke PostgreSQL.
    Dropped(NegotiationError),
    /// The connection had no verified token and was evicted for another one.
    Evicted,
    /// A login that did not become a session.
    Refused {
        /// Reason, for log and audit record.
        why: LoginError,
        /// Answer to the client.
        refusal: Refusal,
    },
    /// The cancel was forwarded to these servers.
    CancelForwarded(Vec<SocketAddr>),
    /// Another cancel of the same session was forwarded for both.
    CancelTogether,
    /// The cancel was ignored.
    CancelIgnored(CancelIgnored),
    /// The cancel could not be delivered.
    CancelFailed(DialError),
    /// The client left before the welcome.
    NotWelcomed(WireError),
    /// A relayed session.
    Carried(RelayReport),
}

impl SessionEnd {
    /// End of a connection that was evicted or refused.
    pub fn evicted(place: &ConnectionAdmission) -> Self {
        match place {
            ConnectionAdmission::Login(_) => Self::Evicted,
            ConnectionAdmission::Refusal(_) => Self::Dropped(NegotiationError::TooManyRefusals),
        }
    }

    /// Writes a log line if somebody other than the client should act; the audit record has everything else.
    /// Rate-limited, because a common cause affects many logins.
    pub fn log(&self, session: SessionId, noise: &NoiseLimiter) {
        let Some(kind) = self.trouble() else { return };
        let Some(left_out) = noise.line(kind) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        match self {
            Self::Refused { why, .. } if why.fault() == Fault::Proxy => {
                tracing::error!(%session, error = %why, left_out, "login failed by a fault of the proxy");
            }
            Self::Refused { why, .. } => {
                tracing::warn!(%session, error = %why, left_out, "login failed, and not by the client's fault");
            }
            Self::CancelFailed(error) => {
                tracing::warn!(%session, %error, left_out, "a cancel was not delivered");
            }
            Self::Carried(RelayReport { end: RelayEnd::ServerLost(error), .. }) => {
                let error = error.as_ref().map(ToString::to_string);
                tracing::warn!(%session, error, left_out, "the server closed the connection without a word");
            }
            _ => {}
        }
    }

    /// Kind of log line, if an operator should act.
    fn trouble(&self) -> Option<&'static str> {
        match self {
            // The shortage has its own log line and affects many connections.
            Self::Refused { why: LoginError::NoPlace(AdmissionError::Descriptors), .. } => None,
            Self::Refused { why, .. } if why.fault() == Fault::Client => None,
            Self::Refused { refusal, .. } => Some(refusal.stage.word()),
            Self::CancelFailed(_) => Some("cancel"),
            Self::Carried(RelayReport { end: RelayEnd::ServerLost(_), .. }) => Some("server_lost"),
            _ => None,
        }
    }

    /// Counts the end. `outcome` is the result of [`Self::outcome`], `duration` that of the connection.
    pub fn count(&self, outcome: &SessionOutcome, duration: Duration, metrics: &Metrics) {
        let carried = match self {
            Self::Carried(carried) => (carried.to_server, carried.to_client),
            _ => (0, 0),
        };
        match self {
            Self::Dropped(NegotiationError::TooManyRefusals) => metrics.closed_unheard(),
            Self::Evicted => metrics.login_evicted(),
            _ => {}
        }
        metrics.connection_ended(outcome, duration, carried);
    }

    /// The end in the words of the audit record.
    pub fn outcome(&self) -> SessionOutcome {
        let plain = |word| SessionOutcome {
            word,
            end: None,
            stage: None,
            sqlstate: None,
            reason: None,
            routine: false,
        };
        let because = |word, reason: String| SessionOutcome { reason: Some(reason), ..plain(word) };
        let cancel = |end, reason| SessionOutcome { end: Some(end), ..because("cancel", reason) };
        match self {
            Self::Dropped(NegotiationError::HealthCheck) => {
                SessionOutcome { routine: true, ..plain("health_check") }
            }
            Self::Dropped(why) => SessionOutcome {
                end: Some(why.word()),
                routine: !why.tells_an_operator_something(),
                ..because("dropped", why.to_string())
            },
            // Anyone can cause any number of these. They are counted, and the acceptor logs a line.
            Self::Evicted => SessionOutcome {
                end: Some("evicted"),
                routine: true,
                ..because("dropped", "it was silent, and made room for another connection".to_owned())
            },
            Self::Refused { why: LoginError::Ask(TokenError::Bearer(BearerError::Discovery)), .. } => {
                SessionOutcome { routine: true, ..plain("discovery") }
            }
            Self::Refused { why, .. } if why.is_before_login() => {
                SessionOutcome { routine: true, ..plain("no_token") }
            }
            Self::Refused { why, refusal } => SessionOutcome {
                stage: Some(refusal.stage.word()),
                sqlstate: Some(sqlstate(&refusal.condition).to_owned()),
                ..because("refused", why.to_string())
            },
            Self::CancelForwarded(told) => {
                let told: Vec<_> = told.iter().map(ToString::to_string).collect();
                cancel("forwarded", format!("forwarded to {}", told.join(", ")))
            }
            Self::CancelTogether => {
                cancel("forwarded", "forwarded together with another cancel of the session".to_owned())
            }
            Self::CancelIgnored(why) => cancel("ignored", format!("ignored: {why}")),
            Self::CancelFailed(error) => cancel("failed", format!("failed: {error}")),
            Self::NotWelcomed(error) => because("lost", format!("the client left at the welcome: {error}")),
            Self::Carried(carried) => carried_outcome(&carried.end),
        }
    }
}

fn carried_outcome(end: &RelayEnd) -> SessionOutcome {
    let (word, end, reason) = match end {
        RelayEnd::ClientLeft => ("session", "client_left", "the client left".to_owned()),
        RelayEnd::ClientLost(error) => (
            "session",
            "client_lost",
            format!("the client's connection broke: {}", tls_error::describe(error)),
        ),
        RelayEnd::ServerEnded => ("session", "server_ended", "the server ended it".to_owned()),
        RelayEnd::ServerLost(Some(error)) => {
            ("lost", "server_lost", format!("the server's connection broke: {}", tls_error::describe(error)))
        }
        RelayEnd::ServerLost(None) => ("lost", "server_lost", "the server closed without a word".to_owned()),
        RelayEnd::Ended { cause, told } => return ended_by_us(*cause, *told),
    };
    SessionOutcome { word, end: Some(end), stage: None, sqlstate: None, reason: Some(reason), routine: false }
}

fn ended_by_us(cause: EndCause, told: bool) -> SessionOutcome {
    let (end, reason) = match cause {
        EndCause::ClientIdle => ("idle", "session.client_idle_timeout passed"),
        EndCause::IdleInTransaction => ("idle_in_transaction", "session.idle_transaction_timeout passed"),
        EndCause::Lifetime => ("lifetime", "session.max_lifetime, or that of its group, is reached"),
        EndCause::TokenExpired => ("token_expired", "its token has expired"),
        EndCause::Withdrawn => ("withdrawn", "the access of its subject or token is withdrawn"),
        EndCause::Drained => ("drained", "the proxy is stopping, and no transaction was open"),
        EndCause::Stopped => ("stopped", "the proxy is stopping and waits no longer"),
    };
    let untold = if told { "" } else { "; the client was in the middle of a message and could not be told" };
    SessionOutcome {
        word: "session",
        end: Some(end),
        stage: None,
        sqlstate: told.then(|| sqlstate(&cause.farewell().condition).to_owned()),
        reason: Some(format!("{reason}{untold}")),
        routine: false,
    }
}

#[cfg(test)]
mod tests;
