//! The agent of a profile that speaks MySQL, between real tools and the proxy.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_emulator::{Ca, CloudMysql};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgpassport::agent::{NoToken, PersonalLogin};
use pgpassport::secret::Jwt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::{LocalAgent, outcome};
use crate::mysql::{builder, databases};
use crate::world::World;
use crate::world::drivers::{mariadb_jdbc, node, printed, python};

/// The way to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Socket,
    Port,
}

const BOTH: [Place; 2] = [Place::Socket, Place::Port];

impl LocalAgent {
    pub(super) async fn for_mysql(world: &World, token: &str) -> Self {
        let token = token.to_owned();
        let login = move || {
            Ok(PersonalLogin { token: Jwt::new(token.clone().into_bytes()), user: "token".to_owned() })
        };
        Self::for_mysql_with(world, login).await
    }

    async fn for_mysql_with(
        world: &World,
        login: impl Fn() -> Result<PersonalLogin, NoToken> + Send + Sync + 'static,
    ) -> Self {
        let ca = world.listener_ca().write(&world.folder()).unwrap();
        Self::trusting_for_mysql(world, "localhost", &ca, login).await
    }

    /// The engine's own client, without TLS and with the local password where it is asked for.
    pub(super) fn mysql(&self, database: &CloudMysql, place: Place, password: &str) -> Command {
        let mut client = Command::from(database.server.client());
        client.args(["--batch", "--skip-column-names", "--user=me"]);
        match place {
            Place::Socket => client.arg(format!("--socket={}", self.socket().join("mysql.sock").display())),
            Place::Port => client
                .args(["--protocol=tcp", "--host=127.0.0.1"])
                .arg(format!("--port={}", self.addr.port())),
        };
        if place == Place::Port {
            client.env("MYSQL_PWD", password);
        }
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        client
    }

    async fn query(
        &self,
        database: &CloudMysql,
        place: Place,
        args: &[&str],
        sql: &str,
    ) -> Result<String, String> {
        let mut client = self.mysql(database, place, &self.password);
        outcome(&client.args(args).args(["-e", sql]).output().await.unwrap())
    }
}

/// Each engine, and an agent of alice in front of its proxy. Both know the server's version: drivers choose their SQL by it.
async fn signed_in() -> Vec<(&'static CloudMysql, World, LocalAgent)> {
    let mut all = Vec::new();
    for database in databases().await {
        let world = builder(database).start().await;
        let agent = LocalAgent::for_mysql(&world, &world.token("alice")).await;
        for _ in 0..2 {
            agent.query(database, Place::Socket, &[], "select 1").await.unwrap(); // the proxy learns, then the agent
        }
        all.push((database, world, agent));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_tools_are_logged_in_through_both_sockets() {
    for (database, _world, agent) in signed_in().await {
        for place in BOTH {
            for args in [&["app"][..], &[]] {
                let said = agent.query(database, place, args, "select current_user(), database()").await;
                assert_eq!(said.unwrap(), "alice@%\tapp", "{place:?}");
            }
            // Rows over 16 MiB, and a file that the server reads from the client.
            let long = "select repeat('x', 17825792)";
            let said = agent.query(database, place, &["--max-allowed-packet=64M"], long).await.unwrap();
            assert_eq!(said.len(), 17_825_792, "{place:?}");
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("rows.csv");
            fs::write(
                &file,
                (0..200_000).map(|number| number.to_string()).collect::<Vec<_>>().join("\n") + "\n",
            )
            .unwrap();
            let load = format!(
                "create temporary table rows_of_file (number int); load data local infile '{}' into table rows_of_file; \
                 select count(*), sum(number) from rows_of_file",
                file.display()
            );
            let said = agent.query(database, place, &["--local-infile=1"], &load).await.unwrap();
            assert_eq!(said, "200000\t19999900000", "{place:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_ctrl_c_ends_the_statement_through_the_agent() {
    for (database, _world, agent) in signed_in().await {
        for place in BOTH {
            let mark = format!("agent_{place:?}_{}", agent.addr.port());
            let sql = format!("select sleep(100) as {mark}");
            let client = agent.mysql(database, place, &agent.password).args(["-e", &sql]).spawn().unwrap();
            let running = format!(
                "select count(*) from information_schema.processlist where info like 'select sleep(100) as {mark}%'"
            );
            loop {
                let sql = running.clone();
                let found = tokio::task::spawn_blocking(move || database.server.sql(&sql)).await.unwrap();
                if found.trim() != "0" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            kill(Pid::from_raw(client.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
            let output = client.wait_with_output().await.unwrap();
            let all = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
            assert!(all.contains("1\n") || all.contains("interrupted"), "{place:?}: {output:?}");
            assert!(!all.contains("Unknown thread id"), "{all}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_tool_without_the_local_password_gets_no_further() {
    for (database, world, agent) in signed_in().await {
        let before = (agent.asked(), world.cloud.sts.count());
        for password in ["", "wrong", &world.token("alice")] {
            let mut client = agent.mysql(database, Place::Port, password);
            let said = outcome(&client.args(["-e", "select 1"]).output().await.unwrap()).unwrap_err();
            assert!(said.contains("1045 (28000)"), "{said}");
            assert!(said.contains("pgpassport connect --show-password --profile acme"), "{said}");
        }
        // Bytes that are no client's, and a silent one.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[40, 0, 0, 1, 0, 0]] {
            let mut stranger = TcpStream::connect(agent.addr).await.unwrap();
            stranger.write_all(bytes).await.unwrap();
            stranger.shutdown().await.unwrap();
            stranger.read_to_end(&mut Vec::new()).await.unwrap();
        }
        assert_eq!((agent.asked(), world.cloud.sts.count()), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_tools_read_why_they_are_refused() {
    for database in databases().await {
        let world = builder(database).start().await;
        let signed_out = LocalAgent::for_mysql_with(&world, || {
            Err(NoToken {
                reason: "profile \"acme\" is signed out".to_owned(),
                remedy: "Run `pgpassport login --profile acme` in a terminal.".to_owned(),
                is_transient: false,
            })
        })
        .await;
        let expired = world.mint(world.claims("alice").set("exp", world.cloud.clock.unix() - 720));
        let late = LocalAgent::for_mysql(&world, &expired).await;
        let nobody = LocalAgent::for_mysql(&world, &world.token("nobody")).await;
        let folder = TempDir::new().unwrap();
        let other = Ca::new().unwrap().write(folder.path()).unwrap();
        let token = world.token("alice");
        let login = move || {
            Ok(PersonalLogin { token: Jwt::new(token.clone().into_bytes()), user: "token".to_owned() })
        };
        let distrusting = LocalAgent::trusting_for_mysql(&world, "localhost", &other, login).await;
        for place in BOTH {
            for (agent, expected) in [
                (
                    &signed_out,
                    &["1045 (28000)", "No token: profile \"acme\" is signed out", "pgpassport login"][..],
                ),
                (&late, &["1045 (28000)", "stage token: the token expired 12 minutes ago", "Session "]),
                (&nobody, &["1045 (28000)", "the database has no IAM user of the exact name 'nobody'"]),
                (&distrusting, &["3168 (HY000)", "is not trusted"]),
            ] {
                let said = agent.query(database, place, &["app"], "select 1").await.unwrap_err();
                for text in expected {
                    assert!(said.contains(text), "{place:?}: {text}: {said}");
                }
            }
        }
    }
}

/// A listener that asks by MySQL's OpenID Connect plugin gets the token in that form.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_answers_a_listener_for_openid_connect() {
    for database in databases().await {
        let world = World::builder().mysql(database, "auth = \"openid-connect\"").start().await;
        let agent = LocalAgent::for_mysql(&world, &world.token("alice")).await;
        let said = agent.query(database, Place::Socket, &[], "select current_user()").await;
        assert_eq!(said.unwrap(), "alice@%");
    }
}

/// Port, local password and socket for a program.
fn told(program: &mut Command, agent: &LocalAgent) {
    program
        .env("PORT", agent.addr.port().to_string())
        .env("LOCAL_PASSWORD", &agent.password)
        .env("SOCKET", agent.socket().join("mysql.sock"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_mysql_drivers_connect_through_the_agent() {
    let program = r"
import asyncio, os, aiomysql, mysql.connector, pymysql
port, local, socket = int(os.environ['PORT']), os.environ['LOCAL_PASSWORD'], os.environ['SOCKET']
tcp, unix = dict(host='127.0.0.1', port=port, password=local), dict(unix_socket=socket)
def said(connection):
    cursor = connection.cursor()
    cursor.execute('select current_user(), database()')
    print(*cursor.fetchone(), end=' ')
for where in tcp, unix:
    said(pymysql.connect(user='token', database='app', **where))
    said(mysql.connector.connect(user='token', database='app', **where))
# KILL of the id that the driver knows.
import threading
busy = pymysql.connect(user='token', database='app', **tcp)
other = pymysql.connect(user='token', database='app', **unix)
def run():
    try:
        busy.cursor().execute('select sleep(600)')
    except pymysql.Error as error:
        print(error.args[0], end=' ')
    else:
        print(1317, end=' ') # sleep returns 1 when it is interrupted
thread = threading.Thread(target=run)
thread.start()
import time
while not other.cursor().execute('select 1 from information_schema.processlist where info = ' + repr('select sleep(600)')):
    time.sleep(0.02)
other.cursor().execute('kill query %d' % busy.thread_id())
thread.join()
async def main():
    c = await aiomysql.connect(user='token', db='app', host='127.0.0.1', port=port, password=local)
    async with c.cursor() as cursor:
        await cursor.execute('select current_user()')
        print((await cursor.fetchone())[0])
asyncio.run(main())
";
    for (_, _world, agent) in signed_in().await {
        let Some(mut python) = python() else { return };
        told(&mut python, &agent);
        let said = printed(python.arg("-c").arg(program)).await;
        assert_eq!(said, format!("{}1317 alice@%", "alice@% app ".repeat(4)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_mysql_drivers_connect_through_the_agent() {
    let program = "import mysql2 from 'mysql2/promise'\nimport mariadb from 'mariadb'\n\
        const tcp = { host: '127.0.0.1', port: +process.env.PORT, password: process.env.LOCAL_PASSWORD }\n\
        const unix = { socketPath: process.env.SOCKET }\n\
        for (const driver of [mysql2, mariadb]) for (const where of [tcp, unix]) {\n\
          const c = await driver.createConnection({ user: 'token', database: 'app', ...where })\n\
          const rows = await c.query('select current_user() as u')\n\
          console.log((driver === mysql2 ? rows[0] : rows)[0].u)\n  await c.end()\n}\n";
    for (_, _world, agent) in signed_in().await {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("main.mjs"), program).unwrap();
        let Some(mut node) = node(folder.path()) else { return };
        told(&mut node, &agent);
        let said = printed(node.arg("main.mjs").current_dir(folder.path())).await;
        assert_eq!(said, ["alice@%"; 4].join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadbs_jdbc_driver_connects_and_cancels_through_the_agent() {
    let program = "import java.sql.*;\n\
        public class Main {\n\
          public static void main(String[] a) throws Exception {\n\
            var url = \"jdbc:mariadb://127.0.0.1:\" + System.getenv(\"PORT\") + \"/app?user=token&password=\" + System.getenv(\"LOCAL_PASSWORD\");\n\
            try (var c = DriverManager.getConnection(url)) {\n\
              var s = c.createStatement(); s.setQueryTimeout(1);\n\
              try { s.execute(\"select sleep(600)\"); } catch (SQLException e) { }\n\
              s.setQueryTimeout(0);\n\
              var r = s.executeQuery(\"select current_user()\"); r.next(); System.out.println(r.getString(1));\n\
            }\n\
          }\n\
        }\n";
    for (_, _world, agent) in signed_in().await {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("Main.java"), program).unwrap();
        let Some(path) = mariadb_jdbc() else { return };
        let mut java = Command::new("java");
        told(&mut java, &agent);
        java.args(["-cp", &path, "Main.java"]).current_dir(folder.path());
        assert_eq!(printed(&mut java).await, "alice@%");
    }
}

/// The version that a tool is greeted with is the server's, from the first connection after the proxy has learned it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_tool_sees_the_servers_version() {
    for (database, _world, agent) in signed_in().await {
        let mut tcp = TcpStream::connect(agent.addr).await.unwrap();
        let mut greeting = vec![0; 60];
        tcp.read_exact(&mut greeting).await.unwrap();
        let text: Vec<u8> = greeting[5..].iter().copied().take_while(|byte| *byte != 0).collect();
        let version = database.server.sql("select version()");
        assert!(String::from_utf8(text).unwrap().ends_with(version.trim()), "{version}");
    }
}

/// `pgpassport connect` prints the socket and the settings of a profile that speaks MySQL.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_serves_a_mysql_profile() {
    for database in databases().await {
        let world = builder(database).start().await;
        let home = super::command::Home::with(&world, "protocol = \"mysql\"\n");
        home.sign_in(&world, &world.token("alice"));
        let (mut agent, welcome) = home.agent(&["--socket", "--listen", "127.0.0.1:0"], 4).await;
        let socket = Path::new(&home.socket()).join("mysql.sock");
        assert_eq!(welcome[1], format!("  mysql    mysql --no-defaults -S {} app", socket.display()));
        assert!(welcome[2].starts_with("  tools    host 127.0.0.1, port "), "{welcome:?}");
        let mut client = Command::from(database.server.client());
        client.arg(format!("--socket={}", socket.display())).args(["-BNe", "select current_user()"]);
        assert_eq!(outcome(&client.output().await.unwrap()).unwrap(), "alice@%");
        agent.kill().await.unwrap();
    }
}
