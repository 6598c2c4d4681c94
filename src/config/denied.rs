//! `[denied]`: people and tokens whose access is withdrawn before the token expires.

use super::IssuerSettings;
use super::reader::SectionReader;
use super::readers::texts_or;

/// A `[[denied]]`: people and tokens that are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedSettings {
    /// Name of the issuer; any if absent.
    pub issuer: Option<String>,
    /// Values of `sub`.
    pub subjects: Vec<String>,
    /// Values of `jti`.
    pub token_ids: Vec<String>,
}

pub(super) fn denied(
    root: &SectionReader<'_, '_>,
    issuers: Option<&[IssuerSettings]>,
) -> Vec<DeniedSettings> {
    let one = |section: &SectionReader<'_, '_>| {
        let known = |name: &str| issuers.is_none_or(|issuers| issuers.iter().any(|known| known.name == name));
        let issuer = section.parsed("issuer", |name| {
            if known(name) { Ok(name.to_owned()) } else { Err(format!("there is no [[issuer]] {name:?}")) }
        });
        let subjects = texts_or(section, "subjects", &[]);
        let token_ids = texts_or(section, "token_ids", &[]);
        section.finish();
        DeniedSettings { issuer, subjects, token_ids }
    };
    root.one_or_several("denied").iter().map(one).collect()
}
