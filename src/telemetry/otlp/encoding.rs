//! A batch of traces as `ExportTraceServiceRequest` in JSON (OTLP 1.x, "JSON Protobuf Encoding"): names in lowerCamelCase, ids in
//! hexadecimal digits, 64-bit numbers as strings, enums as numbers.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::names::random_bytes;
use crate::telemetry::login_step::LoginStep;
use crate::telemetry::login_trace::{EndedLogin, LoginResult, SpanName, TracedStep};

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_SERVER`, `SPAN_KIND_CLIENT`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The request.
pub(super) fn request(batch: &[EndedLogin]) -> Value {
    let spans: Vec<_> = batch.iter().flat_map(spans).collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceSpans": [{
            "resource": {
                "attributes": [text("service.name", "pgpassport"), text("service.version", version)],
            },
            "scopeSpans": [{ "scope": { "name": "pgpassport", "version": version }, "spans": spans }],
        }],
    })
}

/// The spans of one login: that of the login first.
fn spans(login: &EndedLogin) -> Vec<Value> {
    // The trace id begins with the session's id, so that one is found by the other.
    let trace = format!("{}{}", login.session, hex(random_bytes::<8>()));
    let root = hex(random_bytes::<8>());
    let mut spans = vec![json!({
        "traceId": trace,
        "spanId": root,
        "name": "login",
        "kind": SERVER,
        "startTimeUnixNano": nanos(login.began),
        "endTimeUnixNano": nanos(login.began + login.took),
        "attributes": attributes(login),
        "status": status(&login.result),
    })];
    spans.extend(login.steps.iter().map(|step| {
        json!({
            "traceId": trace,
            "spanId": hex(random_bytes::<8>()),
            "parentSpanId": root,
            "name": step.name.word(),
            "kind": kind(step),
            "startTimeUnixNano": nanos(login.began + step.from),
            "endTimeUnixNano": nanos(login.began + step.to),
        })
    }));
    spans
}

fn attributes(login: &EndedLogin) -> Vec<Value> {
    let mut attributes = vec![
        text("pgpassport.session", &login.session.to_string()),
        text("pgpassport.listener", &login.listener),
        text("db.system.name", login.protocol),
    ];
    match &login.result {
        LoginResult::Session => attributes.push(text("pgpassport.outcome", "session")),
        LoginResult::Refused { stage, sqlstate } => {
            attributes.extend([
                text("pgpassport.outcome", "refused"),
                text("pgpassport.stage", stage.word()),
                text("db.response.status_code", sqlstate),
            ]);
        }
    }
    attributes.extend(login.cluster.as_deref().map(|cluster| text("pgpassport.cluster", cluster)));
    attributes
}

fn status(result: &LoginResult) -> Value {
    match result {
        LoginResult::Session => json!({}),
        LoginResult::Refused { stage, .. } => {
            json!({ "code": ERROR, "message": format!("refused at stage {}", stage.word()) })
        }
    }
}

fn kind(step: &TracedStep) -> u8 {
    match step.name {
        SpanName::Step(LoginStep::Connect | LoginStep::Sts | LoginStep::ServerLogin) => CLIENT,
        _ => INTERNAL,
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn hex(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// Nanoseconds since 1970.
fn nanos(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string()
}
