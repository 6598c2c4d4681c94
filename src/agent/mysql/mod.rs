//! The agent for tools that speak MySQL.
//!
//! The server speaks first in MySQL, so a tool is greeted before the proxy is connected: with a connection id of the agent, and
//! with version and features of the proxy's last greeting. A `KILL` of such an id, as a whole statement, gets the number that the
//! proxy has given the session.

mod local_login;
mod proxy_login;
mod session;

use std::sync::{Arc, Mutex};

use self::local_login::Sha2Verifier;
pub(super) use self::session::{refuse_as_too_many, run};
use crate::agent::Agent;
use crate::agent::local_password::LocalPassword;
use crate::mysql::connection_ids::ConnectionIds;
use crate::mysql::greeting::ServerIdentity;
use crate::sync::lock;

/// State of an agent whose tools speak MySQL.
#[derive(Debug, Default)]
pub(super) struct MysqlTools {
    /// Ids of tools.
    ids: Arc<ConnectionIds>,
    /// Facts of the proxy's last greeting, which arrived in clear: a verified connection has followed it.
    identity: Mutex<ServerIdentity>,
    /// Proof of the local password.
    verifier: Option<Sha2Verifier>,
}

impl MysqlTools {
    /// The same, with this password.
    pub(super) fn with_password(self, password: &LocalPassword) -> Self {
        Self { verifier: Some(Sha2Verifier::of(password)), ..self }
    }

    fn identity(&self) -> ServerIdentity {
        lock(&self.identity).clone()
    }

    fn learn(&self, identity: ServerIdentity) {
        *lock(&self.identity) = identity;
    }
}

/// Reads the proxy's greeting, so that the agent's greeting has the server's version for the first tool. If the proxy
/// does not answer, the first login brings the version.
pub(super) async fn learn(agent: &Agent, tools: &MysqlTools) {
    if let Ok(identity) = agent.proxy.mysql_identity().await {
        tools.learn(identity);
    }
}
