//! The destination of audit records: a file, append-only and reopened by name at a reload, so that rotation consists of a
//! rename and a reload; or the socket of syslog.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::log_queue::{AuditBlocked, LogQueue};
use super::syslog::SyslogSocket;
use crate::config::WhenUnwritable;

/// Mode of a new file, before the umask.
const MODE: u32 = 0o640;

/// An open destination.
pub type AuditDestination = Box<dyn Write + Send>;

/// Opens `path` for appending, or connects to the socket there. A pipe (FIFO) without a reader is an error, not a wait.
pub(super) fn open(path: &Path) -> io::Result<AuditDestination> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(Box::new(SyslogSocket::connect(path)?));
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    Ok(Box::new(file))
}

/// Decides whether a login may continue although its audit record may be lost.
#[derive(Clone, Debug)]
pub struct AuditGate {
    queue: Arc<LogQueue>,
    when_unwritable: WhenUnwritable,
}

impl AuditGate {
    /// Applies `when_unwritable` to records in `queue`.
    pub(super) fn new(queue: Arc<LogQueue>, when_unwritable: WhenUnwritable) -> Self {
        Self { queue, when_unwritable }
    }

    /// Admits a login. The error is the reason why records cannot be written.
    pub fn admits(&self) -> Result<(), AuditBlocked> {
        match self.when_unwritable {
            WhenUnwritable::Continue => Ok(()),
            WhenUnwritable::RefuseLogins => self.queue.audit_writable(),
        }
    }
}
