//! Portals: commands that a client has bound, and what is left of their answers.

use super::commands::CommandAnswer;
use super::rows::{MAX_BYTES, ResultFormats};

/// Most bytes of the answers that a client's portals hold: those of which it has fetched some rows and not all.
pub(super) const MAX_HELD: usize = 16 << 20;
const _: () = assert!(MAX_HELD >= 2 * MAX_BYTES);

/// A bound command, and its answer once it is executed.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) command: String,
    pub(super) formats: ResultFormats,
    pub(super) answer: Option<CommandAnswer>,
    /// Bytes of the answer, which stay in memory until the last row is fetched.
    pub(super) size: usize,
}

impl Portal {
    /// Bytes that the portal holds.
    pub(super) fn held(&self) -> usize {
        let rows = self.answer.as_ref().and_then(|answer| answer.rows.as_ref());
        if rows.is_some_and(|rows| rows.size() > 0) { self.size } else { 0 }
    }
}
