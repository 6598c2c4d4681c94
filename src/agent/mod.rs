//! The local agent: tools connect to it on their own machine with settings that never change, and it logs in to the proxy
//! with a fresh token of the person who is signed in.
//!
//! ```text
//! accept (socket of the same user | loopback TCP) -> startup -> SCRAM with the local password (TCP only)
//!   -> token -> TLS to the proxy, verified -> login at the proxy -> welcome the tool -> relay
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`sockets`] | the Unix socket, its folder and lock; the loopback port |
//! | [`startup`] | the first packets of a tool |
//! | [`scram`], [`local_password`] | proof of the local password |
//! | [`proxy_login`] | a verified connection to the proxy, and the login there |
//! | [`refusal`] | errors that a tool shows to its user |
//! | [`tool_session`] | one connection of a tool, from accept to end |
//! | [`mysql`] | the same for tools that speak MySQL |
//!
//! Nothing is sent to the proxy before the tool has proved whose it is, and the tool is not answered before the proxy has
//! let the person in. An agent without a good token refuses; it has no other token, profile or server to try.

mod framing;
pub mod local_password;
mod mysql;
mod proxy_login;
mod refusal;
mod scram;
pub mod sockets;
mod startup;
mod tool_session;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::mysql::MysqlTools;
pub use self::proxy_login::{ProxyAddress, ProxyAddressError};
use self::scram::ScramVerifier;
use self::sockets::{AgentSockets, ToolStream};
use crate::secret::Jwt;
use crate::sync::lock;

/// Sessions and logins of tools at the same time, on both kinds of socket together.
pub const MAX_TOOLS: usize = 256;

/// Connections to the TCP port that have not proved the local password yet: more than a pool opens at once. Strangers on
/// the same machine can hold them; the Unix socket has no such limit, because others cannot use it.
pub const MAX_UNPROVEN: usize = 128;

/// Cancel requests under way at the same time.
const MAX_CANCELS: usize = 16;

/// Connections over a limit that are being told so at the same time; further ones are closed without words.
const MAX_REFUSALS: usize = 16;

/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The token of the person who is signed in, and the user name to log in with.
#[derive(Debug)]
pub struct PersonalLogin {
    /// The password for the proxy.
    pub token: Jwt,
    /// User of the startup packet. The proxy derives the database user from the token.
    pub user: String,
}

/// No token, in words for the tool's user.
#[derive(Clone, Debug)]
pub struct NoToken {
    /// The reason.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
    /// True if the issuer does not answer, so that a new sign-in would not help.
    pub is_transient: bool,
}

type TokenAnswer = Pin<Box<dyn Future<Output = Result<PersonalLogin, NoToken>> + Send>>;

/// Longest wait of a tool for its token: a refresh, and the wait for another process that refreshes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Gives a good token for each connection. Callers at the same time share one refresh.
#[derive(Clone)]
pub struct TokenProvider {
    provide: Arc<dyn Fn() -> TokenAnswer + Send + Sync>,
    renew: Arc<dyn Fn(Jwt) -> Option<TokenAnswer> + Send + Sync>,
    patience: Duration,
}

impl TokenProvider {
    /// A provider that calls `provide` for each connection.
    pub fn from_fn<F>(provide: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<PersonalLogin, NoToken>> + Send + 'static,
    {
        let provide = Arc::new(move || -> TokenAnswer { Box::pin(provide()) });
        Self { provide, renew: Arc::new(|_| None), patience: PATIENCE }
    }

    /// The same provider, which calls `renew` for a token in the place of one that the proxy refuses as too old. It
    /// gives none for a token that no other can replace.
    #[must_use]
    pub fn with_renewal<F>(self, renew: impl Fn(Jwt) -> Option<F> + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<PersonalLogin, NoToken>> + Send + 'static,
    {
        let renew = move |refused| renew(refused).map(|answer| -> TokenAnswer { Box::pin(answer) });
        Self { renew: Arc::new(renew), ..self }
    }

    /// The same provider; tools wait for their token for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// A login; none if it does not come in time.
    async fn login(&self) -> Option<Result<PersonalLogin, NoToken>> {
        timeout(self.patience, (self.provide)()).await.ok()
    }

    /// A login with another token than `refused`, which the proxy has refused as too old.
    fn renewal(&self, refused: Jwt) -> Option<impl Future<Output = Option<Result<PersonalLogin, NoToken>>>> {
        let answer = (self.renew)(refused)?;
        Some(async { timeout(self.patience, answer).await.ok() })
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenProvider")
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Name of the profile, for messages.
    profile: String,
    proxy: ProxyAddress,
    tokens: TokenProvider,
    /// Databases of the profile. The first one is for tools that name none.
    databases: Vec<String>,
    verifier: Option<ScramVerifier>,
    /// For tools that speak MySQL; PostgreSQL's otherwise.
    mysql: Option<MysqlTools>,
    tools: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
    cancels: Semaphore,
    refusals: Arc<Semaphore>,
    /// Cancel keys of live sessions, as the proxy gave them. Other keys are not passed on.
    keys: Mutex<HashSet<Vec<u8>>>,
}

impl Agent {
    /// An agent that logs in at `proxy` with tokens of `tokens`.
    pub fn new(profile: String, proxy: ProxyAddress, tokens: TokenProvider, databases: Vec<String>) -> Self {
        Self {
            profile,
            proxy,
            tokens,
            databases,
            verifier: None,
            mysql: None,
            tools: Arc::new(Semaphore::new(MAX_TOOLS)),
            unproven: Arc::new(Semaphore::new(MAX_UNPROVEN)),
            cancels: Semaphore::new(MAX_CANCELS),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            keys: Mutex::default(),
        }
    }

    /// The same agent, which asks for this password on its TCP port.
    #[must_use]
    pub fn with_password(self, password: &local_password::LocalPassword) -> Self {
        match self.mysql {
            None => Self { verifier: Some(ScramVerifier::of(password)), ..self },
            Some(tools) => Self { mysql: Some(tools.with_password(password)), ..self },
        }
    }

    /// The same agent for tools, and a proxy, that speak MySQL.
    #[must_use]
    pub fn speaking_mysql(self) -> Self {
        Self { mysql: Some(MysqlTools::default()), ..self }
    }

    /// Serves tools on `sockets` until `stop`, and then ends all sessions.
    pub async fn serve(self, sockets: AgentSockets, stop: CancellationToken) {
        let agent = Arc::new(self);
        let mut tools = JoinSet::new(); // dropping it ends them
        if agent.mysql.is_some() {
            let agent = Arc::clone(&agent);
            tools.spawn(async move {
                if let Some(mysql) = &agent.mysql {
                    mysql::learn(&agent, mysql).await;
                }
            });
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = tools.join_next() => {}
                accepted = sockets.accept() => match accepted {
                    Ok(tool) => agent.admit(tool, &mut tools),
                    Err(_) => sleep(PAUSE).await, // no descriptors; those that are open go on
                }
            }
        }
    }

    /// Starts the session of a tool, or its refusal when there are too many.
    fn admit(self: &Arc<Self>, tool: ToolStream, tools: &mut JoinSet<()>) {
        let agent = Arc::clone(self);
        let unproven = match &tool {
            ToolStream::Unix { .. } => Ok(None),
            ToolStream::Tcp(_) => Arc::clone(&self.unproven).try_acquire_owned().map(Some),
        };
        let place = Arc::clone(&self.tools).try_acquire_owned();
        if let (Ok(unproven), Ok(place)) = (unproven, place) {
            tools.spawn(async move {
                match &agent.mysql {
                    None => tool_session::run(&agent, tool, unproven).await,
                    Some(tools) => mysql::run(&agent, tools, tool, unproven).await,
                }
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
            tools.spawn(async move {
                match &agent.mysql {
                    None => tool_session::refuse_as_too_many(tool).await,
                    Some(_) => mysql::refuse_as_too_many(tool).await,
                }
                drop(place);
            });
        }
    }

    /// Remembers the cancel key of a live session until the guard is dropped.
    fn register(self: &Arc<Self>, key: Vec<u8>) -> LiveKey {
        lock(&self.keys).insert(key.clone());
        LiveKey { agent: Arc::clone(self), key }
    }

    fn is_live(&self, key: &[u8]) -> bool {
        lock(&self.keys).contains(key)
    }
}

/// The cancel key of a live session.
struct LiveKey {
    agent: Arc<Agent>,
    key: Vec<u8>,
}

impl Drop for LiveKey {
    fn drop(&mut self) {
        lock(&self.agent.keys).remove(&self.key);
    }
}
