//! The console through drivers of Python and Java, which prepare, ask for binary values, and open transactions.

use std::fs;

use tempfile::TempDir;
use tokio::process::Command;

use super::with_console;
use crate::world::World;
use crate::world::drivers::{pgjdbc, printed, python};

/// Address, authority and token for a program.
fn told(program: &mut Command, world: &World) {
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    program.env("PORT", world.port.to_string()).env("CA", ca).env("TOKEN", world.member("olivia", &["dba"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_drivers_ask_the_console() {
    let Some(mut python) = python() else { return };
    let world = with_console().start().await;
    let alice = world.connect("alice", &world.token("alice")).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let program = r"
import asyncio, os, ssl, asyncpg, psycopg, psycopg2
port, ca, token = int(os.environ['PORT']), os.environ['CA'], os.environ['TOKEN']
tls = dict(sslmode='verify-full', sslrootcert=ca)
for driver in psycopg, psycopg2:
    connection = driver.connect(host='localhost', port=port, user='olivia', password=token, dbname='pgbouncer', **tls)
    cursors = [connection.cursor()] + ([connection.cursor(binary=True)] if driver is psycopg else [])
    for cursor in cursors:
        for _ in range(7):
            cursor.execute('SHOW SESSIONS')
            row = dict(zip([column[0] for column in cursor.description], cursor.fetchone()))
            assert type(row['to_client']) is int and row['to_client'] > 0, row
        print(row['subject'], end=' ')
    try:
        cursor.execute('select 1')
    except driver.errors.FeatureNotSupported:
        connection.rollback()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute('SET log_level = info')
    cursor.execute('SHOW CONFIG')
    print(len(cursor.fetchall()) > 80, end=' ')
    connection.close()
async def main():
    context = ssl.create_default_context(cafile=ca)
    c = await asyncpg.connect(host='localhost', port=port, user='olivia', password=token, database='pgpassport', ssl=context)
    for _ in range(3):
        row = await c.fetchrow('SHOW SESSIONS')
        assert row['to_client'] > 0, row
    print(row['subject'], end=' ')
    assert await c.fetch('DRAIN app') == []
    await c.close()
asyncio.run(main())
for driver in psycopg, psycopg2:
    connection = driver.connect(host='localhost', port=port, user='olivia', password=token, dbname='pgbouncer', **tls)
    connection.autocommit = True
    cursor = connection.cursor()
    for command in 'PAUSE app', 'RESUME app', 'DRAIN app':
        cursor.execute(command)
        print(cursor.statusmessage, end=' ')
    cursor.execute('SHOW CLUSTERS')
    row = dict(zip([column[0] for column in cursor.description], cursor.fetchone()))
    print(row['state'], end=' ')
    connection.close()
";
    told(&mut python, &world);
    assert_eq!(
        printed(python.arg("-c").arg(program)).await,
        "alice alice True alice True alice PAUSE RESUME DRAIN draining PAUSE RESUME DRAIN draining"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pgjdbc_asks_the_console() {
    let Some(jar) = pgjdbc() else { return };
    let world = with_console().start().await;
    let alice = world.connect("alice", &world.token("alice")).await.unwrap();
    let bob = world.connect("bob", &world.token("bob")).await.unwrap();
    for client in [&alice, &bob] {
        client.simple_query("select 1").await.unwrap();
    }
    let folder = TempDir::new().unwrap();
    let program = "import java.sql.*;\n\
        public class Main {\n\
          public static void main(String[] a) throws Exception {\n\
            var settings = new java.util.Properties();\n\
            settings.put(\"user\", \"olivia\"); settings.put(\"password\", System.getenv(\"TOKEN\"));\n\
            settings.put(\"sslmode\", \"verify-full\"); settings.put(\"sslrootcert\", System.getenv(\"CA\"));\n\
            var url = \"jdbc:postgresql://localhost:\" + System.getenv(\"PORT\") + \"/pgpassport\";\n\
            for (var mode : new String[] { \"extended\", \"simple\" }) {\n\
              settings.put(\"preferQueryMode\", mode);\n\
              try (var c = DriverManager.getConnection(url, settings)) {\n\
                c.setAutoCommit(false);\n\
                var p = c.prepareStatement(\"SHOW SESSIONS\"); p.setFetchSize(1);\n\
                for (int turn = 0; turn < 8; turn++) {\n\
                  var r = p.executeQuery(); var seen = \"\";\n\
                  while (r.next()) { seen += r.getString(\"subject\") + \" \"; if (r.getLong(\"to_client\") < 1) throw new Exception(); }\n\
                  if (turn == 7) System.out.print(seen);\n\
                }\n\
                c.commit(); c.setAutoCommit(true);\n\
                try { c.createStatement().execute(\"select 1\"); } catch (SQLException e) { System.out.print(e.getSQLState() + \" \"); }\n\
                c.createStatement().execute(\"SET log_level = info\");\n\
                System.out.print(c.isValid(60) + \" \");\n\
              }\n\
            }\n\
            try (var c = DriverManager.getConnection(url, settings); var s = c.createStatement()) {\n\
              for (var command : new String[] { \"DRAIN app\", \"PAUSE app\", \"RESUME app\" }) {\n\
                s.execute(command); System.out.print((s.getWarnings() == null ? command : s.getWarnings().getMessage()) + \" \");\n\
              }\n\
            }\n\
          }\n\
        }\n";
    fs::write(folder.path().join("Main.java"), program).unwrap();
    let mut java = Command::new("java");
    told(&mut java, &world);
    java.args(["-cp", &jar, "Main.java"]).current_dir(folder.path());
    let once = "alice bob 0A000 true";
    let said = printed(&mut java).await;
    let rest = said.strip_prefix(&format!("{once} {once} ")).unwrap_or_else(|| panic!("{said}"));
    assert!(rest.starts_with("2 sessions end when idle") && rest.ends_with("PAUSE app RESUME app"), "{said}");
}
