//! Recorded sessions of real clients, directly at the server and through the proxy: behind the login the bytes of both
//! directions are equal, but for a `KILL` of one of the proxy's ids and a `COM_CHANGE_USER`. Both ways have the same
//! capability flags: the proxy never offers MariaDB's extended metadata, for example.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_emulator::sigv4::{TokenRequest, sign};
use aws_emulator::{Ca, CloudMysql, names};
use tokio::process::Command;

use super::databases;
use super::raw::{MysqlError, RawMysql, greeted, packet};
use super::recorder::{Recorder, Recording, flags_of};
use crate::world::World;
use crate::world::drivers::python;

/// A proxy between two recorders, and one in front of the server itself.
struct Studio {
    database: &'static CloudMysql,
    ca: Ca,
    world: World,
    /// Between client and proxy.
    before: Recorder,
    /// Between proxy and server.
    behind: Recorder,
    /// Between client and server.
    direct: Recorder,
}

/// Which way a client takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Proxied,
}

impl Studio {
    async fn open(database: &'static CloudMysql) -> Self {
        let ca = Ca::new().unwrap();
        let server = database.server.addr();
        let mut behind = Recorder::start(server, &database.ca, &ca, None).await;
        let world = World::builder().mysql(database, "").upstream(behind.addr, &ca).start().await;
        // From the first login on the proxy greets as the server does, but for the flags that it never offers.
        drop(RawMysql::log_in(&world, "alice", &world.token("alice")).await.unwrap());
        drop(behind.next().await);
        let (_, greeting) = greeted(world.port).await;
        let proxy = ([127, 0, 0, 1], world.port).into();
        let before = Recorder::start(proxy, world.listener_ca(), &ca, None).await;
        let direct = Recorder::start(server, &database.ca, &ca, Some(flags_of(&greeting))).await;
        Self { database, ca, world, before, behind, direct }
    }

    /// The port of a way, and what alice's password is there.
    fn entrance(&self, way: Way) -> (u16, String) {
        if way == Way::Proxied {
            return (self.before.addr.port(), self.world.token("alice"));
        }
        let key = self.world.cloud.sts.calls()[0].access_key_id.clone().unwrap();
        let session = self.world.cloud.sts.store().get(&key).unwrap();
        let token = sign(&TokenRequest {
            endpoint: names::MYSQL_ENDPOINT,
            region: names::REGION,
            user: "alice",
            access_key_id: &session.access_key_id,
            secret: &session.secret,
            session_token: Some(&session.session_token),
            at: self.world.cloud.clock.unix(),
        });
        (self.direct.addr.port(), token)
    }

    fn authority(&self) -> PathBuf {
        self.ca.write(&self.world.folder()).unwrap()
    }

    /// The recordings of one session on its way: at the client, and at the server.
    async fn recordings(&mut self, way: Way) -> (Recording, Option<Recording>) {
        match way {
            Way::Direct => (self.direct.next().await, None),
            Way::Proxied => (self.before.next().await, Some(self.behind.next().await)),
        }
    }

    /// Runs a client on both ways. `client` makes its command for a port, a password and a file of authorities.
    async fn compare(&mut self, client: impl AsyncFn(u16, String, &Path) -> Vec<u8>) {
        let ca = self.authority();
        let mut heard = Vec::new();
        for way in [Way::Direct, Way::Proxied] {
            let (port, password) = self.entrance(way);
            let printed = client(port, password, &ca).await;
            let (at_client, at_server) = self.recordings(way).await;
            if let Some(at_server) = at_server {
                same("what the client sent reached the server", &at_client.to_server, &at_server.to_server);
                same("what the server sent reached the client", &at_server.to_client, &at_client.to_client);
            }
            heard.push((printed, at_client));
        }
        let [(printed, direct), (proxied_printed, proxied)] = &heard[..] else { unreachable!() };
        same("what the client printed", printed, proxied_printed);
        let [sent, proxied_sent] = [direct, proxied].map(|way| without_statement_ids(&way.to_server));
        same("what the client sent, with and without the proxy", &sent, &proxied_sent);
        let [got, proxied_got] = [direct, proxied].map(|way| without_statement_ids(&way.to_client));
        same("what the client got, with and without the proxy", &got, &proxied_got);
        assert!(
            direct.to_server.len() > 17_000_000 && direct.to_client.len() > 17_000_000,
            "they had much to say"
        );
    }
}

/// Packets without the ids of prepared statements: `MariaDB` counts them for all sessions together. They are in commands
/// for a statement and in the answer to a prepare, which is 12 bytes long and the first packet behind the command.
fn without_statement_ids(packets: &[u8]) -> Vec<u8> {
    let (mut all, mut at) = (packets.to_vec(), 0);
    while let Some(&[a, b, c, number]) = packets.get(at..at + 4) {
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let first = packets.get(at + 4).copied();
        let command = number == 0 && matches!(first, Some(0x17..=0x1a | 0x1c));
        let prepared = number == 1 && length == 12 && first == Some(0);
        if command || prepared {
            all[at + 5..at + 9].fill(0);
        }
        at += 4 + length;
    }
    all
}

fn same(what: &str, one: &[u8], other: &[u8]) {
    if one != other {
        let at = one.iter().zip(other).position(|(one, other)| one != other);
        let at = at.unwrap_or(one.len().min(other.len()));
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned()
        };
        panic!(
            "{what}: differs at {at} of {} and {}: {:?} {:?}",
            one.len(),
            other.len(),
            near(one),
            near(other)
        );
    }
}

/// Text statements of every kind, for a client that reads them from a file.
fn script(infile: &Path) -> String {
    let long = "z".repeat(17_000_000);
    let mut sql = format!(
        "create temporary table t (a int primary key, b longtext, c blob) charset utf8mb4;
         insert into t values (1, repeat('x', 100000), x'00ff'), (2, null, 'b'), (3, 'ü', null);
         select a, length(b), hex(c) from t order by a;
         select * from nowhere;
         insert into t values (1, 'twice', null);
         begin; update t set a = a + 10; select sum(a) from t; rollback;
         start transaction read only; select 1; commit;
         prepare s from 'select ? + 1, ?'; set @a = 41, @b = null; execute s using @a, @b; deallocate prepare s;
         select repeat('y', 17000000);
         insert into t values (4, '{long}', null);
         select sha2(b, 256) from t where a = 4;
         create temporary table f (n int auto_increment primary key, a varchar(40), b varchar(20)) charset utf8mb4;
         load data local infile '{}' into table f (a, b);
         show warnings;
         select count(*), min(a), max(b) from f;
         load data local infile '/nonexistent' into table f (a, b);
         kill query 9999999;
         kill query 4000000000;
         set names latin1; select 'ü'; set names utf8mb4;
         drop procedure if exists several;
         create procedure several() begin select 1; select 2, 'two'; select 3 where false; end;
         call several();
         drop procedure several;
         select 'the end';
",
        infile.display()
    );
    // The body of the procedure has semicolons in it.
    sql = sql.replacen("create procedure", "delimiter //\ncreate procedure", 1).replacen(
        "end;\n",
        "end//\ndelimiter ;\n",
        1,
    );
    sql
}

/// Lines that look like commands and `KILL`s.
fn rows(folder: &Path) -> PathBuf {
    let file = folder.join("rows");
    let rows = (0..40_000).fold(String::new(), |mut all, n| {
        writeln!(all, "KILL QUERY 107374{}\t\u{11}x{n}", 1_000 + n % 9_000).unwrap();
        all
    });
    std::fs::write(&file, rows).unwrap();
    file
}

async fn printed(command: &mut Command) -> Vec<u8> {
    let output = command.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    [output.stdout, output.stderr].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_the_command_line_client_has_the_same_bytes_with_and_without_the_proxy() {
    for database in databases().await {
        let mut studio = Studio::open(database).await;
        let folder = studio.world.folder();
        let file = folder.join("script.sql");
        std::fs::write(&file, script(&rows(&folder))).unwrap();
        let server = studio.database.server.clone();
        studio
            .compare(async |port, password, ca: &Path| {
                let mut client = Command::from(server.client_to("localhost", port, ca, "alice"));
                client.env("MYSQL_PWD", password).stdin(Stdio::from(std::fs::File::open(&file).unwrap()));
                client.args(["--force", "--local-infile=1", "--max-allowed-packet=64M", "app"]);
                printed(&mut client).await
            })
            .await;
    }
}

/// `PyMySQL`, and prepared statements by mysql-connector-python.
const PROGRAM: &str = r#"
import ssl, sys
kind, port, ca, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
password = sys.stdin.read()

def run(cursor, sql, *values):
    try:
        cursor.execute(sql, *values)
        if cursor.description:
            found = cursor.fetchall()
            print(len(found), str(found[:2])[:200])
        else:
            print(cursor.rowcount, cursor.lastrowid)
    except Exception as error:
        print(error.args[0])

if kind == "pymysql":
    import pymysql
    from pymysql.constants import CLIENT
    connection = pymysql.connect(
        host="localhost", port=port, user="alice", password=password, database="app", ssl={"ca": ca},
        local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS, max_allowed_packet=64 << 20,
    )
else:
    import mysql.connector
    connection = mysql.connector.connect(
        host="localhost", port=port, user="alice", password=password, database="app", use_pure=True,
        ssl_ca=ca, ssl_verify_cert=True, ssl_verify_identity=True, allow_local_infile=True,
    )
cursor = connection.cursor()
run(cursor, "create temporary table t (a int primary key, b longtext, c blob) charset utf8mb4")
run(cursor, "insert into t values (%s, %s, %s)", (1, "x" * 100000, b"\0\xff"))
run(cursor, "select * from nowhere")
run(cursor, "insert into t values (1, null, null)")
connection.rollback()
run(cursor, "insert into t values (%s, %s, %s)", (4, "z" * 17000000, None))
connection.commit()
run(cursor, "select a, sha2(b, 256), c from t order by a")
run(cursor, "select repeat('y', 17000000)")
run(cursor, f"create temporary table f (a varchar(40), b varchar(20)) charset utf8mb4")
run(cursor, f"load data local infile '{rows}' into table f (a, b)")
run(cursor, "select count(*), min(a), max(b) from f")
run(cursor, "kill query 9999999")
if kind == "pymysql":
    cursor.execute("select 1; select 2, 'two'; set @a = 3; select * from nowhere")
    print(cursor.fetchall())
    try:
        while cursor.nextset():
            print(cursor.fetchall())
    except Exception as error:
        print(error.args[0])
    streamed = connection.cursor(pymysql.cursors.SSCursor)
    streamed.execute("select a from f limit 1000")
    print(sum(1 for _ in streamed))
    connection.ping(reconnect=False)
    connection.select_db("app")
else:
    cursor.close()
    for key in (5, 6):
        prepared = connection.cursor(prepared=True)
        for value in (21, None, 4):
            prepared.execute("select ? * 2, ?", (value, "v" * 300))
            print(prepared.fetchall())
        try:
            prepared.execute("insert into t values (?, ?, ?)", (4, "twice", b"\0"))
        except Exception as error:
            print(error.args[0])
        prepared.execute("insert into t values (?, ?, ?)", (key, "w" * 200000, b"\0" * 1000))
        prepared.close()
    connection.cmd_reset_connection()
    connection.cmd_ping()
connection.close()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_drivers_have_the_same_bytes_with_and_without_the_proxy() {
    for database in databases().await {
        let mut studio = Studio::open(database).await;
        let folder = studio.world.folder();
        let (program, rows) = (folder.join("program.py"), rows(&folder));
        std::fs::write(&program, PROGRAM).unwrap();
        for kind in ["pymysql", "connector"] {
            if python().is_none() {
                return;
            }
            studio
                .compare(async |port, password, ca: &Path| {
                    let secret = folder.join("password");
                    std::fs::write(&secret, password).unwrap();
                    let mut client = python().unwrap();
                    client.arg(&program).args([kind, &port.to_string()]).arg(ca).arg(&rows);
                    client.stdin(Stdio::from(std::fs::File::open(secret).unwrap()));
                    printed(&mut client).await
                })
                .await;
        }
    }
}

/// The stated exceptions, and nothing beside them.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_kill_of_our_ids_and_a_change_of_the_user_differ_at_the_server() {
    for database in databases().await {
        let mut studio = Studio::open(database).await;
        let world = &studio.world;
        let other = RawMysql::log_in(world, "alice", &world.token("alice")).await.unwrap();
        let mut client = RawMysql::log_in(world, "alice", &world.token("alice")).await.unwrap();
        let kill = format!("KILL QUERY {}", other.id);
        let change = b"\x11carol\0\0app\0\x2d\0mysql_clear_password\0";
        assert_eq!(client.query("select 1").await.unwrap(), ["1"]);
        assert_eq!(client.query(&kill).await, Ok(vec![]));
        client.command(change).await;
        let refused = client.packet().await.unwrap().1;
        assert_eq!(MysqlError::parse(&refused).unwrap().errno, 1047);
        assert_eq!(client.query("select 2").await.unwrap(), ["2"]);
        client.command(b"\x01").await;
        client.expect_end().await;
        let at_server = studio.behind.next().await.to_server;
        let killed = at_server.windows(11).position(|bytes| bytes == b"KILL QUERY ").unwrap();
        let number: String = at_server[killed + 11..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        assert_ne!(number, other.id.to_string());
        let expected = [
            packet(0, b"\x03select 1"),
            packet(0, format!("\x03KILL QUERY {number}").as_bytes()),
            packet(0, b"\0"),
            packet(0, b"\x03select 2"),
            packet(0, b"\x01"),
        ];
        same("what reached the server", &expected.concat(), &at_server);
        drop(other);
    }
}
