//! `[cancel]`: secret with which replicas carry out each other's cancels.

use super::CancelSettings;
use super::reader::SectionReader;

pub(super) fn cancel(section: &SectionReader<'_, '_>) -> CancelSettings {
    let cancel = CancelSettings { secret_file: section.path("secret_file") };
    section.finish();
    cancel
}
