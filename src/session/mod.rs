//! A connection of any protocol from start to end: negotiate, request the token, verify, authorize, dial and federate,
//! sign, log in, welcome, relay. Each step takes the proof of the step before.

mod cancel;
pub mod cluster;
mod console;
mod context;
mod due;
pub mod explain;
mod facts;
mod further;
pub mod gate;
pub mod listener;
mod live;
pub mod login_rate;
pub(crate) mod open;
pub mod outcome;
pub mod peer;
pub mod permits;
mod records;
pub mod registry;
pub mod shared;
mod snapshot;

use std::io;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::cluster::ClusterGrant;
use self::console::Login;
pub use self::context::{ProtocolContext, SessionContext};
use self::due::{LoginDeadlines, timed, within};
use self::explain::{explain, name_clock};
use self::gate::GatePass;
use self::listener::Listener;
use self::live::LiveSession;
use self::outcome::{LoginError, SessionEnd};
use self::peer::PeerNotAllowed;
use self::permits::{ClosedSilently, ConnectionAdmission, EvictionStep, SessionPermit};
use self::records::{person, record_identity, record_request};
use self::registry::SessionRegistration;
use self::shared::Shared;
use crate::identity::{Grant, LoginRequest};
use crate::names::SessionId;
use crate::names::client_addr::ClientAddr;
use crate::net::client_socket::ClientSocket;
use crate::net::proxy_protocol::{ClientOrigin, origin};
use crate::pool::PoolCheckout;
use crate::protocol::{
    CancelContext, Entrance, FirstPacket, KeyScope, NegotiationError, Protocol, ServerSession, StartupRequest,
};
use crate::refusal::Stage;
use crate::relay::{RelayOptions, SessionSettings, TokenTimes};
use crate::telemetry::audit::AuditRecord;
use crate::telemetry::login_metrics::{LoginStep, SessionRoute, SessionSeries};
use crate::telemetry::login_trace::{LoginResult, LoginTrace};

/// Result of a login.
struct LoggedIn<P: Protocol> {
    upstream: ServerSession<P>,
    /// Place of the upstream in the pool, where connections are kept.
    checkout: Option<PoolCheckout<P>>,
    /// The client's key to cancel its queries.
    client_key: Option<P::ClientKey>,
    /// Pass of the cluster's gate.
    pass: GatePass,
    /// Permit of the session.
    permit: SessionPermit,
    /// Registration, and the token that ends the session.
    registration: (SessionRegistration, CancellationToken),
    /// Metrics of the session.
    series: SessionSeries,
    /// Expiry of the client's token.
    token: TokenTimes,
    /// Time limits of the session.
    settings: SessionSettings,
}

/// Serves one connection of `listener` to its end, holding `admission`.
pub async fn serve<P: Protocol>(
    context: Arc<ProtocolContext<P>>,
    listener: &Listener<P>,
    (socket, peer): (ClientSocket, ClientAddr),
    mut admission: ConnectionAdmission,
) {
    let (session, protocol) = (SessionId::random(), listener.settings.protocol);
    let shared = Arc::clone(&context.common.shared);
    let noise = shared.log.noise();
    let mut audit =
        AuditRecord::start(session, peer, (&listener.settings.name, protocol), Arc::clone(&noise));
    let accepted = Instant::now();
    let named = (listener.settings.name.as_str(), protocol.word());
    let trace = context.common.traces.begin(session, named, (&shared.clock, accepted));
    let deadlines = LoginDeadlines::of(&context.common.limits, accepted, trace.as_deref());
    let evicted = admission.evicted();
    // Each phase is boxed, so that a connection uses memory only for its current one.
    let arriving =
        arrive(&context, listener, (socket, peer), &mut admission, deadlines, (session, &mut audit));
    let arriving = Box::pin(arriving);
    let arrived = tokio::select! {
        biased;
        () = evicted.received() => Err(SessionEnd::evicted(&admission)),
        arrived = arriving => arrived,
    };
    let end = match arrived {
        Ok((client, Login::Session(login))) => {
            let welcomed = Box::pin(welcome(&shared, client, login, deadlines, (session, &mut audit))).await;
            drop(context); // a long connection must not keep alive what a reload has replaced
            match welcomed {
                Ok(live) => Box::pin(live.relay(&shared.metrics.connections, &mut audit)).await,
                Err(error) => SessionEnd::NotWelcomed(error),
            }
        }
        Ok((client, Login::Console(login))) => {
            drop(context);
            let serving = console::serve::<P>(Arc::clone(&shared), client, login, deadlines.login);
            SessionEnd::Console(Box::pin(serving).await)
        }
        Err(end) => end,
    };
    end.log(session, &noise);
    let outcome = end.outcome::<P>();
    deadlines.traced(|trace| end.trace::<P>(trace));
    let metrics = (&shared.metrics.connections, &shared.metrics.logins);
    end.count(&outcome, deadlines.accepted.elapsed(), protocol, metrics);
    audit.finish(outcome);
}

/// From the first byte to a session on the upstream. The error is the end of the connection.
async fn arrive<P: Protocol>(
    context: &ProtocolContext<P>,
    listener: &Listener<P>,
    (socket, peer): (ClientSocket, ClientAddr),
    admission: &mut ConnectionAdmission,
    deadlines: LoginDeadlines<'_>,
    (session, audit): (SessionId, &mut AuditRecord),
) -> Result<(P::Client, Login<P>), SessionEnd> {
    admission.step(EvictionStep::Client);
    socket.tune().map_err(|error| SessionEnd::Dropped(NegotiationError::Io(error)))?;
    let identified =
        identify(context, listener, (socket, peer), admission, (session, audit), deadlines.trace);
    let identified = Box::pin(identified);
    let (first, origin) = match timeout_at(deadlines.client, identified).await {
        Err(_) => return Err(SessionEnd::Dropped(NegotiationError::TimedOut)), // no shared language yet, so no word either
        Ok(identified) => identified.map_err(SessionEnd::Dropped)?,
    };
    match first {
        FirstPacket::Cancel(request) => {
            admission.step(EvictionStep::Proxy);
            let cancel = CancelContext {
                state: &context.state,
                dialers: &context.dialers,
                listener: &listener.settings.name,
                source: origin.client().into(),
            };
            let end = Box::pin(cancel::carry_out(&request, cancel, (admission, audit))).await;
            admission.step(EvictionStep::Client);
            P::close(request).await;
            Err(end)
        }
        FirstPacket::Rejected(rejected, why) => {
            let why = LoginError::Startup(why);
            let refusal = explain(&why);
            Box::pin(P::refuse_first(rejected, &refusal, &listener.protocol, session)).await;
            Err(SessionEnd::Refused { why, refusal: Box::new(refusal) })
        }
        FirstPacket::Login(mut client) => {
            let origin = (session, origin.client());
            match Box::pin(log_in(context, (listener, origin), &mut client, admission, deadlines, audit))
                .await
            {
                Ok(login) => Ok((client, login)),
                Err(why) => {
                    admission.step(EvictionStep::Client);
                    let refusal =
                        name_clock(explain(&why), &why, context.common.shared.peer_clocks.difference());
                    Box::pin(P::refuse(client, &refusal, &listener.protocol, session)).await;
                    Err(SessionEnd::Refused { why, refusal: Box::new(refusal) })
                }
            }
        }
    }
}

/// Identifies the client and its request: the load balancer's header, if required, then the first packets.
async fn identify<P: Protocol>(
    context: &ProtocolContext<P>,
    listener: &Listener<P>,
    (mut socket, peer): (ClientSocket, ClientAddr),
    admission: &mut ConnectionAdmission,
    (session, audit): (SessionId, &mut AuditRecord),
    trace: Option<&LoginTrace>,
) -> Result<(FirstPacket<P>, ClientOrigin), NegotiationError> {
    let origin = origin(&mut socket, peer, &listener.settings.proxy_protocol_from).await?;
    audit.origin(origin.client(), origin.via());
    let located = context.common.shared.permits.attach_source(
        admission,
        origin.client().into(),
        context.common.limits.max_logins_per_address,
    );
    located.map_err(|ClosedSilently| NegotiationError::TooManyRefusals)?;
    let stepped = || {
        admission.step(EvictionStep::Client);
        if let Some(trace) = trace {
            trace.mark();
        }
    };
    stepped();
    if let Err(why) = PeerNotAllowed::check(peer, listener.peers.as_ref()) {
        let refused = P::unheard(socket).ok_or(NegotiationError::Silent)?;
        return Ok((FirstPacket::Rejected(refused, Box::new(why)), origin));
    }
    let entrance = Entrance {
        acceptor: listener.acceptor.as_ref(),
        listen: &listener.protocol,
        state: &context.state,
        plaintext_allowed: listener.allows_plaintext(&origin),
        session,
    };
    match P::negotiate(socket, entrance, stepped).await {
        Err(NegotiationError::Silent) if matches!(origin, ClientOrigin::Balancer(_)) => {
            Err(NegotiationError::HealthCheck)
        }
        first => Ok((first?, origin)),
    }
}

/// From the token to a session on the upstream, pooled or new. Nothing is looked up or dialed and no AWS call
/// is made before the token is verified and the login granted.
async fn log_in<P: Protocol>(
    context: &ProtocolContext<P>,
    (listener, (session, peer)): (&Listener<P>, (SessionId, ClientAddr)),
    client: &mut P::Client,
    admission: &mut ConnectionAdmission,
    deadlines: LoginDeadlines<'_>,
    audit: &mut AuditRecord,
) -> Result<Login<P>, LoginError> {
    let common = &*context.common;
    let metrics = &common.shared.metrics.logins;
    metrics.step(LoginStep::Startup, deadlines.accepted.elapsed());
    let is_tls = P::connection(client).tls_version().is_some();
    deadlines.traced(|trace| trace.started(deadlines.accepted, is_tls));
    record_request(audit, P::connection(client), &P::request(P::startup(client)));
    admission.login_permit()?;
    common.audit.admits()?;
    admission.step(EvictionStep::Client);
    let asked = timeout_at(deadlines.client, P::ask_token(client, &listener.protocol));
    let answer =
        timed((metrics, deadlines), LoginStep::Token, asked).await.map_err(|_| LoginError::ClientTimedOut)?;
    let jwt = answer.map_err(LoginError::Ask)?;
    admission.step(EvictionStep::Proxy);
    let verified = within(deadlines, Stage::Keys, common.verifier.verify(&jwt));
    let claims = timed((metrics, deadlines), LoginStep::Verification, verified).await?;
    admission.verified()?;
    record_identity(audit, &claims);
    let person = person(&claims);
    common.shared.registry.admits(&person)?;
    let origin = (listener.settings.name.as_str(), session, peer);
    if let Some(login) =
        console::admit::<P>(common, (&claims, &person), client, (origin, listener.settings.protocol), audit)
    {
        return login;
    }
    let granted = ClusterGrant::authorise(&context.policy, claims, &login_request(listener, client))?;
    let grant = granted.grant();
    let database = grant.requested_database().unwrap_or_default();
    audit.grant(&grant.cluster().name, grant.db_user().as_str(), database);
    deadlines.traced(|trace| trace.cluster(&grant.cluster().name));
    let who = (person.issuer.as_str(), person.subject.as_str());
    let permit = granted.permit(&common.shared.permits, who, common.limits.max_user_client_connections)?;
    let pass = granted.pass(deadlines.login, &common.shared.shutdown.drain).await?; // counted where it waits

    let startup = P::startup(client);
    let slot = context.pool.as_ref().map(|pool| pool.slot(grant, startup));
    let pooled = match &slot {
        Some(slot) => timed((metrics, deadlines), LoginStep::Pool, slot.take()).await,
        None => None,
    };
    audit.reused(slot.is_some().then_some(pooled.is_some()));
    let (mut upstream, connection_origin) = match pooled {
        Some(pooled) => pooled,
        None => {
            let connecting =
                open::connect(context, jwt, &granted, (startup, slot.as_ref()), deadlines, audit);
            Box::pin(connecting).await? // large, and not needed where the pool has a connection
        }
    };
    audit.role_session(&connection_origin.role_session_name, &connection_origin.access_key_id);
    let checkout = slot.and_then(|slot| slot.check_out(connection_origin, &upstream.greeting));
    // A pooled server process may serve another session later, so this key must not reach it then.
    let scope = if checkout.is_some() { KeyScope::ThisSession } else { KeyScope::AnyReplica };
    let server = upstream.cancel.as_ref().map(P::server_process);
    let client_key = upstream.cancel.take().and_then(|target| {
        let (addr, process) = P::server_process(&target);
        audit.upstream(addr, process);
        P::issue_key(&context.state, target, client, scope)
    });
    common.audit.admits()?; // nobody is let in whose record may be lost
    let token = TokenTimes { expires: grant.expires_at(), accepted_until: grant.accepted_until() };
    let settings = common.settings.for_at_most(grant.group().and_then(|group| group.max_lifetime));
    let ended = common.shared.shutdown.now.child_token();
    let facts = facts::of_session::<P>(grant, client, origin, (person, server), common.shared.clock.now());
    let registration = (common.shared.registry.register(facts, ended.clone()), ended);
    let series = metrics.session_series(&session_route(listener, grant));
    let login =
        LoggedIn { upstream, checkout, client_key, pass, permit, registration, series, token, settings };
    Ok(Login::Session(Box::new(login)))
}

/// Lets the client in.
async fn welcome<P: Protocol>(
    shared: &Shared,
    client: P::Client,
    login: Box<LoggedIn<P>>,
    deadlines: LoginDeadlines<'_>,
    (session, audit): (SessionId, &mut AuditRecord),
) -> io::Result<Box<LiveSession<P>>> {
    audit.session_starts(); // before the first query, whatever becomes of the end
    let ServerSession { stream, greeting, statement_cancel, .. } = login.upstream;
    let counted = shared.permits.welcomed(); // before the client can know that it is logged in
    let welcomed = timeout_at(deadlines.login, P::welcome(client, &greeting, login.client_key.as_ref()));
    let welcomed = timed((&shared.metrics.logins, deadlines), LoginStep::Welcome, welcomed).await;
    let (client, filter) = match welcomed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(welcomed) => welcomed,
        Err(error) => {
            if let Some(checkout) = login.checkout {
                checkout.discard();
            }
            return Err(error);
        }
    };
    let measured = login.series.starts(deadlines.accepted.elapsed());
    deadlines.traced(|trace| trace.ended(LoginResult::Session));
    let (registration, ended) = login.registration;
    let options = RelayOptions {
        settings: login.settings,
        token: login.token,
        clock: shared.clock.clone(),
        drain: shared.shutdown.drain.clone(),
        order: login.pass.order(),
        now: shared.shutdown.now.clone(),
        ended,
        session,
        activity: registration.activity(),
    };
    Ok(Box::new(LiveSession {
        client: P::client_end(client, login.checkout.is_some(), filter),
        tracker: P::tracker(&greeting),
        server: stream,
        statement_cancel,
        checkout: login.checkout,
        client_key: login.client_key,
        pass: login.pass,
        permit: login.permit,
        registration,
        options,
        _counted: (counted, measured),
    }))
}

/// The client's request and connection, for the access policy.
fn login_request<'a, P: Protocol>(listener: &'a Listener<P>, client: &'a P::Client) -> LoginRequest<'a> {
    let StartupRequest { user, database, options, settings, .. } = P::request(P::startup(client));
    LoginRequest {
        user,
        database,
        listener: &listener.settings.name,
        server_name: P::connection(client).server_name(),
        options: options.is_some(),
        settings,
    }
}

fn session_route<P: Protocol>(listener: &Listener<P>, grant: &Grant) -> SessionRoute {
    SessionRoute {
        cluster: grant.cluster().name.clone(),
        listener: listener.settings.name.clone(),
        protocol: listener.settings.protocol,
    }
}
