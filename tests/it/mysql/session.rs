//! Live sessions: transparency, files, and the ends that the proxy makes.

use std::process::Stdio;

use aws_emulator::CloudMysql;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

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

/// A client that executes each statement as it is written to its input, and prints each answer at once.
struct LiveClient {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl LiveClient {
    fn start(world: &World, database: &'static CloudMysql) -> Self {
        let mut command = world.mysql(database, "alice", &world.token("alice"));
        command.args(["--unbuffered", "--skip-reconnect", "app"]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, lines: BufReader::new(output).lines() }
    }

    async fn write(&mut self, statement: &str) {
        self.input.write_all(format!("{statement}\n").as_bytes()).await.unwrap();
    }

    /// Has `select '<word>'` executed, after `before`, and waits for the answer.
    async fn select(&mut self, before: &str, word: &str) {
        self.write(&format!("{before}select '{word}';")).await;
        assert_eq!(self.lines.next_line().await.unwrap().as_deref(), Some(word));
    }

    /// Writes one more statement, and gives everything that the client prints until its end.
    async fn last_words(mut self) -> String {
        self.write("select 'again';").await;
        drop(self.input);
        super::told(&self.child.wait_with_output().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_a_session_are_those_of_a_server() {
    for database in databases().await {
        let world = builder(database).session("client_idle_timeout = \"1s\"").start().await;
        let mut client = LiveClient::start(&world, database);
        client.select("", "ready").await;
        let record = world.audit("outcome", "session").await;
        assert!(record["end"].as_str().unwrap().contains("idle"), "{record}");
        let text = client.last_words().await;
        assert!(text.contains("4031") && text.contains("because of inactivity"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_idle_sessions_with_the_servers_code() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = LiveClient::start(&world, database);
        client.select("", "ready").await;
        world.stopping.drain.cancel();
        world.audit("outcome", "session").await;
        let text = client.last_words().await;
        assert!(text.contains("1053") && text.contains("terminating connection due to"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_end_of_a_transaction() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = LiveClient::start(&world, database);
        client.select("begin; ", "open").await;
        world.stopping.drain.cancel();
        client.select("", "still").await;
        client.write("commit;").await;
        world.audit("outcome", "session").await;
        let text = client.last_words().await;
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
