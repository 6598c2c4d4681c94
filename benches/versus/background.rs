//! Other work for the processors, so that nobody's figures hang on how deep they sleep between two messages.

use std::process::{Command, Stdio};

use crate::ground::RunningProgram;

/// A busy loop on each processor at the lowest priority. It ends when this is dropped.
pub(crate) fn busy() -> Vec<RunningProgram> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spin = |_| {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
        RunningProgram(command.spawn().expect("nice and sh"))
    };
    (0..processors).map(spin).collect()
}
