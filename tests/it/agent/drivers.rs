//! Drivers of other languages through the agent, with the settings that docs/for-users names.

use std::fs;

use tempfile::TempDir;
use tokio::process::Command;

use super::LocalAgent;
use crate::world::World;
use crate::world::drivers::{node, pgjdbc, printed, python};

async fn signed_in() -> (World, LocalAgent) {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    (world, agent)
}

/// Port, local password and socket for a program.
fn told(program: &mut Command, agent: &LocalAgent) {
    program
        .env("PORT", agent.addr.port().to_string())
        .env("LOCAL_PASSWORD", &agent.password)
        .env("SOCKET", agent.socket());
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_drivers_connect() {
    let (_world, agent) = signed_in().await;
    let program = r"
import asyncio, os, asyncpg, psycopg, psycopg2
port, local, socket = int(os.environ['PORT']), os.environ['LOCAL_PASSWORD'], os.environ['SOCKET']
for driver in psycopg, psycopg2:
    for where in dict(host='127.0.0.1', port=port, user='token', password=local), dict(host=socket, user='me'):
        with driver.connect(dbname='app', **where) as connection:
            cursor = connection.cursor()
            cursor.execute('select current_user')
            print(cursor.fetchone()[0], end=' ')
async def main():
    c = await asyncpg.connect(host='127.0.0.1', port=port, user='token', password=local, database='app', ssl=False)
    print(await c.fetchval('select current_user'))
    await c.close()
asyncio.run(main())
";
    let Some(mut python) = python() else { return };
    told(&mut python, &agent);
    assert_eq!(printed(python.arg("-c").arg(program)).await, "alice alice alice alice alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_pg_connects() {
    let (_world, agent) = signed_in().await;
    let folder = TempDir::new().unwrap();
    let program = "import pg from 'pg'\n\
        const pool = new pg.Pool({ host: '127.0.0.1', port: +process.env.PORT, user: 'token',\n\
          password: process.env.LOCAL_PASSWORD, database: 'app', ssl: false })\n\
        console.log((await pool.query('select current_user as u')).rows[0].u)\nawait pool.end()\n";
    fs::write(folder.path().join("main.mjs"), program).unwrap();
    let Some(mut node) = node(folder.path()) else { return };
    told(&mut node, &agent);
    assert_eq!(printed(node.arg("main.mjs").current_dir(folder.path())).await, "alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn pgjdbc_connects_and_cancels() {
    let (_world, agent) = signed_in().await;
    let folder = TempDir::new().unwrap();
    let program = "import java.sql.*;\n\
        public class Main {\n\
          public static void main(String[] a) throws Exception {\n\
            var url = \"jdbc:postgresql://127.0.0.1:\" + System.getenv(\"PORT\") + \"/app?user=token\";\n\
            for (var mode : new String[] { \"disable\", \"prefer\" }) {\n\
              try (var c = DriverManager.getConnection(url + \"&sslmode=\" + mode + \"&password=\" + System.getenv(\"LOCAL_PASSWORD\"))) {\n\
                var s = c.createStatement(); s.setQueryTimeout(1);\n\
                try { s.execute(\"select pg_sleep(600)\"); } catch (SQLException e) { System.out.print(e.getSQLState() + \" \"); }\n\
                var r = s.executeQuery(\"select current_user\"); r.next(); System.out.print(r.getString(1) + \" \");\n\
              }\n\
            }\n\
          }\n\
        }\n";
    fs::write(folder.path().join("Main.java"), program).unwrap();
    let Some(jar) = pgjdbc() else { return };
    let mut java = Command::new("java");
    told(&mut java, &agent);
    java.args(["-cp", &jar, "Main.java"]).current_dir(folder.path());
    assert_eq!(printed(&mut java).await, "57014 alice 57014 alice");
}
