//! A session through the proxy is a session: nothing is lost, changed or reordered.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};

use crate::world::raw::{message, query};
use crate::world::{World, database, until_asleep};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_of_copy_in_and_out_are_the_same_bytes() {
    const ROWS: usize = 100_000;
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    client.batch_execute("create temp table t (n int, text text)").await.unwrap();
    let row = |n: usize| format!("{n}\t{}\n", format!("{n:07}").repeat(143));
    let sink = client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap();
    let mut sink = pin!(sink);
    let mut sent = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes = 0;
    for n in 0..ROWS {
        let row = row(n);
        sent.update(row.as_bytes());
        bytes += row.len();
        sink.feed(Bytes::from(row)).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), ROWS as u64);
    assert!(bytes > 100_000_000, "{bytes}");
    let stream = client.copy_out("copy t to stdout").await.unwrap();
    let mut stream = pin!(stream);
    let mut got = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    while let Some(chunk) = stream.next().await {
        got.update(&chunk.unwrap());
    }
    assert_eq!(sent.finish().as_ref(), got.finish().as_ref());
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_works_as_it_does_without_a_proxy() {
    let world = World::start().await;
    let token = world.token("alice");
    let input = "\\d pg_class\n\\conninfo\nselect 1/0;\nselect 'after';\n\
                 select repeat('x', 3000000);\nbegin;\nselect 1;\nrollback;\n\\df now\n";
    let through = world.psql_fed("user=alice dbname=app", &token, &["-v", "ON_ERROR_STOP=0"], input).await;
    assert!(through.ok && through.stdout.contains("after"), "{}", through.stderr);
    assert!(through.stderr.contains("division by zero"), "{}", through.stderr);
    assert!(
        through.stdout.len() > 3_000_000 && through.stdout.contains("relname"),
        "{}",
        through.stdout.len()
    );
    // The same, directly, as the superuser over the local socket: all but the words about the connection.
    let postgres = &database().postgres;
    let mut direct = postgres.psql();
    direct.arg("-h").arg(postgres.data_dir()).args(["-p", &postgres.addr().port().to_string()]);
    direct.args(["-U", "admin", "-d", "app", "-X", "-A", "-t", "-c", "\\d pg_class"]);
    let direct = String::from_utf8(direct.output().unwrap().stdout).unwrap();
    assert!(through.stdout.starts_with(&direct), "{direct}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_copies_files_both_ways() {
    let world = World::start().await;
    let token = world.token("alice");
    let (from, to) = (world.folder().join("from.csv"), world.folder().join("to.csv"));
    let rows = (0..50_000).fold(String::new(), |rows, n| rows + &format!("{n},\"text, {n}\"\n"));
    std::fs::write(&from, &rows).unwrap();
    let input = format!(
        "create temp table t (n int, text text);\n\\copy t from '{}' csv\n\\copy t to '{}' csv\n",
        from.display(),
        to.display()
    );
    let psql = world.psql_fed("user=alice dbname=app", &token, &[], &input).await;
    assert!(psql.ok, "{}", psql.stderr);
    assert!(std::fs::read_to_string(&to).unwrap() == rows, "other rows came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_query_and_not_the_session() {
    let world = World::start().await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(crate::world::raw::trusting(world.listener_ca()));
    let cancel = client.cancel_token();
    let (slept, cancelled) = tokio::join!(client.batch_execute("select pg_sleep(600)"), async {
        until_asleep(&database().postgres, 600).await;
        cancel.cancel_query(tls).await
    });
    cancelled.unwrap();
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
    assert_eq!(client.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    let record = world.audit("reason", &format!("forwarded to {}", database().postgres.addr())).await;
    assert_eq!(record["outcome"], "cancel");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_psql_cancels_the_statement() {
    let world = World::start().await;
    let args = ["-c", "select pg_sleep(601)"];
    let psql = world.psql_command("user=alice dbname=app", &world.token("alice"), &args).spawn().unwrap();
    let id = psql.id().unwrap().to_string();
    until_asleep(&database().postgres, 601).await;
    assert!(std::process::Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let output = psql.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("canceling statement due to user request"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_arrive_in_an_idle_session() {
    let world = World::start().await;
    let token = world.token("alice");
    let (mut listener, _) = world.raw().await.login("alice", Some("app"), &token).await.unwrap();
    listener.send(&query("listen first_light")).await;
    while listener.message().await.unwrap().0 != b'Z' {}
    let speaker = world.connect("alice", &token).await.unwrap();
    speaker.batch_execute("notify first_light, 'hello'").await.unwrap();
    let (tag, body) = listener.message().await.unwrap();
    assert_eq!(tag, b'A');
    assert!(body.ends_with(b"first_light\0hello\0"), "{body:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_a_server_that_ends_the_session_has_the_last_word() {
    let world = World::start().await;
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    client.send(&query("select pg_terminate_backend(pg_backend_pid())")).await;
    let mut last = None;
    while let Some(message) = client.message().await {
        last = Some(message);
    }
    let (tag, body) = last.unwrap();
    let error = crate::world::ErrorFields::parse(&body);
    assert_eq!((tag, error.sqlstate()), (b'E', "57P01"));
    assert!(error.message().contains("administrator command") && !format!("{error:?}").contains("Session "));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_statements_and_errors_keep_their_order() {
    let world = World::start().await;
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    let parse = |sql: &str| message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let run = [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0")].concat();
    let sync = message(b'S', b"");
    let pipeline = [
        parse("select 1"),
        run.clone(),
        parse("select 1/0"),
        run.clone(),
        parse("select 'skipped'"),
        run.clone(),
        sync.clone(),
        parse("select 2"),
        run,
        sync,
    ];
    client.send(&pipeline.concat()).await;
    let mut tags = String::new();
    while tags.matches('Z').count() < 2 {
        tags.push(char::from(client.message().await.unwrap().0));
    }
    assert_eq!(tags, "12DC1EZ12DCZ", "1/0 fails when it is bound, as a constant");
}
