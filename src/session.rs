//! The life of one connection, from top to bottom: negotiate, ask, verify, authorise, dial and federate, sign,
//! log in, welcome, relay. Each step takes what the step before has proved.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::auth::{Asked, Policy, Verifier};
use crate::aws::federation::Federation;
use crate::cancel::{CancelKeys, Ignored, Issued};
use crate::client::listener::Listener;
use crate::client::negotiate::{Dropped, First, negotiate};
use crate::client::proxy_protocol::{Origin, origin};
use crate::client::{self, Pending};
use crate::clock::Clock;
use crate::names::SessionId;
use crate::outcome::{End, LoginError};
use crate::refusal::{Refusal, Stage};
use crate::relay::relay;
use crate::telemetry::trail::{Identity, Trail};
use crate::upstream::cancel::{Entrance, deliver};
use crate::upstream::dial::Dialers;
use crate::upstream::login::{self, Upstream, Wanted};
use crate::wire::cancel_key::CancelKey;
use crate::wire::{WireError, socket};

/// Everything a connection passes through, built once by `app.rs`.
#[derive(Debug)]
pub struct Steps {
    pub(crate) limits: SessionLimits,
    pub(crate) verifier: Verifier,
    pub(crate) policy: Policy,
    pub(crate) federation: Federation,
    pub(crate) dialers: Dialers,
    pub(crate) cancels: CancelKeys,
    pub(crate) clock: Clock,
    /// Ends every session.
    pub(crate) stop: CancellationToken,
}

/// Waits and counts of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// From accept to the end of the client's token.
    pub client_login_timeout: Duration,
    /// From accept to ReadyForQuery.
    pub login_timeout: Duration,
    /// Sessions at the same time.
    pub max_client_conn: usize,
}

/// Whether there is room for a connection. `T` is held as long as it lives.
#[derive(Debug)]
pub enum Place<T> {
    /// There is.
    Seat(T),
    /// There is not, and it has to be told so.
    Full {
        /// The limit that is reached.
        limit: usize,
        /// Those who are told so are limited too.
        _standing: T,
    },
}

/// A session on the upstream, and the client's key to cancel its queries.
type LoggedIn = (Upstream, Option<Issued>);

/// The one clock of a login, started at accept.
#[derive(Clone, Copy)]
struct Due {
    client: Instant,
    login: Instant,
}

/// Serves one connection of `listener` to its end.
pub async fn serve<T>(steps: &Steps, listener: &Listener, tcp: TcpStream, peer: SocketAddr, place: Place<T>) {
    let session = SessionId::random();
    let mut trail = Trail::start(session, peer, &listener.name);
    let end = live(steps, listener, (tcp, peer), &place, (session, &mut trail)).await;
    end.log(session);
    trail.finish(end.outcome());
    drop(place);
}

async fn live<T>(
    steps: &Steps,
    listener: &Listener,
    (tcp, peer): (TcpStream, SocketAddr),
    place: &Place<T>,
    (session, trail): (SessionId, &mut Trail),
) -> End {
    let due = steps.due();
    if let Err(error) = socket::tune(&tcp) {
        return End::Dropped(Dropped::Io(error));
    }
    match timeout_at(due.client, meet(listener, tcp, peer, trail)).await {
        Err(_) => End::Dropped(Dropped::TimedOut), // no shared language yet, so no word either
        Ok(Err(why)) => End::Dropped(why),
        Ok(Ok((First::Cancel(stream, key), origin))) => {
            let entrance = Entrance { listener: &listener.name, server_name: stream.server_name() };
            let end = cancel(steps, entrance, &key, origin.client().ip()).await;
            client::hang_up(stream).await;
            end
        }
        Ok(Ok((First::Unfit(stream, why), _))) => {
            let why = LoginError::Startup(why);
            client::refuse(stream, &why.refusal("", &listener.ask), session).await;
            End::Refused(why)
        }
        Ok(Ok((First::Login(mut client), _))) => {
            match log_in(steps, listener, &mut client, place, due, trail).await {
                Ok(logged_in) => carry(steps, client, logged_in, due, (session, trail)).await,
                Err(why) => {
                    let refusal = why.refusal(client.startup().user(), &listener.ask);
                    client.refuse(&refusal, session).await;
                    End::Refused(why)
                }
            }
        }
    }
}

/// Who is there and what for: the balancer's header, where one has to be, then the first packets.
async fn meet(
    listener: &Listener,
    mut tcp: TcpStream,
    peer: SocketAddr,
    trail: &mut Trail,
) -> Result<(First<TcpStream>, Origin), Dropped> {
    let origin = origin(&mut tcp, peer, &listener.proxy_protocol_from).await?;
    trail.origin(origin.client(), origin.via());
    match negotiate(tcp, &listener.acceptor, listener.allows_plaintext(&origin)).await {
        Err(Dropped::Silent) if matches!(origin, Origin::Balancer(_)) => Err(Dropped::HealthCheck),
        first => Ok((first?, origin)),
    }
}

/// From the token to a session on the upstream. Nothing is dialled and no AWS call is made before the token
/// is verified; the server is reached and the role assumed at the same time.
async fn log_in<T>(
    steps: &Steps,
    listener: &Listener,
    client: &mut Pending<TcpStream>,
    place: &Place<T>,
    due: Due,
    trail: &mut Trail,
) -> Result<LoggedIn, LoginError> {
    record_request(trail, client);
    if let Place::Full { limit, .. } = place {
        return Err(LoginError::Full { limit: *limit });
    }
    let jwt = timeout_at(due.client, client.ask_token(&listener.ask))
        .await
        .map_err(|_| LoginError::ClientTimedOut)??;
    let claims = within(due, Stage::Keys, steps.verifier.verify(&jwt)).await?;
    trail.identity(Identity {
        issuer: claims.issuer().as_str(),
        subject: claims.subject().as_str(),
        token_id: claims.token_id(),
    });
    let grant = steps.policy.authorise(claims, &asked(listener, client))?;
    trail.grant(&grant.cluster().name, grant.db_user().as_str(), grant.database().as_str());

    let (dialed, credentials) = tokio::try_join!(
        within(due, Stage::UpstreamConnect, steps.dialers.dial(&grant)),
        within(due, Stage::Sts, steps.federation.federate(jwt, &grant)),
    )?;
    trail.role_session_name(credentials.session_name());
    let token = credentials.iam_token(grant.cluster(), grant.db_user(), steps.clock.now())?;
    let (startup, settings) = (client.startup(), grant.settings());
    let wanted = Wanted { user: grant.db_user(), database: grant.database(), startup, settings: &settings };
    let mut upstream = within(due, Stage::UpstreamLogin, login::log_in(dialed, wanted, token)).await?;
    let issued = upstream.cancel.take().and_then(|target| {
        trail.upstream(target.addr, target.key.pid);
        steps.cancels.issue(target, client.startup().protocol())
    });
    Ok((upstream, issued))
}

/// From the welcome to the end.
async fn carry(
    steps: &Steps,
    client: Pending<TcpStream>,
    (upstream, issued): LoggedIn,
    due: Due,
    (session, trail): (SessionId, &mut Trail),
) -> End {
    let key = issued.as_ref().map(|issued| &issued.key);
    let client = match timeout_at(due.login, client.welcome(upstream.greeting, key)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return End::NotWelcomed(error),
        Err(_) => return End::NotWelcomed(WireError::Io(io::ErrorKind::TimedOut.into())),
    };
    let farewell = Refusal::terminating("administrator command", "the proxy is stopping");
    let carried = relay(client, upstream.stream, &steps.stop, &farewell, session).await;
    trail.carried(carried.to_server, carried.to_client);
    End::Carried(carried)
}

/// Carries out a cancel. Whatever becomes of it, all that its sender sees is the end of the connection.
async fn cancel(steps: &Steps, entrance: Entrance<'_>, key: &CancelKey, source: IpAddr) -> End {
    match steps.cancels.judge(key, source, Instant::now()) {
        Err(why) => End::CancelIgnored(why),
        Ok(order) => match deliver(&steps.dialers, entrance, &order).await {
            Ok(told) if told.is_empty() => End::CancelIgnored(Ignored::Nobody),
            Ok(told) => End::CancelForwarded(told),
            Err(error) => End::CancelFailed(error),
        },
    }
}

/// Runs one step inside the login's deadline; `stage` is to blame when it passes.
async fn within<V, E>(
    due: Due,
    stage: Stage,
    step: impl Future<Output = Result<V, E>>,
) -> Result<V, LoginError>
where
    LoginError: From<E>,
{
    match timeout_at(due.login, step).await {
        Ok(result) => result.map_err(LoginError::from),
        Err(_) => Err(LoginError::TimedOut(stage)),
    }
}

/// What the client asks for and how it came, for the policy to judge.
fn asked<'a>(listener: &'a Listener, client: &'a Pending<TcpStream>) -> Asked<'a> {
    let startup = client.startup();
    Asked {
        user: startup.user(),
        database: startup.database(),
        listener: &listener.name,
        server_name: client.server_name(),
        options: startup.other("options").is_some(),
        settings: startup.settings(),
    }
}

fn record_request(trail: &mut Trail, client: &Pending<TcpStream>) {
    let startup = client.startup();
    trail.tls(client.tls_version(), client.server_name(), client.client_certificate().as_deref());
    trail.asked(startup.user(), startup.other("application_name").as_deref());
    trail.options(startup.other("options").as_deref());
}

impl Steps {
    /// Sessions at the same time.
    pub fn max_client_conn(&self) -> usize {
        self.limits.max_client_conn
    }

    fn due(&self) -> Due {
        let accepted = Instant::now();
        Due {
            client: accepted + self.limits.client_login_timeout,
            login: accepted + self.limits.login_timeout,
        }
    }
}
