//! Reserved file descriptors. Without a free descriptor no client can be accepted, not even to be refused,
//! and clients would wait in the queue until they time out.

use std::fs::File;
use std::io;

/// Number of reserved descriptors. All but one serve clients that get a refusal; the last lets the process
/// accept and close.
const KEPT: usize = 8;

/// Purpose of a reserved descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpareFd {
    /// A client that gets a refusal with its reason.
    ForRefusal,
    /// The last descriptor: a client that is closed immediately, so that the next one does not wait.
    ForClose,
}

/// The reserved descriptors.
#[derive(Debug)]
pub(super) struct FdReserve(Vec<File>);

impl FdReserve {
    /// A full reserve, if the system has enough descriptors.
    pub(super) fn new() -> Self {
        let mut reserve = Self(Vec::with_capacity(KEPT));
        reserve.refill();
        reserve
    }

    /// Refills the reserve with available descriptors.
    pub(super) fn refill(&mut self) {
        while self.0.len() < KEPT
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Frees a reserved descriptor for the next accept.
    pub(super) fn take_spare(&mut self) -> Option<SpareFd> {
        self.refill();
        drop(self.0.pop()?);
        Some(if self.0.is_empty() { SpareFd::ForClose } else { SpareFd::ForRefusal })
    }
}

/// True if the error is a shortage of descriptors, of the process (EMFILE) or of the machine (ENFILE).
pub(super) fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23; // Linux, include/uapi/asm-generic/errno-base.h
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
