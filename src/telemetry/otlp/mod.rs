//! Export of login traces by OTLP/HTTP with JSON (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"). The exporter is one
//! supervised task with a bounded queue: a collector that is away or slow costs traces and a counter, and no login waits.

mod encoding;
mod headers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::headers::HeadersError;
use crate::config::TraceSettings;
use crate::net::https::{Answer, HttpsError, HttpsLimits};
use crate::net::outgoing::{Outgoing, OutgoingError};
use crate::supervisor::{TaskKind, TaskSupervisor};
use crate::telemetry::login_trace::{EndedLogin, TraceSink, TraceToSend};
use crate::telemetry::noise::NoiseLimiter;
use crate::telemetry::trace_metrics::{TraceFate, TraceMetrics};
use crate::telemetry::trace_target::TraceTarget;

/// Traces that wait for the exporter. One takes about 1 KiB.
const QUEUE: usize = 2_048;

/// Most traces in one request.
const BATCH: usize = 256;

/// Longest wait for further traces of a batch.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// Tries of one batch.
const TRIES: u32 = 3;

/// Pause after the first failed try, doubled after each further one. A longer one that the collector asks for is used up to
/// [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Limits of the client: the answer is a small object.
const LIMITS: HttpsLimits = HttpsLimits {
    body: 64 * 1024,
    connect: Duration::from_secs(5),
    request: Duration::from_secs(10),
    connections: 1,
};

/// Reason why the exporter cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TraceSetupError {
    /// The authorities cannot be used.
    #[error("traces.ca_file cannot be used")]
    Authorities(#[from] OutgoingError),
    /// The headers cannot be used.
    #[error("traces.headers_file cannot be used")]
    Headers(#[from] HeadersError),
}

/// The exporter.
struct TraceExporter {
    queue: Mutex<mpsc::Receiver<TraceToSend>>,
    metrics: TraceMetrics,
    noise: Arc<NoiseLimiter>,
}

/// Failure of one request.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Https(#[from] HttpsError),
    #[error("the collector answered {0}")]
    Status(StatusCode, Option<Duration>),
}

impl ExportError {
    /// Pause before another try, where one may help ("OTLP/HTTP Response", "Retryable Response Codes").
    fn retry_after(&self, tries: u32) -> Option<Duration> {
        let pause = PAUSE * 2_u32.pow(tries - 1);
        match self {
            Self::Https(HttpsError::Broken(_) | HttpsError::TimedOut(_)) => Some(pause),
            Self::Https(_) => None,
            Self::Status(status, after) => matches!(status.as_u16(), 429 | 502 | 503 | 504)
                .then(|| after.unwrap_or(pause).clamp(pause, MAX_PAUSE)),
        }
    }
}

/// Checks a file of headers.
pub fn check_headers(path: &Path) -> Result<(), HeadersError> {
    headers::read(path).map(drop)
}

/// Starts an exporter; it ends with the last clone of the sink.
pub fn start(
    settings: TraceSettings,
    outgoing: &Outgoing,
    (metrics, noise): (&TraceMetrics, Arc<NoiseLimiter>),
    supervisor: &TaskSupervisor,
) -> Result<TraceSink, TraceSetupError> {
    let target = target(&settings, outgoing)?;
    let (sink, queue) = TraceSink::new(settings, target, metrics.clone(), QUEUE);
    let exporter = Arc::new(TraceExporter { queue: Mutex::new(queue), metrics: metrics.clone(), noise });
    let over = CancellationToken::new();
    supervisor.spawn(TaskKind::TraceExporter, over.clone(), move || {
        let (exporter, over) = (Arc::clone(&exporter), over.clone());
        async move {
            exporter.run().await;
            over.cancel();
        }
    });
    Ok(sink)
}

/// A sink with the exporter of `known`. The files that `settings` names are read again.
pub fn renewed(
    known: &TraceSink,
    settings: &TraceSettings,
    outgoing: &Outgoing,
) -> Result<TraceSink, TraceSetupError> {
    Ok(known.renewed(target(settings, outgoing)?))
}

fn target(settings: &TraceSettings, outgoing: &Outgoing) -> Result<TraceTarget, TraceSetupError> {
    let client = outgoing.client(settings.ca_file.as_deref(), true, LIMITS)?;
    let headers = settings.headers_file.as_deref().map(headers::read).transpose()?.unwrap_or_default();
    Ok(TraceTarget { client, endpoint: settings.endpoint.to_string(), headers, since: Instant::now() })
}

impl TraceExporter {
    /// Sends batches until no sink is left.
    async fn run(&self) {
        let mut queue = self.queue.lock().await;
        let mut newest: Option<Arc<TraceTarget>> = None;
        while let Some((first, mut target)) = queue.recv().await {
            let (mut batch, until) = (vec![first], Instant::now() + BATCH_TIME);
            while batch.len() < BATCH
                && let Ok(Some((next, its_target))) = timeout_at(until, queue.recv()).await
            {
                batch.push(next);
                target = newer(target, its_target);
            }
            // A login that began before a reload can end after one that began later.
            let target = match newest {
                Some(newest) => newer(newest, target),
                None => target,
            };
            self.send(&batch, &target).await;
            newest = Some(target);
        }
    }

    async fn send(&self, batch: &[EndedLogin], target: &TraceTarget) {
        let body = Bytes::from(encoding::request(batch).to_string());
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut tries = 1;
        let error = loop {
            let error = match post(target, body.clone()).await {
                Ok(answer) => return self.accepted(&answer, count),
                Err(error) => error,
            };
            match error.retry_after(tries).filter(|_| tries < TRIES) {
                Some(pause) => sleep(pause).await,
                None => break error,
            }
            tries += 1;
        };
        self.metrics.count(TraceFate::Failed, count);
        if let Some(left_out) = self.noise.line("traces") {
            tracing::warn!(%error, traces = count, left_out, "traces of logins could not be sent");
        }
    }

    /// Counts the traces of a request that was answered with success.
    fn accepted(&self, answer: &Answer, count: u64) {
        let said: ExportAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        let rejected = said.partial_success.unwrap_or_default();
        // A trace has several spans, so that these are an upper limit.
        let traces = rejected.rejected_spans.parse::<u64>().unwrap_or(0).min(count);
        self.metrics.count(TraceFate::Rejected, traces);
        self.metrics.count(TraceFate::Sent, count - traces);
        if traces > 0
            && let Some(left_out) = self.noise.line("traces")
        {
            let why = crate::names::visible(&rejected.error_message, 200);
            tracing::warn!(why, left_out, "the collector rejected traces of logins");
        }
    }
}

/// The target that was read later.
fn newer(one: Arc<TraceTarget>, other: Arc<TraceTarget>) -> Arc<TraceTarget> {
    if other.since > one.since { other } else { one }
}

async fn post(target: &TraceTarget, body: Bytes) -> Result<Answer, ExportError> {
    let mut request = Request::post(&target.endpoint).header(CONTENT_TYPE, "application/json");
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.body(body).map_err(|error| HttpsError::Request(error.to_string()))?;
    let answer = target.client.ask(request).await?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let after = answer.header(RETRY_AFTER).and_then(|after| after.parse().ok());
    Err(ExportError::Status(answer.status, after.map(Duration::from_secs)))
}

/// Answer of the collector (`ExportTraceServiceResponse`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExportAnswer {
    partial_success: Option<PartialSuccess>,
}

/// Spans that the collector did not accept.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess {
    rejected_spans: SpanCount,
    error_message: String,
}

/// A 64-bit number in JSON: a string, which receivers also accept as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SpanCount {
    Text(String),
    Number(u64),
}

impl Default for SpanCount {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl SpanCount {
    fn parse<T: std::str::FromStr>(&self) -> Result<T, T::Err> {
        match self {
            Self::Text(text) => text.parse(),
            Self::Number(number) => number.to_string().parse(),
        }
    }
}

#[cfg(test)]
mod tests;
