//! Fields and events of audit records, against `docs/audit.md`, and the two records of a session.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::world::World;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// First cells of the table between two markers, or below a heading.
fn rows(page: &str, from: &str) -> BTreeSet<String> {
    let table = page.split_once(from).unwrap().1;
    let row = Regex::new(r"^\| `([a-z_.]+)` \|").unwrap();
    let lines =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.filter_map(|line| Some(row.captures(line)?[1].to_owned())).collect()
}

#[test]
fn the_docs_list_every_field_and_every_event() {
    let (source, page) = (read("src/telemetry/audit.rs"), read("docs/audit.md"));
    let fields = source.split_once("target: AUDIT,\n").unwrap().1.split_once("\"{text}\"").unwrap().0;
    let field = Regex::new(r"(?m)^ {20}(\w+)(?: = |,$)").unwrap();
    let fields: BTreeSet<_> = field.captures_iter(fields).map(|found| found[1].to_owned()).collect();
    assert!(fields.len() > 30, "{fields:?}");
    assert_eq!(fields, rows(&page, "<!-- fields -->"));
    let event = Regex::new(" = \"([a-z]+(?:\\.[a-z]+)?)\",").unwrap();
    let source = read("src/telemetry/audit_event.rs");
    let events: BTreeSet<_> = event.captures_iter(&source).map(|found| found[1].to_owned()).collect();
    assert_eq!(events, rows(&page, "## Events"));
}

/// The start is there while the session lives, and names what joins it with CloudTrail and the database's log.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_record_at_its_start_and_one_at_its_end() {
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    let start = world.audit("event", "session.start").await;
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let calls = world.cloud.sts.calls();
    assert_eq!((&start["schema"], &start["upstream_pid"]), (&Value::from(1), &Value::from(pid)));
    assert_eq!((start["db_user"].as_str(), start["subject"].as_str()), (Some("alice"), Some("alice")));
    assert_eq!(start["role_session_name"], calls[0].session_name);
    assert!(start["access_key_id"].as_str().unwrap().starts_with("ASIA"), "{start}");
    for absent in ["outcome", "end", "bytes_to_client", "reason"] {
        assert!(start.get(absent).is_none(), "{absent}: {start}");
    }
    assert!(!world.has_logged(&format!("\"event\":\"session.end\",\"session\":{}", start["session"])));
    drop(client);
    let end = world.audit("event", "session.end").await;
    for same in ["session", "access_key_id", "upstream_pid", "subject", "token_id", "cluster"] {
        assert_eq!(start[same], end[same], "{same}");
    }
    assert_eq!((end["outcome"].as_str(), end["end"].as_str()), (Some("session"), Some("client_left")));
    world.refusal("bob", &world.token("alice")).await;
    let refused = world.audit("event", "login.refused").await;
    assert!(refused["schema"] == 1 && refused["session"] != start["session"], "{refused}");
    if std::env::var_os("SHOW_AUDIT").is_some() {
        eprintln!("{start}\n{end}");
    }
}
