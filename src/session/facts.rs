//! Facts about a session for the registry.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::registry::{Person, SessionFacts};
use crate::identity::Grant;
use crate::names::client_addr::ClientAddr;
use crate::names::{MAX_NAME_BYTES, SessionId, printable};
use crate::protocol::Protocol;

/// Facts about the session of `person`, with the listener's name, the session's id, and the client's address.
pub(super) fn of_session<P: Protocol>(
    grant: &Grant,
    client: &P::Client,
    (listener, session, peer): (&str, SessionId, ClientAddr),
    (person, server): (Person, Option<(SocketAddr, i64)>),
    since: SystemTime,
) -> SessionFacts {
    SessionFacts {
        id: session,
        person,
        cluster: grant.cluster().name.clone(),
        database: grant.requested_database().unwrap_or_default().to_owned(),
        db_user: grant.db_user().as_str().to_owned(),
        client: peer,
        listener: listener.to_owned(),
        protocol: grant.cluster().engine,
        server,
        tls: P::connection(client).tls_version(),
        application: application::<P>(client),
        since,
    }
}

/// Name of the client's program, cut and escaped.
pub(super) fn application<P: Protocol>(client: &P::Client) -> Option<String> {
    P::request(P::startup(client)).application.map(|name| printable(&name, MAX_NAME_BYTES))
}
