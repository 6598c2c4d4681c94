//! A log that cannot be written, or not fast enough, delays nothing and ends nothing.

mod audit;
mod join;
mod noise;
mod schema;
mod sinks;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aws_emulator::sts::StsFault;
use pgpassport::config::{AuditSettings, LogFormat, LogLevel, LogSettings, WhenUnwritable};
use pgpassport::telemetry::logging;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::sinks::{Reader, Sink};
use crate::world::admin::{get, until};
use crate::world::binary::{Launch, ProxyProcess};
use crate::world::raw::query;
use crate::world::{ErrorFields, RawClient, World};

/// Peers that say four bytes and leave: enough lines for any pipe, were each of them one.
const STRANGERS: usize = 400;

const ADMIN: &str = "[admin]\naddr = \"127.0.0.1:0\"";

/// A statement of a session, answered in full.
async fn ask(client: &mut RawClient, sql: &str) {
    client.send(&query(sql)).await;
    while client.message().await.expect("the session goes on").0 != b'Z' {}
}

async fn strangers(binary: &ProxyProcess) {
    for _ in 0..STRANGERS {
        let mut tcp = TcpStream::connect(("127.0.0.1", binary.port)).await.unwrap();
        tcp.write_all(b"junk").await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await; // closed, or reset because of the bytes
    }
}

/// SIGHUP is taken, and the end of the reload is told.
fn reload(binary: &ProxyProcess) {
    binary.signal("HUP");
    assert!(binary.tells().contains("RELOADING=1"));
    assert!(binary.tells().contains("READY=1"));
}

/// A token that nobody has used before.
fn fresh(world: &World, sub: &str, jti: &str) -> String {
    world.mint(world.claims(sub).set("jti", jti))
}

/// All that a service does for people and operators, while `sink` takes no line of it or few.
async fn goes_on(world: &World, sink: Sink) {
    let Some((launch, _reader)) = sink.open() else { return };
    let launch = Launch { config: ADMIN.to_owned(), args: vec!["--log-level", "trace"], ..launch };
    let mut binary = ProxyProcess::launch(world, launch);
    let mut live = binary.login(world).await.unwrap();
    ask(&mut live, "begin").await;
    strangers(&binary).await;
    reload(&binary);
    for (fault, sqlstate) in
        [(StsFault::error(403, "AccessDenied", "no"), "28P01"), (StsFault::internal_failure(), "57P03")]
    {
        world.cloud.sts.fail(fault);
        let token = fresh(world, "bob", &format!("{sink:?}-{sqlstate}"));
        let refused = binary.login_with(world, "bob", &token).await.err().expect("STS refuses");
        assert_eq!(refused.sqlstate(), sqlstate, "{sink:?}: {refused:?}");
        world.cloud.sts.heal();
    }
    tokio::task::block_in_place(|| world.cloud.issuer.rotate(false).unwrap());
    world.cloud.sts.forget_keys();
    let mut rotated = binary.login(world).await.unwrap();
    ask(&mut rotated, "select 1").await;
    ask(&mut live, "select 1").await;
    reload(&binary);
    assert_eq!(get(binary.admin_addr(), "/livez").await.0, 200, "{sink:?}");
    // A slow reader may have caught up with a service on a slow machine.
    let waiting = binary.metric("pgpassport_log_queue_lines{sink=\"log\"}").await;
    assert!(waiting > 0 || matches!(sink, Sink::SlowReader), "{sink:?}");
    let failed = binary.metric("pgpassport_log_write_errors_total{sink=\"log\"}").await;
    let fails = matches!(sink, Sink::DevFull | Sink::FullDisk | Sink::ClosedPipe);
    assert_eq!(failed > 0, fails, "{sink:?}: {failed} failed writes");
    binary.signal("TERM");
    let (tag, body) = live.message().await.unwrap();
    assert_eq!((tag, ErrorFields::parse(&body).sqlstate()), (b'E', "57P01"), "{sink:?}");
    drop((live, rotated));
    assert_eq!(binary.ended().await, Some(0), "{sink:?}");
}

async fn world() -> World {
    World::builder().limits("shutdown_timeout = \"0s\"").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let world = world().await;
    for sink in Sink::ALL {
        goes_on(&world, sink).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_has_its_exit_code_also_without_a_reader_of_the_log() {
    let world = world().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[admin]\naddr = \"{}\"", taken.local_addr().unwrap());
    for sink in Sink::ALL {
        for (config, code) in [("[admin]\nadr = 1", 78), (taken.as_str(), 1)] {
            let Some((launch, _reader)) = sink.open() else { continue };
            let launch = Launch { config: config.to_owned(), ..launch };
            assert_eq!(ProxyProcess::exit_code(&world, launch).await, Some(code), "{sink:?}: {config}");
        }
    }
}

/// The lines of a log, each of which has to be whole.
fn parsed(log: &str) -> Vec<serde_json::Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_has_room_again_gets_every_line_that_waited() {
    let world = world().await;
    let Some((launch, _)) = Sink::FullDisk.open() else { return };
    let launch = Launch { config: ADMIN.to_owned(), args: vec!["--log-format", "json"], ..launch };
    let mut binary = ProxyProcess::launch(&world, launch);
    drop(binary.login(&world).await.unwrap());
    until("a record waits", async || binary.metric("pgpassport_log_queue_lines{sink=\"log\"}").await >= 3)
        .await;
    assert_eq!(std::fs::read_to_string(binary.file("disk/log")).unwrap(), "");
    assert!(binary.metric("pgpassport_log_writable{sink=\"log\"}").await == 0);
    std::fs::remove_file(binary.file("disk/filler")).unwrap();
    let log = || std::fs::read_to_string(binary.file("disk/log")).unwrap();
    until("it is told", async || log().contains("can be written again")).await;
    let lines = parsed(&log());
    let index = |text: &str| {
        let at = lines.iter().position(|line| line["message"].as_str().unwrap().contains(text));
        at.unwrap_or_else(|| panic!("no line with {text}: {lines:?}"))
    };
    assert!(index("the log cannot be written") < index("can be written again"));
    assert!(index("connection ended") < index("can be written again"), "in their order");
    let told = &lines[index("can be written again")];
    assert!(told["failed_writes"].as_u64().unwrap() > 0 && told["lost_lines"] == 0, "{told}");
    assert!(binary.metric("pgpassport_log_writable{sink=\"log\"}").await == 1);
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_reader_is_told_the_number_of_lost_lines() {
    let world = world().await;
    let Some((launch, Reader::Stopped(reader))) = Sink::StoppedReader.open() else { panic!("a pipe") };
    let args = vec!["--log-format", "json", "--log-level", "trace"];
    let mut binary = ProxyProcess::launch(&world, Launch { config: ADMIN.to_owned(), args, ..launch });
    let lost = async || binary.metric("pgpassport_log_lines_lost_total{kind=\"log\"}").await;
    let mut logins = 0;
    while lost().await == 0 {
        binary.login_with(&world, "alice", &fresh(&world, "alice", &logins.to_string())).await.unwrap();
        logins += 1;
    }
    // It sleeps for longer than a reader may who is only slow.
    until("it counts as stalled", async || binary.metric("pgpassport_log_writable{sink=\"log\"}").await == 0)
        .await;
    let told = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let told = lines.find(|line| line.contains("can be written again")).expect("a word about it");
        std::thread::spawn(move || lines.for_each(drop));
        told
    });
    let told = &parsed(&told.await.unwrap())[0];
    assert!(told["lost_lines"].as_u64().unwrap() > 0, "{told}");
    // A flood of lines takes nothing from audit records.
    assert_eq!(told["lost_audit_records"], 0, "{told}");
    binary.signal("TERM");
    assert_eq!(binary.ended().await, Some(0));
}

/// Ends a child of the test below, with a panic in it.
#[test]
#[ignore = "run by a_panic_is_a_line_of_the_log"]
fn a_child_that_panics() {
    let audit = AuditSettings { file: None, when_unwritable: WhenUnwritable::Continue };
    let settings = LogSettings { level: LogLevel::Error, format: LogFormat::Json };
    let log = logging::start(&settings, &audit).unwrap();
    let panicked = std::thread::Builder::new().name("unlucky".into()).spawn(|| panic!("a\nfault")).unwrap();
    assert!(panicked.join().is_err());
    log.flush();
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    let child = |stderr: Stdio| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "log::a_child_that_panics"]);
        command.env_remove("RUST_BACKTRACE").stdout(Stdio::null()).stderr(stderr);
        command.spawn().unwrap()
    };
    let output = child(Stdio::piped()).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = &parsed(&String::from_utf8(output.stderr).unwrap())[0];
    assert_eq!((&line["thread"], &line["level"]), (&"unlucky".into(), &"ERROR".into()), "{line}");
    assert_eq!(line["reason"], "a\\nfault", "{line}");
    assert!(line["location"].as_str().unwrap().contains("log/mod.rs:"), "{line}");
    for sink in [Sink::StoppedReader, Sink::ClosedPipe, Sink::DevFull] {
        let (launch, _reader) = sink.open().unwrap();
        assert!(child(launch.stderr.unwrap()).wait().unwrap().success(), "{sink:?}");
    }
}
