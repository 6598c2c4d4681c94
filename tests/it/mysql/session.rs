//! Live sessions: transparency, files, and the ends that the proxy makes.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::{builder, databases, shown};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_every_kind_pass_unchanged() {
    for database in databases().await {
        let world = builder(database).start().await;
        let sql = "create temporary table t (a int, b longtext); insert into t values (1, repeat('x', 100000)); \
                   select a, length(b) from t; select 1; select 2; begin; select 3; rollback; \
                   prepare s from 'select ? + 1'; set @a = 41; execute s using @a; \
                   select length(repeat('y', 17000000)); select sha2(repeat('z', 17000000), 256) = sha2(repeat('z', 17000000), 256)";
        let output = world.mysql_sql(database, "alice", &world.token("alice"), sql).await;
        assert_eq!(shown(&output), "1\t100000\n1\n2\n3\n42\n17000000\n1");
        let mut client = world.mysql(database, "alice", &world.token("alice"));
        client.args(["--max-allowed-packet=64M", "app", "-e", "select repeat('z', 17000000)"]);
        let long = client.output().await.unwrap();
        assert!(shown(&long).bytes().all(|byte| byte == b'z') && long.stdout.len() == 17_000_001);
    }
}

/// The lines of the file look like commands of the protocol and of `KILL`.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_arrives_byte_for_byte() {
    for database in databases().await {
        let world = builder(database).start().await;
        let file = world.folder().join("rows");
        let rows: String = (0..40_000).fold(String::new(), |all, n| {
            all + &format!("KILL QUERY 107374{}\t\u{11}x{n}\n", 1_000 + n % 9_000)
        });
        std::fs::write(&file, &rows).unwrap();
        let sql = format!(
            "create temporary table t (n int auto_increment primary key, a varchar(40), b varchar(20)) charset utf8mb4; \
             load data local infile '{}' into table t (a, b); \
             select count(*), sha2(group_concat(a, '\\t', b, '\\n' order by n separator ''), 256) from t",
            file.display()
        );
        let mut client = world.mysql(database, "alice", &world.token("alice"));
        let set = "set session group_concat_max_len = 100000000; ";
        let output =
            client.args(["--local-infile=1", "app", "-e", &format!("{set}{sql}")]).output().await.unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, rows.as_bytes());
        let hex: String =
            digest.as_ref().iter().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
        assert_eq!(shown(&output), format!("40000\t{hex}"));
    }
}

/// A client that runs what it is fed, and shows each answer at once.
fn fed(world: &World, database: &'static aws_emulator::CloudMysql) -> tokio::process::Child {
    let mut client = world.mysql(database, "alice", &world.token("alice"));
    client.args(["--unbuffered", "--skip-reconnect", "app"]).stdin(Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_session_are_those_of_a_server() {
    for database in databases().await {
        let world = builder(database).session("client_idle_timeout = \"1s\"").start().await;
        let mut client = fed(&world, database);
        let (mut stdin, stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        stdin.write_all(b"select 'ready';\n").await.unwrap();
        let mut lines = BufReader::new(stdout).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        let record = world.audit("outcome", "session").await;
        assert!(record["end"].as_str().unwrap().contains("idle"), "{record}");
        stdin.write_all(b"select 'again';\n").await.unwrap();
        drop(stdin);
        let output = client.wait_with_output().await.unwrap();
        let text = super::told(&output);
        assert!(text.contains("4031") && text.contains("because of inactivity"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_idle_sessions_with_the_servers_code() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = fed(&world, database);
        let (mut stdin, stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines();
        stdin.write_all(b"select 'ready';\n").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        world.stopping.drain.cancel();
        world.audit("outcome", "session").await;
        stdin.write_all(b"select 'again';\n").await.unwrap();
        drop(stdin);
        let text = super::told(&client.wait_with_output().await.unwrap());
        assert!(text.contains("1053") && text.contains("terminating connection due to"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_end_of_a_transaction() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = fed(&world, database);
        let (mut stdin, stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines();
        stdin.write_all(b"begin; select 'open';\n").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("open"));
        world.stopping.drain.cancel();
        stdin.write_all(b"select 'still';\n").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("still"));
        stdin.write_all(b"commit;\n").await.unwrap();
        world.audit("outcome", "session").await;
        stdin.write_all(b"select 'again';\n").await.unwrap();
        drop(stdin);
        let text = super::told(&client.wait_with_output().await.unwrap());
        assert!(text.contains("1053"), "{text}");
    }
}

/// What the proxy counts is what the server counts in its status "Questions".
#[tokio::test(flavor = "multi_thread")]
async fn queries_and_transactions_are_counted() {
    for database in databases().await {
        let world = builder(database).start().await;
        let sql = "select 1; begin; select 2; commit; set autocommit = 0; select 3 from dual; rollback; \
                   show session status like 'Questions'";
        let output = shown(&world.mysql_sql(database, "alice", &world.token("alice"), sql).await);
        let questions = output.lines().last().unwrap().split('\t').next_back().unwrap();
        let queries: f64 = questions.parse().unwrap();
        world.metric_is("pgpassport_cl_active", 0.0).await;
        world.metric_is("pgpassport_queries_total{cluster=\"app\"}", queries).await;
        assert!(queries >= 8.0, "{output}");
        let transactions = world.metric("pgpassport_transactions_total{cluster=\"app\"}").await;
        assert!(transactions >= 3.0 && transactions < queries, "{transactions} of {queries}");
    }
}
