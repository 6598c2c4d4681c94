//! The trace of a login: one span for the login and one for each step. It holds names of the configuration, the
//! session's id, and the outcome. It holds no data of a client or a token.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::login_step::LoginStep;
use super::trace_metrics::{TraceFate, TraceMetrics};
use super::trace_target::TraceTarget;
use crate::clock::Clock;
use crate::config::TraceSettings;
use crate::names::SessionId;
use crate::refusal::Stage;
use crate::sync::lock;

/// Most spans of one login. A login at a server without a free place can repeat steps.
const MAX_STEPS: usize = 32;

/// The way of ended traces to the exporter. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TraceSink(Option<Arc<SinkState>>);

#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without the exporter there is no sink"))]
struct SinkState {
    settings: TraceSettings,
    target: Arc<TraceTarget>,
    queue: mpsc::Sender<TraceToSend>,
    metrics: TraceMetrics,
}

/// A trace with its destination.
pub(super) type TraceToSend = (EndedLogin, Arc<TraceTarget>);

/// A login that is traced, until it ends.
#[derive(Debug)]
pub struct LoginTrace {
    sink: Arc<SinkState>,
    session: SessionId,
    listener: String,
    protocol: &'static str,
    /// The moment of accept, on both clocks.
    began: (SystemTime, Instant),
    state: Mutex<TraceState>,
}

/// The part of a trace that grows.
#[derive(Debug, Default)]
struct TraceState {
    steps: Vec<TracedStep>,
    cluster: Option<String>,
    /// The client's last two steps before its startup parameters: around the TLS handshake, if there was one.
    marks: [Option<Instant>; 2],
}

/// Name of a span below that of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanName {
    /// The TLS handshake with the client.
    Tls,
    /// A step that is measured as well.
    Step(LoginStep),
    /// Signing the IAM token.
    Sign,
}

impl SpanName {
    /// Stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Step(step) => step.word(),
            Self::Sign => "sign",
        }
    }
}

/// A step, by the time since the login began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedStep {
    /// The step.
    pub name: SpanName,
    /// Its begin.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

/// Result of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// A session.
    Session,
    /// A refusal.
    Refused {
        /// The stage that refused.
        stage: Stage,
        /// SQLSTATE that the client got.
        sqlstate: String,
    },
}

/// The trace of an ended login.
#[derive(Clone, Debug)]
pub struct EndedLogin {
    /// The session.
    pub session: SessionId,
    /// Name of the listener.
    pub listener: String,
    /// Protocol of the client.
    pub protocol: &'static str,
    /// Name of the cluster, if the login got so far.
    pub cluster: Option<String>,
    /// The moment of accept.
    pub began: SystemTime,
    /// Duration of the whole login.
    pub took: Duration,
    /// The steps, in the order of their ends.
    pub steps: Vec<TracedStep>,
    /// The result.
    pub result: LoginResult,
}

impl TraceSink {
    /// A sink with a queue for an exporter.
    #[cfg(feature = "otlp")]
    pub(super) fn new(
        settings: TraceSettings,
        target: TraceTarget,
        metrics: TraceMetrics,
        capacity: usize,
    ) -> (Self, mpsc::Receiver<TraceToSend>) {
        let (queue, ended) = mpsc::channel(capacity);
        let target = Arc::new(target);
        (Self(Some(Arc::new(SinkState { settings, target, queue, metrics }))), ended)
    }

    /// A sink with the same exporter, whose traces go to `target`.
    #[cfg(feature = "otlp")]
    pub(super) fn renewed(&self, target: TraceTarget) -> Self {
        let renew = |state: &Arc<SinkState>| {
            let SinkState { settings, queue, metrics, .. } = state.as_ref();
            let (settings, queue, metrics) = (settings.clone(), queue.clone(), metrics.clone());
            Arc::new(SinkState { settings, target: Arc::new(target), queue, metrics })
        };
        Self(self.0.as_ref().map(renew))
    }

    /// True if the sink has these settings.
    pub fn is_for(&self, settings: Option<&TraceSettings>) -> bool {
        self.0.as_ref().map(|sink| &sink.settings) == settings
    }

    /// Begins the trace of a login that was accepted just now, if it is among the sampled ones. Only then is the wall
    /// clock read.
    pub fn begin(
        &self,
        session: SessionId,
        (listener, protocol): (&str, &'static str),
        (clock, accepted): (&Clock, Instant),
    ) -> Option<Box<LoginTrace>> {
        let sink = self.0.as_ref()?;
        if session.fraction() >= sink.settings.sample_ratio {
            return None;
        }
        Some(Box::new(LoginTrace {
            sink: Arc::clone(sink),
            session,
            listener: listener.to_owned(),
            protocol,
            began: (clock.now(), accepted),
            state: Mutex::default(),
        }))
    }
}

impl LoginTrace {
    /// Records a step from `from` until now.
    pub fn step(&self, name: SpanName, from: Instant) {
        self.span(name, from, Instant::now());
    }

    /// Records a step.
    fn span(&self, name: SpanName, from: Instant, to: Instant) {
        let since = |at: Instant| at.saturating_duration_since(self.began.1);
        let steps = &mut lock(&self.state).steps;
        if steps.len() < MAX_STEPS {
            steps.push(TracedStep { name, from: since(from), to: since(to) });
        }
    }

    /// Records a completed step of the client before its startup parameters.
    pub fn mark(&self) {
        let marks = &mut lock(&self.state).marks;
        let [_, last] = *marks;
        *marks = [last, Some(Instant::now())];
    }

    /// Records the way from accept to the startup parameters, and the TLS handshake, if there was one, which lies between
    /// the last two marks.
    pub fn started(&self, accepted: Instant, is_tls: bool) {
        self.step(SpanName::Step(LoginStep::Startup), accepted);
        let marks = lock(&self.state).marks;
        if let ([Some(from), Some(to)], true) = (marks, is_tls) {
            self.span(SpanName::Tls, from, to);
        }
    }

    /// Records the cluster.
    pub fn cluster(&self, name: &str) {
        lock(&self.state).cluster = Some(name.to_owned());
    }

    /// Hands the trace over. If the queue is full, it is dropped and counted.
    pub fn ended(&self, result: LoginResult) {
        let state = std::mem::take(&mut *lock(&self.state));
        let ended = EndedLogin {
            session: self.session,
            listener: self.listener.clone(),
            protocol: self.protocol,
            began: self.began.0,
            took: self.began.1.elapsed(),
            cluster: state.cluster,
            steps: state.steps,
            result,
        };
        let target = Arc::clone(&self.sink.target);
        if self.sink.queue.try_send((ended, target)).is_err() {
            self.sink.metrics.count(TraceFate::QueueFull, 1);
        }
    }
}
