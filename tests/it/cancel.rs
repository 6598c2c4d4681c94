//! Cancels and the protocol versions that their keys depend on, through one replica and through another.

use aws_emulator::Ca;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::admin::until;
use crate::world::raw::{RawClient, cancel, query, startup};
use crate::world::scripted_server::{Script, ScriptedServer, error, welcome_with};
use crate::world::second::{SECOND_HOST, second_cluster};
use crate::world::{World, database, shared_secret, until_asleep};

async fn session(world: &World, minor: u8) -> (RawClient, Vec<u8>) {
    world.raw().await.login_for_key(minor, "alice", &world.token("alice")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_3_0_and_3_2_cancel_on_a_server_of_3_0() {
    let world = World::start().await;
    for (minor, length, seconds) in [(0, 4, 610), (2, 48, 611)] {
        let (mut client, key) = session(&world, minor).await;
        assert_eq!(key.len(), 4 + length, "3.{minor}");
        client.send(&query("select pg_backend_pid()")).await;
        let row = loop {
            if let (b'D', body) = client.message().await.unwrap() {
                break body;
            }
        };
        let pid = i32::from_be_bytes(*key.first_chunk().unwrap());
        assert_eq!(row[6..], *pid.to_string().as_bytes(), "the process id is the server's own");
        while client.message().await.unwrap().0 != b'Z' {}
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
        until_asleep(&database().postgres, seconds).await;
        world.cancel(&key).await;
        client.expect_57014().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_3_2_is_asked_for_what_the_client_speaks() {
    let ca = Ca::new().unwrap();
    let secret = b"thirty-two bytes of a new server".to_vec();
    for (minor, servers) in [(0, 4), (2, 32)] {
        let server = ScriptedServer::start(&ca, Script::Modern(4_097, secret.clone())).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let (_client, key) = session(&world, minor).await;
        assert_eq!(server.asked(), [minor]);
        assert_eq!(key[..4], [0, 0, 0x10, 1], "the process id is the server's");
        assert!(memchr::memmem::find(&key, &secret[..servers]).is_none(), "its secret is not");
        world.cancel(&key).await;
        assert_eq!(server.cancels(), [[&[0, 0, 0x10, 1], &secret[..servers]].concat()], "3.{minor}");
        assert_eq!(world.cancel(&key).await, format!("forwarded to {}", server.addr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_client_is_told_3_2_and_its_unknown_options() {
    let world = World::start().await;
    let mut client = world.raw().await;
    let mut packet = startup(&[("user", "alice"), ("_pq_.grease", "1"), ("database", "app")]);
    packet[6..8].copy_from_slice(&9_999_u16.to_be_bytes());
    client.send(&packet).await;
    let told = client.message().await.unwrap();
    assert_eq!(told, (b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.grease\0".to_vec()));
    let (_, messages) = client.finish_login(&world.token("alice")).await.unwrap();
    let (_, key) = messages.into_iter().find(|(tag, _)| *tag == b'K').unwrap();
    assert_eq!(key.len(), 4 + 48, "3.2 is spoken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_3_2_or_closes_is_asked_again_for_3_0() {
    let ca = Ca::new().unwrap();
    let refusal = error("0A000", "unsupported frontend protocol 3.2: server supports 2.0 to 3.0");
    for answer in [refusal, error("08P01", "unsupported protocol version"), vec![]] {
        let server = ScriptedServer::start(&ca, Script::Ancient(answer)).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let (_client, key) = session(&world, 2).await;
        assert_eq!(server.asked(), [2, 0]);
        world.cancel(&key).await;
        assert_eq!(server.cancels(), [b"\0\0\x10\x01keys".to_vec()]);
    }
    // Any other refusal is the answer, and so is one to 3.0.
    let server = ScriptedServer::start(&ca, Script::AfterStartup(error("53300", "too many clients"))).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    let mut client = world.raw().await;
    let mut packet = startup(&[("user", "alice"), ("database", "app")]);
    packet[7] = 2;
    client.send(&packet).await;
    let refusal = client.finish_login(&world.token("alice")).await.err().unwrap();
    assert_eq!((refusal.sqlstate(), server.asked()), ("53300", vec![2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_secret_that_does_not_fit_gives_the_client_no_key() {
    let ca = Ca::new().unwrap();
    for (length, keys) in [(212, 1), (213, 0)] {
        let key = [&[0, 0, 0x10, 1][..], &vec![7; length]].concat();
        let server = ScriptedServer::start(&ca, Script::AfterPassword(welcome_with(&key))).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let mut client = world.raw().await;
        let mut packet = startup(&[("user", "alice"), ("database", "app")]);
        packet[7] = 2;
        client.send(&packet).await;
        let (_, messages) = client.finish_login(&world.token("alice")).await.unwrap();
        assert_eq!(messages.iter().filter(|(tag, _)| *tag == b'K').count(), keys, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_a_forged_key_cancels_nothing_and_opens_no_connection() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    for (minor, keys) in [(0, ""), (2, ""), (2, keys.as_str())] {
        let world = World::builder().upstream(server.addr, &ca).cancel(keys).start().await;
        let (_client, mut key) = session(&world, minor).await;
        let before = server.packets().len();
        *key.last_mut().unwrap() ^= 1;
        let reason = world.cancel(&key).await;
        assert!(reason.starts_with("ignored: forged"), "{reason}");
        assert_eq!(server.packets().len(), before, "the server was dialled");
    }
}

/// As a login, a cancel is for a server that proves who it is.
#[tokio::test(flavor = "multi_thread")]
async fn u6_an_unverified_server_is_not_told_the_key() {
    let (ca, other) = (Ca::new().unwrap(), Ca::new().unwrap());
    let (_file, keys) = shared_secret();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    let world = World::builder().upstream(server.addr, &ca).cancel(&keys).start().await;
    let distrustful = World::builder().upstream(server.addr, &other).cancel(&keys).start().await;
    for minor in [0, 2] {
        let (_client, key) = session(&world, minor).await;
        let reason = distrustful.cancel(&key).await;
        assert!(reason.starts_with("failed: TLS handshake"), "{reason}");
        assert_eq!(server.cancels().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_a_key_dies_with_its_session() {
    let world = World::start().await;
    let mut stale = Vec::new();
    for minor in [0, 2] {
        let (client, key) = session(&world, minor).await;
        drop(client);
        stale.push(key);
    }
    world.metric_is("pgpassport_cl_active", 0.0).await;
    let (mut client, _) = session(&world, 0).await;
    client.send(&query("select pg_sleep(622)")).await;
    until_asleep(&database().postgres, 622).await;
    assert_eq!(world.cancel(&stale[0]).await, "ignored: of a session that has ended");
    // Only the server can tell that a sealed one is stale, and it does nothing.
    assert!(world.cancel(&stale[1]).await.starts_with("forwarded to "));
    until_asleep(&database().postgres, 622).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_guessed_keys_are_rate_limited_without_an_answer() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    let world = World::builder().upstream(server.addr, &ca).cancel(&keys).start().await;
    let guess = async |n: u32| {
        let mut tcp = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        tcp.write_all(&cancel(&[[0, 0, 0x10, 1], n.to_be_bytes()].concat())).await.unwrap();
        assert_eq!(tcp.read_to_end(&mut Vec::new()).await.unwrap(), 0, "a cancel was answered");
    };
    join_all((0..400).map(guess)).await;
    // Not all of them are recorded.
    let count = async |outcome: &str| {
        world.metric(&format!("pgpassport_cancels_total{{outcome=\"{outcome}\"}}")).await
    };
    until("all are counted", async || count("ignored").await + count("forwarded").await > 399.5).await;
    let (cut, told) = (count("ignored").await, server.cancels().len());
    world.log_line("ignored: rate limited, the source's budget of 4-byte keys of other replicas").await;
    // 200 at once, and ten a second until the others have waited for too long.
    assert!(
        cut >= 100.0 && (200..=300).contains(&told),
        "{cut} of 400 guesses were cut off, {told} delivered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_eight_unproven_cancels_run_at_a_time_and_the_next_waits() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let server = ScriptedServer::start(&ca, Script::Silence).await;
    let world = World::builder().upstream(server.addr, &ca).cancel(&keys).start().await;
    let mut waiting = Vec::new();
    for n in 1..=8_u8 {
        let mut tcp = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        tcp.write_all(&cancel(&[0, 0, 0, n, b'w', b'h', b'a', b't'])).await.unwrap();
        server.clients(n.into()).await;
        waiting.push(tcp);
    }
    let ninth = world.cancel(b"\0\0\0\x09what");
    let first_ends = waiting[0].read_u8();
    tokio::select! {
        biased;
        _ = first_ends => {}
        () = server.clients(9) => panic!("nine at a time"),
        reason = ninth => assert!(reason.starts_with("ignored: too many cancels at the same time"), "{reason}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_of_one_session_that_come_together_are_carried_out_together() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    for minor in [0, 2] {
        let before = server.cancels().len();
        let (_client, key) = session(&world, minor).await;
        let reasons = join_all((0..10).map(|_| world.cancel(&key))).await;
        let told =
            reasons.iter().filter(|reason| **reason == format!("forwarded to {}", server.addr)).count();
        let together = "forwarded together with another cancel of the session";
        assert_eq!(server.cancels().len() - before, told, "3.{minor}: {reasons:?}");
        assert!(reasons.iter().filter(|reason| *reason == together).count() == 10 - told, "{reasons:?}");
        // One after the other each is carried out.
        assert_eq!(world.cancel(&key).await, format!("forwarded to {}", server.addr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_in_the_record_and_not_in_the_answer() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    let (_client, key) = session(&world, 2).await;
    drop(server);
    let reason = world.cancel(&key).await;
    assert!(reason.starts_with("failed: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u6_of_two_sessions_with_one_process_id_the_right_one_is_cancelled() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let one = ScriptedServer::start(&ca, Script::Modern(4_097, vec![1; 32])).await;
    let two = ScriptedServer::start(&ca, Script::Modern(4_097, vec![2; 32])).await;
    let replica = async |first: &ScriptedServer, second: &ScriptedServer| {
        World::builder().upstreams(&[first.addr, second.addr], &ca).cancel(&keys).start().await
    };
    let (left, right) = (replica(&one, &two).await, replica(&two, &one).await);
    let pid = [0, 0, 0x10, 1];
    // Long keys know their server.
    let ((_a, key_of_one), (_b, key_of_two)) = (session(&left, 2).await, session(&right, 2).await);
    right.cancel(&key_of_one).await;
    assert_eq!((one.cancels().len(), two.cancels().len()), (1, 0));
    left.cancel(&key_of_two).await;
    assert_eq!((one.cancels().len(), two.cancels().len()), (1, 1));
    // Short ones bring the secret of their server to all, and only theirs takes it.
    let ((_c, key_of_one), (_d, _)) = (session(&left, 0).await, session(&right, 0).await);
    right.cancel(&key_of_one).await;
    let told = [&pid[..], &[1; 4]].concat();
    assert_eq!((one.cancels().last(), two.cancels().last()), (Some(&told), Some(&told)));
    // At their own replica they are known.
    left.cancel(&key_of_one).await;
    assert_eq!((one.cancels().len(), two.cancels().len()), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_only_the_clusters_that_its_key_allows() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let one = ScriptedServer::start(&ca, Script::Modern(4_097, vec![1; 32])).await;
    let two =
        ScriptedServer::with_cert(&ca.server(&[SECOND_HOST]).unwrap(), Script::Modern(4_097, vec![2; 32]))
            .await;
    let replica = async |route: &str| {
        let builder = World::builder().upstream(one.addr, &ca).cancel(&keys).cluster("databases = [\"app\"]");
        builder.user(&second_cluster(two.addr, route)).start().await
    };
    let by_database = "databases = [\"other\"]";
    let (left, right) = (replica(by_database).await, replica(by_database).await);
    let (_a, long) = session(&left, 2).await;
    right.cancel(&long).await;
    assert_eq!((one.cancels().len(), two.cancels().len()), (1, 0), "a long key says which");
    let (_b, short) = session(&left, 0).await;
    right.cancel(&short).await;
    assert_eq!(one.cancels().last().unwrap()[4..], [1; 4]);
    assert_ne!(two.cancels().last().unwrap()[4..], [1; 4], "the other cluster is not told the secret");
    // Clusters that this entrance does not lead to are left alone.
    let elsewhere = replica("databases = [\"other\"]\nserver_names = [\"elsewhere.example\"]").await;
    let told = (one.cancels().len(), two.cancels().len());
    let mut client = elsewhere.raw().await;
    client.send(&cancel(&short)).await;
    assert!(client.message().await.is_none());
    assert_eq!((one.cancels().len(), two.cancels().len()), (told.0 + 1, told.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_an_unknown_cluster_opens_no_connection() {
    let ca = Ca::new().unwrap();
    let (_file, keys) = shared_secret();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![1; 32])).await;
    let here = World::builder().upstream(server.addr, &ca).cancel(&keys).start().await;
    let other =
        World::builder().upstream(server.addr, &ca).cancel(&keys).endpoint("other.example").start().await;
    let (_client, key) = session(&here, 2).await;
    let reason = other.cancel(&key).await;
    assert!(reason.starts_with("ignored: nobody to tell"), "{reason}");
    assert!(server.cancels().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_draining_replicas_sessions_are_cancelled_through_another_one() {
    let (_file, keys) = shared_secret();
    let other = World::builder().cancel(&keys).start().await;
    for (minor, seconds) in [(0, 620), (2, 621)] {
        let world = World::builder().cancel(&keys).start().await;
        let (mut client, key) = session(&world, minor).await;
        client.send(&query(&format!("select pg_sleep({seconds})"))).await;
        until_asleep(&database().postgres, seconds).await;
        world.stopping.drain.cancel();
        until("its listener is closed", async || {
            TcpStream::connect(("127.0.0.1", world.port)).await.is_err()
        })
        .await;
        other.cancel(&key).await;
        client.expect_57014().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_inside_tls_works_and_ends_with_close_notify() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Modern(4_097, vec![7; 32])).await;
    let world = World::builder().upstream(server.addr, &ca).start().await;
    let (_client, key) = session(&world, 2).await;
    let mut client = world.raw().await;
    client.send(&cancel(&key)).await;
    let mut answer = Vec::new();
    client.stream.read_to_end(&mut answer).await.expect("an end with close_notify");
    assert!(answer.is_empty());
    assert_eq!(server.cancels().len(), 1, "the connection ends when the server has been told, not before");
}
