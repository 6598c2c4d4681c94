//! `[cancel]`: secret with which replicas carry out each other's cancels.

use std::path::PathBuf;

use super::reader::SectionReader;

/// `[cancel]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelSettings {
    /// File with the secret that all replicas share; if absent, a random secret of this process.
    pub secret_file: Option<PathBuf>,
}

pub(super) fn cancel(section: &SectionReader<'_, '_>) -> CancelSettings {
    let cancel = CancelSettings { secret_file: section.path("secret_file") };
    section.finish();
    cancel
}
