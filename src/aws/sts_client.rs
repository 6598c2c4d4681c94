//! The SDK's client for one STS endpoint: it signs nothing, asks no credential provider of the machine, makes no
//! second try of its own, and has an eye on the clock.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_sts::Client;
use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{
    BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents, SharedHttpClient,
};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use tokio::time::Instant;

use super::retry::StsTimes;
use super::sts::MAX_IN_FLIGHT;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::resolver::Resolver;

/// A difference between our clock and that of STS that is worth a warning: tokens, credentials and signatures
/// are good for minutes.
const MAX_SKEW_SECONDS: i64 = 60;

/// Least time between two such warnings.
const WARN_EVERY: Duration = Duration::from_mins(10);

/// The STS client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StsSetupError {
    /// The file of certificate authorities cannot be read.
    #[error("{}: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The TLS library refuses it.
    #[error("the TLS context for STS: {0}")]
    Tls(String),
}

/// A client for the STS of `cluster`.
pub(super) fn build(
    cluster: &ClusterSettings,
    times: &StsTimes,
    resolver: Resolver,
    watch: Arc<ClockWatch>,
) -> Result<Client, StsSetupError> {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(cluster.region.as_str().to_owned()))
        .endpoint_url(cluster.sts_endpoint_url.as_str())
        .http_client(http_client(cluster.sts_ca_file.as_deref(), resolver)?)
        .allow_no_auth()
        .interceptor(SharedWatch(watch))
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(times.connect).build(), // the whole try is timed by whoever makes it
        );
    Ok(Client::from_conf(config.build()))
}

fn http_client(ca_file: Option<&Path>, resolver: Resolver) -> Result<SharedHttpClient, StsSetupError> {
    let trust = match ca_file {
        None => TrustStore::default(),
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|source| StsSetupError::CaFile { path: path.to_owned(), source })?;
            TrustStore::empty().with_pem_certificate(pem)
        }
    };
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StsSetupError::Tls(error.to_string()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        // A burst of new people must not pay a TLS handshake for each call.
        .pool_max_idle_per_host(MAX_IN_FLIGHT)
        .build_with_resolver(StsResolver(resolver)))
}

/// The process's resolver as the SDK wants it.
#[derive(Clone, Debug)]
struct StsResolver(Resolver);

impl ResolveDns for StsResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = self.0.look_up(name, 0).await.map_err(ResolveDnsError::new)?;
            Ok(found.into_iter().map(|addr| addr.ip()).collect())
        })
    }
}

/// Compares the `Date` of answers with our clock.
#[derive(Debug)]
pub(super) struct ClockWatch {
    clock: Clock,
    seconds: AtomicI64,
    warned: Mutex<Option<Instant>>,
}

impl ClockWatch {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, seconds: AtomicI64::new(0), warned: Mutex::default() }
    }

    /// How far our clock is ahead of that of STS, by its last answer.
    pub(super) fn skew_seconds(&self) -> i64 {
        self.seconds.load(Ordering::Relaxed)
    }

    fn saw(&self, date: &str) {
        let Ok(theirs) = DateTime::from_str(date, DateTimeFormat::HttpDate) else { return };
        let ours = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let ahead = i64::try_from(ours).unwrap_or(i64::MAX).saturating_sub(theirs.secs());
        self.seconds.store(ahead, Ordering::Relaxed);
        if ahead.abs() <= MAX_SKEW_SECONDS {
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(
                seconds_ahead = ahead,
                "this machine's clock differs from that of AWS STS; set it right (NTP), or logins will fail"
            );
        }
    }
}

#[derive(Debug)]
struct SharedWatch(Arc<ClockWatch>);

impl Intercept for SharedWatch {
    fn name(&self) -> &'static str {
        "ClockWatch"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.0.saw(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn r17_the_difference_is_measured_and_nonsense_ignored() {
        // 784111777 is the moment of RFC 9110's example (section 5.6.7).
        let watch = ClockWatch::new(Clock::from_fn(|| UNIX_EPOCH + Duration::from_secs(784_111_777 + 61)));
        watch.saw("yesterday");
        assert_eq!(watch.skew_seconds(), 0);
        watch.saw("Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!((watch.skew_seconds(), watch.warned.lock().unwrap().is_some()), (60, false));
        watch.saw("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!((watch.skew_seconds(), watch.warned.lock().unwrap().is_some()), (61, true));
        let behind = ClockWatch::new(Clock::from_fn(|| UNIX_EPOCH));
        behind.saw("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!((behind.skew_seconds(), behind.warned.lock().unwrap().is_some()), (-784_111_777, true));
    }
}
