//! psql, started against a world's proxy.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{World, database};

/// Result of a run of psql.
#[derive(Debug)]
pub(crate) struct PsqlOutput {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// Runs psql with the token in `PGPASSWORD`.
    pub(crate) async fn psql(&self, connection: &str, token: &str, args: &[&str]) -> PsqlOutput {
        self.psql_fed(connection, token, args, "").await
    }

    /// A psql with the token in `PGPASSWORD`, to be started.
    pub(crate) fn psql_command(&self, connection: &str, token: &str, args: &[&str]) -> Command {
        let ca = self.listener_ca.write(self.folder.path()).unwrap();
        let connection = format!(
            "host=localhost hostaddr=127.0.0.1 port={} sslmode=verify-full sslrootcert={} {connection}",
            self.port,
            ca.display()
        );
        let mut command = Command::from(database().postgres.psql());
        command
            .arg(connection)
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(args)
            .env("PGPASSWORD", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn psql_fed(
        &self,
        connection: &str,
        token: &str,
        args: &[&str],
        input: &str,
    ) -> PsqlOutput {
        let mut command = self.psql_command(connection, token, args);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_bytes().to_vec();
        let feeding = tokio::spawn(async move {
            let _ = stdin.write_all(&input).await; // psql may end before
        });
        let output = child.wait_with_output().await.unwrap();
        feeding.await.unwrap();
        self.hear(&output.stderr);
        PsqlOutput {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
