//! Common parts of all refusals, and their records.

use std::process::Command;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn l8_the_refusal_and_the_record_share_the_session_id() {
    let world = World::start().await;
    let token = world.mint(world.claims("mallory").set("jti", "refused-1"));
    let refusal = world.refusal("alice", &token).await;
    let record = world.audit("session", &refusal.session()).await;
    assert_eq!(record["outcome"], "refused");
    assert_eq!(record["stage"], "authorization");
    assert_eq!(record["sqlstate"], "28P01");
    assert_eq!(record["subject"], "mallory");
    assert_eq!(record["token_id"], "refused-1");
    assert_eq!(record["asked_user"], "alice");
    assert!(record["db_user"].is_null(), "nothing was granted: {record}");
    assert!(record["reason"].as_str().unwrap().contains("mallory"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_hostile_names_stay_one_line_and_plain() {
    let world = World::start().await;
    let name = "al\u{1b}]0;pwn\u{7}\r\n\u{202e}ice\" \\ {}";
    let refusal = world.refusal(name, &world.token("alice")).await;
    assert!(refusal.message().is_ascii() && !refusal.message().contains('\u{1b}'), "{refusal:?}");
    assert!(!refusal.message().contains('\n'));
    let record = world.audit("session", &refusal.session()).await;
    let logged = record["asked_user"].as_str().unwrap();
    assert!(!logged.contains(['\u{1b}', '\r', '\n', '\u{202e}']), "{logged:?}");
    assert!(logged.starts_with("al\\u{1b}]0;pwn"), "{logged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_a_long_name_is_cut() {
    let world = World::start().await;
    let refusal = world.refusal(&"u".repeat(5_000), "x").await;
    assert!(refusal.message().len() < 120, "{}", refusal.message().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_message_detail_and_hint() {
    let world = World::start().await;
    let psql = world.psql("user=alice dbname=app", &world.token("mallory"), &["-c", "select 1"]).await;
    assert!(!psql.ok);
    for text in [
        "FATAL:  password authentication failed for user \"alice\"",
        "DETAIL:  Stage authorization: the connection asks for user \"alice\", and the token is for \"mallory\"",
        "HINT:  Put user=mallory into the connection string",
    ] {
        assert!(psql.stderr.contains(text), "{text}: {}", psql.stderr);
    }
}

#[test]
fn check_reports_all_problems_and_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, "[listen]\naddr = 1\n").unwrap();
    let check = |path: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .arg("check")
            .arg("--config")
            .arg(path)
            .output()
            .unwrap()
    };
    let output = check(&file);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78));
    assert!(text.contains(":2:8: listen.addr: expected a string in quotes, found the integer 1"), "{text}");
    assert!(
        text.contains("issuer: no [[issuer]] section: add at least one") && text.contains("5 problems"),
        "{text}"
    );
    assert!(output.stdout.is_empty());
    let output = check(&folder.path().join("missing.toml"));
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config FILE"));
}

/// Every kind of login once, all targets at TRACE: the world itself then looks for what it planted, in the log
/// and in what clients were told; here also for other spellings of a secret, and in the `Debug` of what is left.
#[tokio::test(flavor = "multi_thread")]
async fn l1_no_secret_is_in_any_log_line_or_message() {
    use aws_emulator::{HttpFault, sts::StsFault};
    let world = World::start().await;
    let token = world.token("alice");
    world.connect("alice", &token).await.unwrap();
    world.refusal("bob", &token).await;
    world.refusal("alice", &world.mint(world.claims("alice").set("aud", "other"))).await;
    world.refusal("carol", &world.token("carol")).await;
    for fault in [StsFault::throttling(), StsFault::error(403, "AccessDenied", "no"), HttpFault::Close.into()]
    {
        world.cloud.sts.fail(fault);
        world.refusal("alice", &world.token("alice")).await;
        world.cloud.sts.heal();
    }
    let signature = token.rsplit('.').next().unwrap();
    let decimals: Vec<String> = signature.bytes().take(24).map(|byte| byte.to_string()).collect();
    let hex: String =
        signature.bytes().take(24).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    for spelled in [decimals.join(", "), decimals.join(","), hex] {
        assert!(!world.has_logged(&spelled), "the token is in the log as {spelled}");
    }
    // The canary sings: what is logged on purpose is found.
    tracing::trace!(planted = "canary-7f3a", "for the test");
    assert!(world.has_logged("canary-7f3a"));
}
