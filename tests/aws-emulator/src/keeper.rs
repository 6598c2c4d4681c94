//! Keeps a server only as long as its owner lives: a shell holds the server and waits for the end of a pipe.
//!
//! The pipe ends when the [`ServerGuardian`] is dropped, when the process exits with the keeper in a static, and also when the
//! process is killed. Then the shell stops the server at once and deletes its folder. Nothing has to run in the
//! process itself for that, which is why this is no `Drop` implementation or signal handler.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use crate::files::TempDir;
use crate::sync::lock;
use crate::{EmulatorError, programs};

/// The folder is `$1`, the signal that ends the server `$2`, the server's command the rest. File descriptor 3 keeps the pipe away from the server, and standard
/// error is given up so that the log ends with the server. A server that is still starting is stopped like any other.
/// The word `keep` leaves the folder, for another attempt.
const SCRIPT: &str = r#"
dir=$1 signal=$2; shift 2
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
exec 2>/dev/null
read -r word <&3
kill -s "$signal" "$server"
wait "$server"
[ "$word" = keep ] || rm -rf -- "$dir"
"#;

/// Properties of a kind of server.
#[derive(Clone, Copy)]
pub(crate) struct ServerKind {
    /// Its name for messages.
    pub(crate) name: &'static str,
    /// Part of the line of its log that says that it takes connections.
    pub(crate) ready: &'static str,
    /// The signal that ends it at once. Its data goes, so that it has nothing to save.
    pub(crate) signal: &'static str,
}

/// Number of ports that are tried.
const ATTEMPTS: usize = 5;

/// A running server.
pub(crate) struct ServerGuardian {
    shell: Child,
    /// Held open: its end is the server's end.
    pipe: Option<ChildStdin>,
    log: Arc<Mutex<String>>,
}

impl ServerGuardian {
    /// Starts a server that keeps its data in `dir` on a free port; `command` gives its command for a port. Another process
    /// can take the port before the server does; then another port is tried. The inner error is a server that gave up.
    pub(crate) fn on_free_port(
        kind: ServerKind,
        dir: TempDir,
        command: impl Fn(u16) -> Vec<String>,
    ) -> Result<Result<(Self, SocketAddr), String>, EmulatorError> {
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            let addr = programs::free_port()?;
            match Self::start(kind, dir.path(), &command(addr.port()))? {
                Ok(guardian) => {
                    dir.keep(); // the shell deletes it
                    return Ok(Ok((guardian, addr)));
                }
                Err(log) => problem = log,
            }
            if !problem.contains("Address already in use") {
                break;
            }
        }
        Ok(Err(format!("the server did not start; it said:\n{problem}")))
    }

    /// Starts the command and waits until it takes connections. The inner error is the log of a server that gave up;
    /// the folder is then still there.
    fn start(
        kind: ServerKind,
        dir: &Path,
        command: &[String],
    ) -> Result<Result<Self, String>, EmulatorError> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(dir)
            .arg(kind.signal)
            .args(command)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole process group; the shell must live to clean up.
            .process_group(0)
            .spawn()
            .map_err(EmulatorError::io(format!("starting a shell to hold {}", kind.name)))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = mpsc::channel();
        if let Some(stderr) = shell.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || copy_log(stderr, &log, kind.ready, &sender));
        }
        let pipe = shell.stdin.take();
        let mut guardian = Self { shell, pipe, log };
        // The channel ends without a word when the log does.
        if ready.recv().is_ok() {
            return Ok(Ok(guardian));
        }
        if let Some(pipe) = &mut guardian.pipe {
            pipe.write_all(b"keep\n").map_err(EmulatorError::io("telling the shell to keep the folder"))?;
        }
        let log = guardian.log();
        Ok(Err(log))
    }

    /// Everything the server has logged.
    pub(crate) fn log(&self) -> String {
        lock(&self.log).clone()
    }
}

impl Drop for ServerGuardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // When this returns, the server is gone and so is its folder.
        let _ = self.shell.wait();
    }
}

fn copy_log(stderr: ChildStderr, log: &Mutex<String>, ready: &str, started: &mpsc::Sender<()>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let is_ready = line.contains(ready);
        let mut log = lock(log);
        log.push_str(&line);
        log.push('\n');
        drop(log);
        if is_ready {
            let _ = started.send(()); // nobody waits for a second one
        }
    }
}
