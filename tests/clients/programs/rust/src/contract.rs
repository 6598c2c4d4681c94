//! The contract between a client program in Rust and its runner: environment in, one JSON line per check out.

use std::fmt::Debug;

use serde_json::{Value, json};

pub type Problem = Box<dyn std::error::Error + Send + Sync>;
pub type Note = Result<String, Problem>;

/// Length of a row of MySQL that is longer than a packet.
pub const ROW_LENGTH: usize = 17 * 1024 * 1024;

/// Table that the programs for MySQL make.
pub const TABLE: &str =
    "create temporary table t (n int primary key, text varchar(40)) character set utf8mb4";

pub fn env(name: &str) -> String {
    std::env::var(format!("MATRIX_{name}")).unwrap()
}

pub fn say(fields: Value) {
    println!("{fields}");
}

pub async fn check(name: &str, work: impl Future<Output = Note>) {
    match work.await {
        Ok(note) => say(json!({ "check": name, "result": "ok", "note": note })),
        Err(problem) => say(json!({ "check": name, "result": "failed", "note": format!("{problem}") })),
    }
}

/// Returns when the runner has done what is asked for.
pub async fn ask(what: &'static str) -> Result<(), Problem> {
    let answer = tokio::task::spawn_blocking(move || {
        say(json!({ "await": what }));
        std::io::stdin().read_line(&mut String::new())
    });
    if answer.await?? == 0 { Err("the runner has gone".into()) } else { Ok(()) }
}

pub fn expect<T: PartialEq + Debug>(got: T, wanted: T) -> Result<(), Problem> {
    if got == wanted { Ok(()) } else { Err(format!("{got:?} instead of {wanted:?}").into()) }
}

/// Compares a 50 MB result, given as its lines.
#[derive(Default)]
pub struct Big {
    digest: Option<aws_lc_rs::digest::Context>,
    length: usize,
}

impl Big {
    pub fn add(&mut self, line: &[u8]) {
        let start = || aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        self.digest.get_or_insert_with(start).update(line);
        self.length += line.len();
    }

    pub fn finish(self) -> Note {
        expect(self.length, 51_200 * 1_024)?;
        let digest = self.digest.ok_or("no rows")?.finish();
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        expect(hex, env("BIG_SHA256"))?;
        Ok(String::new())
    }
}

/// What is copied in and out.
pub fn rows() -> String {
    (0..10_000).map(|n| format!("{n}\ttext, {n} ü\n")).collect()
}
