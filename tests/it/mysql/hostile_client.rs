//! Clients that are hostile or broken: before the login nothing is dialled for them and little is kept, and behind it the
//! one command that the proxy withholds from servers reaches none.

use aws_emulator::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::raw::{ASK_CLEAR, MysqlError, RawMysql, greeted, packet, response};
use super::scripted::{OK, Part, ScriptedMysql};
use super::{builder, databases};
use crate::world::World;
use crate::world::binary::ProxyProcess;
use crate::world::raw::PATIENCE;

/// `COM_CHANGE_USER` to carol, who has a password.
const CHANGE_USER: &[u8] = b"\x11carol\0\0app\0\x2d\0mysql_clear_password\0";

/// A proxy in front of a server that lets everyone in and answers nothing.
async fn stage() -> (ScriptedMysql, World) {
    let ca = Ca::new().unwrap();
    let server = ScriptedMysql::start(&ca, Part::AfterToken(packet(5, OK))).await;
    let world = World::builder().mysql_at(server.addr, &ca, "").start().await;
    (server, world)
}

/// The bytes that the proxy still sends on a connection in clear, up to its end.
async fn to_the_end(tcp: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.expect("the proxy closes");
    let _ = read; // a reset is an end, too
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_what_is_no_first_packet_of_mysql_is_closed_without_a_word() {
    let (server, world) = stage().await;
    for (says, what) in [
        (packet(0, &response(b"")), "a number of the proxy's"),
        (packet(2, &response(b"")), "a number too far"),
        (packet(1, b""), "an empty packet"),
        (packet(1, &response(b"")[..31]), "a packet that is too short"),
        (b"\xff\xff\xff\x01".to_vec(), "16 MiB"),
        (b"\x01\0\x02\x01".to_vec(), "one past 128 KiB"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "another protocol"),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), "a balancer's header"),
        (b"\x16\x03\x01\x02\0\x01".to_vec(), "TLS at once"),
    ] {
        let (mut tcp, _) = greeted(world.port).await;
        tcp.write_all(&says).await.unwrap();
        assert_eq!(to_the_end(&mut tcp).await, b"", "{what}");
    }
    assert!(server.heard().responses.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_mysql_login_is_read_in_pieces_and_within_limits() {
    let (server, world) = stage().await;
    let token = world.token("alice");
    let fields = b"alice\0\0app\0caching_sha2_password\0";
    // Byte by byte, also the headers.
    let mut client = RawMysql::connect(&world).await;
    for byte in packet(2, &response(fields)) {
        client.send(&[byte]).await;
    }
    assert_eq!(client.packet().await.unwrap().1, ASK_CLEAR);
    for byte in packet(4, &[token.as_bytes(), b"\0"].concat()) {
        client.send(&[byte]).await;
    }
    assert_eq!(client.packet().await, Some((5, OK.to_vec())));
    drop(client);

    let logins = server.heard().responses.len();
    let login = [&packet(2, &response(fields))[..]];
    for (says, errno, what) in [
        (packet(3, &response(fields)), 1043, "a response with another number"),
        (packet(2, &response(b"")), 1043, "a second SSLRequest"),
        (packet(2, b""), 1043, "an empty response"),
        ([&[0xff, 0xff, 0xff, 2][..], &vec![0; 70_000]].concat(), 1043, "a response of 16 MiB of nothing"),
        ([login[0], &packet(5, b"x\0")].concat(), 1043, "an answer with another number"),
        ([login[0], &packet(4, b"")].concat(), 1045, "an empty answer"),
        ([login[0], &packet(4, b"a\0b\0")].concat(), 1043, "an answer with a NUL in it"),
        ([login[0], &[0, 0, 1, 4][..], &vec![0; 65_536]].concat(), 1045, "an answer of 64 KiB"),
        (
            [login[0], &[0xff, 0xff, 0xff, 4][..], &vec![0; 70_000]].concat(),
            1045,
            "an answer of 16 MiB of nothing",
        ),
    ] {
        let mut client = RawMysql::connect(&world).await;
        client.send(&says).await;
        let mut answer = client.packet().await.expect("an answer");
        if answer.1 == ASK_CLEAR {
            answer = client.packet().await.expect("a refusal");
        }
        let error = MysqlError::parse(&answer.1).unwrap_or_else(|| panic!("{what}: {answer:02x?}"));
        assert_eq!(error.errno, errno, "{what}: {error:?}");
        client.expect_end().await;
    }
    assert_eq!(server.heard().responses.len(), logins, "nobody is dialled for them");
}

/// A header that promises much reserves nothing, before the login and behind it.
#[tokio::test(flavor = "multi_thread")]
async fn c7_promises_of_mysql_clients_cost_no_memory() {
    const CLIENTS: usize = 60;
    let (_server, world) = stage().await;
    let binary = ProxyProcess::start(&world);
    let token = world.token("alice");
    let session = async |promise: &[u8]| {
        let client = RawMysql::connect_to(&world, binary.port).await;
        let mut client = client.finish("alice", &token).await.unwrap();
        client.send(promise).await;
        client
    };
    let mut few = Vec::new();
    for _ in 0..10 {
        few.push(session(b"\xff\xff\xff\0\x03").await);
    }
    let before = binary.resident();
    let mut many = Vec::new();
    for _ in 0..CLIENTS {
        many.push(session(b"\xff\xff\xff\0\x03").await);
        let mut early = RawMysql::connect_to(&world, binary.port).await;
        early.send(&packet(2, &response(b"alice\0\0app\0p\0"))).await;
        early.packet().await.expect("the question");
        early.send(b"\xfe\xff\0\x04").await; // the longest answer, of which nothing comes
        many.push(early);
    }
    let each = binary.resident().saturating_sub(before) / CLIENTS;
    assert!(each < 512, "{each} KiB for a session and a login that promise 16 MiB and 64 KiB");
    drop((few, many));
}

/// 16 MiB of nothing, and then some: it is the server's to refuse, and the session goes on or ends as the server says.
#[tokio::test(flavor = "multi_thread")]
async fn long_and_split_commands_reach_the_mysql_server_whole() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap();
        for byte in packet(0, b"\x03select 41 + 1") {
            client.send(&[byte]).await;
        }
        assert_eq!(client.answer().await.unwrap(), ["42"]);
        let spaces = vec![b' '; 0xff_ffff - 1];
        let nothing = [&b"\xff\xff\xff\0\x03"[..], &spaces, b"\x08\0\0\x01select 7"].concat();
        client.send(&nothing).await;
        assert_eq!(client.answer().await.map_err(|error| error.errno), Ok(vec!["7".to_owned()]));
        client.send(&[&b"\xff\xff\xff\0\x03"[..], &spaces, b"\0\0\0\x01"].concat()).await;
        assert_eq!(client.answer().await.unwrap_err().errno, 1065, "an empty query");
        assert_eq!(client.query("select 8").await.unwrap(), ["8"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_another_number_is_the_servers_to_refuse() {
    for database in databases().await {
        for says in [packet(1, b"\x03select 1"), packet(7, CHANGE_USER), packet(255, b"\x0e")] {
            let world = builder(database).start().await;
            let mut client = RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap();
            client.send(&says).await;
            // Both servers close, MySQL with ER_NET_PACKETS_OUT_OF_ORDER. The last word is the proxy's.
            while let Some((_, answer)) = client.packet().await {
                let error = MysqlError::parse(&answer).unwrap_or_else(|| panic!("{answer:02x?}"));
                assert!([1156, 1158].contains(&error.errno), "{error:?}");
            }
        }
    }
}

/// The answer to a `COM_CHANGE_USER`: error 1047, and no question.
async fn expect_unknown_command(client: &mut RawMysql) {
    let (number, answer) = client.packet().await.expect("an answer");
    let error = MysqlError::parse(&answer).unwrap_or_else(|| panic!("the user may change: {answer:02x?}"));
    assert_eq!((number, error.errno), (1, 1047), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u9_a_change_of_the_user_never_reaches_a_mysql_server() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap();
        client.command(CHANGE_USER).await;
        expect_unknown_command(&mut client).await;
        for byte in packet(0, CHANGE_USER) {
            client.send(&[byte]).await;
        }
        expect_unknown_command(&mut client).await;
        client.send(&[packet(0, b"\x0e"), packet(0, CHANGE_USER), packet(0, b"\x0e")].concat()).await;
        assert_eq!(client.packet().await.unwrap().1[0], 0);
        expect_unknown_command(&mut client).await;
        assert_eq!(client.packet().await.unwrap().1[0], 0);
        assert_eq!(client.query("select current_user()").await.unwrap(), ["alice@%"]);
    }
}

/// A session with an empty table, and the request for a file by the server.
async fn asked_for_a_file(world: &World, ahead: &[u8]) -> RawMysql {
    let mut client = RawMysql::log_in(world, "alice", &world.token("alice")).await.unwrap();
    client.query("create temporary table t (a varchar(100)) charset utf8mb4").await.unwrap();
    let load = packet(0, b"\x03load data local infile 'x' into table t (a)");
    client.send(&[&load, ahead].concat()).await;
    assert_eq!(client.packet().await, Some((1, b"\xfbx".to_vec())));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_looks_like_commands_is_a_file() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = asked_for_a_file(&world, b"").await;
        let kill = format!("KILL {}", client.id);
        // The numbers of a long file begin again at 0.
        let mut sent = String::new();
        for number in 2..=258_u16 {
            let line = if number == 256 { format!("\x03{kill}\n") } else { format!("\x11x{number}\n") };
            client.send(&packet(number.to_le_bytes()[0], line.as_bytes())).await;
            sent += &line;
        }
        client.send(&packet(3, b"")).await;
        let (_, answer) = client.packet().await.expect("an OK");
        assert_eq!(answer[0], 0, "{answer:02x?}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sent.as_bytes());
        let hex: String =
            digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        client.query("set group_concat_max_len = 1000000").await.unwrap();
        let sql = "select sha2(group_concat(a, '\\n' order by if(a like '%KILL%', 256, substr(a, 3) + 0) separator ''), 256) from t";
        assert_eq!(client.query(sql).await.unwrap(), [hex]);
        client.command(CHANGE_USER).await;
        expect_unknown_command(&mut client).await;
    }
}

/// A query whose row begins like a request for a file. The row is long, so that the server sends it at once; the end of the
/// result comes later.
const NULL_ROW: &[u8] = b"\x03select null, repeat('x', 40000) union all select sleep(1), 'y'";

/// `COM_STATISTICS`, three of which answer for the column count and the two definitions of [`NULL_ROW`].
const STATISTICS: &[u8] = b"\x09";

/// Changes the user at the moment at which a tracker that is one answer behind takes the row for a request.
async fn change_user_at_the_row(client: &mut RawMysql) {
    while client.packet().await.expect("a row").1[0] != 0xfb {}
    client.command(CHANGE_USER).await;
    loop {
        let (_, answer) = client.packet().await.expect("an answer");
        let switch = answer[0] == 0xfe && String::from_utf8_lossy(&answer).contains("password");
        let errno = MysqlError::parse(&answer).map(|error| error.errno);
        assert!(!switch && errno != Some(1045), "the user may change: {answer:02x?}");
        if errno == Some(1047) {
            return;
        }
    }
}

/// Data that comes before the server has asked for it is no command, and no row behind it is a request for a file.
#[tokio::test(flavor = "multi_thread")]
async fn u9_a_file_sent_ahead_opens_no_way_past_the_filter() {
    for database in databases().await {
        let world = builder(database).start().await;
        let ahead = [packet(2, STATISTICS), packet(3, STATISTICS), packet(4, STATISTICS)].concat();
        let mut client = asked_for_a_file(&world, &ahead).await;
        client.send(&packet(5, b"")).await;
        assert_eq!(client.packet().await.expect("an OK").1[0], 0);
        client.command(NULL_ROW).await;
        change_user_at_the_row(&mut client).await;
    }
}

/// MySQL answers a command for a statement that is too short with an error, and MariaDB does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn u9_a_command_that_is_too_short_opens_no_way_past_the_filter() {
    for database in databases().await {
        let world = builder(database).start().await;
        for short in [&b"\x18"[..], b"\x19"] {
            let mut client = RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap();
            let ahead = [short, NULL_ROW, STATISTICS, STATISTICS, STATISTICS, b"\x03select 1"];
            client.send(&ahead.map(|command| packet(0, command)).concat()).await;
            change_user_at_the_row(&mut client).await;
        }
    }
}
