//! A live session: the relay between its client and its server, and the return of the server connection.

use super::gate::GatePass;
use super::outcome::SessionEnd;
use super::permits::{CountedPermit, SessionPermit};
use super::registry::SessionRegistration;
use crate::net::client_socket::ClientSocket;
use crate::net::client_stream::ClientStream;
use crate::net::dial::ServerStream;
use crate::pool::{PoolCheckout, ReturnedConnection};
use crate::protocol::Protocol;
use crate::relay::{RelayOptions, ReusableServer, relay};
use crate::telemetry::audit::AuditRecord;
use crate::telemetry::connection_metrics::ConnectionMetrics;
use crate::telemetry::login_metrics::CountedSession;

/// A session that its client has been let into.
pub(super) struct LiveSession<P: Protocol> {
    pub(super) client: P::ClientEnd<ClientStream<ClientSocket>>,
    pub(super) server: ServerStream,
    pub(super) tracker: P::Tracker,
    /// Way to cancel the statement that runs when the proxy ends the session.
    pub(super) statement_cancel: Option<P::StatementCancel>,
    /// Place of the server connection in the pool, where connections are kept.
    pub(super) checkout: Option<PoolCheckout<P>>,
    /// The client's key to cancel its queries.
    pub(super) client_key: Option<P::ClientKey>,
    pub(super) pass: GatePass,
    pub(super) permit: SessionPermit,
    pub(super) registration: SessionRegistration,
    pub(super) options: RelayOptions,
    /// The session in the counts of sessions, to its end.
    pub(super) _counted: (Option<CountedPermit>, CountedSession),
}

impl<P: Protocol> LiveSession<P> {
    /// Relays the session to its end.
    pub(super) async fn relay(
        mut self: Box<Self>,
        metrics: &ConnectionMetrics,
        audit: &mut AuditRecord,
    ) -> SessionEnd {
        let cancel = async || match self.statement_cancel.take() {
            Some(cancel) => P::cancel_statement(cancel).await,
            None => false,
        };
        let (server, options) = (&mut self.server, &self.options);
        let report =
            relay::<P, ClientStream<ClientSocket>, _>(self.client, server, self.tracker, options, cancel)
                .await;
        audit.carried(report.to_server, report.to_client);
        audit.statement_cancelled(report.statement_cancelled);
        metrics.statement_cancelled(report.statement_cancelled);
        drop((self.permit, self.registration)); // others may have them from here on, and not before
        let cancel = self.client_key.map(P::retire_key).transpose(); // from here on the client's key cancels nothing
        match (self.checkout, report.reusable) {
            (Some(checkout), Some(ReusableServer { told_parameter })) => {
                let (stream, statement_cancel) = (self.server, self.statement_cancel);
                let returned = ReturnedConnection { stream, told_parameter, cancel, statement_cancel };
                // Runs detached: the client is gone and its permit released.
                let pass = self.pass;
                drop(tokio::spawn(async move { checkout.give_back(returned, || pass.is_open()).await }));
            }
            (Some(checkout), None) => checkout.discard(),
            (None, _) => {}
        }
        SessionEnd::Carried(report)
    }
}
