//! Kinds of audit records.

use super::labels::ConnectionOutcome;
use crate::words::word_enum;

word_enum! {
    /// Event of a record.
    pub(super) enum AuditEvent {
        /// A session starts.
        SessionStart = "session.start",
        /// A session ended.
        SessionEnd = "session.end",
        /// A console connection starts.
        ConsoleStart = "console.start",
        /// A console connection ended.
        ConsoleEnd = "console.end",
        /// A login was refused.
        LoginRefused = "login.refused",
        /// A cancel request ended.
        Cancel = "cancel",
        /// A probe for a token, an issuer, or health.
        ConnectionProbe = "connection.probe",
        /// A connection never spoke the listener's protocol.
        ConnectionDropped = "connection.dropped",
        /// A connection ended in another way before it was a session.
        ConnectionAborted = "connection.aborted",
    }
}

impl AuditEvent {
    /// Event of the end of a connection that never became a session.
    pub(super) fn of(outcome: ConnectionOutcome) -> Self {
        match outcome {
            ConnectionOutcome::Refused => Self::LoginRefused,
            ConnectionOutcome::Cancel => Self::Cancel,
            ConnectionOutcome::NoToken | ConnectionOutcome::Discovery | ConnectionOutcome::HealthCheck => {
                Self::ConnectionProbe
            }
            ConnectionOutcome::Dropped => Self::ConnectionDropped,
            ConnectionOutcome::Session
            | ConnectionOutcome::Console
            | ConnectionOutcome::Lost
            | ConnectionOutcome::Aborted => Self::ConnectionAborted,
        }
    }
}
