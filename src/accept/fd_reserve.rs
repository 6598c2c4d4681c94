//! Descriptors kept back for the time when there are no others: without one nobody can be accepted, not even to be
//! told so, and clients would wait in the queue until they give up.

use std::fs::File;
use std::io;

/// How many are kept: so many clients less one can be told at the same time that there is no place.
const KEPT: usize = 8;

/// Whom a descriptor of the reserve is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpareFd {
    /// A client that is told why it cannot be served.
    ForRefusal,
    /// The last one: a client that is closed at once, so that the next one does not wait either.
    ForClose,
}

/// The descriptors.
#[derive(Debug)]
pub(super) struct FdReserve(Vec<File>);

impl FdReserve {
    /// A full one, if the system gives it.
    pub(super) fn new() -> Self {
        let mut reserve = Self(Vec::with_capacity(KEPT));
        reserve.refill();
        reserve
    }

    /// Takes back what there is to take.
    pub(super) fn refill(&mut self) {
        while self.0.len() < KEPT
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Gives the system a descriptor, for the next one that asks.
    pub(super) fn take_spare(&mut self) -> Option<SpareFd> {
        self.refill();
        drop(self.0.pop()?);
        Some(if self.0.is_empty() { SpareFd::ForClose } else { SpareFd::ForRefusal })
    }
}

/// Whether this is the want of descriptors, of the process (EMFILE) or of the machine (ENFILE).
pub(super) fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23; // Linux, include/uapi/asm-generic/errno-base.h
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
