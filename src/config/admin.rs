//! `[admin]`: where health and metrics are asked for.

use super::AdminSettings;
use super::reader::Section;

pub(super) fn admin(section: &Section<'_, '_>) -> AdminSettings {
    let addr = section.parsed("addr", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an address; write \"127.0.0.1:9127\""))
    });
    section.finish();
    AdminSettings { addr }
}
