//! No state of a session is visible in the next one on its connection.

use super::PoolGuest;
use crate::world::raw::message;
use crate::world::sessions::sql;
use crate::world::{World, database};

/// Everything that is set, as the server shows it.
const SETTINGS: &str =
    "select name || ' = ' || setting || ' from ' || source from pg_catalog.pg_settings order by 1";

/// As the superuser, in the server that all tests share.
/// A Parse of `sql` by this name, or by none.
fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// A Bind of this statement to the unnamed portal, and an Execute.
fn execute(name: &str) -> [Vec<u8>; 2] {
    let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
    [bind, message(b'E', b"\0\0\0\0\0")]
}

/// A world with one session that was left after `spoil`, and the next one on the same connection.
async fn after(world: &World, spoil: &[&str]) -> PoolGuest {
    let mut first = PoolGuest::alice(world).await;
    let pid = first.pid().await;
    for statement in spoil {
        first.ask(statement).await;
    }
    first.leave_kept(world).await;
    let mut next = PoolGuest::alice(world).await;
    assert_eq!(next.pid().await, pid, "another connection proves nothing");
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_temporary_tables_are_gone() {
    let world = World::builder().pool("").start().await;
    let spoil = ["create temp table secrets as select 'hunter2' as word", "create temp sequence mine"];
    let mut next = after(&world, &spoil).await;
    assert_eq!(next.try_ask("select * from secrets").await.unwrap_err().sqlstate(), "42P01");
    let left =
        "select count(*) from pg_class where relnamespace = pg_my_temp_schema() and relkind in ('r', 'S')";
    assert_eq!(next.ask(left).await, "0");
    // Its schema stays, as docs/pool.md says.
    assert_ne!(next.ask("select pg_my_temp_schema()").await, "0");
}

/// As docs/pool.md says.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_kept_connection_is_in_use() {
    let server = super::own_server(|_| {}).await;
    super::sql_at(&server, &["create database pool_used"]).await;
    let world = World::builder().upstream(server.addr(), &database().ca).pool("").start().await;
    let pairs = [("user", "alice"), ("database", "pool_used")];
    PoolGuest::come(&world, &world.token("alice"), &pairs).await.leave_kept(&world).await;
    super::sql_at(&server, &["alter role alice superuser"]).await;
    let mut other = PoolGuest::alice(&world).await;
    for statement in ["drop database pool_used", "create database copy template pool_used"] {
        assert_eq!(other.try_ask(statement).await.unwrap_err().sqlstate(), "55006", "{statement}");
    }
    // Under a configuration that is loaded again nothing is kept; the process of the server ends by itself.
    assert!(world.reloaded().await);
    crate::world::admin::until("the database is free", async || {
        other.try_ask("drop database pool_used").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_prepared_statements_are_gone_by_whichever_way_they_were_made() {
    let world = World::builder().pool("").start().await;
    let mut first = PoolGuest::alice(&world).await;
    let pid = first.pid().await;
    first.ask("prepare by_sql as select 'hunter2'").await;
    for name in ["by_protocol", ""] {
        let used = [&[parse(name, "select 'hunter2'")], &execute(name)[..]].concat();
        assert_eq!(first.error_of(&used).await, "");
    }
    first.leave_kept(&world).await;
    let mut next = PoolGuest::alice(&world).await;
    for name in ["by_sql", "by_protocol", ""] {
        assert_eq!(next.error_of(&execute(name)).await, "26000", "{name:?}");
    }
    assert_eq!(next.ask("select count(*) from pg_prepared_statements").await, "0");
    assert_eq!(next.error_of(&[parse("by_protocol", "select 1")]).await, "", "the name is free");
    assert_eq!(next.pid().await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_advisory_locks_are_released() {
    let world = World::builder().pool("").start().await;
    let spoil = ["select pg_advisory_lock(8154711)", "select pg_advisory_lock_shared(8154712)"];
    let mut next = after(&world, &spoil).await;
    let held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(next.ask(held).await, "0");
    assert_eq!(sql("select pg_try_advisory_lock(8154711)").await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_channels_and_cursors_are_closed() {
    let world = World::builder().pool("").start().await;
    let spoil = ["listen pool_news", "begin", "declare held cursor with hold for select 'hunter2'", "commit"];
    let mut next = after(&world, &spoil).await;
    assert_eq!(next.ask("select count(*) from pg_listening_channels()").await, "0");
    assert_eq!(next.ask("select count(*) from pg_cursors").await, "0");
    assert_eq!(next.try_ask("fetch held").await.unwrap_err().sqlstate(), "34000");
    next.ask("notify pool_news, 'hello'").await;
    next.client.send(&crate::world::raw::query("select 1")).await;
    assert!(next.answers().await.iter().all(|(tag, _)| *tag != b'A'), "it hears the channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_sequence_values_are_forgotten() {
    let world = World::builder().pool("").start().await;
    sql("create sequence if not exists pool_numbers; grant usage on sequence pool_numbers to alice").await;
    let mut next = after(&world, &["select nextval('pool_numbers')", "select currval('pool_numbers')"]).await;
    for asked in ["select currval('pool_numbers')", "select lastval()"] {
        assert_eq!(next.try_ask(asked).await.unwrap_err().sqlstate(), "55000", "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_settings_are_as_in_a_new_session_and_the_greeting_says_so() {
    let world = World::builder().pool("").start().await;
    let mut fresh = PoolGuest::alice(&world).await;
    let (settings, parameters) = (fresh.ask(SETTINGS).await, fresh.parameters());
    fresh.leave_kept(&world).await;
    let spoil = [
        "set timezone = 'Asia/Tokyo'",
        "set datestyle = 'German'",
        "set intervalstyle = 'iso_8601'",
        "set application_name = 'hunter2'",
        "set client_encoding = 'LATIN1'",
        "set standard_conforming_strings = off",
        "set search_path = pg_temp, public",
        "set default_transaction_read_only = on",
        "set session characteristics as transaction isolation level serializable",
        "set statement_timeout = '1h'",
        "set row_security = off",
        "set work_mem = '7MB'",
        "select set_config('pool.word', 'hunter2', false)",
        "set seed = 0.5",
    ];
    let mut next = after(&world, &spoil).await;
    assert_eq!(next.ask(SETTINGS).await, settings);
    assert_eq!(next.parameters(), parameters);
    assert_eq!(next.ask("select coalesce(current_setting('pool.word', true), '')").await, "");
    // And once more, after one who has changed nothing.
    next.leave_kept(&world).await;
    assert_eq!(PoolGuest::alice(&world).await.parameters(), parameters);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_what_a_session_began_with_is_what_the_next_begins_with() {
    let group = "[[cluster.group]]\nname = \"all\"\nwhen = { claim = \"aud\", any = [\"pgpassport\"] }\n\
                 read_only = true\nstatement_timeout = \"77s\"";
    let world = World::builder().pool("").user(group).start().await;
    let pairs = [
        ("user", "alice"),
        ("database", "app"),
        ("application_name", "report"),
        ("options", "-c work_mem=7MB -c IntervalStyle=iso_8601"),
        ("DateStyle", "German"),
    ];
    let token = world.token("alice");
    let mut first = PoolGuest::come(&world, &token, &pairs).await;
    let (settings, parameters) = (first.ask(SETTINGS).await, first.parameters());
    for (setting, value) in [
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "77000"),
        ("work_mem", "7168"),
        ("IntervalStyle", "iso_8601"),
        ("application_name", "report"),
    ] {
        assert!(settings.contains(&format!("{setting} = {value} from client")), "{setting} in {settings}");
    }
    first.ask("set default_transaction_read_only = off; set statement_timeout = 0; reset work_mem").await;
    first.ask("set application_name = 'x'; set datestyle = 'SQL'; set intervalstyle = 'postgres'").await;
    first.leave_kept(&world).await;
    let mut next = PoolGuest::come(&world, &token, &pairs).await;
    assert_eq!((next.ask(SETTINGS).await, next.parameters()), (settings, parameters));
    world.metric_is(super::HITS, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_roles_are_as_in_a_new_session() {
    sql("create role pool_crew; create role pool_clerk; \
         create role pool_member login in role rds_iam, pool_crew, pool_clerk; \
         create role pool_begins login in role rds_iam, pool_crew, pool_clerk; \
         alter role pool_begins set role = 'pool_crew'")
    .await;
    let world = World::builder().pool("").start().await;
    let who = "select session_user || ' as ' || current_user || ' by ' || current_setting('role')";
    for (user, options, began) in [
        ("pool_member", "", "pool_member as pool_member by none"),
        ("pool_member", "-c role=pool_crew", "pool_member as pool_crew by pool_crew"),
        ("pool_begins", "", "pool_begins as pool_crew by pool_crew"),
    ] {
        let pairs = [("user", user), ("database", "app"), ("options", options)];
        let token = world.token(user);
        for spoil in
            ["set role pool_clerk", "reset role", "set role none", "set session authorization default"]
        {
            let mut guest = PoolGuest::come(&world, &token, &pairs).await;
            assert_eq!(guest.ask(who).await, began, "{user} {options} before {spoil}");
            guest.ask(spoil).await;
            guest.leave_kept(&world).await;
        }
    }
    world.metric_is(super::HITS, 9.0).await; // each of the three begins with a new one
}
