//! `application_name`: it does not part people from their connections, and each session has its own.

use super::{HITS, PoolGuest, own_server, sql_at};
use crate::world::{World, database};

const ASKED: &str = "select current_setting('application_name') || '|' || application_name \
                     from pg_stat_activity where pid = pg_backend_pid()";

async fn come(world: &World, name: &str) -> PoolGuest {
    let pairs = [("user", "alice"), ("database", "app"), ("application_name", name)];
    PoolGuest::come(world, &world.token("alice"), &pairs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_a_program_by_the_name_that_a_new_login_would_have() {
    let server = own_server(|_| {}).await;
    let names = [
        "psql",
        "",
        "it's",
        "back\\slash",
        "\\",
        "'; drop table people; --",
        "\\'; select 1; --",
        "E'x'",
        "$$ \"quoted\" %s",
        " spaces ",
        "x23456789012345678901234567890123456789012345678901234567890123",
    ];
    for strings in ["on", "off"] {
        let setting = format!("alter system set standard_conforming_strings = {strings}");
        sql_at(&server, &[&setting, "select pg_reload_conf()"]).await;
        let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
        let fresh = World::builder().upstream(server.addr(), &database().ca).start().await;
        let mut first = come(&world, "the first").await;
        let pid = first.pid().await;
        first.leave_kept(&world).await;
        for name in names {
            let mut expected = come(&fresh, name).await;
            let mut guest = come(&world, name).await;
            assert_eq!(guest.parameters(), expected.parameters(), "{name}");
            assert_eq!(guest.ask(ASKED).await, expected.ask(ASKED).await, "{name}");
            assert_eq!(guest.ask(ASKED).await, format!("{name}|{name}"));
            assert_eq!(guest.pid().await, pid, "{name}: a connection of its own");
            guest.leave_kept(&world).await;
        }
        world.metric_is(HITS, 11.0).await;
    }
}

/// PostgreSQL changes these, and not every release in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_server_changes_has_its_own_connections() {
    let world = World::builder().pool("").start().await;
    let fresh = World::start().await;
    come(&world, "a").await.leave_kept(&world).await;
    for name in ["B\u{fc}ro", "tab\there", &"long".repeat(16)] {
        let mut expected = come(&fresh, name).await;
        for visit in 0..2 {
            let mut guest = come(&world, name).await;
            assert_eq!(guest.parameters(), expected.parameters(), "{name} {visit}");
            assert_eq!(guest.ask(ASKED).await, expected.ask(ASKED).await, "{name} {visit}");
            guest.leave_kept(&world).await;
        }
    }
    world.metric_is(HITS, 3.0).await;
}

/// A connection that was opened with the same name comes first: its session equals that of a new login, also after `RESET`.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_its_own_connection_where_there_is_one() {
    let world = World::builder().pool("").start().await;
    let (mut a, mut b) = (come(&world, "a").await, come(&world, "b").await);
    let pids = [a.pid().await, b.pid().await];
    a.leave_kept(&world).await;
    b.leave_kept(&world).await;
    let mut again = come(&world, "a").await;
    assert_eq!(again.pid().await, pids[0]);
    again.ask("set application_name = 'x'").await;
    again.ask("reset application_name").await;
    assert_eq!(again.ask(ASKED).await, "a|a");
    let mut other = come(&world, "c").await;
    assert_eq!(other.pid().await, pids[1]);
    other.leave_kept(&world).await;
    assert_eq!(come(&world, "b").await.ask(ASKED).await, "b|b");
}
