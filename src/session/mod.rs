//! A connection from start to end: negotiate, request the token, verify, authorize, dial and federate, sign,
//! log in, welcome, relay. Each step takes the proof of the step before.

mod cancel;
pub mod cluster;
mod due;
pub mod explain;
pub mod login_rate;
mod open;
pub mod outcome;
pub mod permits;
pub mod registry;
pub mod shared;
mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use self::cluster::{Cluster, ClusterGrant};
use self::due::{LoginDeadlines, timed, within};
use self::explain::{explain, name_clock};
use self::outcome::{LoginError, SessionEnd};
use self::permits::{ClosedSilently, ConnectionAdmission, EvictionStep, SessionPermit};
use self::registry::{Person, SessionFacts, SessionRegistration};
use self::shared::Shared;
use crate::identity::{AccessPolicy, LoginRequest, VerifiedClaims, Verifier};
use crate::names::SessionId;
use crate::net::dial::DialerSet;
use crate::net::proxy_protocol::{ClientOrigin, origin};
use crate::net::socket;
use crate::pool::{Pool, PoolCheckout, ReturnedConnection};
use crate::postgres::Postgres;
use crate::postgres::cancel::deliver::CancelEntrance;
use crate::postgres::cancel::{ClientKey, KeyScope};
use crate::postgres::client;
use crate::postgres::client::PendingLogin;
use crate::postgres::listener::Listener;
use crate::postgres::message::WireError;
use crate::postgres::negotiate::{FirstPacket, NegotiationError, negotiate};
use crate::postgres::server_login::{LoginParameters, UpstreamSession};
use crate::postgres::tracker::Tracker;
use crate::refusal::Stage;
use crate::relay::{RelayOptions, ReusableServer, SessionSettings, TokenTimes, relay};
use crate::telemetry::audit::{AuditIdentity, AuditRecord};
use crate::telemetry::audit_file::AuditGate;
use crate::telemetry::login_metrics::{LoginStep, SessionSeries};

/// Shared components of all connections, built by `app.rs`.
#[derive(Debug)]
pub struct SessionContext {
    /// The state that outlives this configuration.
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: SessionLimits,
    pub(crate) verifier: Verifier,
    /// The clusters and their access rules.
    pub(crate) policy: AccessPolicy<Arc<Cluster>>,
    /// Dialers of all clusters, for cancels.
    pub(crate) dialers: DialerSet,
    /// Connection pool, if enabled.
    pub(crate) pool: Option<Arc<Pool<Postgres>>>,
    pub(crate) audit: AuditGate,
    pub(crate) settings: SessionSettings,
}

/// Time and count limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// From accept to the end of the client's token.
    pub client_login_timeout: Duration,
    /// From accept to ReadyForQuery.
    pub login_timeout: Duration,
    /// Most connections from one address without a verified token; unlimited if absent.
    pub max_logins_per_address: Option<usize>,
    /// Most sessions of one person in all clusters; unlimited if absent.
    pub max_user_client_connections: Option<usize>,
}

/// Result of a login.
struct LoggedIn {
    upstream: UpstreamSession,
    /// What becomes of the upstream afterwards, where connections are kept.
    checkout: Option<PoolCheckout<Postgres>>,
    /// The client's key to cancel its queries.
    client_key: Option<ClientKey>,
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
pub async fn serve(
    context: Arc<SessionContext>,
    listener: &Listener,
    (tcp, peer): (TcpStream, SocketAddr),
    mut admission: ConnectionAdmission,
) {
    let session = SessionId::random();
    let (shared, noise) = (Arc::clone(&context.shared), context.shared.log.noise());
    let mut audit = AuditRecord::start(session, peer, &listener.name, Arc::clone(&noise));
    let deadlines = LoginDeadlines::of(&context.limits);
    let evicted = admission.evicted();
    let arrived = tokio::select! {
        biased;
        () = evicted.received() => Err(SessionEnd::evicted(&admission)),
        arrived = arrive(&context, listener, (tcp, peer), &mut admission, deadlines, (session, &mut audit)) => arrived,
    };
    let end = match arrived {
        Ok((client, login)) => {
            Box::pin(relay_session(context, client, login, deadlines, (session, &mut audit))).await
        }
        Err(end) => end,
    };
    end.log(session, &noise);
    let outcome = end.outcome();
    end.count(&outcome, deadlines.accepted.elapsed(), &shared.metrics);
    audit.finish(outcome);
}

/// From the first byte to a session on the upstream. The error is the end of the connection.
async fn arrive(
    context: &SessionContext,
    listener: &Listener,
    (tcp, peer): (TcpStream, SocketAddr),
    admission: &mut ConnectionAdmission,
    deadlines: LoginDeadlines,
    (session, audit): (SessionId, &mut AuditRecord),
) -> Result<(PendingLogin<TcpStream>, Box<LoggedIn>), SessionEnd> {
    admission.step(EvictionStep::Client);
    socket::tune(&tcp).map_err(|error| SessionEnd::Dropped(NegotiationError::Io(error)))?;
    // Steps are boxed, so that a connection uses memory only for its current step.
    let identified = Box::pin(identify(context, listener, (tcp, peer), admission, audit));
    let (first, origin) = match timeout_at(deadlines.client, identified).await {
        Err(_) => return Err(SessionEnd::Dropped(NegotiationError::TimedOut)), // no shared language yet, so no word either
        Ok(identified) => identified.map_err(SessionEnd::Dropped)?,
    };
    match first {
        FirstPacket::Cancel(stream, key) => {
            admission.step(EvictionStep::Proxy);
            let entrance = CancelEntrance { listener: &listener.name, server_name: stream.server_name() };
            let source = origin.client().ip();
            let end = Box::pin(cancel::carry_out(context, entrance, &key, source, (admission, audit))).await;
            admission.step(EvictionStep::Client);
            client::close(stream).await;
            Err(end)
        }
        FirstPacket::Rejected(stream, why) => {
            let why = LoginError::Startup(why);
            let refusal = explain(&why);
            Box::pin(client::refuse(stream, &refusal, &listener.token_method, session)).await;
            Err(SessionEnd::Refused { why, refusal })
        }
        FirstPacket::Login(mut client) => {
            let origin = (session, origin.client());
            match Box::pin(log_in(context, (listener, origin), &mut client, admission, deadlines, audit))
                .await
            {
                Ok(login) => Ok((client, login)),
                Err(why) => {
                    admission.step(EvictionStep::Client);
                    let refusal = name_clock(explain(&why), &why, context.shared.peer_clocks.difference());
                    Box::pin(client.refuse(&refusal, &listener.token_method, session)).await;
                    Err(SessionEnd::Refused { why, refusal })
                }
            }
        }
    }
}

/// Identifies the client and its request: the load balancer's header, if required, then the first packets.
async fn identify(
    context: &SessionContext,
    listener: &Listener,
    (mut tcp, peer): (TcpStream, SocketAddr),
    admission: &mut ConnectionAdmission,
    audit: &mut AuditRecord,
) -> Result<(FirstPacket<TcpStream>, ClientOrigin), NegotiationError> {
    let origin = origin(&mut tcp, peer, &listener.proxy_protocol_from).await?;
    audit.origin(origin.client(), origin.via());
    let located = context.shared.permits.attach_source(
        admission,
        origin.client().ip(),
        context.limits.max_logins_per_address,
    );
    located.map_err(|ClosedSilently| NegotiationError::TooManyRefusals)?;
    let stepped = || admission.step(EvictionStep::Client);
    stepped();
    match negotiate(tcp, &listener.acceptor, listener.allows_plaintext(&origin), stepped).await {
        Err(NegotiationError::Silent) if matches!(origin, ClientOrigin::Balancer(_)) => {
            Err(NegotiationError::HealthCheck)
        }
        first => Ok((first?, origin)),
    }
}

/// From the token to a session on the upstream, pooled or new. Nothing is looked up or dialed and no AWS call
/// is made before the token is verified and the login granted.
async fn log_in(
    context: &SessionContext,
    (listener, (session, peer)): (&Listener, (SessionId, SocketAddr)),
    client: &mut PendingLogin<TcpStream>,
    admission: &mut ConnectionAdmission,
    deadlines: LoginDeadlines,
    audit: &mut AuditRecord,
) -> Result<Box<LoggedIn>, LoginError> {
    let metrics = &context.shared.metrics;
    metrics.login_step(LoginStep::Startup, deadlines.accepted.elapsed());
    record_request(audit, client);
    admission.login_permit()?;
    context.audit.admits()?;
    admission.step(EvictionStep::Client);
    let asked = timeout_at(deadlines.client, client.ask_token(&listener.token_method));
    let jwt = timed(metrics, LoginStep::Token, asked).await.map_err(|_| LoginError::ClientTimedOut)??;
    admission.step(EvictionStep::Proxy);
    let verified = within(deadlines, Stage::Keys, context.verifier.verify(&jwt));
    let claims = timed(metrics, LoginStep::Verification, verified).await?;
    admission.verified()?;
    audit.identity(AuditIdentity {
        issuer: claims.issuer().as_str(),
        subject: claims.subject().as_str(),
        token_id: claims.token_id(),
    });
    let person = person(&claims);
    context.shared.registry.admits(&person)?;
    let granted = ClusterGrant::authorise(&context.policy, claims, &login_request(listener, client))?;
    let grant = granted.grant();
    audit.grant(&grant.cluster().name, grant.db_user().as_str(), grant.database().as_str());
    let who = (person.issuer.as_str(), person.subject.as_str());
    let permit = granted.permit(&context.shared.permits, who, context.limits.max_user_client_connections)?;

    let wanted = LoginParameters::of(grant, client.startup());
    let slot = context.pool.as_ref().map(|pool| pool.slot(grant, client.startup()));
    let pooled = match &slot {
        Some(slot) => timed(metrics, LoginStep::Pool, slot.take()).await,
        None => None,
    };
    audit.reused(slot.is_some().then_some(pooled.is_some()));
    let (mut upstream, connection_origin) = match pooled {
        Some(pooled) => pooled,
        None => open::connect(context, jwt, &granted, (wanted, slot.as_ref()), deadlines, audit).await?,
    };
    audit.role_session(&connection_origin.role_session_name, &connection_origin.access_key_id);
    let checkout = slot.and_then(|slot| slot.check_out(connection_origin, &upstream.greeting));
    // A pooled server process may serve another session later, so this key must not reach it then.
    let scope = if checkout.is_some() { KeyScope::ThisSession } else { KeyScope::AnyReplica };
    let client_key = upstream.cancel.take().and_then(|target| {
        audit.upstream(target.addr, target.key.pid);
        context.shared.cancels.issue(target, client.startup().protocol(), scope)
    });
    context.audit.admits()?; // nobody is let in whose record may be lost
    let token = TokenTimes { expires: grant.expires_at(), accepted_until: grant.accepted_until() };
    let settings = context.settings.for_at_most(grant.group().and_then(|group| group.max_lifetime));
    let ended = context.shared.shutdown.now.child_token();
    let facts = SessionFacts {
        id: session,
        person,
        cluster: grant.cluster().name.clone(),
        database: grant.database().as_str().to_owned(),
        db_user: grant.db_user().as_str().to_owned(),
        client: peer,
        listener: listener.name.clone(),
        since: context.shared.clock.now(),
    };
    let registration = (context.shared.registry.register(facts, ended.clone()), ended);
    let series = metrics.session_series(&grant.cluster().name, &listener.name);
    Ok(Box::new(LoggedIn { upstream, checkout, client_key, permit, registration, series, token, settings }))
}

/// From the welcome to the end of the session.
async fn relay_session(
    context: Arc<SessionContext>,
    client: PendingLogin<TcpStream>,
    mut login: Box<LoggedIn>,
    deadlines: LoginDeadlines,
    (session, audit): (SessionId, &mut AuditRecord),
) -> SessionEnd {
    audit.session_starts(); // before the first query, whatever becomes of the end
    let greeting = login.upstream.greeting;
    let key = login.client_key.as_ref().map(|client_key| &client_key.key);
    let welcomed = timeout_at(deadlines.login, client.welcome(&greeting, key));
    let welcomed = timed(&context.shared.metrics, LoginStep::Welcome, welcomed).await;
    let tracker = Tracker::new(greeting.status_byte());
    drop(greeting);
    let client = match welcomed.unwrap_or_else(|_| Err(WireError::Io(io::ErrorKind::TimedOut.into()))) {
        Ok(client) => client,
        Err(error) => {
            if let Some(checkout) = login.checkout {
                checkout.discard();
            }
            return SessionEnd::NotWelcomed(error);
        }
    };
    let _welcomed = context.shared.permits.welcomed();
    let _counted = login.series.starts(deadlines.accepted.elapsed());
    let (registered, ended) = login.registration;
    let options = RelayOptions {
        settings: login.settings,
        token: login.token,
        clock: context.shared.clock.clone(),
        drain: context.shared.shutdown.drain.clone(),
        now: context.shared.shutdown.now.clone(),
        ended,
        session,
        activity: registered.activity(),
        keep: login.checkout.is_some(),
    };
    drop(context); // a long session must not keep alive what a reload has replaced
    let report = relay::<Postgres, _, _>(client, &mut login.upstream.stream, tracker, &options, async || {
        if let Some(statement_cancel) = login.upstream.statement_cancel.take() {
            statement_cancel.send().await;
        }
    })
    .await;
    audit.carried(report.to_server, report.to_client);
    drop((login.permit, registered)); // others may have them from here on, and not before
    let cancel = login.client_key.map(ClientKey::retire).transpose(); // from here on the client's key cancels nothing
    match (login.checkout, report.reusable) {
        (Some(checkout), Some(ReusableServer { told_parameter })) => {
            let UpstreamSession { stream, statement_cancel, .. } = login.upstream;
            let returned = ReturnedConnection { stream, told_parameter, cancel, statement_cancel };
            // Runs detached: the client is gone and its permit released.
            drop(tokio::spawn(checkout.give_back(returned)));
        }
        (Some(checkout), None) => checkout.discard(),
        (None, _) => {}
    }
    SessionEnd::Carried(report)
}

/// The client's request and connection, for the access policy.
fn login_request<'a>(listener: &'a Listener, client: &'a PendingLogin<TcpStream>) -> LoginRequest<'a> {
    let startup = client.startup();
    LoginRequest {
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

fn record_request(audit: &mut AuditRecord, client: &PendingLogin<TcpStream>) {
    let startup = client.startup();
    audit.tls(client.tls_version(), client.server_name(), client.client_certificate().as_deref());
    audit.asked(startup.user(), startup.other("application_name").as_deref());
    audit.options(startup.other("options").as_deref());
}

impl SessionContext {
    /// Closes idle connections and keeps none from now on.
    pub fn close_pool(&self) {
        if let Some(pool) = &self.pool {
            pool.close();
        }
    }
}
