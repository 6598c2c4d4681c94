//! The cache in a keychain, by the protocol of docker-credential-helpers: a program with one word as its argument, and
//! JSON or a key on its standard input. The secret never stands in an argument.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{CacheError, MAX_RECORD_BYTES};
use crate::names::printable;

/// Longest run of the program: a person may have to unlock a keychain.
const MAX_TIME: Duration = Duration::from_mins(1);

/// Longest message of the program that is shown, in bytes.
const MAX_SHOWN: usize = 200;

#[derive(Debug)]
pub(super) struct CredentialHelper {
    name: String,
    key: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ToStore<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    secret: String,
}

struct HelperOutput {
    ok: bool,
    text: Zeroizing<Vec<u8>>,
}

impl CredentialHelper {
    /// The helper `docker-credential-NAME`, and the key of a profile in it. Helpers of keychains take web addresses only.
    pub(super) fn new(name: &str, profile: &str) -> Self {
        Self { name: name.to_owned(), key: format!("https://pgpassport.invalid/{profile}") }
    }

    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    pub(super) async fn get(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        let output = self.run("get", self.key.as_bytes()).await?;
        if !output.ok {
            let absent = String::from_utf8_lossy(&output.text).contains("credentials not found");
            return if absent { Ok(None) } else { Err(self.failed(&output)) };
        }
        let found: Found =
            serde_json::from_slice(&output.text).map_err(|_| self.error("its answer is not JSON"))?;
        Ok(Some(Zeroizing::new(found.secret.into_bytes())))
    }

    pub(super) async fn store(&self, text: &[u8]) -> Result<(), CacheError> {
        let secret = std::str::from_utf8(text).map_err(|_| self.error("the tokens are not text"))?;
        let entry = ToStore { server_url: &self.key, username: "pgpassport", secret };
        let entry = serde_json::to_vec(&entry).map_err(|error| self.error(&error.to_string()))?;
        let output = self.run("store", &Zeroizing::new(entry)).await?;
        if output.ok { Ok(()) } else { Err(self.failed(&output)) }
    }

    pub(super) async fn erase(&self) -> Result<(), CacheError> {
        let output = self.run("erase", self.key.as_bytes()).await?;
        let absent = String::from_utf8_lossy(&output.text).contains("credentials not found");
        if output.ok || absent { Ok(()) } else { Err(self.failed(&output)) }
    }

    async fn run(&self, word: &str, input: &[u8]) -> Result<HelperOutput, CacheError> {
        let io = |error: std::io::Error| self.error(&error.to_string());
        let mut child = Command::new(self.program())
            .arg(word)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(io)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let whole = async {
            let feeding = async {
                if let Some(mut stdin) = stdin {
                    let _ = stdin.write_all(input).await; // the exit code tells whether it was enough
                }
            };
            let mut text = Zeroizing::new(Vec::with_capacity(MAX_RECORD_BYTES));
            let reading = async {
                let limit = u64::try_from(MAX_RECORD_BYTES).unwrap_or(u64::MAX);
                match stdout {
                    Some(stdout) => stdout.take(limit).read_to_end(&mut text).await.map(drop),
                    None => Ok(()),
                }
            };
            let ((), read) = tokio::join!(feeding, reading);
            read.map_err(io)?;
            let status = child.wait().await.map_err(io)?;
            Ok(HelperOutput { ok: status.success(), text })
        };
        timeout(MAX_TIME, whole).await.unwrap_or_else(|_| Err(self.error("no answer within a minute")))
    }

    /// A failing helper says why on its standard output; that is no secret.
    fn failed(&self, output: &HelperOutput) -> CacheError {
        self.error(&printable(String::from_utf8_lossy(&output.text).trim(), MAX_SHOWN))
    }

    fn error(&self, problem: &str) -> CacheError {
        CacheError::Helper { name: self.name.clone(), problem: problem.to_owned() }
    }
}
