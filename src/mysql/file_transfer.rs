//! Mark of a transfer by `LOAD DATA LOCAL INFILE`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Marks that the server reads a file from the client, so that the client's packets are data. Shared by the tracker and
/// the filter of one session.
#[derive(Clone, Debug, Default)]
pub struct FileTransfer(Arc<AtomicBool>);

impl FileTransfer {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
