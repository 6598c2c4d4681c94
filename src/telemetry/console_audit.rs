//! Audit records of the console's commands. `docs/audit.md` has the fields.

use super::audit::SCHEMA;
use super::lines::{AUDIT, VERIFIED};
use super::noise::{NoiseLimiter, RecordKey};
use crate::names::client_addr::ClientAddr;
use crate::names::{SessionId, visible};
use crate::words::word_enum;

/// Longest text of a field.
const MAX_FIELD: usize = 256;

word_enum! {
    /// Result of a command.
    pub enum CommandOutcome {
        /// The command was executed.
        Done = "done",
        /// The person may not use it.
        Refused = "refused",
        /// The execution failed.
        Failed = "failed",
    }
}

/// Record of a command that changes the service, or would.
#[derive(Clone, Copy, Debug)]
pub struct CommandRecord<'a> {
    /// Id of the console connection.
    pub session: SessionId,
    /// Address of the client.
    pub client: ClientAddr,
    /// The listener's name.
    pub listener: &'a str,
    /// URL of the issuer.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// The command, in one line.
    pub command: &'a str,
    /// Result.
    pub outcome: CommandOutcome,
    /// Reason of a refusal or failure.
    pub reason: Option<&'a str>,
}

impl CommandRecord<'_> {
    /// Writes the record. Refused commands have a budget for each person; the others are always written.
    pub fn write(&self, noise: &NoiseLimiter) {
        let key = (self.outcome == CommandOutcome::Refused)
            .then_some(RecordKey::Refused(self.issuer, self.subject));
        let Some(left_out) = key.map_or(Some(0), |key| noise.record(key)) else { return };
        let field = |text: &str| visible(text, MAX_FIELD);
        tracing::info!(
            name: VERIFIED,
            target: AUDIT,
            schema = SCHEMA,
            event = "console.command",
            session = %self.session,
            client = %self.client,
            listener = field(self.listener),
            issuer = field(self.issuer),
            subject = field(self.subject),
            command = field(self.command),
            outcome = self.outcome.word(),
            reason = self.reason.map(field),
            left_out = (left_out > 0).then_some(left_out),
            "console command"
        );
    }
}
