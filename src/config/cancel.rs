//! `[cancel]`: what replicas need to carry out each other's cancels.

use super::CancelSettings;
use super::reader::SectionReader;

pub(super) fn cancel(section: &SectionReader<'_, '_>) -> CancelSettings {
    let cancel = CancelSettings { secret_file: section.path("secret_file") };
    section.finish();
    cancel
}
