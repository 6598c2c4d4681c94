//! Starting, stopping, and telling the service manager.

use std::process::Stdio;

use tokio::time::timeout;

use crate::world::admin::until;
use crate::world::binary::NotifySocket;
use crate::world::process::{ServiceProcess, TestProcess};
use crate::world::raw::{PATIENCE, query};
use crate::world::{ErrorFields, RawClient, World, database};

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_drain_ends_what_is_idle_and_lets_a_transaction_finish() {
    let mut world = World::start().await;
    let (mut idle, _) = world.raw().await.login("bob", Some("app"), &world.token("bob")).await.unwrap();
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    world.stopping.drain.cancel();
    let listening = async || tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.is_ok();
    until("the listener is closed", async || !listening().await).await;
    let (tag, body) = idle.message().await.unwrap();
    let error = ErrorFields::parse(&body);
    assert_eq!((tag, error.sqlstate()), (b'E', "57P01"));
    assert_eq!(error.message(), "terminating connection due to administrator command");
    assert!(idle.message().await.is_none(), "and the connection ends");
    drop(idle);
    assert_eq!(world.audit("db_user", "bob").await["end"], "drained");
    // The transaction goes on as if nothing were.
    client.send(&query("select 7")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    client.send(&query("commit")).await;
    let mut tags = String::new();
    while let Some((tag, body)) = client.message().await {
        tags.push(char::from(tag));
        if tag == b'E' {
            assert_eq!(ErrorFields::parse(&body).sqlstate(), "57P01");
        }
    }
    assert_eq!(tags, "CZE", "the commit is answered in full, and then comes the last word");
    drop(client);
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service does not end").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_open_transaction_with_57p01() {
    let mut world = World::builder().limits("shutdown_timeout = \"0s\"").start().await;
    let (mut client, _) = world.raw().await.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    world.stopping.drain.cancel();
    let (tag, body) = client.message().await.unwrap();
    let error = ErrorFields::parse(&body);
    assert_eq!((tag, error.sqlstate()), (b'E', "57P01"));
    assert_eq!(error.message(), "terminating connection due to administrator command");
    assert!(client.message().await.is_none(), "and the connection ends");
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service does not end").unwrap().unwrap();
}

/// Eight clients of pgbench write a row in each of their transactions, and write down which of them the server
/// has committed. In the middle of it the service is stopped: every transaction that was begun is finished, each
/// one that was told to be committed is there, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn r18_a_drain_under_load_loses_no_transaction_and_cuts_none() {
    let mut world = World::start().await;
    let sql = |sql: &'static str| tokio::task::spawn_blocking(move || database().postgres.sql(sql));
    sql("create table r18 (client int); grant all on r18 to alice").await.unwrap();
    let script = world.folder().join("r18.sql");
    let statements =
        "begin;\ninsert into r18 values (:client_id);\nselect count(*) from pg_class;\ncommit;\n";
    std::fs::write(&script, statements).unwrap();
    let mut pgbench = database().postgres.pgbench();
    pgbench
        .args(["-n", "-c", "8", "-T", "600", "-l", "-f"])
        .arg(&script)
        .arg(format!("--log-prefix={}", world.folder().join("r18").display()))
        .arg(format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=alice dbname=app sslmode=require",
            world.port
        ))
        .env("PGPASSWORD", world.token("alice"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let load = tokio::task::spawn_blocking(move || pgbench.output().unwrap());
    while sql("select count(*) from r18").await.unwrap().trim().parse::<u32>().unwrap() < 400 {
        assert!(!load.is_finished(), "{:?}", load.await);
    }
    world.stopping.drain.cancel();
    let said = String::from_utf8(load.await.unwrap().stderr).unwrap();
    // Each one was told so where it would have begun another transaction: at command 0.
    assert_eq!(said.matches("aborted in command 0 ").count(), 8, "{said}");
    assert_eq!(
        said.matches("FATAL:  terminating connection due to administrator command").count(),
        8,
        "{said}"
    );
    let serving = world.serving.take().unwrap();
    timeout(PATIENCE, serving).await.expect("the service does not end").unwrap().unwrap();

    let mut told = [0; 8];
    for file in std::fs::read_dir(world.folder()).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("r18.") && file != script {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                told[line.split(' ').next().unwrap().parse::<usize>().unwrap()] += 1;
            }
        }
    }
    let rows =
        sql("select client || ' ' || count(*) from r18 group by client order by client").await.unwrap();
    let told: Vec<String> =
        told.iter().enumerate().map(|(client, count)| format!("{client} {count}")).collect();
    assert_eq!(rows.lines().collect::<Vec<_>>(), told);
}

/// The binary itself: READY for systemd, work, SIGTERM, exit code 0.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_a_transaction_says_57p01_and_ends_with_exit_code_0() {
    let world = World::builder().limits("shutdown_timeout = \"0s\"").start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket_path = folder.path().join("notify");
    let notified = NotifySocket::at(&socket_path);
    for signal in ["TERM", "INT", "QUIT"] {
        let mut service = ServiceProcess::start(&world.config_file(), &socket_path);
        let log = service.log();
        let state = notified.next();
        assert!(state.contains("READY=1") && state.contains("STATUS=listening on 127.0.0.1:"), "{state}");
        // A session in the middle of a transaction.
        let port = state.split("127.0.0.1:").nth(1).unwrap().trim().parse().unwrap();
        let client = RawClient::connect(port, world.listener_ca()).await;
        let (mut client, _) = client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
        client.send(&query("begin")).await;
        while client.message().await.unwrap().0 != b'Z' {}
        service.signal("HUP");
        while !log.recv_timeout(PATIENCE).expect("a word about it").contains("configuration reloaded") {}
        client.send(&query("select 1")).await;
        while client.message().await.expect("and it goes on").0 != b'Z' {}
        service.signal(signal);
        let (tag, body) = client.message().await.unwrap();
        assert_eq!((tag, ErrorFields::parse(&body).sqlstate()), (b'E', "57P01"), "{signal}");
        assert!(client.message().await.is_none(), "and the connection ends");
        drop(client);
        assert_eq!(service.ended(&log), Some(0), "{signal}");
        // The hangup's RELOADING and READY may come first.
        assert!((0..4).any(|_| notified.next().contains("STOPPING=1")), "{signal}");
    }
}

/// As a load balancer needs it: readiness falls first, and late clients are served until the listener closes.
#[tokio::test(flavor = "multi_thread")]
async fn r18_late_clients_are_served_until_the_listener_closes() {
    let mut world = World::builder().limits("shutdown_delay = \"1h\"").start().await;
    world.stopping.asked.cancel();
    assert_eq!(world.get("/readyz").await.0, 503);
    let client = world.connect("alice", &world.token("alice")).await.expect("let in");
    client.batch_execute("select 1").await.expect("and served");
    // A cancel still finds its session.
    let (cancel, tls) = (client.cancel_token(), world.connector());
    let sleeping = tokio::spawn(async move { (client.batch_execute("select pg_sleep(60)").await, client) });
    let (result, client) = loop {
        cancel.cancel_query(tls.clone()).await.unwrap();
        if sleeping.is_finished() {
            break sleeping.await.unwrap();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(result.unwrap_err().code().unwrap().code(), "57014");
    // The last cancel may have come too late for the statement that it was meant for.
    while let Err(error) = client.batch_execute("select 1").await {
        assert_eq!(error.code().unwrap().code(), "57014");
    }
    drop(client);
    world.stopping.drain.cancel();
    world.serving.take().unwrap().await.unwrap().unwrap();
}

/// The delay passes by itself. A login that is under way when the listener closes is finished, and its session has time
/// for its first statement.
#[tokio::test(flavor = "multi_thread")]
async fn r18_the_listener_closes_after_the_delay_and_a_login_under_way_is_finished() {
    let mut world = World::builder().limits("shutdown_delay = \"100ms\"").start().await;
    let mut late = world.raw().await;
    late.start("alice", Some("app")).await;
    world.stopping.asked.cancel();
    let closed = async || tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.is_err();
    until("the listener is closed", closed).await;
    let (client, _) = late.finish_login(&world.token("alice")).await.expect("let in");
    first_statement_then_drained(client).await;
    world.serving.take().unwrap().await.unwrap().unwrap();
}

/// Without a delay the listener closes at once, and the connections in its queue are served.
#[tokio::test(flavor = "multi_thread")]
async fn r18_connections_in_the_queue_of_a_closing_listener_are_served() {
    let mut world = World::start().await;
    let queue: Vec<_> =
        (0..20).map(|_| std::net::TcpStream::connect(("127.0.0.1", world.port)).unwrap()).collect();
    world.stopping.asked.cancel();
    let token = world.token("alice");
    let served = queue.into_iter().map(async |tcp| {
        tcp.set_nonblocking(true).unwrap();
        let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
        let client = RawClient::over(tcp, world.listener_ca()).await;
        let (client, _) = client.login("alice", Some("app"), &token).await.expect("let in");
        first_statement_then_drained(client).await;
    });
    futures_util::future::join_all(served).await;
    world.serving.take().unwrap().await.unwrap().unwrap();
}

/// A session that was welcomed while the service stops: its statement is answered, and then it is ended as idle.
async fn first_statement_then_drained(mut client: RawClient) {
    client.send(&query("select 1")).await;
    let mut tags = String::new();
    while let Some((tag, body)) = client.message().await {
        tags.push(char::from(tag));
        if tag == b'E' {
            assert_eq!(ErrorFields::parse(&body).sqlstate(), "57P01");
        }
    }
    assert_eq!(tags, "TDCZE");
}

/// The binary in a transaction that does not end, with an hour's patience.
#[tokio::test(flavor = "multi_thread")]
async fn r18_a_second_signal_ends_at_once_and_r30_hangups_change_nothing() {
    let world = World::builder().limits("shutdown_timeout = \"1h\"").start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket_path = folder.path().join("notify");
    let notified = NotifySocket::at(&socket_path);
    let mut service = ServiceProcess::start(&world.config_file(), &socket_path);
    let log = service.log();
    let port = notified.port();
    service.signal("HUP");
    let state = notified.next();
    assert!(state.contains("RELOADING=1") && state.contains("MONOTONIC_USEC="), "{state}");
    assert!(notified.next().contains("READY=1"));
    let client = RawClient::connect(port, world.listener_ca()).await;
    let (mut client, _) = client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    for name in ["HUP", "TERM", "HUP", "HUP"] {
        service.signal(name);
    }
    let mut states = Vec::new();
    while !states.last().is_some_and(|state: &String| state.contains("STOPPING=1")) {
        states.push(notified.next());
    }
    // It waits for the transaction, which goes on.
    client.send(&query("select 1")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    assert!(service.0.is_running());
    service.signal("TERM");
    let (tag, body) = client.message().await.unwrap();
    assert_eq!((tag, ErrorFields::parse(&body).sqlstate()), (b'E', "57P01"));
    drop(client);
    assert_eq!(service.ended(&log), Some(0));
}

/// The beat goes on while nothing happens, and during a drain.
#[tokio::test(flavor = "multi_thread")]
async fn r27_the_watchdog_is_fed() {
    let world = World::builder().limits("shutdown_timeout = \"1h\"").start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket_path = folder.path().join("notify");
    let notified = NotifySocket::at(&socket_path);
    let mut command = ServiceProcess::command(&world.config_file(), &socket_path);
    let mut service = ServiceProcess(TestProcess::spawn(command.env("WATCHDOG_USEC", "100000")));
    let log = service.log();
    let until = |word: &str| loop {
        let state = notified.next();
        if state.contains(word) {
            break state;
        }
    };
    let port = until("READY=1").split("127.0.0.1:").nth(1).unwrap().trim().parse().unwrap();
    let client = RawClient::connect(port, world.listener_ca()).await;
    let (mut client, _) = client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    for _ in 0..3 {
        until("WATCHDOG=1");
    }
    service.signal("TERM");
    until("STOPPING=1");
    for _ in 0..3 {
        until("WATCHDOG=1");
    }
    service.signal("TERM");
    drop((client, notified)); // nobody reads it any more, and it would fill up
    assert_eq!(service.ended(&log), Some(0));
}
