//! Ends of connections as facts: responsible party, log line, audit record. `explain.rs` words them for
//! clients.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::gate::ClusterClosed;
use super::login_rate::QueueFull;
use super::permits::{AdmissionError, ConnectionAdmission, LimitScope};
use super::registry::AccessWithdrawn;
use crate::aws::iam_token::SignError;
use crate::aws::sts::StsError;
use crate::config::DatabaseProtocol;
use crate::console::connection::ConsoleEnd;
use crate::identity::{PolicyError, TokenFault, VerifyError};
use crate::names::SessionId;
use crate::net::dial::DialError;
use crate::net::tls_error;
use crate::protocol::{
    CancelOutcome, LoginFailure, NegotiationError, Protocol, ProtocolError, ServerLoginError,
    TokenRequestError, WithoutToken,
};
use crate::refusal::{Fault, Refusal, Stage};
use crate::relay::{EndCause, RelayEnd, RelayReport};
use crate::telemetry::connection_metrics::ConnectionMetrics;
use crate::telemetry::labels::{CancelResult, ConnectionOutcome, DropReason, SessionEndReason};
use crate::telemetry::log_queue::AuditBlocked;
use crate::telemetry::login_metrics::{LoginMetrics, RefusedLogin};
use crate::telemetry::login_trace::{LoginResult, LoginTrace};
use crate::telemetry::noise::NoiseLimiter;
use crate::telemetry::session_outcome::{EndReason, SessionOutcome};

/// Reason why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Error in the first packets.
    #[error("{0}")]
    Startup(Box<dyn ProtocolError>),
    /// No permit.
    #[error(transparent)]
    NoPlace(#[from] AdmissionError),
    /// The client did not send its token in time.
    #[error("the client did not send its token within limits.client_login_timeout")]
    ClientTimedOut,
    /// No token, or an unreadable one.
    #[error("{0}")]
    Ask(Box<dyn TokenRequestError>),
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
    /// An operator has closed the cluster.
    #[error(transparent)]
    Closed(#[from] ClusterClosed),
    /// The upstream refused the login.
    #[error("{0}")]
    Upstream(Box<dyn ServerLoginError>),
    /// The upstream did not finish the login in time.
    #[error("{0} does not finish the login in time")]
    ServerSilent(SocketAddr),
    /// The login exceeded `limits.login_timeout` in this stage.
    #[error("limits.login_timeout passed at stage {}", .0.word())]
    TimedOut(Stage),
}

impl From<AuditBlocked> for LoginError {
    fn from(why: AuditBlocked) -> Self {
        Self::Audit(why)
    }
}

impl<E: ServerLoginError> From<LoginFailure<E>> for LoginError {
    fn from(why: LoginFailure<E>) -> Self {
        match why {
            LoginFailure::Silent(addr) => Self::ServerSilent(addr),
            LoginFailure::Dial(why) => Self::Dial(why),
            LoginFailure::Server(why) => Self::Upstream(Box::new(why)),
        }
    }
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
            | Self::Sts(StsError::Refused { .. }) => Fault::Client,
            Self::Upstream(why) => why.fault(),
            Self::NoPlace(AdmissionError::LimitReached(full)) => match full.scope {
                LimitScope::Address | LimitScope::User(_) | LimitScope::Console => Fault::Client,
                LimitScope::Clients | LimitScope::Logins | LimitScope::Cluster(_) | LimitScope::Group(_) => {
                    Fault::Operator
                }
            },
            Self::NoPlace(AdmissionError::Descriptors)
            | Self::Audit(_)
            | Self::Queue(_)
            | Self::Closed(_)
            | Self::Sts(StsError::Misconfigured { .. }) => Fault::Operator,
            Self::Sts(_) | Self::Dial(_) | Self::ServerSilent(_) | Self::TimedOut(_) => Fault::Outside,
            Self::Sign(_) => Fault::Proxy,
        }
    }

    /// The reason, if the client ended the connection to get a token, and will come back. Not counted as a failed
    /// login.
    pub fn without_token(&self) -> Option<WithoutToken> {
        match self {
            Self::Ask(why) => why.without_token(),
            _ => None,
        }
    }
}

/// End of a connection.
#[derive(Debug)]
pub enum SessionEnd {
    /// The connection never spoke the listener's protocol.
    Dropped(NegotiationError),
    /// The connection had no verified token and was evicted for another one.
    Evicted,
    /// A login that did not become a session.
    Refused {
        /// Reason, for log and audit record.
        why: LoginError,
        /// Answer to the client.
        refusal: Box<Refusal>,
    },
    /// The connection was a cancel.
    Cancel(CancelOutcome),
    /// The client left before the welcome.
    NotWelcomed(io::Error),
    /// A relayed session.
    Carried(RelayReport),
    /// A connection to the console.
    Console(ConsoleEnd),
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
            Self::Cancel(CancelOutcome::Failed(error)) => {
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
            Self::Cancel(CancelOutcome::Failed(_)) => Some("cancel"),
            Self::Carried(RelayReport { end: RelayEnd::ServerLost(_), .. }) => Some("server_lost"),
            _ => None,
        }
    }

    /// Ends the trace of a refused login. A client that leaves to get a token has no trace.
    pub fn trace<P: Protocol>(&self, trace: &LoginTrace) {
        if let Self::Refused { why, refusal } = self
            && why.without_token().is_none()
        {
            let sqlstate = P::sqlstate(&refusal.condition).to_owned();
            trace.ended(LoginResult::Refused { stage: refusal.stage, sqlstate });
        }
    }

    /// Counts the end. `outcome` is the result of [`Self::outcome`], `duration` that of the connection.
    pub fn count(
        &self,
        outcome: &SessionOutcome,
        duration: Duration,
        protocol: DatabaseProtocol,
        (connections, logins): (&ConnectionMetrics, &LoginMetrics),
    ) {
        match self {
            Self::Dropped(NegotiationError::TooManyRefusals) => connections.closed_unheard(),
            Self::Evicted => connections.evicted(),
            _ => {}
        }
        if let (Self::Refused { refusal, .. }, Some(stage), Some(sqlstate)) =
            (self, outcome.stage, &outcome.sqlstate)
        {
            let (is_failure, is_internal) = (refusal.is_failure(), refusal.is_internal());
            logins.refused(RefusedLogin { protocol, stage, sqlstate, is_failure, is_internal }, duration);
        }
        connections.ended(outcome);
    }

    /// The end in the words of the audit record.
    pub fn outcome<P: Protocol>(&self) -> SessionOutcome {
        match self {
            Self::Dropped(NegotiationError::HealthCheck) => {
                SessionOutcome { routine: true, ..plain(ConnectionOutcome::HealthCheck) }
            }
            Self::Dropped(why) => SessionOutcome {
                routine: !why.tells_an_operator_something(),
                ..dropped(drop_reason(why), why.to_string())
            },
            // Anyone can cause any number of these. They are counted, and the acceptor logs a line.
            Self::Evicted => SessionOutcome {
                routine: true,
                ..dropped(
                    DropReason::Evicted,
                    "it was silent, and made room for another connection".to_owned(),
                )
            },
            Self::Refused { why, refusal } => match why.without_token() {
                Some(WithoutToken::Discovery) => {
                    SessionOutcome { routine: true, ..plain(ConnectionOutcome::Discovery) }
                }
                Some(WithoutToken::Left) => {
                    SessionOutcome { routine: true, ..plain(ConnectionOutcome::NoToken) }
                }
                None => SessionOutcome {
                    stage: Some(refusal.stage),
                    sqlstate: Some(P::sqlstate(&refusal.condition).to_owned()),
                    reason: Some(why.to_string()),
                    ..plain(ConnectionOutcome::Refused)
                },
            },
            Self::Cancel(cancel) => cancel_outcome(cancel),
            Self::NotWelcomed(error) => {
                let error = tls_error::describe(error);
                let reason = Some(format!("the client left at the welcome: {error}"));
                SessionOutcome { reason, ..plain(ConnectionOutcome::Lost) }
            }
            Self::Carried(carried) => carried_outcome::<P>(&carried.end),
            Self::Console(end) => console_outcome(end),
        }
    }
}

fn plain(word: ConnectionOutcome) -> SessionOutcome {
    SessionOutcome { word, end: None, stage: None, sqlstate: None, reason: None, routine: false }
}

fn ended(word: ConnectionOutcome, end: EndReason, reason: String) -> SessionOutcome {
    SessionOutcome { end: Some(end), reason: Some(reason), ..plain(word) }
}

fn dropped(why: DropReason, reason: String) -> SessionOutcome {
    ended(ConnectionOutcome::Dropped, EndReason::Dropped(why), reason)
}

fn drop_reason(why: &NegotiationError) -> DropReason {
    match why {
        NegotiationError::Silent | NegotiationError::HealthCheck => DropReason::Silent,
        NegotiationError::Header(_) | NegotiationError::UnexpectedHeader(_) => DropReason::ProxyHeader,
        NegotiationError::Length(_) => DropReason::Junk,
        NegotiationError::PreTlsBytes => DropReason::PreTlsBytes,
        NegotiationError::Repeated => DropReason::Repeated,
        NegotiationError::Tls(_) | NegotiationError::NoTls => DropReason::Tls,
        NegotiationError::TlsTimeout => DropReason::TlsTimeout,
        NegotiationError::TimedOut => DropReason::Timeout,
        NegotiationError::NoAlpn(_) => DropReason::NoAlpn,
        NegotiationError::TooManyRefusals => DropReason::Crowded,
        NegotiationError::Io(_) => DropReason::Io,
    }
}

fn cancel_outcome(outcome: &CancelOutcome) -> SessionOutcome {
    let (result, reason) = match outcome {
        CancelOutcome::Forwarded(told) => {
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            (CancelResult::Forwarded, format!("forwarded to {}", told.join(", ")))
        }
        CancelOutcome::Together => {
            let reason = "forwarded together with another cancel of the session";
            (CancelResult::Forwarded, reason.to_owned())
        }
        CancelOutcome::Ignored(why) => (CancelResult::Ignored, format!("ignored: {why}")),
        CancelOutcome::Failed(error) => (CancelResult::Failed, format!("failed: {error}")),
    };
    ended(ConnectionOutcome::Cancel, EndReason::Cancel(result), reason)
}

fn console_outcome(end: &ConsoleEnd) -> SessionOutcome {
    let (end, reason) = end.words();
    ended(ConnectionOutcome::Console, EndReason::Console(end), reason)
}

fn carried_outcome<P: Protocol>(end: &RelayEnd) -> SessionOutcome {
    let (end, reason) = match end {
        RelayEnd::ClientLeft => (SessionEndReason::ClientLeft, "the client left".to_owned()),
        RelayEnd::ClientLost(error) => {
            let error = tls_error::describe(error);
            (SessionEndReason::ClientLost, format!("the client's connection broke: {error}"))
        }
        RelayEnd::ServerEnded => (SessionEndReason::ServerEnded, "the server ended it".to_owned()),
        RelayEnd::ServerLost(Some(error)) => {
            let error = tls_error::describe(error);
            (SessionEndReason::ServerLost, format!("the server's connection broke: {error}"))
        }
        RelayEnd::ServerLost(None) => {
            (SessionEndReason::ServerLost, "the server closed without a word".to_owned())
        }
        RelayEnd::Ended { cause, told } => return ended_by_us::<P>(*cause, *told),
    };
    let is_lost = end == SessionEndReason::ServerLost;
    let word = if is_lost { ConnectionOutcome::Lost } else { ConnectionOutcome::Session };
    ended(word, EndReason::Session(end), reason)
}

fn ended_by_us<P: Protocol>(cause: EndCause, told: bool) -> SessionOutcome {
    let (end, reason) = match cause {
        EndCause::ClientIdle => (SessionEndReason::Idle, "session.client_idle_timeout passed"),
        EndCause::IdleInTransaction => {
            (SessionEndReason::IdleInTransaction, "session.idle_transaction_timeout passed")
        }
        EndCause::Lifetime => {
            (SessionEndReason::Lifetime, "session.max_lifetime, or that of its group, is reached")
        }
        EndCause::TokenExpired => (SessionEndReason::TokenExpired, "its token has expired"),
        EndCause::Withdrawn => {
            (SessionEndReason::Withdrawn, "the access of its subject or token is withdrawn")
        }
        EndCause::Killed => (SessionEndReason::Killed, "an operator ended it on the console"),
        EndCause::ClusterDrained => (SessionEndReason::ClusterDrained, "an operator drains the cluster"),
        EndCause::Drained => {
            (SessionEndReason::Drained, "the proxy is stopping, and no transaction was open")
        }
        EndCause::Stopped => (SessionEndReason::Stopped, "the proxy is stopping and waits no longer"),
    };
    let untold = if told { "" } else { "; the client was in the middle of a message and could not be told" };
    SessionOutcome {
        sqlstate: told.then(|| P::sqlstate(&cause.farewell().condition).to_owned()),
        ..ended(ConnectionOutcome::Session, EndReason::Session(end), format!("{reason}{untold}"))
    }
}

#[cfg(test)]
mod tests;
