//! `[admin]`: address of health and metrics.

use super::AdminSettings;
use super::reader::SectionReader;

pub(super) fn admin(section: &SectionReader<'_, '_>) -> AdminSettings {
    let addr = section.parsed("addr", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an address; write \"127.0.0.1:9127\""))
    });
    section.finish();
    AdminSettings { addr }
}
