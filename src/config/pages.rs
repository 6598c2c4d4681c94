//! `[profiles]`: an HTTPS page with the profiles of `pgpassport login https://…`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::SectionReader;

/// Address and certificate of an HTTPS page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageListener {
    /// Address and port to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Certificate chain, PEM.
    pub tls_cert_file: PathBuf,
    /// Private key, PEM.
    pub tls_key_file: PathBuf,
}

/// `[profiles]` with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfilesSettings {
    /// Address and certificate.
    pub listener: PageListener,
    /// The profiles, a `client.toml`.
    pub client_file: PathBuf,
}

/// The page of profiles; `None` if it is off.
pub(super) fn profiles(section: &SectionReader<'_, '_>) -> Option<ProfilesSettings> {
    let addr = addr(section);
    let required = |key, example| match addr {
        Some(_) => section.required_path(key, example),
        None => section.path(key),
    };
    let tls_cert_file = required("tls_cert_file", "\"/etc/pgpassport/profiles.crt\"");
    let tls_key_file = required("tls_key_file", "\"/etc/pgpassport/profiles.key\"");
    let client_file = required("client_file", "\"/etc/pgpassport/client.toml\"");
    unused_without_addr(section, &["tls_cert_file", "tls_key_file", "client_file"]);
    section.finish();
    let listener = PageListener { addr: addr?, tls_cert_file: tls_cert_file?, tls_key_file: tls_key_file? };
    Some(ProfilesSettings { listener, client_file: client_file? })
}

/// The address, which turns a page on.
fn addr(section: &SectionReader<'_, '_>) -> Option<SocketAddr> {
    section.parsed("addr", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an address; write \"0.0.0.0:443\" or \"[::]:443\""))
    })
}

/// Warns about keys of a page that is off.
fn unused_without_addr(section: &SectionReader<'_, '_>, keys: &[&'static str]) {
    if !section.has("addr")
        && let Some(key) = keys.iter().find(|key| section.has(key))
    {
        section.warn(key, format!("{} is not set, so this page is off", section.key("addr")));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{REFERENCE, read};

    #[test]
    fn profiles_are_off_without_an_address_and_need_all_keys_with_one() {
        let with =
            |keys: &str| read(&REFERENCE.replacen("\n[profiles]\n", &format!("\n[profiles]\n{keys}\n"), 1));
        let files = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\nclient_file = \"client.toml\"";
        let off = with(files).unwrap();
        assert!(off.profiles.is_none());
        assert!(
            off.warnings.iter().any(|text| text.contains("profiles.addr is not set")),
            "{:?}",
            off.warnings
        );
        let on = with(&format!("addr = \"[::]:443\"\n{files}")).unwrap().profiles.unwrap();
        assert_eq!(on.listener.addr.to_string(), "[::]:443");
        assert_eq!(on.client_file, std::path::Path::new("/etc/pgpassport/client.toml"));
        let told = with("addr = \"0.0.0.0:443\"").unwrap_err().to_string();
        for key in ["profiles.tls_cert_file", "profiles.tls_key_file", "profiles.client_file"] {
            assert!(told.contains(key), "{key}: {told}");
        }
        let told = with("addr = \"db.acme.com\"").unwrap_err().to_string();
        assert!(told.contains("is not an address"), "{told}");
    }
}
