//! Sessions that the proxy ends: by a rule of `[session]`, by their token, or because it stops.

use crate::world::raw::query;
use crate::world::sessions::{
    log_in, log_in_with_pid, only_error, process_id, read_all, until_gone, until_sql,
};
use crate::world::{World, database, until_asleep};

#[tokio::test(flavor = "multi_thread")]
async fn j14_a_session_ends_when_its_token_does() {
    let world =
        World::builder().issuer("leeway = \"0s\"").session("on_token_expiry = \"close\"").start().await;
    let claims = world.claims("alice");
    let now = claims.get("iat").unwrap().as_u64().unwrap();
    let token = world.mint(claims.set("exp", now + 5));
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &token).await.unwrap();
    client.send(&query("begin; select 1")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    let error = only_error(&read_all(&mut client).await);
    assert_eq!((error.sqlstate(), error.message()), ("57P01", "terminating connection due to token expiry"));
    assert!(error.hint().contains("fresh token"), "{error:?}");
    drop(client);
    let record = world.audit("end", "token_expired").await;
    assert_eq!((record["outcome"].as_str(), record["sqlstate"].as_str()), (Some("session"), Some("57P01")));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_ended_as_postgresql_ends_them() {
    let keys = "client_idle_timeout = \"1s\"\nidle_transaction_timeout = \"1s\"";
    let world = World::builder().session(keys).start().await;
    for (sql, sqlstate, end) in [("select 1", "57P05", "idle"), ("begin", "25P03", "idle_in_transaction")] {
        let (mut client, pid) = log_in_with_pid(&world).await;
        client.send(&query(sql)).await;
        while client.message().await.unwrap().0 != b'Z' {}
        let error = only_error(&read_all(&mut client).await);
        assert_eq!(error.sqlstate(), sqlstate);
        until_gone(pid).await;
        let record = world.audit("end", end).await;
        assert_eq!(record["sqlstate"], sqlstate);
    }
}

/// A statement that is under way when its session is ended ends too, and with it the locks that it holds: a server
/// that computes would notice the end of the connection only when it is done.
#[tokio::test(flavor = "multi_thread")]
async fn r18_a_statement_does_not_outlive_its_session() {
    for (n, (session, limits, end)) in
        [("", "shutdown_timeout = \"0s\"", "stopped"), ("on_token_expiry = \"close\"", "", "token_expired")]
            .into_iter()
            .enumerate()
    {
        let world = World::builder().issuer("leeway = \"0s\"").session(session).limits(limits).start().await;
        let claims = world.claims("alice");
        let now = claims.get("iat").unwrap().as_u64().unwrap();
        let token = world.mint(claims.set("exp", now + 5));
        let (mut client, said) = world.raw().await.login("alice", Some("app"), &token).await.unwrap();
        let pid = process_id(&said);
        let seconds = 630 + u32::try_from(n).unwrap();
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
        until_asleep(&database().postgres, seconds).await;
        if end == "stopped" {
            world.stopping.drain.cancel();
        }
        let error = only_error(&read_all(&mut client).await);
        assert_eq!(error.sqlstate(), "57P01");
        until_gone(pid).await;
        drop(client);
        world.audit("end", end).await;
    }
}

/// A token that is about to expire is announced, and the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_token_is_announced() {
    let world = World::builder().session("token_expiry_notice = \"24h\"").start().await;
    let token = world.token("alice");
    let psql =
        world.psql_fed("user=alice dbname=app", &token, &[], "select pg_sleep(0.1);\nselect 7;\n").await;
    assert!(psql.ok && psql.stdout.ends_with("7\n"), "{psql:?}");
    assert!(psql.stderr.contains("NOTICE:  the token of this session expires in "), "{psql:?}");
}

/// A session keeps the rules that it was born with.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_rules_of_new_sessions_only() {
    let world = World::start().await;
    let old = world.connect("alice", &world.token("alice")).await.unwrap();
    world.edit("[session]", "[session]\nclient_idle_timeout = \"500ms\"");
    assert!(world.reloaded().await);
    let mut new = log_in(&world).await;
    assert_eq!(only_error(&read_all(&mut new).await).sqlstate(), "57P05");
    old.batch_execute("select 1").await.unwrap();
}

/// Access that is withdrawn by a reload ends at once, also in mid-statement; others go on, and come back.
#[tokio::test(flavor = "multi_thread")]
async fn j14_sessions_of_a_denied_subject_or_token_end() {
    let world = World::start().await;
    let bob = world.connect("bob", &world.token("bob")).await.unwrap();
    let marked = world.mint(world.claims("bob").set("jti", "lost-laptop"));
    let token = world.token("alice");
    let (mut idle, _) = log_in_with_pid(&world).await;
    let (mut busy, pid) = log_in_with_pid(&world).await;
    busy.send(&query("begin; select pg_sleep(632)")).await;
    until_sql(&format!("select wait_event from pg_stat_activity where pid = {pid}"), "PgSleep").await;
    let (mut lost, _) = world.raw().await.login("bob", Some("app"), &marked).await.unwrap();
    world.edit("[cancel]", "[denied]\nsubjects = [\"alice\"]\ntoken_ids = [\"lost-laptop\"]\n[cancel]");
    assert!(world.reloaded().await);
    for client in [&mut idle, &mut busy, &mut lost] {
        let error = only_error(&read_all(client).await);
        assert_eq!(error.sqlstate(), "57P01");
        assert!(error.detail().contains("is withdrawn"), "{error:?}");
    }
    until_gone(pid).await;
    drop((idle, busy, lost));
    assert_eq!(world.audit("end", "withdrawn").await["sqlstate"], "57P01");
    let calls = world.cloud.sts.count();
    for (user, token) in [("alice", &token), ("bob", &marked)] {
        let refusal = world.refusal(user, token).await;
        assert_eq!(refusal.sqlstate(), "28P01");
        assert!(refusal.detail().starts_with("Stage authorization: the access"), "{refusal:?}");
    }
    assert_eq!(world.cloud.sts.count(), calls, "STS was asked for them");
    bob.batch_execute("select 1").await.unwrap();
    world.connect("bob", &world.token("bob")).await.unwrap();
    world.edit("subjects = [\"alice\"]", "");
    assert!(world.reloaded().await);
    world.connect("alice", &token).await.unwrap();
}
