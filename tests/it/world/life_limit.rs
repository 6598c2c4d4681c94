//! A limit on the life of a world: a test that waits for ever ends the run and is named.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longest life of a world. The longest test takes a minute on a machine with two cores and nothing else to do.
const LONGEST: Duration = Duration::from_mins(10);

/// Ends the process when it is not dropped in time.
pub(super) struct LifeLimit {
    _owner: Sender<()>,
}

impl LifeLimit {
    /// Starts the clock for the test of the current thread.
    pub(super) fn start() -> Self {
        let (owner, ended) = channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if ended.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                // Not eprintln!, which libtest would capture.
                let _ = writeln!(std::io::stderr(), "\n{test} has not ended after {} s", LONGEST.as_secs());
                #[expect(clippy::disallowed_methods, reason = "a test that hangs cannot end in another way")]
                std::process::exit(101);
            }
        });
        Self { _owner: owner }
    }
}
