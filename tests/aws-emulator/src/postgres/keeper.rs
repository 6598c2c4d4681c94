//! Keeps a server only as long as its owner lives: a shell holds the server and waits for the end of a pipe.
//!
//! The pipe ends when the [`PostgresGuardian`] is dropped, when the process exits with the keeper in a static, and also when the
//! process is killed. Then the shell stops the server at once and deletes its folder. Nothing has to run in the
//! process itself for that, which is why this is no `Drop` implementation or signal handler.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use crate::EmulatorError;
use crate::sync::lock;

/// The folder is `$1`, the server's command the rest. File descriptor 3 keeps the pipe away from the server, and standard
/// error is given up so that the log ends with the server. A server that is still starting is stopped like any other.
/// The word `keep` leaves the folder, for another attempt.
const SCRIPT: &str = r#"
dir=$1; shift
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
exec 2>/dev/null
read -r word <&3
kill -QUIT "$server"
wait "$server"
[ "$word" = keep ] || rm -rf -- "$dir"
"#;

/// What `postgres` says when it can take connections.
const READY: &str = "database system is ready to accept connections";

/// A running server.
pub(super) struct PostgresGuardian {
    shell: Child,
    /// Held open: its end is the server's end.
    pipe: Option<ChildStdin>,
    log: Arc<Mutex<String>>,
}

impl PostgresGuardian {
    /// Starts the command and waits until it takes connections. The inner error is the log of a server that gave up;
    /// the folder is then still there.
    pub(super) fn start(dir: &Path, command: &[String]) -> Result<Result<Self, String>, EmulatorError> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(dir)
            .args(command)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole process group; the shell must live to clean up.
            .process_group(0)
            .spawn()
            .map_err(EmulatorError::io("starting a shell to hold PostgreSQL"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = mpsc::channel();
        if let Some(stderr) = shell.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || copy_log(stderr, &log, &sender));
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
    pub(super) fn log(&self) -> String {
        lock(&self.log).clone()
    }
}

impl Drop for PostgresGuardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // When this returns, the server is gone and so is its folder.
        let _ = self.shell.wait();
    }
}

fn copy_log(stderr: ChildStderr, log: &Mutex<String>, ready: &mpsc::Sender<()>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let is_ready = line.contains(READY);
        let mut log = lock(log);
        log.push_str(&line);
        log.push('\n');
        drop(log);
        if is_ready {
            let _ = ready.send(()); // nobody waits for a second one
        }
    }
}
