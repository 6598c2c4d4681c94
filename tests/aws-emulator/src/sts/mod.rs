//! The STS stand-in: how it is started, made to fail and observed. What it decides is in `assume`.

mod answer;
mod assume;
mod credentials;
mod fault;
mod identity;
mod request;
mod tags;
mod trail;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

pub use self::credentials::{CredentialStore, RoleSession};
pub use self::fault::StsFault;
use self::identity::KnownProvider;
pub use self::identity::OidcProvider;
use crate::fault::FaultQueue;
use crate::http::HttpServer;
use crate::policy::IamPolicy;
use crate::sync::{WatchedCounter, lock};
use crate::{EmulatorError, SettableClock, names};

/// A role as an administrator sets it up.
#[derive(Clone, Debug)]
pub struct IamRole {
    /// The role's ARN.
    pub arn: String,
    /// Trust policy (JSON).
    pub trust_policy: String,
    /// Permission policy (JSON).
    pub permission_policy: String,
    /// The longest session, in seconds.
    pub max_session_duration: i64,
}

/// Options of an STS.
#[derive(Clone, Debug)]
pub struct StsOptions {
    /// Address to listen on; port 0 for a free one.
    pub bind: SocketAddr,
    /// The account that owns roles and providers.
    pub account: String,
    /// Store of minted credentials: give the gate the same one.
    pub store: CredentialStore,
    /// Clock of STS.
    pub clock: SettableClock,
    /// The roles that exist.
    pub roles: Vec<IamRole>,
    /// The identity providers that are registered.
    pub providers: Vec<OidcProvider>,
    /// Length of session tokens. AWS documents no length; about 1,100 characters are usual.
    pub session_token_length: usize,
}

impl Default for StsOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: names::ACCOUNT.to_owned(),
            store: CredentialStore::new(),
            clock: SettableClock::system(),
            roles: Vec::new(),
            providers: Vec::new(),
            session_token_length: 1100,
        }
    }
}

/// A finished request. It contains no token, so it may be printed.
#[derive(Clone, Debug, Default)]
pub struct StsCall {
    /// `RoleArn`.
    pub role_arn: String,
    /// `RoleSessionName`.
    pub session_name: String,
    /// `IamPolicy`.
    pub policy: Option<String>,
    /// `DurationSeconds`, as it was sent.
    pub duration: Option<String>,
    /// True if the request had an `Authorization` header, which this operation does not need.
    pub signed: bool,
    /// `OK`, AWS's error code, or `fault` for a fault below the level of STS.
    pub code: String,
    /// The error's message.
    pub message: String,
    /// The access key that was minted.
    pub access_key_id: Option<String>,
}

impl StsCall {
    /// True if credentials were given.
    pub fn granted(&self) -> bool {
        self.code == "OK"
    }
}

/// From where trust policies see a request come.
#[derive(Clone, Copy, Debug, Default)]
pub enum SourceIp {
    /// The address the request came from.
    #[default]
    Peer,
    /// This address.
    Fixed(IpAddr),
    /// None, as through a VPC endpoint that nobody asks for.
    Absent,
    /// None, but this VPC endpoint (`aws:SourceVpce`), and the address behind it (`aws:VpcSourceIp`).
    Vpce(&'static str),
}

/// A running STS. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Sts {
    state: Arc<StsState>,
    server: Arc<HttpServer>,
}

/// A role as STS keeps it.
#[derive(Clone)]
struct KnownRole {
    arn: String,
    id: String,
    trust: IamPolicy,
    /// Shared with the sessions, which are subject to the present policy.
    permission: Arc<Mutex<IamPolicy>>,
    max_session_duration: i64,
}

struct StsState {
    account: String,
    store: CredentialStore,
    clock: SettableClock,
    session_token_length: Mutex<usize>,
    source_ip: Mutex<SourceIp>,
    roles: Mutex<HashMap<String, KnownRole>>,
    providers: Mutex<HashMap<String, Arc<KnownProvider>>>,
    faults: FaultQueue<StsFault>,
    calls: Mutex<Vec<StsCall>>,
    trail: Mutex<Vec<serde_json::Value>>,
    arrived: WatchedCounter,
    finished: WatchedCounter,
}

impl Sts {
    /// Starts an STS.
    pub fn start(options: StsOptions) -> Result<Self, EmulatorError> {
        let state = Arc::new(StsState {
            account: options.account,
            store: options.store,
            clock: options.clock,
            session_token_length: Mutex::new(options.session_token_length),
            source_ip: Mutex::default(),
            roles: Mutex::default(),
            providers: Mutex::default(),
            faults: FaultQueue::default(),
            calls: Mutex::default(),
            trail: Mutex::default(),
            arrived: WatchedCounter::default(),
            finished: WatchedCounter::default(),
        });
        let server = {
            let state = Arc::clone(&state);
            HttpServer::http(options.bind, move |request, peer| {
                let state = Arc::clone(&state);
                async move { assume::serve(&state, request, peer.ip()).await }
            })?
        };
        let sts = Self { state, server: Arc::new(server) };
        for role in &options.roles {
            sts.put_role(role)?;
        }
        for provider in options.providers {
            sts.put_provider(provider);
        }
        Ok(sts)
    }

    /// Listening address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Value of the proxy's `sts_endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The credentials it has minted, with those of others who share the store.
    pub fn store(&self) -> &CredentialStore {
        &self.state.store
    }

    /// Adds a role, or changes it. Sessions that exist follow the new permission policy.
    pub fn put_role(&self, role: &IamRole) -> Result<(), EmulatorError> {
        let trust = IamPolicy::trust(&role.trust_policy)?;
        let permission = IamPolicy::identity(&role.permission_policy)?;
        let mut roles = lock(&self.state.roles);
        let known = roles.entry(role.arn.clone()).or_insert_with(|| KnownRole {
            arn: role.arn.clone(),
            id: assume::new_id("AROA"),
            trust: trust.clone(),
            permission: Arc::new(Mutex::new(permission.clone())),
            max_session_duration: role.max_session_duration,
        });
        known.trust = trust;
        known.max_session_duration = role.max_session_duration;
        *lock(&known.permission) = permission;
        Ok(())
    }

    /// Registers an identity provider, or changes its audiences.
    pub fn put_provider(&self, provider: OidcProvider) {
        lock(&self.state.providers).insert(provider.url.clone(), Arc::new(KnownProvider::new(provider)));
    }

    /// Forgets the keys read from the providers.
    pub fn forget_keys(&self) {
        lock(&self.state.providers).values().for_each(|provider| provider.forget_keys());
    }

    /// Says what `aws:SourceIp` is.
    pub fn set_source_ip(&self, source: SourceIp) {
        *lock(&self.state.source_ip) = source;
    }

    /// Says how long session tokens are from now on.
    pub fn set_session_token_length(&self, length: usize) {
        *lock(&self.state.session_token_length) = length;
    }

    /// Shows a fault until [`Sts::heal`].
    pub fn fail(&self, fault: impl Into<StsFault>) {
        self.state.faults.add(None, fault.into());
    }

    /// Shows a fault for the next `times` requests.
    pub fn fail_times(&self, times: usize, fault: impl Into<StsFault>) {
        self.state.faults.add(Some(times), fault.into());
    }

    /// Shows a fault to half of the requests, the same ones in every run, until [`Sts::heal`].
    pub fn fail_half(&self, fault: impl Into<StsFault>) {
        self.state.faults.add_for_half(fault.into());
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        self.state.faults.clear();
    }

    /// All finished requests.
    pub fn calls(&self) -> Vec<StsCall> {
        lock(&self.state.calls).clone()
    }

    /// The events of granted requests in the shape of a log file of `CloudTrail`.
    pub fn trail(&self) -> serde_json::Value {
        serde_json::json!({ "Records": *lock(&self.state.trail) })
    }

    /// Number of requests, also of those that still wait for an answer.
    pub fn count(&self) -> usize {
        self.state.arrived.get()
    }

    /// Waits until `n` requests have come.
    pub fn reaches(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.state.arrived.reaches(n)
    }

    /// Waits until `n` requests have been answered: then [`Sts::calls`] has them.
    pub fn answered(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.state.finished.reaches(n)
    }
}
