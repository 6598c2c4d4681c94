//! Programs of the servers: running them, and where their servers may listen.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::EmulatorError;
use crate::files::TempDir;

/// Runs a program to its end and gives what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, EmulatorError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(EmulatorError::io(format!("running {program}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(EmulatorError::Program { program, said: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// A port of loopback that is free at this moment.
pub(crate) fn free_port() -> Result<SocketAddr, EmulatorError> {
    let io = || EmulatorError::io("looking for a free port");
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(io())
}

/// True if this process is root.
pub(crate) fn run_as_root() -> Result<bool, EmulatorError> {
    // A file that has just been made belongs to the effective user: that is how to ask without unsafe code.
    let probe = TempDir::new("emu-who", 0o700)?;
    let made =
        std::fs::metadata(probe.path()).map_err(EmulatorError::io("finding out which user this is"))?;
    Ok(made.uid() == 0)
}
