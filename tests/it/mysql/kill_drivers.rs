//! Cancels of real drivers, whose `KILL` is sent to another instance of the cluster than the statement.

use std::fs;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::databases;
use super::kill::until_running;
use super::kill_elsewhere::TwoInstances;
use crate::world::World;
use crate::world::drivers::{mariadb_jdbc, python};
use crate::world::raw::PATIENCE;

/// Address, authority and token for a program.
fn told(program: &mut Command, world: &World) {
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    program.env("PORT", world.port.to_string()).env("CA", ca).env("TOKEN", world.token("alice"));
}

/// Runs a program that connects, prints a line, waits for a line, and cancels a statement of its first connection. The cluster's
/// name leads to the second instance from then on, when the statement `running` runs. Gives the line, and all that it prints after.
async fn cancelled(cluster: &TwoInstances, mut program: Command, running: Option<&str>) -> (String, String) {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.kill_on_drop(true).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).await.unwrap();
    if let Some(statement) = running {
        until_running(&cluster.first.server, statement).await;
    }
    cluster.moves_to_the_second();
    let _ = child.stdin.take().unwrap().write_all(b"\n").await; // a program that has failed says why
    let mut rest = String::new();
    timeout(PATIENCE, output.read_to_string(&mut rest)).await.expect("the statement goes on").unwrap();
    let ended = child.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    (first.trim().to_owned(), rest.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jdbc_timeout_reaches_a_statement_at_another_instance() {
    let program = "import java.sql.*;\n\
        public class Main {\n\
          static String one(Connection c, String sql) throws SQLException {\n\
            try (var s = c.createStatement(); var r = s.executeQuery(sql)) { r.next(); return r.getString(1); }\n\
          }\n\
          static Connection connect() throws SQLException {\n\
            var p = new java.util.Properties();\n\
            p.setProperty(\"user\", \"alice\"); p.setProperty(\"password\", System.getenv(\"TOKEN\"));\n\
            p.setProperty(\"useSsl\", \"true\"); p.setProperty(\"sslMode\", \"verify-full\");\n\
            p.setProperty(\"serverSslCert\", System.getenv(\"CA\"));\n\
            return DriverManager.getConnection(\"jdbc:mariadb://localhost:\" + System.getenv(\"PORT\") + \"/app\", p);\n\
          }\n\
          public static void main(String[] a) throws Exception {\n\
            var c = connect();\n\
            System.out.println(one(c, \"select @@port\"));\n\
            System.in.read();\n\
            System.out.println(one(connect(), \"select @@port\"));\n\
            var s = c.createStatement(); s.setQueryTimeout(1);\n\
            try { s.execute(\"select sleep(651)\"); } catch (SQLException e) { }\n\
            System.out.println(one(c, \"select @@port\"));\n\
            System.exit(0);\n\
          }\n\
        }\n";
    for database in databases().await {
        let cluster = TwoInstances::start(database).await;
        let world = cluster.world().await;
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("Main.java"), program).unwrap();
        let Some(path) = mariadb_jdbc() else { return };
        let mut java = Command::new("java");
        told(&mut java, &world);
        java.args(["-cp", &path, "Main.java"]).current_dir(folder.path());
        let said = cancelled(&cluster, java, None).await;
        assert_eq!(said, cluster.ports());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_pymysql_reaches_a_statement_at_another_instance() {
    let program = r"
import os, ssl, sys, threading, pymysql
tls = ssl.create_default_context(cafile=os.environ['CA'])
def connect():
    return pymysql.connect(host='localhost', port=int(os.environ['PORT']), user='alice', password=os.environ['TOKEN'],
        database='app', ssl=tls)
def one(connection, sql):
    cursor = connection.cursor()
    cursor.execute(sql)
    return cursor.fetchone()[0]
busy = connect()
print(one(busy, 'select @@port'), flush=True)
def run():
    try:
        one(busy, 'select sleep(652)')
    except pymysql.Error:
        pass # sleep returns 1 or fails when it is interrupted
thread = threading.Thread(target=run)
thread.start()
sys.stdin.readline()
other = connect()
print(one(other, 'select @@port'), flush=True)
other.cursor().execute('kill query %d' % busy.thread_id())
thread.join()
print(one(busy, 'select @@port'))
";
    for database in databases().await {
        let cluster = TwoInstances::start(database).await;
        let world = cluster.world().await;
        let Some(mut python) = python() else { return };
        told(&mut python, &world);
        python.arg("-c").arg(program);
        let said = cancelled(&cluster, python, Some("select sleep(652)")).await;
        assert_eq!(said, cluster.ports());
    }
}
