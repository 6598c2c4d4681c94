//! The life of one connection, from top to bottom: negotiate, ask, verify, authorise, dial and federate, sign,
//! log in, welcome, relay. Each step takes what the step before has proved.

mod cancel;
mod due;
pub mod explain;
pub mod login_rate;
mod open;
pub mod outcome;
pub mod permits;
pub mod registry;
mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use self::due::{Due, within};
use self::explain::name_clock;
use self::login_rate::Admissions;
use self::outcome::{End, LoginError};
use self::permits::{Counts, Place, SessionCeilings, SessionPlace, Turn, Unheard};
use self::registry::{Entry, Person, Roll};
use crate::aws::federation::Federation;
use crate::clock::Clock;
use crate::identity::{Asked, Grant, Policy, VerifiedClaims, Verifier};
use crate::lifecycle::Stopping;
use crate::names::SessionId;
use crate::net::dial::Dialers;
use crate::net::peer_clocks::PeerClocks;
use crate::net::proxy_protocol::{Origin, origin};
use crate::net::socket;
use crate::pool::stats::Tally;
use crate::pool::{Left, Lent, Pool};
use crate::postgres::cancel::deliver::Entrance;
use crate::postgres::cancel::{CancelKeys, Issued, Reach};
use crate::postgres::client;
use crate::postgres::client::Pending;
use crate::postgres::listener::Listener;
use crate::postgres::message::WireError;
use crate::postgres::negotiate::{Dropped, First, negotiate};
use crate::postgres::server_login::{Upstream, Wanted};
use crate::refusal::Stage;
use crate::relay::{Kept, SessionSettings, Terms, TokenTimes, relay};
use crate::telemetry::audit::{Identity, Trail};
use crate::telemetry::audit_file::AuditGate;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::noise::NoiseLimiter;

/// Everything a connection passes through, built once by `app.rs`.
#[derive(Debug)]
pub struct Steps {
    pub(crate) limits: SessionLimits,
    pub(crate) verifier: Verifier,
    pub(crate) policy: Policy,
    pub(crate) federation: Federation,
    pub(crate) dialers: Dialers,
    pub(crate) admissions: Admissions,
    /// Connections whose clients have left, where they are kept.
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) pool_tally: Arc<Tally>,
    pub(crate) cancels: Arc<CancelKeys>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) audit: AuditGate,
    pub(crate) noise: Arc<NoiseLimiter>,
    pub(crate) clock: Clock,
    pub(crate) peer_clocks: PeerClocks,
    pub(crate) session: SessionSettings,
    pub(crate) stopping: Stopping,
}

/// Waits of a session, and how many there may be of one kind.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// From accept to the end of the client's token.
    pub client_login_timeout: Duration,
    /// From accept to ReadyForQuery.
    pub login_timeout: Duration,
    /// Connections from one address that have not shown a good token yet; any number when absent.
    pub max_logins_per_address: Option<usize>,
    /// Sessions of one person in all clusters; any number when absent.
    pub max_user_client_connections: Option<usize>,
}

/// What a login has brought.
struct LoggedIn {
    upstream: Upstream,
    /// What becomes of the upstream afterwards, where connections are kept.
    lent: Option<Lent>,
    /// The client's key to cancel its queries.
    issued: Option<Issued>,
    /// Its place among the other sessions.
    place: SessionPlace,
    /// Its place on the roll, and what ends it.
    present: (Entry, CancellationToken),
    /// How long its token is good.
    token: TokenTimes,
    /// When it is ended all the same.
    settings: SessionSettings,
}

/// Serves one connection of `listener` to its end. `place` is held as long as it lives.
pub async fn serve(
    steps: Arc<Steps>,
    listener: &Listener,
    (tcp, peer): (TcpStream, SocketAddr),
    mut place: Place,
) {
    let session = SessionId::random();
    let mut trail = Trail::start(session, peer, &listener.name, Arc::clone(&steps.noise));
    let (metrics, noise) = (Arc::clone(&steps.metrics), Arc::clone(&steps.noise));
    let due = Due::of(&steps.limits);
    let evicted = place.evicted();
    let arrived = tokio::select! {
        biased;
        () = evicted.received() => Err(End::evicted(&place)),
        arrived = arrive(&steps, listener, (tcp, peer), &mut place, due, (session, &mut trail)) => arrived,
    };
    let end = match arrived {
        Ok((client, login)) => Box::pin(carry(steps, client, login, due, (session, &mut trail))).await,
        Err(end) => end,
    };
    end.log(session, &noise);
    end.count(&metrics);
    trail.finish(end.outcome());
}

/// From the first byte to a session on the upstream; or how the connection ended before.
async fn arrive(
    steps: &Steps,
    listener: &Listener,
    (tcp, peer): (TcpStream, SocketAddr),
    place: &mut Place,
    due: Due,
    (session, trail): (SessionId, &mut Trail),
) -> Result<(Pending<TcpStream>, Box<LoggedIn>), End> {
    place.step(Turn::Client);
    socket::tune(&tcp).map_err(|error| End::Dropped(Dropped::Io(error)))?;
    // Steps are boxed: a connection has the memory of the one that it is in, and no room for the others.
    let met = Box::pin(meet(steps, listener, (tcp, peer), place, trail));
    let (first, origin) = match timeout_at(due.client, met).await {
        Err(_) => return Err(End::Dropped(Dropped::TimedOut)), // no shared language yet, so no word either
        Ok(met) => met.map_err(End::Dropped)?,
    };
    match first {
        First::Cancel(stream, key) => {
            place.step(Turn::Proxy);
            let entrance = Entrance { listener: &listener.name, server_name: stream.server_name() };
            let source = origin.client().ip();
            let end = Box::pin(cancel::carry_out(steps, entrance, &key, source, (place, trail))).await;
            place.step(Turn::Client);
            client::hang_up(stream).await;
            Err(end)
        }
        First::Unfit(stream, why) => {
            let why = LoginError::Startup(why);
            Box::pin(client::refuse(stream, &why.refusal("", &listener.ask), session)).await;
            Err(End::Refused(why))
        }
        First::Login(mut client) => {
            match Box::pin(log_in(steps, listener, &mut client, place, due, trail)).await {
                Ok(login) => Ok((client, login)),
                Err(why) => {
                    place.step(Turn::Client);
                    let refusal = why.refusal(client.startup().user(), &listener.ask);
                    let refusal = name_clock(refusal, &why, steps.peer_clocks.difference());
                    Box::pin(client.refuse(&refusal, session)).await;
                    Err(End::Refused(why))
                }
            }
        }
    }
}

/// Who is there and what for: the balancer's header, where one has to be, then the first packets.
async fn meet(
    steps: &Steps,
    listener: &Listener,
    (mut tcp, peer): (TcpStream, SocketAddr),
    place: &mut Place,
    trail: &mut Trail,
) -> Result<(First<TcpStream>, Origin), Dropped> {
    let origin = origin(&mut tcp, peer, &listener.proxy_protocol_from).await?;
    trail.origin(origin.client(), origin.via());
    let located = steps.counts.locate(place, origin.client().ip(), steps.limits.max_logins_per_address);
    located.map_err(|Unheard| Dropped::Crowded)?;
    let stepped = || place.step(Turn::Client);
    stepped();
    match negotiate(tcp, &listener.acceptor, listener.allows_plaintext(&origin), stepped).await {
        Err(Dropped::Silent) if matches!(origin, Origin::Balancer(_)) => Err(Dropped::HealthCheck),
        first => Ok((first?, origin)),
    }
}

/// From the token to a session on the upstream: one that the same person has left, or a new one. Nothing is looked
/// for, nothing is dialled and no AWS call is made before the token is verified and the login granted.
async fn log_in(
    steps: &Steps,
    listener: &Listener,
    client: &mut Pending<TcpStream>,
    place: &mut Place,
    due: Due,
    trail: &mut Trail,
) -> Result<Box<LoggedIn>, LoginError> {
    record_request(trail, client);
    place.seat()?;
    steps.audit.admits()?;
    place.step(Turn::Client);
    let jwt = timeout_at(due.client, client.ask_token(&listener.ask))
        .await
        .map_err(|_| LoginError::ClientTimedOut)??;
    place.step(Turn::Proxy);
    let claims = within(due, Stage::Keys, steps.verifier.verify(&jwt)).await?;
    place.verified()?;
    trail.identity(Identity {
        issuer: claims.issuer().as_str(),
        subject: claims.subject().as_str(),
        token_id: claims.token_id(),
    });
    let person = person(&claims);
    steps.roll.admits(&person)?;
    let grant = steps.policy.authorise(claims, &asked(listener, client))?;
    trail.grant(&grant.cluster().name, grant.db_user().as_str(), grant.database().as_str());
    let who = (person.issuer.as_str(), person.subject.as_str());
    let place = steps.counts.session(&grant.cluster().name, who, grant.db_user(), &steps.ceilings(&grant))?;

    let wanted = Wanted::of(&grant, client.startup());
    let slot = steps.pool.as_ref().map(|pool| pool.slot(&grant, client.startup()));
    let warm = match &slot {
        Some(slot) => slot.take().await,
        None => None,
    };
    trail.reused(slot.is_some().then_some(warm.is_some()));
    let (mut upstream, opened) = match warm {
        Some(warm) => warm,
        None => open::open(steps, jwt, &grant, (wanted, slot.as_ref()), due, trail).await?,
    };
    trail.role_session_name(&opened.role_session_name);
    let lent = slot.and_then(|slot| slot.lend(opened, &upstream.greeting));
    // A server's process that may serve another session later must not be reached by the key of this one.
    let reach = if lent.is_some() { Reach::ThisSession } else { Reach::AnyReplica };
    let issued = upstream.cancel.take().and_then(|target| {
        trail.upstream(target.addr, target.key.pid);
        steps.cancels.issue(target, client.startup().protocol(), reach)
    });
    steps.audit.admits()?; // nobody is let in whose record may be lost
    let token = TokenTimes { expires: grant.expires_at(), accepted_until: grant.accepted_until() };
    let settings = steps.session.for_at_most(grant.group().and_then(|group| group.max_lifetime));
    let out = steps.stopping.now.child_token();
    let present = (steps.roll.enter(person, out.clone()), out);
    Ok(Box::new(LoggedIn { upstream, lent, issued, place, present, token, settings }))
}

/// From the welcome to the end.
async fn carry(
    steps: Arc<Steps>,
    client: Pending<TcpStream>,
    mut login: Box<LoggedIn>,
    due: Due,
    (session, trail): (SessionId, &mut Trail),
) -> End {
    let greeting = login.upstream.greeting;
    let key = login.issued.as_ref().map(|issued| &issued.key);
    let welcomed = timeout_at(due.login, client.welcome(&greeting, key)).await;
    let status = greeting.status_byte();
    drop(greeting);
    let client = match welcomed.unwrap_or_else(|_| Err(WireError::Io(io::ErrorKind::TimedOut.into()))) {
        Ok(client) => client,
        Err(error) => {
            if let Some(lent) = login.lent {
                lent.is_lost();
            }
            return End::NotWelcomed(error);
        }
    };
    let _welcomed = steps.counts.welcomed();
    let (entry, out) = login.present;
    let terms = Terms {
        settings: login.settings,
        token: login.token,
        clock: steps.clock.clone(),
        drain: steps.stopping.drain.clone(),
        now: steps.stopping.now.clone(),
        out,
        session,
        status,
        keep: login.lent.is_some(),
    };
    drop(steps); // a long session must not keep alive what a reload has replaced
    let carried = relay(client, &mut login.upstream.stream, &terms, async || {
        if let Some(recall) = login.upstream.recall.take() {
            recall.send().await;
        }
    })
    .await;
    trail.carried(carried.to_server, carried.to_client);
    drop((login.place, entry)); // others may have them from here on, and not before
    let cancel = login.issued.map(Issued::retire).transpose(); // from here on the client's key cancels nothing
    match (login.lent, carried.kept) {
        (Some(lent), Some(Kept { told_parameter })) => {
            let Upstream { stream, recall, .. } = login.upstream;
            let left = Left { stream, told_parameter, cancel, recall };
            // Nobody waits for it: the client is gone, and its place is free.
            drop(tokio::spawn(lent.come_back(left)));
        }
        (Some(lent), None) => lent.is_lost(),
        (None, _) => {}
    }
    End::Carried(carried)
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

fn person(claims: &VerifiedClaims) -> Person {
    Person {
        issuer: claims.issuer_name().to_owned(),
        subject: claims.subject().as_str().to_owned(),
        token_id: claims.token_id().map(str::to_owned),
    }
}

fn record_request(trail: &mut Trail, client: &Pending<TcpStream>) {
    let startup = client.startup();
    trail.tls(client.tls_version(), client.server_name(), client.client_certificate().as_deref());
    trail.asked(startup.user(), startup.other("application_name").as_deref());
    trail.options(startup.other("options").as_deref());
}

impl Steps {
    /// Closes what is idle and keeps nothing from here on.
    pub fn close_pool(&self) {
        if let Some(pool) = &self.pool {
            pool.close();
        }
    }

    fn ceilings(&self, grant: &Grant) -> SessionCeilings {
        SessionCeilings {
            per_user: self.limits.max_user_client_connections,
            per_cluster: grant.cluster().max_client_conn,
            group: grant.group().and_then(|group| Some((group.name.clone(), group.max_client_conn?))),
        }
    }
}
