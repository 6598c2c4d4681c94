//! `[cancel]`: what replicas need to carry out each other's cancels.

use super::CancelSettings;
use super::reader::Section;

pub(super) fn cancel(section: &Section<'_, '_>) -> CancelSettings {
    let cancel = CancelSettings { secret_file: section.path("secret_file") };
    section.finish();
    cancel
}
