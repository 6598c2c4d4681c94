//! Ends of sessions: clients and servers that leave, break, or become silent, and the bytes that the other side then
//! gets.

use std::time::Duration;

use aws_emulator::Ca;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::world::admin::until;
use crate::world::raw::{message, query};
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::sessions::{log_in, log_in_with_pid, only_error, read_all, sql, until_gone, until_sql};
use crate::world::{ErrorFields, RawClient, World};

/// A world with a scripted server, whose sessions the test continues.
struct ScriptedWorld {
    world: World,
    sessions: mpsc::UnboundedReceiver<TlsStream<TcpStream>>,
    server: ScriptedServer,
}

impl ScriptedWorld {
    async fn start() -> Self {
        Self::with("").await
    }

    async fn with(session: &str) -> Self {
        let ca = Ca::new().unwrap();
        let (sender, sessions) = mpsc::unbounded_channel();
        let server = ScriptedServer::start(&ca, Script::ThenHand(welcome(), sender)).await;
        let world = World::builder().upstream(server.addr, &ca).session(session).start().await;
        Self { world, sessions, server }
    }

    /// A new session: the client's end and the server's.
    async fn session(&mut self) -> (RawClient, TlsStream<TcpStream>) {
        let client = log_in(&self.world).await;
        (client, self.sessions.recv().await.unwrap())
    }
}

fn reset(stream: TlsStream<TcpStream>) {
    let (tcp, _) = stream.into_inner();
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The kernel's own list says that it watches over both legs: a timer for keepalive (2) is running.
#[tokio::test(flavor = "multi_thread")]
async fn r3_both_connections_have_keepalive() {
    let mut scripted = ScriptedWorld::start().await;
    let (client, _server) = scripted.session().await;
    let client = client.stream.get_ref().0.local_addr().unwrap().port();
    let legs = [(scripted.world.port, client), (0, scripted.server.addr.port())];
    for (local, remote) in legs {
        // An acknowledgement that is due holds the timer for a moment.
        until(&format!("{local} {remote} has a keepalive timer"), async || {
            let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
            let port = |field: &str| u16::from_str_radix(field.rsplit(':').next().unwrap(), 16).unwrap();
            let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
            let row = rows
                .filter(|row| row[3] == "01")
                .find(|row| port(row[2]) == remote && (local == 0 || port(row[1]) == local));
            row.unwrap_or_else(|| panic!("{local} {remote}: {table}"))[5].starts_with("02:")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_the_last_bytes_of_a_server_arrive_and_no_error_is_inserted_into_a_message() {
    let rows = [message(b'T', b"\0\0"), message(b'D', b"a row"), message(b'D', b"")];
    let copy = [message(b'H', b"\0\0\0"), message(b'd', b"a line")];
    let mut scripted = ScriptedWorld::start().await;
    for messages in [&rows[..], &copy] {
        let stream = messages.concat();
        let mut ends = vec![0];
        for message in messages {
            ends.push(ends[ends.len() - 1] + message.len());
        }
        // At each boundary, one byte on either side of it, and between header and body; all other places are in
        // the relay's own tests.
        let mut cuts: Vec<_> =
            ends.iter().flat_map(|end| [end.saturating_sub(1), *end, end + 1, end + 5]).collect();
        cuts.retain(|cut| *cut <= stream.len());
        cuts.sort_unstable();
        cuts.dedup();
        for (n, cut) in cuts.into_iter().enumerate() {
            let manner = ["reset", "closed", "shut"][n % 3];
            let (mut client, mut server) = scripted.session().await;
            let ask = query("select");
            client.send(&ask).await;
            server.read_exact(&mut vec![0; ask.len()]).await.unwrap();
            server.write_all(&stream[..cut]).await.unwrap();
            server.flush().await.unwrap();
            match manner {
                "reset" => reset(server),
                "closed" => drop(server), // without close_notify
                _ => server.shutdown().await.unwrap(),
            }
            let got = read_all(&mut client).await;
            assert_eq!(got[..cut], stream[..cut], "{cut} {manner}");
            if ends.contains(&cut) {
                let error = only_error(&got[cut..]);
                assert_eq!((error.sqlstate(), error.message()), ("08006", "server connection lost"));
            } else {
                assert_eq!(got.len(), cut, "{cut} {manner}");
            }
        }
    }
    assert_eq!(scripted.world.audit("outcome", "lost").await["end"], "server_lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn r8_a_client_that_leaves_leaves_no_session_behind() {
    let world = World::start().await;
    // Politely.
    let (mut client, pid) = log_in_with_pid(&world).await;
    client.send(&message(b'X', b"")).await;
    assert!(read_all(&mut client).await.is_empty(), "nobody has a word for who has said goodbye");
    until_gone(pid).await;
    assert_eq!(world.audit("end", "client_left").await["outcome"], "session");
    // Without a word, inside a transaction.
    let (mut client, pid) = log_in_with_pid(&world).await;
    client.send(&query("begin")).await;
    while client.message().await.unwrap().0 != b'Z' {}
    drop(client);
    until_gone(pid).await;
    // While results flow.
    let (mut client, pid) = log_in_with_pid(&world).await;
    client.send(&query("select repeat('x', 1000), generate_series(1, 100000000)")).await;
    assert_eq!(client.message().await.unwrap().0, b'T');
    drop(client);
    until_gone(pid).await;
    world.audit("end", "client_lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r8_a_half_closed_client_gets_its_answer() {
    let world = World::start().await;
    let mut client = log_in(&world).await;
    client.send(&query("select repeat('y', 1000000)")).await;
    client.stream.shutdown().await.unwrap();
    let mut row = 0;
    while let Some((tag, body)) = client.message().await {
        assert_ne!(tag, b'E');
        if tag == b'D' {
            row = body.len();
        }
    }
    assert_eq!(row, 1_000_006);
}

/// Until the server cannot get rid of its result any more.
async fn until_blocked(pid: i32) {
    let sql = format!("select wait_event from pg_stat_activity where pid = {pid}");
    until_sql(&sql, "ClientWrite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_a_client_that_does_not_read_stops_the_server_and_not_the_others() {
    const ROWS: usize = 100_000;
    let world = World::start().await;
    let (mut slow, pid) = log_in_with_pid(&world).await;
    slow.send(&query(&format!("select repeat('z', 1000) from generate_series(1, {ROWS})"))).await;
    until_blocked(pid).await;
    let other = world.connect("alice", &world.token("alice")).await.unwrap();
    assert_eq!(other.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    let mut rows = 0;
    loop {
        match slow.message().await.unwrap() {
            (b'D', body) => {
                assert!(body.len() == 1_006 && body[6..].iter().all(|byte| *byte == b'z'));
                rows += 1;
            }
            (b'Z', _) => break,
            (tag, _) => assert!(matches!(tag, b'T' | b'C'), "{tag}"),
        }
    }
    assert_eq!(rows, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_a_copy_whose_client_breaks_off_leaves_no_rows() {
    let world = World::start().await;
    sql("create table r10 (n int); grant all on r10 to alice").await;
    let (mut client, pid) = log_in_with_pid(&world).await;
    client.send(&query("copy r10 from stdin")).await;
    assert_eq!(client.message().await.unwrap().0, b'G');
    let rows = message(b'd', &b"1\n".repeat(1_000)).repeat(100);
    client.send(&rows).await;
    let (tcp, _) = client.stream.into_inner();
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(tcp);
    until_gone(pid).await;
    until_sql("select count(*) from r10", "0").await;
    world.audit("end", "client_lost").await;
}

/// The same, with a server that remembers every byte.
#[tokio::test(flavor = "multi_thread")]
async fn r10_the_server_gets_no_byte_that_the_client_did_not_send() {
    let mut scripted = ScriptedWorld::start().await;
    for reset_it in [true, false] {
        let (mut client, mut server) = scripted.session().await;
        let ask = query("copy t from stdin");
        client.send(&ask).await;
        server.read_exact(&mut vec![0; ask.len()]).await.unwrap();
        server.write_all(&message(b'G', b"\0\0\0")).await.unwrap();
        assert_eq!(client.message().await.unwrap().0, b'G');
        let sent = [message(b'd', b"a line\n"), message(b'd', b"half a line")[..9].to_vec()].concat();
        client.send(&sent).await;
        let mut heard = vec![0; sent.len()];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, sent);
        let (tcp, _) = client.stream.into_inner();
        if reset_it {
            SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(tcp);
        let mut more = Vec::new();
        let _ = server.read_to_end(&mut more).await;
        assert!(more.is_empty(), "{more:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_a_hundred_megabytes_each_way_at_once_get_through() {
    const STATEMENTS: usize = 1_000;
    let world = World::start().await;
    let client = log_in(&world).await;
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let statement = query(&format!("select '{}'", "x".repeat(100_000)));
    let writing = tokio::spawn(async move {
        for _ in 0..STATEMENTS {
            writer.write_all(&statement).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer
    });
    let (mut ready, mut bytes) = (0, 0);
    let mut body = Vec::new();
    while ready < STATEMENTS {
        let tag = reader.read_u8().await.unwrap();
        body.resize(reader.read_u32().await.unwrap() as usize - 4, 0);
        reader.read_exact(&mut body).await.unwrap();
        match tag {
            b'D' => bytes += body.len(),
            b'Z' => ready += 1,
            _ => assert!(matches!(tag, b'T' | b'C'), "{tag}"),
        }
    }
    assert_eq!(bytes, STATEMENTS * 100_006);
    drop(writing.await.unwrap());
}

/// Whole messages, and how many bytes of another one.
fn frames(mut bytes: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
    let mut frames = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = bytes {
        let Some(body) = rest.get(..u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4) else { break };
        frames.push((*tag, body));
        bytes = &rest[body.len()..];
    }
    (frames, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn u8_the_last_error_is_never_inside_a_message() {
    let parse = message(b'P', b"\0select repeat('x', 1000) from generate_series(1, 10000)\0\0\0");
    let run = [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    let pipeline = [parse, run.repeat(10_000)].concat();
    let endless = "copy (select repeat('x', 1000) from (select generate_series(1, 100000000)) n) to stdout";
    for (ask, small) in
        [(query("select repeat('x', 100000000)"), false), (query(endless), true), (pipeline, true)]
    {
        let world = World::start().await;
        let mut client = log_in(&world).await;
        client.send(&ask).await;
        // In the middle of a row, whatever the row.
        let mut got = vec![0; 150_000];
        client.stream.read_exact(&mut got).await.unwrap();
        world.stopping.drain.cancel();
        world.stopping.now.cancel();
        got.extend(read_all(&mut client).await);
        let (frames, rest) = frames(&got);
        match frames.last() {
            Some((b'E', body)) => {
                assert!(rest.is_empty(), "{} bytes behind the last word", rest.len());
                assert_eq!(ErrorFields::parse(body).sqlstate(), "57P01");
            }
            // Too long a message to wait for: it is cut, and nothing is said in it.
            _ => assert!(!small && rest[11..].iter().all(|byte| *byte == b'x'), "{}", rest.len()),
        }
        for (tag, body) in frames.iter().filter(|(tag, _)| matches!(tag, b'D' | b'd')) {
            let text = if *tag == b'D' { &body[6..] } else { &body[..body.len() - 1] };
            assert!(text.iter().all(|byte| *byte == b'x'));
        }
    }
}
