//! The branch of a login that asks for the console.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::outcome::LoginError;
use super::registry::{Person, SessionFacts};
use super::shared::Shared;
use super::{LoggedIn, SessionContext, facts};
use crate::config::DatabaseProtocol;
use crate::console::connection::{ConsoleEnd, ConsoleLogin};
use crate::console::{Operator, connection};
use crate::identity::VerifiedClaims;
use crate::names::client_addr::ClientAddr;
use crate::names::{MAX_NAME_BYTES, SessionId, printable};
use crate::protocol::{Protocol, StartupRequest};
use crate::telemetry::audit::AuditRecord;

/// Result of a login.
pub(super) enum Login<P: Protocol> {
    /// A session on the upstream.
    Session(Box<LoggedIn<P>>),
    /// A connection to the console, and the greeting for it.
    Console(Box<(P::Greeting, ConsoleLogin)>),
}

/// Lets `person` in to the console, if the client asks for it, the protocol has it, and a rule of `[admin]` allows it.
/// `None` leaves the login to the access policy.
pub(super) fn admit<P: Protocol>(
    context: &SessionContext,
    (claims, person): (&VerifiedClaims, &Person),
    client: &P::Client,
    ((listener, session, peer), protocol): ((&str, SessionId, ClientAddr), DatabaseProtocol),
    audit: &mut AuditRecord,
) -> Option<Result<Login<P>, LoginError>> {
    let StartupRequest { user, database, .. } = P::request(P::startup(client));
    let right = context.console.right(claims, database)?;
    let greeting = P::console_greeting(&connection::parameters())?;
    let operator = Operator {
        session,
        client: peer,
        listener: listener.to_owned(),
        issuer: claims.issuer().as_str().to_owned(),
        subject: person.subject.clone(),
        right,
        accepted_until: claims.accepted_until(),
    };
    let facts = SessionFacts {
        id: session,
        person: person.clone(),
        cluster: String::new(),
        database: database.unwrap_or_default().to_owned(),
        db_user: printable(user, MAX_NAME_BYTES),
        client: peer,
        listener: listener.to_owned(),
        protocol,
        server: None,
        tls: P::connection(client).tls_version(),
        application: facts::application::<P>(client),
        since: context.shared.clock.now(),
    };
    let admitted = context.shared.console.admit(operator, facts, &context.shared.shutdown);
    if admitted.is_ok() {
        audit.console_starts(right.key());
    }
    let login = admitted.map(|login| Login::Console(Box::new((greeting, login))));
    Some(login.map_err(|full| LoginError::NoPlace(full.into())))
}

/// Welcomes the client by `deadline`, and serves it until the connection ends.
pub(super) async fn serve<P: Protocol>(
    shared: Arc<Shared>,
    client: P::Client,
    login: Box<(P::Greeting, ConsoleLogin)>,
    deadline: Instant,
) -> ConsoleEnd {
    let (greeting, login) = *login;
    match timeout_at(deadline, P::welcome(client, &greeting, None)).await {
        Ok(Ok((stream, _))) => connection::serve(shared, stream, login).await,
        Ok(Err(error)) => ConsoleEnd::NotWelcomed(error),
        Err(_) => ConsoleEnd::NotWelcomed(std::io::ErrorKind::TimedOut.into()),
    }
}
