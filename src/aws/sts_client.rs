//! The SDK's client for one STS endpoint: it signs nothing, asks no credential provider of the machine, makes no
//! second try of its own, and has an eye on the clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_sts::Client;
use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};
use tokio::time::Instant;

use super::retry::StsTimes;
use super::sts::MAX_IN_FLIGHT;
use super::sts_http::{MAX_ANSWER_BYTES, StsHttp};
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::net::https::{HttpsClient, HttpsLimits};
use crate::net::outgoing::{Outgoing, OutgoingError};

/// A difference between our clock and that of STS that is worth a warning: tokens, credentials and signatures
/// are good for minutes.
const MAX_SKEW_SECONDS: i64 = 60;

/// Least time between two such warnings.
const WARN_EVERY: Duration = Duration::from_mins(10);

/// The client for the STS of `cluster`, as it is used here and by `doctor`.
pub fn https_client(
    cluster: &ClusterSettings,
    times: &StsTimes,
    outgoing: &Outgoing,
) -> Result<HttpsClient, OutgoingError> {
    let limits = HttpsLimits {
        body: MAX_ANSWER_BYTES,
        connect: times.connect,
        request: times.attempt,
        // A burst of new people must not pay a TLS handshake for each call.
        connections: MAX_IN_FLIGHT,
    };
    // VPC endpoints have private addresses.
    outgoing.client(cluster.sts_ca_file.as_deref(), true, limits)
}

/// A client for the STS of `cluster`.
pub(super) fn build(
    cluster: &ClusterSettings,
    times: &StsTimes,
    outgoing: &Outgoing,
    watch: Arc<ClockWatch>,
) -> Result<Client, OutgoingError> {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(cluster.region.as_str().to_owned()))
        .endpoint_url(cluster.sts_endpoint_url.as_str())
        .http_client(StsHttp(Arc::new(https_client(cluster, times, outgoing)?)))
        .allow_no_auth()
        .interceptor(SharedWatch(watch))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled()); // the client has its own limits
    Ok(Client::from_conf(config.build()))
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
