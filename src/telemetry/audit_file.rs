//! File of audit records: it grows at its end, and is opened again by its name when the configuration is reloaded, so
//! that whoever rotates it only has to rename it and to reload.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::log_queue::{AuditBlocked, LogQueue};
use crate::config::WhenUnwritable;

/// Permissions of a file that is not there yet; the umask takes from them.
const MODE: u32 = 0o640;

/// Opens `path` to append to it. A pipe (FIFO) without a reader is an error and no wait.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
}

/// Decision whether a login may go on although its audit record may be lost.
#[derive(Clone, Debug)]
pub struct AuditGate {
    queue: Arc<LogQueue>,
    when_unwritable: WhenUnwritable,
}

impl AuditGate {
    /// The rule `when_unwritable` for records that go to `queue`.
    pub(super) fn new(queue: Arc<LogQueue>, when_unwritable: WhenUnwritable) -> Self {
        Self { queue, when_unwritable }
    }

    /// Lets a login pass, or says why records cannot be written.
    pub fn admits(&self) -> Result<(), AuditBlocked> {
        match self.when_unwritable {
            WhenUnwritable::Continue => Ok(()),
            WhenUnwritable::RefuseLogins => self.queue.audit_writable(),
        }
    }
}
