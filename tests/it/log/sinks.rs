//! Standard error as a service can find it: a full disk, and readers who are gone, asleep or slow.

use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::world::binary::Launch;

/// Mounts a file system without a free byte in a namespace of the service's own, with the log on it.
pub(super) const FULL_DISK: &str = "mkdir disk && mount -t tmpfs -o size=64k none disk && : >disk/log \
    && { cat /dev/zero >disk/filler 2>/dev/null || :; } && exec \"$@\" 2>disk/log";

/// Bytes that the slow reader takes each time, and its pause: 20 KB/s.
const SIP: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    DevFull,
    FullDisk,
    ClosedPipe,
    StoppedReader,
    SlowReader,
}

/// The other end of a sink.
pub(super) enum Reader {
    None,
    Stopped(PipeReader),
}

impl Sink {
    pub(super) const ALL: [Self; 5] =
        [Self::DevFull, Self::FullDisk, Self::ClosedPipe, Self::StoppedReader, Self::SlowReader];

    /// Opens it for a service that is about to start; `None` where this machine cannot have it.
    pub(super) fn open(self) -> Option<(Launch, Reader)> {
        let usual = Launch::usual();
        Some(match self {
            Self::DevFull => {
                let full = File::options().write(true).open("/dev/full").unwrap();
                (Launch { stderr: Some(full.into()), ..usual }, Reader::None)
            }
            Self::FullDisk if !can_mount() => {
                eprintln!("skipped: a full disk needs the right to mount one");
                return None;
            }
            Self::FullDisk => (Launch { shell: Some(FULL_DISK.to_owned()), ..usual }, Reader::None),
            Self::ClosedPipe => (Launch { stderr: Some(pipe().unwrap().1.into()), ..usual }, Reader::None),
            Self::StoppedReader => {
                let (reader, stderr) = full_pipe();
                (Launch { stderr: Some(stderr), ..usual }, Reader::Stopped(reader))
            }
            Self::SlowReader => {
                let (mut reader, stderr) = full_pipe();
                thread::spawn(move || {
                    while reader.read(&mut [0; SIP]).unwrap() > 0 {
                        thread::sleep(PAUSE);
                    }
                });
                (Launch { stderr: Some(stderr), ..usual }, Reader::None)
            }
        })
    }
}

/// A pipe without room for a single byte more.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = pipe().unwrap();
    fill_pipe(&writer);
    (reader, writer.into())
}

/// Fills a pipe with lines of one `x`.
pub(super) fn fill_pipe(pipe: &impl AsRawFd) {
    // Opened again: its other writers shall go on to wait.
    let own = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let mut writer = File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(own).unwrap();
    for lines in [2_048, 1] {
        while writer.write_all("x\n".repeat(lines).as_bytes()).is_ok() {}
    }
}

pub(super) fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}
