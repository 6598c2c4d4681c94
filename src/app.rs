//! Builds all parts from the configuration. The only module that reads the whole configuration.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use crate::accept::acceptor::Generation;
use crate::aws::federation::Federation;
use crate::aws::retry::StsTimes;
use crate::aws::sts_endpoints;
use crate::clock::Clock;
use crate::config::{
    CancelSettings, ClusterSettings, Config, DatabaseProtocol, EgressSettings, IssuerSettings, LimitSettings,
    ListenAuth, ListenSettings, ListenTls, PoolSettings, TraceSettings,
};
use crate::console::ConsoleDoor;
use crate::identity::{AccessPolicy, ConsolePolicy, KeyFetcher, KeyStore, Verifier};
use crate::lifecycle::{ReloadRequests, ShutdownTokens};
use crate::mysql::Mysql;
use crate::mysql::question;
use crate::mysql::state::{MysqlListen, MysqlState};
use crate::net::allowed_peers::AllowedPeers;
use crate::net::certificate::CertificateFacts;
use crate::net::cluster_id::ClusterId;
use crate::net::dial::Dialer;
use crate::net::egress::{Egress, EgressProxy};
use crate::net::file_content;
use crate::net::outgoing::Outgoing;
use crate::net::peer_clocks::PeerClocks;
use crate::net::resolver::Resolver;
use crate::net::tls;
use crate::net::tls::TlsSetupError;
use crate::pool::{IdleConnections, Pool};
use crate::postgres::Postgres;
use crate::postgres::cancel::{CancelKeys, CancelSecret};
use crate::postgres::oauthbearer::Discovery;
use crate::postgres::token_method::TokenMethod;
use crate::protocol::Protocol;
use crate::session::cluster::{Cluster, ReachableCluster};
use crate::session::gate::ClusterGates;
use crate::session::listener::{Listener, ListenerService, ProtocolService};
use crate::session::login_rate::LoginRateLimiter;
use crate::session::permits::PermitCounters;
use crate::session::shared::Shared;
use crate::session::{ProtocolContext, SessionContext};
use crate::supervisor::{TaskRules, TaskSupervisor};
use crate::telemetry::logging::LogControl;
use crate::telemetry::login_trace::TraceSink;
use crate::telemetry::metrics::Metrics;
#[cfg(feature = "otlp")]
use crate::telemetry::otlp;

/// The environment that tests can replace: wall clock, DNS, supervision, and threads.
#[derive(Clone, Debug)]
pub struct AppEnvironment {
    /// Wall clock.
    pub clock: Clock,
    /// DNS resolver.
    pub resolver: Resolver,
    /// Supervision rules, and panics that a test injects.
    pub tasks: TaskRules,
    /// Number of session threads; by default one for each core.
    pub threads: Option<usize>,
}

impl Default for AppEnvironment {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            resolver: Resolver::system(),
            tasks: TaskRules::default(),
            threads: None,
        }
    }
}

/// Builds one configuration after the other, on the state that they share.
#[derive(Debug)]
pub struct GenerationBuilder {
    /// The state that outlives a configuration.
    pub shared: Arc<Shared>,
    /// The runtime for fetching keys and asking STS.
    pub control: Handle,
    /// The cancel keys that PostgreSQL clients have.
    cancels: Arc<CancelKeys>,
    /// The ids of MySQL clients, and the versions of MySQL servers.
    mysql: Arc<MysqlState>,
}

impl GenerationBuilder {
    /// With no session there and nothing counted.
    pub fn new(
        environment: AppEnvironment,
        control: Handle,
        shutdown: ShutdownTokens,
        log: LogControl,
        cancel: &CancelSettings,
    ) -> anyhow::Result<Self> {
        let secret = match &cancel.secret_file {
            Some(path) => CancelSecret::read(path)?,
            None => CancelSecret::random(),
        };
        let AppEnvironment { clock, resolver, tasks, .. } = environment;
        let shared = Shared {
            resolver,
            peer_clocks: PeerClocks::new(clock.clone()),
            shutdown,
            supervisor: TaskSupervisor::new(control.clone(), tasks),
            permits: PermitCounters::default(),
            gates: ClusterGates::default(),
            registry: Arc::default(),
            console: ConsoleDoor::default(),
            reloads: ReloadRequests::default(),
            metrics: Metrics::default(),
            log,
            federation: Federation::new(clock.clone(), control.clone()),
            pool_stats: Arc::default(),
            clock,
        };
        let cancels = CancelKeys::new(&secret).context("cancel keys cannot be derived")?;
        Ok(Self { shared: Arc::new(shared), control, cancels: Arc::new(cancels), mysql: Arc::default() })
    }

    /// Builds a generation and reads the files that `config` names. Takes over from `before` the issuers'
    /// keys and the cached STS answers whose settings are unchanged. If it fails, `before` is unchanged.
    pub fn build(&self, config: Config, before: Option<&Generation>) -> anyhow::Result<Generation> {
        let certificates = config
            .listeners
            .iter()
            .map(|listen| listen.tls.as_ref().map(|tls| expires_at(&tls.cert_file)).transpose());
        let certificates = certificates.collect::<Result<_, _>>()?;
        let pages = config.pages().map(|(name, page)| Ok((name, expires_at(&page.tls_cert_file)?)));
        let page_certificates = pages.collect::<Result<_, TlsSetupError>>()?;
        let outgoing = Outgoing::new(self.shared.resolver.clone(), egress(&config.egress)?)
            .with_clocks(self.shared.peer_clocks.clone());
        let clusters = self.clusters(config.clusters, &config.limits, &outgoing, before)?;
        let listeners =
            config.listeners.iter().map(|settings| listener(settings, &clusters, config.pool.is_some()));
        let listeners = listeners.collect::<anyhow::Result<Vec<_>>>()?;
        let of_postgres = self.reachable(DatabaseProtocol::PostgreSql, &clusters, &config.limits)?;
        let of_mysql = self.reachable(DatabaseProtocol::MySql, &clusters, &config.limits)?;
        let traces = self.traces(config.traces, &outgoing, before)?;
        let fetchers = config.issuers.iter().map(|issuer| KeyFetcher::new(issuer, &outgoing));
        let fetchers = fetchers.collect::<Result<Vec<_>, _>>()?;

        // Nothing fails from here on.
        let issuers = config.issuers.into_iter().zip(fetchers);
        let issuers = issuers.map(|(settings, fetcher)| self.issuer(settings, fetcher, before)).collect();
        let pool = config.pool.map(|settings| self.pool::<Postgres>(settings));
        let mysql_pool =
            config.pool.filter(|_| !of_mysql.is_empty()).map(|settings| self.pool::<Mysql>(settings));
        let common = Arc::new(SessionContext {
            limits: config.limits,
            verifier: Verifier::new(issuers, self.shared.clock.clone()),
            clusters,
            console: ConsolePolicy::new(config.admin.console),
            pools: [pool.as_ref().map(idle_of), mysql_pool.as_ref().map(idle_of)]
                .into_iter()
                .flatten()
                .collect(),
            audit: self.shared.log.audit_gate(config.audit.when_unwritable),
            traces,
            settings: config.session,
            shared: Arc::clone(&self.shared),
        });
        let postgres = protocol_context::<Postgres>(&common, &self.cancels, of_postgres, pool);
        let mysql = protocol_context::<Mysql>(&common, &self.mysql, of_mysql, mysql_pool);
        let service = |listener| match listener {
            ProtocolListener::Postgres(listener) => service(&postgres, listener),
            ProtocolListener::Mysql(listener) => service(&mysql, listener),
        };
        Ok(Generation {
            context: common,
            listeners: listeners.into_iter().map(service).collect(),
            certificates,
            page_certificates,
            keys: config.keys,
        })
    }

    /// The way of traces to the collector: the exporter of `before`, if its settings are unchanged. The files are read anew.
    fn traces(
        &self,
        settings: Option<TraceSettings>,
        outgoing: &Outgoing,
        before: Option<&Generation>,
    ) -> anyhow::Result<TraceSink> {
        let known = before.map(|before| before.context.traces.clone());
        let known = known.filter(|known| known.is_for(settings.as_ref()));
        #[cfg(feature = "otlp")]
        if let Some(settings) = settings {
            if let Some(known) = known {
                return Ok(otlp::renewed(&known, &settings, outgoing)?);
            }
            let told = (&self.shared.metrics.traces, self.shared.log.noise());
            return Ok(otlp::start(settings, outgoing, told, &self.shared.supervisor)?);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = (known, settings, outgoing);
        Ok(TraceSink::default())
    }

    fn pool<P: Protocol>(&self, settings: PoolSettings) -> Arc<Pool<P>> {
        let stats = Arc::clone(&self.shared.pool_stats);
        Pool::start(settings, stats, self.shared.clock.clone(), &self.shared.supervisor)
    }

    /// Builds the running clusters. A cluster of the same name in `before` hands over its login queue and, if
    /// its settings are unchanged, its cached role credentials.
    fn clusters(
        &self,
        clusters: Vec<ClusterSettings>,
        limits: &LimitSettings,
        outgoing: &Outgoing,
        before: Option<&Generation>,
    ) -> anyhow::Result<Vec<Arc<Cluster>>> {
        let known = before.map_or(&[][..], |before| &before.context.clusters);
        let settings = |settings| {
            let same = known.iter().find(|known| *known.settings == settings);
            same.map_or_else(|| Arc::new(settings), |known| Arc::clone(&known.settings))
        };
        let clusters: Vec<_> = clusters.into_iter().map(settings).collect();
        let endpoints: Vec<_> = known.iter().map(|known| &known.sts).collect();
        let (times, clock) = (StsTimes::of(limits.login_timeout), &self.shared.clock);
        let endpoints = sts_endpoints::of_clusters(&clusters, &endpoints, times, (clock, outgoing))?;
        let build = |(settings, sts): (Arc<ClusterSettings>, _)| {
            let known = known.iter().find(|known| known.settings.name == settings.name);
            let login_rate = LoginRateLimiter::of(&settings, known.and_then(|it| it.login_rate.as_ref()));
            let permits = self.shared.permits.cluster(&settings.name);
            let gate = self.shared.gates.of(&settings.name);
            Arc::new(Cluster { settings, sts, login_rate, permits, gate })
        };
        Ok(clusters.into_iter().zip(endpoints).map(build).collect())
    }

    /// Builds the way to each cluster of `engine`, which is `P`. Reads the clusters' authorities.
    fn reachable<P: Protocol>(
        &self,
        engine: DatabaseProtocol,
        clusters: &[Arc<Cluster>],
        limits: &LimitSettings,
    ) -> anyhow::Result<Vec<Arc<ReachableCluster<P>>>> {
        let build = |cluster: &Arc<Cluster>| {
            let resolver = self.shared.resolver.clone();
            let dialer = Dialer::new(&cluster.settings, limits.server_connect_timeout, resolver)?;
            Ok(Arc::new(ReachableCluster { cluster: Arc::clone(cluster), dialer: Arc::new(dialer) }))
        };
        clusters.iter().filter(|cluster| cluster.settings.engine == engine).map(build).collect()
    }

    fn issuer(
        &self,
        settings: IssuerSettings,
        fetcher: KeyFetcher,
        before: Option<&Generation>,
    ) -> (IssuerSettings, Arc<KeyStore>) {
        let mut known = before.into_iter().flat_map(|before| before.context.verifier.issuers());
        let keys = match known.find(|(known, _)| **known == settings) {
            Some((_, keys)) => {
                keys.renew(fetcher);
                Arc::clone(keys)
            }
            None => Arc::new(KeyStore::start(&settings, fetcher, &self.shared.supervisor)),
        };
        (settings, keys)
    }
}

/// The components for the sessions of one protocol.
fn protocol_context<P: Protocol>(
    common: &Arc<SessionContext>,
    state: &Arc<P::State>,
    reachable: Vec<Arc<ReachableCluster<P>>>,
    pool: Option<Arc<Pool<P>>>,
) -> Arc<ProtocolContext<P>> {
    Arc::new(ProtocolContext {
        common: Arc::clone(common),
        state: Arc::clone(state),
        dialers: reachable.iter().map(|reachable| Arc::clone(&reachable.dialer)).collect(),
        policy: AccessPolicy::new(reachable),
        pool,
    })
}

fn idle_of<P: Protocol>(pool: &Arc<Pool<P>>) -> Arc<dyn IdleConnections> {
    Arc::clone(pool) as Arc<dyn IdleConnections>
}

/// The service of a listener.
fn service<P: Protocol>(
    context: &Arc<ProtocolContext<P>>,
    listener: Arc<Listener<P>>,
) -> Arc<dyn ListenerService> {
    Arc::new(ProtocolService { context: Arc::clone(context), listener })
}

/// Routing of requests to issuers and STS. Reads the proxy's credentials file.
pub fn egress(settings: &EgressSettings) -> anyhow::Result<Egress> {
    let Some(url) = &settings.proxy else { return Ok(Egress::default()) };
    let uri = url.as_str().parse().context("egress.proxy")?;
    let mut proxy = EgressProxy { uri, authorization: None };
    if let Some(path) = &settings.proxy_credentials_file {
        let name = || format!("egress.proxy_credentials_file: {}", path.display());
        let text = file_content::read_text(path).with_context(name)?;
        let with = proxy.with_credentials(text.trim_end_matches(['\r', '\n']));
        proxy = with.with_context(|| format!("{}: write user:password on one line", name()))?;
    }
    Ok(Egress::through(proxy, settings.no_proxy.clone()))
}

/// A listener of one of the protocols.
enum ProtocolListener {
    Postgres(Arc<Listener<Postgres>>),
    Mysql(Arc<Listener<Mysql>>),
}

/// Builds the settings of one listener. Reads its files.
fn listener(
    settings: &ListenSettings,
    clusters: &[Arc<Cluster>],
    pooled: bool,
) -> anyhow::Result<ProtocolListener> {
    if settings.plaintext_from_loopback {
        tracing::warn!(
            listener = settings.name,
            "plaintext_from_loopback is on: clients on this machine may send tokens without TLS"
        );
    }
    if settings.protocol == DatabaseProtocol::MySql {
        return Ok(ProtocolListener::Mysql(listener_of(settings, mysql_listen(settings, clusters, pooled))?));
    }
    let ask = match &settings.auth {
        ListenAuth::Password | ListenAuth::OpenIdConnect => TokenMethod::Password,
        ListenAuth::OAuthBearer { issuer, scope } => {
            let discovery = Discovery::new(issuer.as_str(), scope).with_context(|| {
                format!("listener {}: issuer and oauth_scope are too long for clients", settings.name)
            })?;
            TokenMethod::OAuthBearer(Arc::new(discovery))
        }
    };
    Ok(ProtocolListener::Postgres(listener_of(settings, ask)?))
}

fn listener_of<P: Protocol>(
    settings: &ListenSettings,
    protocol: P::Listen,
) -> anyhow::Result<Arc<Listener<P>>> {
    let tls = listener_files(settings).map(|files| tls::server_config(files, P::ALPN)).transpose()?;
    let peers = settings.peers.as_ref().map(AllowedPeers::resolve).transpose();
    Ok(Arc::new(Listener {
        settings: settings.clone(),
        acceptor: tls.map(|tls| TlsAcceptor::from(Arc::new(tls))),
        peers: peers.with_context(|| format!("listener {}", settings.name))?,
        protocol,
    }))
}

fn mysql_listen(settings: &ListenSettings, clusters: &[Arc<Cluster>], pooled: bool) -> MysqlListen {
    let reached = |cluster: &&Arc<Cluster>| {
        cluster.settings.engine == DatabaseProtocol::MySql
            && cluster.settings.route.admits(&settings.name, None)
    };
    let reached = clusters.iter().filter(reached);
    MysqlListen {
        token_method: match settings.auth {
            ListenAuth::OpenIdConnect => question::TokenMethod::OpenId,
            ListenAuth::Password | ListenAuth::OAuthBearer { .. } => question::TokenMethod::Password,
        },
        server_version: settings.server_version.clone(),
        pooled,
        clusters: reached.map(|cluster| ClusterId::of(&cluster.settings.endpoint)).collect(),
    }
}

/// Expiry of the first certificate of a file, in seconds since 1970.
fn expires_at(cert_file: &Path) -> Result<i64, TlsSetupError> {
    let chain = CertificateFacts::read_file(cert_file)?;
    Ok(chain.first().map_or(0, CertificateFacts::expires_at))
}

/// TLS files of a listener; `None` without TLS.
pub fn listener_files(settings: &ListenSettings) -> Option<tls::ListenerFiles<'_>> {
    let ListenTls { cert_file, key_file } = settings.tls.as_ref()?;
    let client = settings.client_certificate.as_ref();
    let client =
        client.map(|client| tls::ClientAuthority { ca_file: &client.ca_file, required: client.required });
    Some(tls::ListenerFiles { cert_file, key_file, client })
}
