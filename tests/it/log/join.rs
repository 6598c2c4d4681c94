//! `docs/audit.md`: the commands that join audit records with `CloudTrail` and the database's log, and that map them to OCSF, on
//! the logs of sessions that this test makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_emulator::{CloudDatabase, DatabaseOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::docs::blocks;
use crate::world::World;
use crate::world::admin::until;
use crate::world::binary::{Launch, ProxyProcess};

/// A server whose log has the form of Aurora's.
fn database() -> CloudDatabase {
    let options = DatabaseOptions {
        change: |server| {
            for (name, value) in [
                ("log_line_prefix", "%t:%r:%u@%d:[%p]:"),
                ("log_connections", "on"),
                ("log_disconnections", "on"),
                ("log_timezone", "UTC"),
            ] {
                server.settings.push((name.to_owned(), value.to_owned()));
            }
        },
        ..DatabaseOptions::default()
    };
    CloudDatabase::start(options).unwrap()
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap()
}

/// Output of a command of the page, one JSON value or line each.
fn run(command: &str, folder: &Path) -> Vec<String> {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The three logs of two sessions of alice, of which one is live, and of a refusal, in a folder.
async fn logs() -> (TempDir, Vec<Value>) {
    let database = tokio::task::spawn_blocking(database).await.unwrap();
    let store = database.gate.store().clone();
    let world = World::builder().upstream(database.postgres.addr(), &database.ca).store(store).start().await;
    let config = "[audit]\nto = \"./audit.json\"".to_owned();
    let proxy = ProxyProcess::launch(&world, Launch { config, ..Launch::usual() });
    let first = proxy.login(&world).await.unwrap();
    drop(first);
    let _live = proxy.login(&world).await.unwrap();
    assert!(proxy.login_with(&world, "bob", &world.token("alice")).await.is_err());
    let file = proxy.file("audit.json");
    let records = || fs::read_to_string(&file).unwrap_or_default();
    until("all records are there", async || {
        ["\"session.end\"", "\"login.refused\""].iter().all(|event| records().contains(event))
            && records().matches("\"session.start\"").count() == 2
    })
    .await;
    until("the database has logged the end", async || database.postgres.log().contains("disconnection"))
        .await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("audit.json", &records());
    write("cloudtrail.json", &world.cloud.sts.trail().to_string());
    write("postgresql.log", &database.postgres.log());
    let text = fs::read_to_string(folder.path().join("audit.json")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records = records.filter(|record| record["event"].is_string()).collect(); // not that of the log's own start
    (folder, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_join_three_logs() {
    let (folder, records) = logs().await;
    let starts: Vec<_> = records.iter().filter(|record| record["event"] == "session.start").collect();
    let commands: Vec<_> =
        blocks(&page(), "sh").into_iter().filter(|block| block.starts_with("jq ")).collect();
    let [trail, log, open, ocsf] = &commands[..] else { panic!("{commands:?}") };

    let joined = run(trail, folder.path());
    assert_eq!(joined.len(), starts.len(), "{joined:?}");
    for (line, start) in joined.iter().zip(&starts) {
        let joined: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&joined["session"], &joined["userName"]), (&start["session"], &start["subject"]));
        assert_eq!(joined["sourceIPAddress"], "127.0.0.1");
        assert!(joined["roleArn"].as_str().unwrap().starts_with("arn:aws:iam::"), "{joined}");
    }

    let logged = run(log, folder.path());
    let first = starts[0]["session"].as_str().unwrap();
    let of_first: Vec<_> = logged.iter().filter(|line| line.starts_with(first)).collect();
    for word in ["connection authorized: user=alice database=app", "disconnection: session time"] {
        assert!(of_first.iter().any(|line| line.contains(word)), "{word}: {logged:?}");
    }

    let open = run(open, folder.path());
    let live = starts[1]["session"].as_str().unwrap();
    assert!(open.len() == 1 && open[0].contains("alice alice") && open[0].ends_with(live), "{open:?}");

    let events = run(ocsf, folder.path());
    assert_eq!(events.len(), records.len());
    for (line, record) in events.iter().zip(&records) {
        check_ocsf(&serde_json::from_str(line).unwrap(), record);
    }
    if std::env::var_os("SHOW_AUDIT").is_some() {
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let pid = format!("[{}]", starts[0]["upstream_pid"]);
        let log: Vec<_> =
            read("postgresql.log").lines().filter(|line| line.contains(&pid)).map(str::to_owned).collect();
        eprintln!("{}\n{}\n{}", read("audit.json"), read("cloudtrail.json"), log.join("\n"));
    }
}

/// Required attributes of class 3002 and of the objects in it (OCSF 1.3.0).
fn check_ocsf(event: &Value, record: &Value) {
    for required in
        ["activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid", "user"]
    {
        assert!(!event[required].is_null(), "{required}: {event}");
    }
    assert!(!event["service"].is_null() || !event["dst_endpoint"].is_null(), "{event}");
    assert!(!event["metadata"]["version"].is_null() && !event["metadata"]["product"]["name"].is_null());
    assert!(!event["user"]["name"].is_null());
    for endpoint in
        ["src_endpoint", "dst_endpoint"].map(|name| &event[name]).iter().filter(|it| !it.is_null())
    {
        assert!(!endpoint["ip"].is_null() || !endpoint["name"].is_null(), "{event}");
    }
    let class = event["class_uid"].as_i64().unwrap();
    assert_eq!(event["type_uid"].as_i64().unwrap(), class * 100 + event["activity_id"].as_i64().unwrap());
    assert_eq!((class, event["auth_protocol_id"].as_i64()), (3002, Some(4)));
    let failed = record["event"] == "login.refused";
    assert_eq!(event["status_id"], if failed { 2 } else { 1 }, "{event}");
    assert_eq!(event["metadata"]["correlation_uid"], record["session"]);
    assert_eq!(event["unmapped"]["session"], record["session"]);
    if failed {
        assert_eq!(event["status_code"], record["sqlstate"]);
    }
}

/// The lines that the page shows are of one session.
#[test]
fn the_lines_of_the_page_belong_together() {
    let page = page();
    let shown = page.split_once("<!-- lines -->").unwrap().1.split_once("| pgpassport |").unwrap().0;
    let [start, event] = &blocks(shown, "json")[..] else { panic!("{shown}") };
    let (start, event): (Value, Value) =
        (serde_json::from_str(start).unwrap(), serde_json::from_str(event).unwrap());
    let credentials = &event["responseElements"]["credentials"];
    assert_eq!(start["access_key_id"], credentials["accessKeyId"]);
    assert_eq!(start["role_session_name"], event["requestParameters"]["roleSessionName"]);
    let pid = format!(":[{}]:", start["upstream_pid"]);
    let log = shown.trim_end().strip_suffix("\n```").unwrap().rsplit_once("```\n").unwrap().1;
    assert!(log.lines().count() >= 2 && log.lines().all(|line| line.contains(&pid)), "{log}");
}
