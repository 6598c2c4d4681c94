//! Drivers of other languages through the agent, on both kinds of socket, with the settings that docs/for-users names.

use std::fs;

use tempfile::TempDir;
use tokio::process::Command;

use super::LocalAgent;
use crate::world::World;
use crate::world::drivers::{node, pgjdbc, printed, python};

/// Agents with an ordinary token of alice and with one of 16,000 bytes.
async fn agents() -> (World, [LocalAgent; 2]) {
    let world = World::start().await;
    let long = world.plant(world.cloud.issuer.mint_sized(world.claims("alice"), 16_000));
    let agents =
        [LocalAgent::start(&world, &world.token("alice")).await, LocalAgent::start(&world, &long).await];
    (world, agents)
}

/// Port, local password and socket for a program.
fn told(program: &mut Command, agent: &LocalAgent) {
    program
        .env("PORT", agent.addr.port().to_string())
        .env("LOCAL_PASSWORD", &agent.password)
        .env("SOCKET", agent.socket());
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_drivers_connect_and_cancel() {
    let (_world, agents) = agents().await;
    let program = r"
import asyncio, os, threading, asyncpg, psycopg, psycopg2
port, local, socket = int(os.environ['PORT']), os.environ['LOCAL_PASSWORD'], os.environ['SOCKET']
for driver in psycopg, psycopg2:
    for where in dict(host='127.0.0.1', port=port, user='token', password=local), dict(host=socket, user='me'):
        with driver.connect(dbname='app', **where) as connection:
            cursor = connection.cursor()
            timer = threading.Timer(0.3, connection.cancel)
            timer.start()
            try:
                cursor.execute('select pg_sleep(600)')
            except (psycopg.errors.QueryCanceled, psycopg2.errors.QueryCanceled):
                connection.rollback()
                cursor.execute('select current_user')
                print(cursor.fetchone()[0], end=' ')
async def main():
    c = await asyncpg.connect(host='127.0.0.1', port=port, user='token', password=local, database='app', ssl=False)
    print(await c.fetchval('select current_user'))
    await c.close()
asyncio.run(main())
";
    for agent in &agents {
        let Some(mut python) = python() else { return };
        told(&mut python, agent);
        assert_eq!(printed(python.arg("-c").arg(program)).await, "alice alice alice alice alice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_pg_connects() {
    let (_world, agents) = agents().await;
    let folder = TempDir::new().unwrap();
    let program = "import pg from 'pg'\n\
        const tcp = { host: '127.0.0.1', port: +process.env.PORT, password: process.env.LOCAL_PASSWORD }\n\
        for (const where of [tcp, { host: process.env.SOCKET }]) {\n\
          const pool = new pg.Pool({ user: 'token', database: 'app', ssl: false, ...where })\n\
          process.stdout.write((await pool.query('select current_user as u')).rows[0].u + ' ')\n\
          await pool.end()\n\
        }\n";
    fs::write(folder.path().join("main.mjs"), program).unwrap();
    let Some(modules) = node(folder.path()) else { return };
    drop(modules);
    for agent in &agents {
        let mut node = Command::new("node");
        told(&mut node, agent);
        assert_eq!(printed(node.arg("main.mjs").current_dir(folder.path())).await, "alice alice");
    }
}

/// A connection on each kind of socket: a cancel, and the user.
const JAVA: &str = r#"
import java.sql.*;
public class Main {
  static void show(String url) throws Exception {
    try (var c = DriverManager.getConnection(url)) {
      var s = c.createStatement(); s.setQueryTimeout(1);
      try { s.execute("select pg_sleep(600)"); } catch (SQLException e) { System.out.print(e.getSQLState() + " "); }
      var r = s.executeQuery("select current_user"); r.next(); System.out.print(r.getString(1) + " ");
    }
  }
  public static void main(String[] a) throws Exception {
    var tcp = "jdbc:postgresql://127.0.0.1:" + System.getenv("PORT") + "/app?user=token&password=" + System.getenv("LOCAL_PASSWORD");
    show(tcp + "&sslmode=disable");
    show(tcp + "&sslmode=prefer");
    show("jdbc:postgresql://localhost/app?user=token&sslmode=disable&socketFactory=UnixSockets&socketFactoryArg="
      + System.getenv("SOCKET") + "/.s.PGSQL.5432");
  }
}
"#;

/// pgjdbc opens Unix sockets by a factory only.
const UNIX_SOCKETS: &str = r"
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
public class UnixSockets extends javax.net.SocketFactory {
  final String path;
  public UnixSockets(String path) { this.path = path; }
  @Override public Socket createSocket() {
    return new Socket() {
      SocketChannel channel;
      int timeout;
      @Override public void connect(SocketAddress to, int limit) throws IOException {
        channel = SocketChannel.open(UnixDomainSocketAddress.of(path));
      }
      @Override public boolean isConnected() { return channel != null; }
      @Override public boolean isClosed() { return channel != null && !channel.isOpen(); }
      @Override public void close() throws IOException { if (channel != null) channel.close(); }
      @Override public void setTcpNoDelay(boolean on) {}
      @Override public void setKeepAlive(boolean on) {}
      @Override public void setSoTimeout(int limit) { timeout = limit; }
      @Override public int getSoTimeout() { return timeout; }
      @Override public InputStream getInputStream() {
        return new InputStream() {
          @Override public int read() throws IOException {
            var one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
          }
          @Override public int read(byte[] to, int at, int size) throws IOException {
            return channel.read(ByteBuffer.wrap(to, at, size));
          }
        };
      }
      @Override public OutputStream getOutputStream() {
        return new OutputStream() {
          @Override public void write(int one) throws IOException { write(new byte[] { (byte) one }, 0, 1); }
          @Override public void write(byte[] from, int at, int size) throws IOException {
            for (var rest = ByteBuffer.wrap(from, at, size); rest.hasRemaining(); ) channel.write(rest);
          }
        };
      }
    };
  }
  @Override public Socket createSocket(String host, int port) { throw new UnsupportedOperationException(); }
  @Override public Socket createSocket(InetAddress host, int port) { throw new UnsupportedOperationException(); }
  @Override public Socket createSocket(String a, int b, InetAddress c, int d) { throw new UnsupportedOperationException(); }
  @Override public Socket createSocket(InetAddress a, int b, InetAddress c, int d) { throw new UnsupportedOperationException(); }
}
";

#[tokio::test(flavor = "multi_thread")]
async fn pgjdbc_connects_and_cancels() {
    let (_world, agents) = agents().await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("Main.java"), JAVA).unwrap();
    fs::write(folder.path().join("UnixSockets.java"), UNIX_SOCKETS).unwrap();
    let Some(jar) = pgjdbc() else { return };
    let path = format!("{jar}:.");
    let mut javac = Command::new("javac");
    printed(javac.args(["-cp", &path, "Main.java", "UnixSockets.java"]).current_dir(folder.path())).await;
    for agent in &agents {
        let mut java = Command::new("java");
        told(&mut java, agent);
        java.args(["-cp", &path, "Main"]).current_dir(folder.path());
        assert_eq!(printed(&mut java).await, "57014 alice 57014 alice 57014 alice");
    }
}
