//! Programs that do not outlive their test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::raw::PATIENCE;

/// Number of restarts of a test: `usual`, or that of the environment's `RESTARTS` for the long form.
pub(crate) fn restarts(usual: usize) -> usize {
    std::env::var("RESTARTS").map_or(usual, |number| number.parse().unwrap())
}

/// A started program.
pub(crate) struct TestProcess(pub(crate) Child);

impl Drop for TestProcess {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has usually ended
        let _ = self.0.wait();
    }
}

impl TestProcess {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Sends a signal by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let signal: Signal = format!("SIG{name}").parse().unwrap();
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end. Its exit code; `None` if a signal killed it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

/// The binary, which logs as JSON to a pipe.
pub(crate) struct ServiceProcess(pub(crate) TestProcess);

impl ServiceProcess {
    pub(crate) fn start(config: &Path, notify: &Path) -> Self {
        Self(TestProcess::spawn(&mut Self::command(config, notify)))
    }

    pub(crate) fn command(config: &Path, notify: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpassport"));
        command.args(["serve", "--log-format", "json", "--config"]).arg(config);
        command.env("NOTIFY_SOCKET", notify).stderr(Stdio::piped());
        command
    }

    pub(crate) fn signal(&self, name: &str) {
        self.0.signal(name);
    }

    /// The lines of its log, from the first one.
    pub(crate) fn log(&mut self) -> Receiver<String> {
        lines(self.0.0.stderr.take().unwrap())
    }

    /// Its exit code, once its log has ended.
    pub(crate) fn ended(&mut self, log: &Receiver<String>) -> Option<i32> {
        let end = loop {
            if let Err(end) = log.recv_timeout(PATIENCE) {
                break end;
            }
        };
        assert_eq!(end, RecvTimeoutError::Disconnected, "the service logs no more and does not end");
        self.0.exit_code()
    }
}

/// The lines of `from`, read as they come so that its writer never waits.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().try_for_each(|line| send.send(line.unwrap())));
    lines
}
