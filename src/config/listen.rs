//! `[listen]`: where clients connect and what they are shown.

use std::net::SocketAddr;

use super::ListenSettings;
use super::reader::Section;

pub(super) fn listen(section: &Section<'_, '_>) -> Option<ListenSettings> {
    let addr = section.parsed("addr", |text| {
        text.parse()
            .map_err(|_| format!("{text:?} is not an address; write \"0.0.0.0:5432\" or \"[::]:5432\""))
    });
    let tls_cert_file = section.required_path("tls_cert_file", "\"/etc/pgpassport/server.crt\"");
    let tls_key_file = section.required_path("tls_key_file", "\"/etc/pgpassport/server.key\"");
    let plaintext_from_loopback = section.boolean("plaintext_from_loopback", false);
    section.finish();
    Some(ListenSettings {
        addr: addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 5432))),
        tls_cert_file: tls_cert_file?,
        tls_key_file: tls_key_file?,
        plaintext_from_loopback,
    })
}
