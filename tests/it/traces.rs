//! Traces of logins at a collector that takes nothing but what OTLP/HTTP in JSON allows, and at collectors that are away or slow.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use aws_emulator::Ca;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::world::World;
use crate::world::admin::until;
use crate::world::tls_front::TlsFront;

/// `ExportTraceServiceRequest` (opentelemetry-proto 1.x); a field that is not here is an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExportRequest {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    name: String,
    version: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of OTLP")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    /// 64-bit numbers are strings.
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(default)]
    attributes: Vec<KeyValue>,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    #[serde(default)]
    code: u8,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: AnyValue,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnyValue {
    string_value: String,
}

impl Span {
    fn check(&self) {
        let is_hex = |id: &str, digits| id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(is_hex(&self.trace_id, 32) && is_hex(&self.span_id, 16), "{self:?}");
        assert!((1..=5).contains(&self.kind) && self.status.code <= 2, "{self:?}");
        assert!(self.start() <= self.end(), "{self:?}");
    }

    fn start(&self) -> u64 {
        self.start_time_unix_nano.parse().unwrap()
    }

    fn end(&self) -> u64 {
        self.end_time_unix_nano.parse().unwrap()
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|one| one.key == key).map(|one| one.value.string_value.as_str())
    }
}

/// A collector. It answers each request with `answer`.
struct Collector {
    addr: SocketAddr,
    /// Head and body of each request.
    requests: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut tcp = tcp;
                    while let Some(request) = request(&mut tcp).await {
                        seen.lock().unwrap().push(request);
                        if tcp.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, requests, task }
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap().clone()
    }

    /// All spans so far, each of them checked.
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (head, body) in self.requests() {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.to_ascii_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{head}");
            let request: ExportRequest =
                serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
            for of_resource in request.resource_spans {
                let service = of_resource.resource.attributes.iter().find(|one| one.key == "service.name");
                assert_eq!(service.unwrap().value.string_value, "pgpassport");
                for of_scope in of_resource.scope_spans {
                    assert!(of_scope.scope.name == "pgpassport" && !of_scope.scope.version.is_empty());
                    spans.extend(of_scope.spans);
                }
            }
        }
        spans.iter().for_each(Span::check);
        spans
    }
}

/// Head and body of a request.
async fn request(tcp: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let length =
        text.to_ascii_lowercase().split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = bytes.split_off(head);
    let read = body.len();
    body.resize(length, 0);
    tcp.read_exact(&mut body[read..]).await.ok()?;
    Some((text, String::from_utf8(body).unwrap()))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

async fn traces(world: &World, fate: &str) -> u64 {
    let (_, text) = world.get("/metrics").await;
    let series = format!("pgpassport_traces_total{{fate=\"{fate}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_a_span_with_its_steps_and_tells_nothing_of_the_person() {
    let collector = Collector::start(OK).await;
    let folder = TempDir::new().unwrap();
    let ca = Ca::new().unwrap();
    let front = TlsFront::start(&ca.server(&["localhost"]).unwrap(), collector.addr).await;
    let (ca_file, headers) = (ca.write(folder.path()).unwrap(), folder.path().join("headers"));
    fs::write(&headers, "Authorization: Bearer c0llector\n").unwrap();
    let keys = format!(
        "[traces]\nendpoint = \"{}/v1/traces\"\nca_file = \"{}\"\nheaders_file = \"{}\"",
        front.url(),
        ca_file.display(),
        headers.display()
    );
    let world = World::builder().listen("name = \"traced\"").pages(&keys).start().await;
    let token = world.token("alice");
    let client = world.connect("alice", &token).await.unwrap();
    client.simple_query("select 1").await.unwrap();
    let refusal = world.refusal("bob", &token).await;
    until("both logins are there", async || {
        collector.spans().iter().filter(|span| span.name == "login").count() == 2
    })
    .await;
    let spans = collector.spans();
    let session = world.audit_of("traced", "event", "session.start").await;
    let login = |outcome: &str| {
        let found = spans.iter().find(|span| span.attribute("pgpassport.outcome") == Some(outcome));
        found.unwrap_or_else(|| panic!("{outcome}: {spans:?}")).clone()
    };

    let good = login("session");
    assert_eq!((good.kind, good.status.code, &good.parent_span_id), (2, 0, &None));
    assert_eq!(good.attribute("pgpassport.session"), session["session"].as_str());
    assert_eq!(good.attribute("pgpassport.listener"), Some("traced"));
    assert_eq!(good.attribute("pgpassport.cluster"), Some("app"));
    assert_eq!(good.attribute("db.system.name"), Some("postgresql"));
    assert!(good.trace_id.starts_with(session["session"].as_str().unwrap()));
    let steps: Vec<_> =
        spans.iter().filter(|span| span.parent_span_id.as_ref() == Some(&good.span_id)).collect();
    let names: BTreeSet<_> = steps.iter().map(|step| step.name.as_str()).collect();
    for name in
        ["startup", "tls", "token", "verification", "connect", "sts", "sign", "server_login", "welcome"]
    {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for step in steps {
        assert!(step.trace_id == good.trace_id && step.start() >= good.start() && step.end() <= good.end());
    }

    let bad = login("refused");
    assert_eq!(bad.attribute("db.response.status_code"), Some(refusal.sqlstate()));
    assert_eq!((bad.attribute("pgpassport.stage"), bad.status.code), (Some("authorization"), 2));
    assert!(bad.status.message.contains("authorization"), "{bad:?}");

    for (head, body) in collector.requests() {
        assert!(head.contains("Bearer c0llector"), "{head}");
        let parts = token.split('.').chain(["alice", "bob", "c0llector"]);
        for secret in parts.filter(|part| part.len() > 2) {
            assert!(!body.contains(secret), "{secret}: {body}");
        }
    }
    until("they count as sent", async || traces(&world, "sent").await == 2).await;
}

/// A collector that is away costs its traces and a counter.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_collector_the_service_counts_and_goes_on() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let keys = format!("[traces]\nendpoint = \"http://{nobody}/v1/traces\"");
    let world = World::builder().pages(&keys).start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    until("the trace is given up", async || traces(&world, "failed").await == 1).await;
    assert_eq!(world.get("/livez").await.0, 200);
    world.connect("alice", &world.token("alice")).await.unwrap();
}

/// While a collector keeps its answer, logins go on; and what it rejects is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_collector_delays_nobody() {
    let silent = Collector::start("").await;
    let keys = format!("[traces]\nendpoint = \"http://{}/v1/traces\"", silent.addr);
    let world = World::builder().pages(&keys).start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    until("the collector has a request", async || !silent.requests().is_empty()).await;
    for _ in 0..20 {
        world.connect("alice", &world.token("alice")).await.unwrap();
    }
    assert_eq!((traces(&world, "sent").await, traces(&world, "queue_full").await), (0, 0));

    let picky = Collector::start(
        "HTTP/1.1 200 OK\r\nContent-Length: 59\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"1\",\"errorMessage\":\"x\"}}",
    )
    .await;
    let keys = format!("[traces]\nendpoint = \"http://{}/v1/traces\"", picky.addr);
    let world = World::builder().pages(&keys).start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    until("the rejection counts", async || traces(&world, "rejected").await == 1).await;
}

/// A share of none traces nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_ratio_decides_who_is_traced() {
    let collector = Collector::start(OK).await;
    let keys = |ratio| {
        format!("[traces]\nendpoint = \"http://{}/v1/traces\"\nsample_ratio = {ratio}", collector.addr)
    };
    let none = World::builder().pages(&keys("0.0")).start().await;
    none.connect("alice", &none.token("alice")).await.unwrap();
    let all = World::builder().pages(&keys("1")).start().await;
    all.connect("alice", &all.token("alice")).await.unwrap();
    until("one is traced", async || traces(&all, "sent").await == 1).await;
    assert_eq!(collector.spans().iter().filter(|span| span.name == "login").count(), 1);
    assert_eq!(traces(&none, "sent").await, 0);
}

/// Collectors' keys are rotated by others; the file is taken as a renewed certificate is, without a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_file_of_headers_is_taken_without_a_signal() {
    let collector = Collector::start(OK).await;
    let folder = TempDir::new().unwrap();
    let headers = folder.path().join("headers");
    fs::write(&headers, "Authorization: Bearer first\n").unwrap();
    let keys = format!(
        "[traces]\nendpoint = \"http://{}/v1/traces\"\nheaders_file = \"{}\"",
        collector.addr,
        headers.display()
    );
    let world = World::builder().reload("interval = \"1s\"").pages(&keys).start().await;
    let log_in = async || drop(world.connect("alice", &world.token("alice")).await.unwrap());
    let seen = |key: &str| collector.requests().iter().filter(|(head, _)| head.contains(key)).count();
    log_in().await;
    until("the first key", async || seen("Bearer first") == 1).await;

    let rotate = |text: &str| {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &headers).unwrap();
    };
    rotate("Authorization: Bearer second\n");
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 1.0).await;
    log_in().await;
    until("the second key", async || seen("Bearer second") == 1).await;

    // A file that cannot be used leaves the old one in force.
    rotate("no header\n");
    world.metric_is("pgpassport_reloads_total{outcome=\"refused\"}", 1.0).await;
    log_in().await;
    until("the second key again", async || seen("Bearer second") == 2).await;
    assert_eq!(seen("Bearer first"), 1);
    // All of it was one exporter's work.
    until("they count as sent", async || traces(&world, "sent").await == 3).await;
}
