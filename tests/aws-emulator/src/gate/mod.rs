//! The login check of RDS: a server asks whether a password is a good IAM token. `PostgreSQL` asks over LDAP, the plugin of
//! MySQL and MariaDB over a Unix socket.

mod judge;
mod ldap;
mod plugin;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;

pub use self::judge::GateRefusal;
use self::judge::{GuardedDatabase, judge};
pub use self::plugin::GateSocket;
use crate::fault::FaultQueue;
use crate::http::HttpServer;
use crate::sts::CredentialStore;
use crate::sync::{AnswerHold, WatchedCounter, lock};
use crate::{EmulatorError, SettableClock, names};

/// Text that `PostgreSQL` puts before and after the user name to make a distinguished name of it.
pub(crate) const PREFIX: &str = "cn=";
pub(crate) const SUFFIX: &str = ",dc=rds";

/// Options of a gate.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Address to listen on; port 0 for a free one.
    pub bind: SocketAddr,
    /// The AWS account of the cluster.
    pub account: String,
    /// The Region of the cluster.
    pub region: String,
    /// The resource id of the cluster.
    pub resource_id: String,
    /// The endpoints of the cluster, `host:port`: a token for any of them is good.
    pub endpoints: Vec<String>,
    /// The credentials that exist.
    pub store: CredentialStore,
    /// Clock of the gate.
    pub clock: SettableClock,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: names::ACCOUNT.to_owned(),
            region: names::REGION.to_owned(),
            resource_id: names::RESOURCE_ID.to_owned(),
            endpoints: vec![names::ENDPOINT.to_owned()],
            store: CredentialStore::new(),
            clock: SettableClock::system(),
        }
    }
}

/// Fault of the gate in place of a decision.
#[derive(Clone, Debug)]
pub enum GateFault {
    /// Refuse every token.
    Deny,
    /// Judge only once the test opens the gate: a slow IAM.
    Hold(AnswerHold),
    /// Close the connection without an answer.
    Close,
}

/// Decision of the gate about a login.
#[derive(Clone, Debug)]
pub struct GateDecision {
    /// The database user who wanted in.
    pub user: String,
    /// Why not, if not.
    pub outcome: Result<(), GateRefusal>,
    /// The access key that signed, if it is one that exists.
    pub access_key_id: Option<String>,
    /// The role session behind it.
    pub session_name: Option<String>,
    /// Length of the password.
    pub password_length: usize,
}

impl GateDecision {
    /// True if the user was let in.
    pub fn accepted(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// A running gate. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct LoginGate {
    state: Arc<GateState>,
    server: Arc<HttpServer>,
}

struct GateState {
    guarded: GuardedDatabase,
    store: CredentialStore,
    clock: SettableClock,
    /// With the user they are for; none for all.
    faults: FaultQueue<(Option<String>, GateFault)>,
    decisions: Mutex<Vec<GateDecision>>,
    decided: WatchedCounter,
}

impl LoginGate {
    /// Starts a gate.
    pub fn start(options: GateOptions) -> Result<Self, EmulatorError> {
        let GateOptions { bind, account, region, resource_id, endpoints, store, clock } = options;
        let endpoints = endpoints.iter().map(|endpoint| endpoint.to_lowercase()).collect();
        let state = Arc::new(GateState {
            guarded: GuardedDatabase { account, region, resource_id, endpoints },
            store,
            clock,
            faults: FaultQueue::default(),
            decisions: Mutex::default(),
            decided: WatchedCounter::default(),
        });
        let server = {
            let state = Arc::clone(&state);
            HttpServer::connections(bind, move |stream, _| serve(Arc::clone(&state), stream))?
        };
        Ok(Self { state, server: Arc::new(server) })
    }

    /// Listens on a Unix socket, too, for the plugin of a MySQL or MariaDB server.
    pub fn listen_on(&self, path: &Path) -> Result<GateSocket, EmulatorError> {
        GateSocket::listen(path, Arc::clone(&self.state))
    }

    /// Listening address for LDAP.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The credentials it knows: give this to the STS stand-ins.
    pub fn store(&self) -> &CredentialStore {
        &self.state.store
    }

    /// Judges a token without `PostgreSQL`. Not logged among the decisions.
    pub fn judge(&self, user: &str, token: &str) -> Result<(), GateRefusal> {
        self.state.judge(user, token).1
    }

    /// All logins judged so far.
    pub fn decisions(&self) -> Vec<GateDecision> {
        lock(&self.state.decisions).clone()
    }

    /// The logins judged so far for one user: for tests that share the gate.
    pub fn decisions_for(&self, user: &str) -> Vec<GateDecision> {
        self.decisions().into_iter().filter(|decision| decision.user == user).collect()
    }

    /// Waits until the gate has judged `n` logins.
    pub fn reaches(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.state.decided.reaches(n)
    }

    /// Shows a fault until [`LoginGate::heal`].
    pub fn fail(&self, fault: GateFault) {
        self.state.faults.add(None, (None, fault));
    }

    /// Shows a fault for the next `times` logins.
    pub fn fail_times(&self, times: usize, fault: GateFault) {
        self.state.faults.add(Some(times), (None, fault));
    }

    /// Shows a fault to one user until [`LoginGate::heal_user`]: for tests that share the gate.
    pub fn fail_user(&self, user: &str, fault: GateFault) {
        self.state.faults.add(None, (Some(user.to_owned()), fault));
    }

    /// Takes away the faults for one user.
    pub fn heal_user(&self, user: &str) {
        self.state.faults.clear_for(|(concerned, _)| concerned.as_deref() == Some(user));
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        self.state.faults.clear();
    }
}

impl GateState {
    fn judge(&self, user: &str, token: &str) -> (Option<crate::sts::RoleSession>, Result<(), GateRefusal>) {
        judge(&self.guarded, &self.store, self.clock.unix(), user, token)
    }

    /// Judges a login and notes the decision. `None` when the test wants the connection closed.
    async fn decide(&self, user: String, password: &str) -> Option<Result<(), GateRefusal>> {
        let concerns = |other: &Option<String>| other.as_ref().is_none_or(|other| *other == user);
        let fault = self.faults.next_for(|(other, _)| concerns(other)).map(|(_, fault)| fault);
        if let Some(GateFault::Hold(hold)) = &fault {
            hold.pass().await;
        }
        if matches!(fault, Some(GateFault::Close)) {
            return None;
        }
        let (session, mut outcome) = self.judge(&user, password);
        if matches!(fault, Some(GateFault::Deny)) {
            outcome = Err(GateRefusal::OnPurpose);
        }
        lock(&self.decisions).push(GateDecision {
            user,
            outcome: outcome.clone(),
            access_key_id: session.as_ref().map(|session| session.access_key_id.clone()),
            session_name: session.map(|session| session.session_name),
            password_length: password.len(),
        });
        self.decided.add();
        Some(outcome)
    }
}

async fn serve(state: Arc<GateState>, mut stream: TcpStream) {
    while let Some(bind) = ldap::read(&mut stream).await {
        let Some(outcome) = state.decide(bind.user, &bind.password).await else { return };
        let refusal = outcome.err().map(|refusal| refusal.to_string());
        if ldap::reply(&mut stream, &bind.message_id, refusal.as_deref()).await.is_err() {
            return;
        }
    }
}
