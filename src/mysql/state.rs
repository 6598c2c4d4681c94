//! State of the process for MySQL: the ids of clients, and the servers' facts that greetings repeat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::connection_ids::ConnectionIds;
use super::greeting::ServerIdentity;
use super::question::TokenMethod;
use crate::net::cluster_id::ClusterId;
use crate::sync::lock;

/// State that outlives a configuration.
#[derive(Debug, Default)]
pub struct MysqlState {
    /// Ids of clients.
    pub ids: Arc<ConnectionIds>,
    /// Identity of the server that each cluster showed last. As many as clusters have been configured.
    learned: Mutex<HashMap<ClusterId, ServerIdentity>>,
}

impl MysqlState {
    /// Records the greeting of a server of `cluster`, once a verified login has followed it.
    pub fn learn(&self, cluster: ClusterId, identity: &ServerIdentity) {
        let mut learned = self.lock();
        if learned.get(&cluster) != Some(identity) {
            learned.insert(cluster, identity.clone());
        }
    }

    /// Identity for the greeting of a listener: that of the first of its clusters that is known.
    pub fn identity(&self, settings: &MysqlListen) -> ServerIdentity {
        let learned = self.lock();
        let known = settings.clusters.iter().find_map(|cluster| learned.get(cluster));
        let mut identity = known.cloned().unwrap_or_default();
        drop(learned);
        if let Some(version) = &settings.server_version {
            identity.version.clone_from(version);
        }
        identity
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterId, ServerIdentity>> {
        lock(&self.learned)
    }
}

/// MySQL's settings of a listener.
#[derive(Clone, Debug)]
pub struct MysqlListen {
    /// Method of requesting the token.
    pub token_method: TokenMethod,
    /// Version in the greeting, instead of the cluster's.
    pub server_version: Option<String>,
    /// True if server connections are kept for later sessions.
    pub pooled: bool,
    /// Clusters that clients of the listener can reach.
    pub clusters: Vec<ClusterId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Endpoint;

    #[test]
    fn a_greeting_repeats_what_the_cluster_has_shown() {
        let state = MysqlState::default();
        let [first, second] =
            ["a.example:3306", "b.example:3306"].map(|name| ClusterId::of(&Endpoint::parse(name).unwrap()));
        let mut listen = MysqlListen {
            token_method: TokenMethod::Password,
            server_version: None,
            pooled: false,
            clusters: vec![first],
        };
        assert_eq!(state.identity(&listen), ServerIdentity::default());
        let newer = ServerIdentity { version: "8.4.3".into(), charset: 255, ..ServerIdentity::default() };
        state.learn(second, &newer);
        assert_eq!(state.identity(&listen), ServerIdentity::default(), "of another cluster");
        state.learn(first, &newer);
        assert_eq!(state.identity(&listen), newer);
        listen.server_version = Some("8.0.11".into());
        assert_eq!(state.identity(&listen), ServerIdentity { version: "8.0.11".into(), ..newer });
    }
}
