//! Access to the console, the commands that each right permits, and their records.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::{failure, rows, with_console};
use crate::world::raw::PATIENCE;
use crate::world::{ErrorFields, World};

/// The refusal of a login, without what differs between any two: the session id and the database's name.
async fn refusal(world: &World, database: &str, token: &str) -> (ErrorFields, String) {
    let error = world.raw().await.login("olivia", Some(database), token).await.err().expect("a refusal");
    world.hear(format!("{error:?}").as_bytes());
    let session = error.session();
    let text = format!("{error:?}").replace(&session, "ID").replace(database, "DATABASE");
    (error, text)
}

/// The console is not to be found by those who may not use it, whether there is one or not.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_its_name_is_that_of_any_database() {
    let off = World::builder().cluster("databases = [\"app\"]").start().await;
    let on = with_console().start().await;
    for (world, groups) in [(&off, &["dba"][..]), (&on, &[]), (&on, &["sales"])] {
        let token = world.member("olivia", groups);
        let (_, unlisted) = refusal(world, "elsewhere", &token).await;
        for name in ["pgpassport", "pgbouncer"] {
            let (error, text) = refusal(world, name, &token).await;
            assert_eq!(error.sqlstate(), "28P01", "{error:?}");
            assert_eq!(text, unlisted, "{name}");
        }
        assert_eq!(world.cloud.sts.count(), 0);
    }
    // A forged token fails as everywhere, and a withdrawn person stays out.
    let forged = on.member("olivia", &["dba"]).replace(['A', 'B'], "C");
    let (error, _) = refusal(&on, "pgpassport", &forged).await;
    assert_eq!(error.sqlstate(), "28P01");
}

/// Every command, with either right.
#[tokio::test(flavor = "multi_thread")]
async fn each_command_needs_its_right() {
    let world = with_console().start().await;
    let (view, change) = (world.console("oncall").await, world.console("dba").await);
    let help = rows(&view, "SHOW HELP").await;
    let mut changes = Vec::new();
    for command in &help {
        let text = super::cell(command, "command");
        match super::cell(command, "right") {
            "view" => {
                rows(&view, text).await;
                rows(&change, text).await;
            }
            "allow" => changes.push(text.to_owned()),
            other => panic!("{other}"),
        }
    }
    for (text, example, code) in [
        ("SET log_level = LEVEL", "SET log_level = info", None),
        ("KILL ID", "KILL 0123456789abcdef", Some("42704")),
        ("KILL SUBJECT 'SUB' [ISSUER 'NAME']", "KILL SUBJECT 'nobody' ISSUER 'idp'", None),
        ("DRAIN CLUSTER", "DRAIN app", None),
        ("PAUSE [CLUSTER]", "PAUSE app", None),
        ("RESUME [CLUSTER]", "RESUME", None),
        ("RELOAD", "RELOAD", None),
        ("SHUTDOWN", "SHUTDOWN", None),
    ] {
        assert!(changes.iter().any(|known| known == text), "{text} is not in SHOW HELP");
        changes.retain(|known| known != text);
        assert_eq!(failure(&view, example).await, "42501", "{example}");
        match code {
            None => drop(change.simple_query(example).await.unwrap()),
            Some(code) => assert_eq!(failure(&change, example).await, code),
        }
    }
    assert!(changes.is_empty(), "no example for {changes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_on_the_console_is_recorded() {
    let world = with_console().start().await;
    let change = world.console("dba").await;
    let start = world.audit("event", "console.start").await;
    assert_eq!((&start["console"], &start["subject"]), (&Value::from("allow"), &Value::from("olivia")));
    rows(&change, "SHOW SESSIONS").await;
    change.simple_query("SET log_level = 'info'").await.unwrap();
    let done = world.audit("command", "SET log_level = info").await;
    assert_eq!((&done["event"], &done["outcome"]), (&Value::from("console.command"), &Value::from("done")));
    assert_eq!((&done["session"], &done["subject"]), (&start["session"], &Value::from("olivia")));
    let view = world.console("oncall").await;
    assert_eq!(failure(&view, "SET log_level = trace").await, "42501");
    let refused = world.audit("command", "SET log_level = trace").await;
    assert_eq!(refused["outcome"], "refused", "{refused}");
    drop((view, change));
    let end = world.audit("event", "console.end").await;
    assert_eq!((&end["outcome"], &end["end"]), (&Value::from("console"), &Value::from("client_left")));
    assert!(!world.has_logged("\"command\":\"SHOW"), "looking leaves no record of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_its_right_and_the_service() {
    let world = with_console().start().await;
    let token = world.member("olivia", &["dba"]);
    let mut withdrawn = world.raw().await.login("olivia", Some("pgpassport"), &token).await.unwrap().0;
    world.edit("[cancel]", "[[denied]]\nsubjects = [\"olivia\"]\n[cancel]");
    assert!(world.reloaded().await);
    let (tag, body) = withdrawn.message().await.expect("a last word");
    assert_eq!((tag, ErrorFields::parse(&body).sqlstate()), (b'E', "57P01"));
    assert!(withdrawn.message().await.is_none());
    let (error, _) = refusal(&world, "pgpassport", &token).await;
    assert!(error.detail().contains("withdrawn"), "{error:?}");

    let soon = world.claims("pat").set("groups", serde_json::json!(["dba"])).set("exp", now() - 25);
    let soon = world.mint(soon.set("iat", now() - 60));
    let mut expiring = world.raw().await.login("pat", Some("pgbouncer"), &soon).await.unwrap().0;
    let (tag, body) = expiring.message().await.expect("a last word");
    let error = ErrorFields::parse(&body);
    assert!(tag == b'E' && error.message().contains("token expiry"), "{error:?}");

    let other = world.member("quinn", &["oncall"]);
    let mut stopped = world.raw().await.login("quinn", Some("pgpassport"), &other).await.unwrap().0;
    world.stopping.asked.cancel();
    let (tag, body) = stopped.message().await.expect("a last word");
    let error = ErrorFields::parse(&body);
    assert!(tag == b'E' && error.detail().contains("stopping"), "{error:?}");
}

fn now() -> u64 {
    pgpassport::clock::Clock::system().unix_seconds()
}

/// Places of the console are limited per person and in all.
#[tokio::test(flavor = "multi_thread")]
async fn its_places_are_few() {
    let world = with_console().start().await;
    let mut open = Vec::new();
    for (subject, places) in [("olivia", 8), ("pat", 8), ("quinn", 0)] {
        let token = world.member(subject, &["oncall"]);
        for _ in 0..places {
            open.push(world.raw().await.login(subject, Some("pgpassport"), &token).await.unwrap().0);
        }
        let refused = world.raw().await.login(subject, Some("pgpassport"), &token).await;
        let error = refused.err().expect("a refusal");
        assert_eq!(error.sqlstate(), "53300", "{subject}: {error:?}");
        assert!(error.message().contains("the console"), "{error:?}");
    }
    drop(open.pop());
    let token = world.member("quinn", &["oncall"]);
    let place = async {
        while world.raw().await.login("quinn", Some("pgpassport"), &token).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, place).await.expect("a place that is free again");
}
