//! Audit records of a connection: one when it becomes a session, and one at its end, for any end, joined by the session id.
//! Write-only for the rest of the program. `docs/audit.md` has the schema.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::audit_event::AuditEvent;
use super::labels::ConnectionOutcome;
use super::lines::{AUDIT, NOTICE, UNVERIFIED, VERIFIED};
use super::noise::{NoiseLimiter, RecordKey};
use super::session_outcome::{EndReason, SessionOutcome};
use crate::config::DatabaseProtocol;
use crate::names::client_addr::ClientAddr;
use crate::names::{SessionId, visible};
use crate::refusal::Stage;

/// Version of the records' fields. It changes when a field is removed or means something else; new fields may be added.
pub(super) const SCHEMA: u8 = 1;

/// Longest string of a field. Most come from outside.
const MAX_FIELD: usize = 256;

/// Longest `options` parameter that is recorded. Recorded because it can change the role.
const MAX_OPTIONS: usize = 1_024;

/// The records of one connection. The last one is written on drop, so that a panic leaves a record too.
#[derive(Debug)]
pub struct AuditRecord {
    session: SessionId,
    client: ClientAddr,
    via: Option<SocketAddr>,
    listener: String,
    protocol: DatabaseProtocol,
    started: Instant,
    facts: AuditFacts,
    outcome: SessionOutcome,
    /// True once the record of its start is written.
    is_session: bool,
    noise: Arc<NoiseLimiter>,
}

#[derive(Debug, Default)]
struct AuditFacts {
    tls: Option<&'static str>,
    tls_server_name: Option<String>,
    client_certificate: Option<String>,
    asked_user: Option<String>,
    application_name: Option<String>,
    options: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    token_id: Option<String>,
    db_user: Option<String>,
    database: Option<String>,
    cluster: Option<String>,
    role_session_name: Option<String>,
    access_key_id: Option<String>,
    upstream_reused: Option<bool>,
    upstream_addr: Option<SocketAddr>,
    upstream_pid: Option<i64>,
    statement_cancelled: Option<bool>,
    to_server: u64,
    to_client: u64,
    right_cancel_key: bool,
    console: Option<&'static str>,
}

/// Identity in the verified token.
#[derive(Clone, Copy, Debug)]
pub struct AuditIdentity<'a> {
    /// The issuer's URL.
    pub issuer: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// The token's `jti`.
    pub token_id: Option<&'a str>,
}

impl AuditRecord {
    /// Opens the record of a connection to `listener` of a protocol. `noise` may suppress it unless it becomes a session.
    pub fn start(
        session: SessionId,
        peer: ClientAddr,
        (listener, protocol): (&str, DatabaseProtocol),
        noise: Arc<NoiseLimiter>,
    ) -> Self {
        let outcome = SessionOutcome {
            word: ConnectionOutcome::Aborted,
            end: None,
            stage: None,
            sqlstate: None,
            reason: Some("the task ended early".into()),
            routine: false,
        };
        Self {
            session,
            client: peer,
            via: None,
            listener: field(listener),
            protocol,
            started: Instant::now(),
            facts: AuditFacts::default(),
            outcome,
            is_session: false,
            noise,
        }
    }

    /// Records the client and the load balancer in front of it.
    pub fn origin(&mut self, client: ClientAddr, via: Option<SocketAddr>) {
        self.client = client;
        self.via = via;
    }

    /// Records the connection's TLS: version, server name (SNI), and the subject of the client's certificate.
    pub fn tls(
        &mut self,
        version: Option<&'static str>,
        server_name: Option<&str>,
        client_certificate: Option<&str>,
    ) {
        self.facts.tls = version;
        self.facts.tls_server_name = server_name.map(field);
        self.facts.client_certificate = client_certificate.map(field);
    }

    /// Records the requested user and the application name.
    pub fn asked(&mut self, user: &str, application_name: Option<&str>) {
        self.facts.asked_user = Some(field(user));
        self.facts.application_name = application_name.map(field);
    }

    /// Records the `options` parameter.
    pub fn options(&mut self, options: Option<&str>) {
        self.facts.options = options.map(|options| visible(options, MAX_OPTIONS));
    }

    /// Records the identity in the verified token.
    pub fn identity(&mut self, identity: AuditIdentity<'_>) {
        self.facts.issuer = Some(field(identity.issuer));
        self.facts.subject = Some(field(identity.subject));
        self.facts.token_id = identity.token_id.map(field);
    }

    /// Records the grant.
    pub fn grant(&mut self, cluster: &str, db_user: &str, database: &str) {
        self.facts.cluster = Some(field(cluster));
        self.facts.db_user = Some(field(db_user));
        self.facts.database = Some(field(database));
    }

    /// Records the RoleSessionName and the access key id, by which CloudTrail identifies the session.
    pub fn role_session(&mut self, name: &str, access_key_id: &str) {
        self.facts.role_session_name = Some(field(name));
        self.facts.access_key_id = Some(field(access_key_id));
    }

    /// Writes the record of a session's start, before the client is let in.
    pub fn session_starts(&mut self) {
        self.is_session = true;
        self.write(AuditEvent::SessionStart, (false, true), 0);
    }

    /// Writes the record of the start of a console connection, with the person's right.
    pub fn console_starts(&mut self, right: &'static str) {
        self.facts.console = Some(right);
        self.is_session = true;
        self.write(AuditEvent::ConsoleStart, (false, true), 0);
    }

    /// Records whether the server connection came from the pool; `None` without a pool.
    pub fn reused(&mut self, reused: Option<bool>) {
        self.facts.upstream_reused = reused;
    }

    /// Records the server that accepted the login.
    pub fn upstream(&mut self, addr: SocketAddr, pid: i64) {
        self.facts.upstream_addr = Some(addr);
        self.facts.upstream_pid = Some(pid);
    }

    /// Records that the key of a cancel is valid.
    pub fn right_cancel_key(&mut self) {
        self.facts.right_cancel_key = true;
    }

    /// Records the relayed bytes.
    pub fn carried(&mut self, to_server: u64, to_client: u64) {
        self.facts.to_server = to_server;
        self.facts.to_client = to_client;
    }

    /// Records whether the statement that ran at the end was cancelled.
    pub fn statement_cancelled(&mut self, cancelled: Option<bool>) {
        self.facts.statement_cancelled = cancelled;
    }

    /// Completes and writes the record.
    pub fn finish(mut self, outcome: SessionOutcome) {
        self.outcome = outcome;
    }
}

impl AuditRecord {
    /// Budget that the record counts against. `None` for records that are always written: sessions, and
    /// logins that ended after the server accepted them.
    fn key(&self) -> Option<RecordKey<'_>> {
        let source = self.client.into();
        match (self.outcome.word, &self.facts.issuer, &self.facts.subject) {
            _ if self.outcome.routine => Some(RecordKey::Routine(source)),
            (ConnectionOutcome::Cancel, ..) if self.facts.right_cancel_key => {
                Some(RecordKey::RightCancel(source))
            }
            (ConnectionOutcome::Cancel, ..) => Some(RecordKey::Cancel(source)),
            (ConnectionOutcome::Refused, Some(issuer), Some(subject)) => {
                Some(RecordKey::Refused(issuer, subject))
            }
            (_, _, None) => Some(RecordKey::Failed(source)),
            (_, _, Some(_)) => None,
        }
    }
}

impl AuditRecord {
    /// Writes a record; `left_out` are those of its kind that were not written before it.
    fn write(&self, event: AuditEvent, (is_routine, is_verified): (bool, bool), left_out: u64) {
        let reason = |reason: &str| visible(reason, 2 * MAX_FIELD);
        let facts = &self.facts;
        let (outcome, text) = match event {
            AuditEvent::SessionStart => (None, "session started"),
            AuditEvent::ConsoleStart => (None, "console opened"),
            _ => (Some(&self.outcome), "connection ended"),
        };
        let carried = |bytes: u64| outcome.map(|_| bytes);
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Level and name of a tracing event are static, so there are three.
        macro_rules! record {
            ($level:ident, $name:ident) => {
                tracing::$level!(
                    name: $name,
                    target: AUDIT,
                    schema = SCHEMA,
                    event = event.word(),
                    session = %self.session,
                    client = %self.client,
                    via = self.via.map(|via| via.to_string()),
                    listener = self.listener,
                    protocol = self.protocol.word(),
                    tls = facts.tls,
                    tls_server_name = facts.tls_server_name.as_deref(),
                    client_certificate = facts.client_certificate.as_deref(),
                    outcome = outcome.map(|outcome| outcome.word.word()),
                    end = outcome.and_then(|outcome| outcome.end).map(EndReason::word),
                    stage = outcome.and_then(|outcome| outcome.stage).map(Stage::word),
                    sqlstate = outcome.and_then(|outcome| outcome.sqlstate.as_deref()),
                    reason = outcome.and_then(|outcome| outcome.reason.as_deref()).map(reason),
                    asked_user = facts.asked_user.as_deref(),
                    db_user = facts.db_user.as_deref(),
                    database = facts.database.as_deref(),
                    application_name = facts.application_name.as_deref(),
                    options = facts.options.as_deref(),
                    issuer = facts.issuer.as_deref(),
                    subject = facts.subject.as_deref(),
                    token_id = facts.token_id.as_deref(),
                    cluster = facts.cluster.as_deref(),
                    role_session_name = facts.role_session_name.as_deref(),
                    access_key_id = facts.access_key_id.as_deref(),
                    console = facts.console,
                    upstream = facts.upstream_addr.map(|addr| addr.to_string()),
                    upstream_pid = facts.upstream_pid,
                    upstream_reused = facts.upstream_reused,
                    statement_cancelled = facts.statement_cancelled,
                    bytes_to_server = carried(facts.to_server),
                    bytes_to_client = carried(facts.to_client),
                    duration_ms,
                    left_out = (left_out > 0).then_some(left_out),
                    "{text}"
                )
            };
        }
        match (is_routine, is_verified) {
            (true, _) => record!(debug, UNVERIFIED),
            (false, false) => record!(info, UNVERIFIED),
            (false, true) => record!(info, VERIFIED),
        }
    }
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        if self.outcome.routine && !tracing::enabled!(target: AUDIT, tracing::Level::DEBUG) {
            return;
        }
        let key = self.key();
        let Some(left_out) = key.map_or(Some(0), |key| self.noise.record(key)) else { return };
        let is_verified = key.is_none_or(|key| key.is_verified());
        let event = match (self.is_session, self.facts.console) {
            (true, None) => AuditEvent::SessionEnd,
            (true, Some(_)) => AuditEvent::ConsoleEnd,
            (false, _) => AuditEvent::of(self.outcome.word),
        };
        self.write(event, (self.outcome.routine, is_verified), left_out);
        if let Some(records) = self.noise.sum() {
            tracing::info!(target: NOTICE, records, "audit records of failed connections were suppressed; metrics count them");
        }
    }
}

fn field(text: &str) -> String {
    visible(text, MAX_FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l3_every_text_has_a_limit() {
        let peer = ClientAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)));
        for (bytes, cut) in [(256, false), (257, true)] {
            let text = "x".repeat(bytes);
            let mut record = AuditRecord::start(
                SessionId::random(),
                peer,
                (&text, DatabaseProtocol::PostgreSql),
                Arc::default(),
            );
            assert_eq!(record.listener.ends_with('…'), cut, "{bytes}");
            record.tls(None, Some(&text), Some(&text));
            record.asked(&text, Some(&text));
            record.identity(AuditIdentity { issuer: &text, subject: &text, token_id: Some(&text) });
            record.grant(&text, &text, &text);
            record.role_session(&text, &text);
            let facts = &record.facts;
            for field in [
                &facts.tls_server_name,
                &facts.client_certificate,
                &facts.asked_user,
                &facts.application_name,
                &facts.issuer,
                &facts.subject,
                &facts.token_id,
                &facts.cluster,
                &facts.db_user,
                &facts.database,
                &facts.role_session_name,
                &facts.access_key_id,
            ] {
                assert_eq!(field.as_ref().unwrap().ends_with('…'), cut, "{bytes}: {facts:?}");
            }
        }
        for (bytes, cut) in [(1_024, false), (1_025, true)] {
            let mut record =
                AuditRecord::start(SessionId::random(), peer, ("", DatabaseProtocol::MySql), Arc::default());
            record.options(Some(&"x".repeat(bytes)));
            assert_eq!(record.facts.options.as_ref().unwrap().ends_with('…'), cut, "{bytes}");
        }
    }
}
