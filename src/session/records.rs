//! The facts of a login, for its records.

use super::registry::Person;
use crate::identity::VerifiedClaims;
use crate::net::client_socket::ClientSocket;
use crate::net::client_stream::ClientStream;
use crate::protocol::StartupRequest;
use crate::telemetry::audit::{AuditIdentity, AuditRecord};

pub(super) fn record_identity(audit: &mut AuditRecord, claims: &VerifiedClaims) {
    audit.identity(AuditIdentity {
        issuer: claims.issuer().as_str(),
        subject: claims.subject().as_str(),
        token_id: claims.token_id(),
    });
}

pub(super) fn person(claims: &VerifiedClaims) -> Person {
    Person {
        issuer: claims.issuer_name().to_owned(),
        subject: claims.subject().as_str().to_owned(),
        token_id: claims.token_id().map(str::to_owned),
    }
}

pub(super) fn record_request(
    audit: &mut AuditRecord,
    client: &ClientStream<ClientSocket>,
    request: &StartupRequest<'_>,
) {
    audit.tls(client.tls_version(), client.server_name(), client.client_certificate().as_deref());
    audit.asked(request.user, request.application.as_deref());
    audit.options(request.options.as_deref());
}
