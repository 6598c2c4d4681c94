//! MySQL as the session sees it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;

use super::client::{self, Met, PendingClient, RejectedClient};
use super::client_filter::{CommandFilter, FilteredClient, KillScope};
use super::connection_ids::{ConnectionId, ServerConnection};
use super::error_packet::RefusedLogin;
use super::file_transfer::FileTransfer;
use super::login_request::{LoginParameters, NamedAttributes};
use super::packet::{Sequence, WireError};
use super::reset::{self, ResetError, SessionParameters};
use super::response::{ClientFeatures, ClientStartup};
use super::second_login::{SecondLogin, StatementKill};
use super::server_login::{self, LoginReply, ServerLoginError};
use super::state::{MysqlListen, MysqlState};
use super::tracker::Tracker;
use super::{Mysql, error_packet};
use crate::identity::Grant;
use crate::names::SessionId;
use crate::net::client_socket::ClientSocket;
use crate::net::client_stream::ClientStream;
use crate::net::dial::{Dialed, ServerStream};
use crate::protocol::{
    AlreadyUsed, ByteStream, CancelContext, CancelOutcome, Entrance, FirstPacket, FurtherLogin, KeyScope,
    LoginFailure, LoginWishes, NegotiationError, Protocol, ServerSession, StartupRequest, TokenRequestError,
    ValidKey,
};
use crate::refusal::{Condition, Refusal};
use crate::secret::{IamToken, Jwt};

/// `COM_QUIT`.
pub(super) const QUIT_PACKET: &[u8] = &[1, 0, 0, 0, 1];

/// The client's startup parameters, with the parts that the proxy adds.
#[derive(Debug)]
pub struct MysqlStartup {
    client: ClientStartup,
    attributes: NamedAttributes,
    state: Arc<MysqlState>,
}

impl MysqlStartup {
    /// Startup parameters of a login without a client, by the program of this name.
    pub fn without_client(program: &str) -> Self {
        let client = ClientStartup::without_client(program);
        Self { client, attributes: NamedAttributes::default(), state: Arc::default() }
    }
}

/// A client that has sent its startup parameters.
#[derive(Debug)]
pub struct MysqlClient {
    pending: PendingClient<ClientSocket>,
    startup: MysqlStartup,
    id: Arc<ConnectionId>,
}

/// The part of a server's login that client, tracker, and filter need.
#[derive(Debug)]
pub struct SessionGreeting {
    pub(super) parameters: SessionParameters,
    transfer: FileTransfer,
}

impl SessionGreeting {
    pub(super) fn new(parameters: SessionParameters) -> Self {
        Self { parameters, transfer: FileTransfer::default() }
    }
}

/// A client's claim to its server's connection: a `KILL` of its id means this connection.
#[derive(Debug)]
pub struct ConnectionClaim {
    id: Arc<ConnectionId>,
    connection: ServerConnection,
}

impl Protocol for Mysql {
    type State = MysqlState;
    type Listen = MysqlListen;
    type Startup = MysqlStartup;
    type Client = MysqlClient;
    type Rejected = RejectedClient<ClientSocket>;
    type CancelRequest = Infallible;
    type LoginReply = LoginReply;
    type LoginError = ServerLoginError;
    type Greeting = SessionGreeting;
    type Parameters = SessionParameters;
    type ResetError = ResetError;
    type CancelTarget = ServerConnection;
    type ClientKey = ConnectionClaim;
    type StatementCancel = StatementKill;
    type Tracker = Tracker;
    type ClientFilter = (KillScope, FileTransfer);
    type ClientEnd<C: ByteStream> = FilteredClient<C>;
    const TERMINATE: &'static [u8] = QUIT_PACKET;
    const RESET_TIMEOUT: Duration = reset::RESET_TIMEOUT;
    const CHECK_TIMEOUT: Duration = reset::CHECK_TIMEOUT;

    /// Never from loopback: clients of TCP send the token only within TLS.
    fn token_may_go_in_clear(_: &MysqlListen) -> bool {
        false
    }

    async fn negotiate(
        socket: ClientSocket,
        entrance: Entrance<'_, Self>,
        stepped: impl Fn() + Send + Sync,
    ) -> Result<FirstPacket<Self>, NegotiationError> {
        let Entrance { acceptor, listen, state, session, plaintext_allowed } = entrance;
        if acceptor.is_none() && !plaintext_allowed {
            return Err(NegotiationError::NoTls);
        }
        let id = Arc::new(state.ids.assign());
        let met = client::meet(socket, acceptor, &state.identity(listen), id.number(), stepped).await?;
        Ok(match met {
            Met::Login(pending, mut client) => {
                let mut attributes = NamedAttributes::of(session, id.number());
                if listen.pooled {
                    // A later session must not show the attributes of this one.
                    client.forget_process();
                    attributes = NamedAttributes::default();
                }
                let startup = MysqlStartup { client, attributes, state: Arc::clone(state) };
                FirstPacket::Login(MysqlClient { pending, startup, id })
            }
            Met::Rejected(rejected, why) => FirstPacket::Rejected(rejected, Box::new(why)),
        })
    }

    fn unheard(socket: ClientSocket) -> Option<RejectedClient<ClientSocket>> {
        Some(RejectedClient::unheard(socket))
    }

    fn connection(client: &MysqlClient) -> &ClientStream<ClientSocket> {
        client.pending.stream()
    }

    fn startup(client: &MysqlClient) -> &MysqlStartup {
        &client.startup
    }

    fn request(startup: &MysqlStartup) -> StartupRequest<'_> {
        StartupRequest {
            user: startup.client.user(),
            database: startup.client.database(),
            application: startup.client.application(),
            options: None,
            settings: Vec::new(),
        }
    }

    async fn ask_token(
        client: &mut MysqlClient,
        listen: &MysqlListen,
    ) -> Result<Jwt, Box<dyn TokenRequestError>> {
        client.pending.ask_token(listen.token_method).await.map_err(|why| Box::new(why) as _)
    }

    async fn welcome(
        client: MysqlClient,
        greeting: &SessionGreeting,
        _: Option<&ConnectionClaim>,
    ) -> io::Result<(ClientStream<ClientSocket>, (KillScope, FileTransfer))> {
        let SessionParameters { connection, second, .. } = &greeting.parameters;
        let scope = KillScope {
            ids: Arc::clone(&client.startup.state.ids),
            server: connection.server,
            remote: second.clone().map(|second| second as _),
            replicas: !client.startup.attributes.is_empty(),
        };
        match client.pending.welcome(&greeting.parameters.ok).await {
            Ok(stream) => Ok((stream, (scope, greeting.transfer.clone()))),
            Err(WireError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn refuse(client: MysqlClient, refusal: &Refusal, listen: &MysqlListen, session: SessionId) {
        let user = client.startup.client.user();
        let login = RefusedLogin { user, token_method: listen.token_method };
        client.pending.refuse(refusal, login, session).await;
    }

    async fn refuse_first(
        rejected: Self::Rejected,
        refusal: &Refusal,
        listen: &MysqlListen,
        session: SessionId,
    ) {
        rejected.refuse(refusal, listen.token_method, session).await;
    }

    fn hello(startup: &MysqlStartup, _: &Arc<MysqlState>) -> ClientFeatures {
        startup.client.features
    }

    async fn log_in(
        dialed: &mut Dialed<Self>,
        grant: &Grant,
        startup: &MysqlStartup,
        token: &IamToken,
    ) -> Result<LoginReply, LoginFailure<ServerLoginError>> {
        let wanted = LoginParameters {
            user: grant.db_user().as_str(),
            database: grant.requested_database(),
            startup: &startup.client,
            attributes: &startup.attributes,
        };
        let mut sequence = Sequence::within_tls();
        let login =
            server_login::log_in(&mut dialed.stream, &mut sequence, &dialed.opening, wanted, token).await;
        if matches!(login, Ok(_) | Err(ServerLoginError::Changed)) {
            startup.state.learn(dialed.dialer.cluster, &dialed.opening.identity);
        }
        login.map_err(LoginFailure::Server)
    }

    fn opened(
        dialed: Dialed<Self>,
        reply: LoginReply,
        further: impl FnOnce() -> Arc<dyn FurtherLogin>,
    ) -> ServerSession<Self> {
        let connection = ServerConnection { server: dialed.addr, number: dialed.opening.connection_id };
        let second = SecondLogin::new(dialed.dialer, further());
        let kill = second.clone().map(|second| StatementKill::new(second, connection));
        let parameters = SessionParameters::of(reply, connection, second);
        ServerSession {
            stream: dialed.stream,
            greeting: SessionGreeting::new(parameters),
            cancel: Some(connection),
            statement_cancel: kill,
        }
    }

    fn wishes(grant: &Grant, startup: &MysqlStartup) -> LoginWishes {
        LoginWishes { fixed: startup.client.wishes(grant.requested_database()), name: None }
    }

    fn parameters(greeting: &SessionGreeting) -> Option<SessionParameters> {
        greeting.parameters.to_be_kept()
    }

    fn greeting(parameters: &SessionParameters) -> SessionGreeting {
        SessionGreeting::new(parameters.clone())
    }

    /// The protocol has no name of a session.
    fn has_name(_: &SessionParameters, _: &str) -> bool {
        true
    }

    async fn reset(
        stream: &mut ServerStream,
        parameters: &mut SessionParameters,
        _told_parameter: bool,
    ) -> Result<(), ResetError> {
        reset::reset(stream, parameters).await
    }

    async fn check(
        stream: &mut ServerStream,
        _: &mut SessionParameters,
        _name: Option<&str>,
    ) -> Result<(), ResetError> {
        reset::check(stream).await
    }

    fn server_process(connection: &ServerConnection) -> (SocketAddr, i64) {
        (connection.server, i64::from(connection.number))
    }

    fn issue_key(
        _: &Arc<MysqlState>,
        connection: ServerConnection,
        client: &MysqlClient,
        _: KeyScope,
    ) -> Option<ConnectionClaim> {
        client.id.serve(connection);
        Some(ConnectionClaim { id: Arc::clone(&client.id), connection })
    }

    fn retire_key(claim: ConnectionClaim) -> Result<ServerConnection, AlreadyUsed> {
        claim.id.retire().map(|()| claim.connection)
    }

    async fn cancel(
        request: &Infallible,
        _: CancelContext<'_, Self>,
        _proven: impl FnMut(ValidKey) + Send,
    ) -> CancelOutcome {
        match *request {}
    }

    async fn close(request: Infallible) {
        match request {}
    }

    async fn cancel_statement(kill: StatementKill) -> bool {
        kill.send().await
    }

    fn tracker(greeting: &SessionGreeting) -> Tracker {
        let SessionParameters { capabilities, status, .. } = greeting.parameters;
        Tracker::new(capabilities, status, greeting.transfer.clone())
    }

    fn client_end<C: ByteStream>(
        client: C,
        keep: bool,
        (scope, transfer): (KillScope, FileTransfer),
    ) -> FilteredClient<C> {
        FilteredClient { stream: client, filter: CommandFilter::new(scope, transfer, keep) }
    }

    fn last_words(refusal: &Refusal, session: SessionId, tracker: &Tracker) -> BytesMut {
        BytesMut::from(&error_packet::last_words(refusal, session, tracker.next_sequence())[..])
    }

    /// The protocol has no notices.
    fn token_expires(_: SystemTime, _: SystemTime, _: SessionId) -> BytesMut {
        BytesMut::new()
    }

    fn sqlstate(condition: &Condition) -> &str {
        error_packet::codes(condition).1
    }
}
