//! Metrics of the issuers' keys, set at each scrape: number, age, fetches.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{KeyFetchResult, RefetchReason};

/// Label with an issuer's name, from the configuration.
type Name = [(&'static str, String); 1];

/// Labels with a name and a word from a closed list.
type NameAndWord = [(&'static str, String); 2];

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// State of an issuer.
#[derive(Clone, Debug, Default)]
pub struct IssuerSnapshot {
    /// Configured name.
    pub name: String,
    /// Keys in the set.
    pub keys: usize,
    /// Skipped keys of the set.
    pub left_out: usize,
    /// Time since the last good fetch, or since start if there was none.
    pub age: Duration,
    /// Age at which the keys are no longer used.
    pub max_age: Duration,
    /// True if the issuer's tokens can be verified.
    pub usable: bool,
    /// Fetches.
    pub fetches: Vec<(KeyFetchResult, u64)>,
    /// Fetches that tokens caused.
    pub refetches: Vec<(RefetchReason, u64)>,
    /// Seconds by which the local clock is ahead of the issuer's; `None` before its first answer.
    pub clock_ahead: Option<i64>,
}

/// The issuer series.
#[derive(Debug, Default)]
pub(super) struct IssuerMetrics {
    usable: Family<Name, Gauge>,
    keys: Family<Name, Gauge>,
    left_out: Family<Name, Gauge>,
    age: Family<Name, Seconds>,
    max_age: Family<Name, Seconds>,
    fetches: Family<NameAndWord, Counter>,
    refetches: Family<NameAndWord, Counter>,
    clock_ahead: Family<Name, Gauge>,
}

impl IssuerMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "1 if an issuer's tokens can be verified";
        registry.register("key_set_usable", help, self.usable.clone());
        registry.register("key_set_keys", "Keys of an issuer", self.keys.clone());
        let help = "Published keys of an issuer that are not used; the log names each with the reason";
        registry.register("key_set_left_out", help, self.left_out.clone());
        let help = "Time since an issuer's keys were last fetched, or since start if never";
        registry.register("key_set_age_seconds", help, self.age.clone());
        let help = "Age at which an issuer's keys are no longer used (issuer.jwks_max_stale)";
        registry.register("key_set_max_age_seconds", help, self.max_age.clone());
        let help = "Fetches of an issuer's keys, by outcome";
        registry.register("key_set_fetches", help, self.fetches.clone());
        let help = "Fetches of an issuer's keys that tokens caused, by reason";
        registry.register("key_set_refetches", help, self.refetches.clone());
        let help = "Seconds by which this machine's clock is ahead of an issuer's, by its last answer";
        registry.register("issuer_clock_ahead_seconds", help, self.clock_ahead.clone());
    }

    pub(super) fn set(&self, issuers: &[IssuerSnapshot]) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        // A reload can remove names.
        self.usable.clear();
        self.keys.clear();
        self.left_out.clear();
        self.age.clear();
        self.max_age.clear();
        self.fetches.clear();
        self.refetches.clear();
        self.clock_ahead.clear();
        for one in issuers {
            let issuer = [("issuer", one.name.clone())];
            self.usable.get_or_create(&issuer).set(i64::from(one.usable));
            self.keys.get_or_create(&issuer).set(whole(one.keys));
            self.left_out.get_or_create(&issuer).set(whole(one.left_out));
            self.age.get_or_create(&issuer).set(one.age.as_secs_f64());
            self.max_age.get_or_create(&issuer).set(one.max_age.as_secs_f64());
            if let Some(seconds) = one.clock_ahead {
                self.clock_ahead.get_or_create(&issuer).set(seconds);
            }
            let words = |label, word: &str| [("issuer", one.name.clone()), (label, word.to_owned())];
            for (outcome, count) in &one.fetches {
                self.fetches.get_or_create(&words("outcome", outcome.word())).inc_by(*count);
            }
            for (reason, count) in &one.refetches {
                self.refetches.get_or_create(&words("reason", reason.word())).inc_by(*count);
            }
        }
    }
}
