//! Readers for values that several sections share.

use std::time::Duration;

use super::reader::{SectionReader, SpannedValue};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// Largest configurable count of connections, above any real one.
pub(super) const MOST_CONNECTIONS: usize = 1_000_000;

/// Maps a limit of 0 to no limit, as in PgBouncer.
pub(super) fn none_for_zero(limit: usize) -> Option<usize> {
    (limit > 0).then_some(limit)
}

pub(super) fn name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 63 || !text.chars().all(legal) {
        return Err("write a name of at most 63 letters, digits, '-', '_' and '.'".into());
    }
    Ok(text.to_owned())
}

/// Reads a URL to which tokens and keys are sent: https, or http to this machine.
pub(super) fn web_address(text: &str, private_network: bool) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(domain)) => domain == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback && private_network => {}
        "http" if loopback => {
            return Err("http to this machine is for tests; it needs private_network = true".into());
        }
        _ => return Err("write an address that begins with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or password is not accepted; remove them".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("remove everything from '?' or '#' on".into());
    }
    Ok(url)
}

pub(super) fn required_texts(
    section: &SectionReader<'_, '_>,
    key: &'static str,
    example: &str,
) -> Option<Vec<String>> {
    section.record_required(key);
    let Some(items) = section.texts(key) else {
        section.missing(key, example);
        return None;
    };
    let texts: Vec<String> =
        items.value.iter().map(|item| item.value.to_owned()).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        section.reading.problem(&items.span, &items.key, format!("write at least one, as in {example}"));
        return None;
    }
    Some(texts)
}

pub(super) fn texts_or(section: &SectionReader<'_, '_>, key: &'static str, default: &[&str]) -> Vec<String> {
    match section.texts(key) {
        Some(SpannedValue { value, .. }) => value.into_iter().map(|item| item.value.to_owned()).collect(),
        None => default.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// Reads a claim path. `"a.b"` is claim b inside claim a; a name with dots is written as a list. A string
/// with a slash is the name of one claim (RFC 7519, section 4.2, collision-resistant names). It would be
/// split at the dots of its host and never match, so it is reported as a problem.
pub(super) fn claim_path(section: &SectionReader<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let items = section.texts(key)?;
    let names: Vec<String> = match items.value.as_slice() {
        // A string covers the whole value; in a list each string is one name.
        [one] if one.span == items.span => {
            if one.value.contains('/') {
                let text = format!(
                    "a claim whose name is a URL is written as a list: {key} = [{:?}]; a string is a path that is split \
                     at its dots",
                    one.value
                );
                section.reading.problem(&items.span, &items.key, text);
                return None;
            }
            one.value.split('.').map(str::to_owned).collect()
        }
        several => several.iter().map(|item| item.value.to_owned()).collect(),
    };
    if names.is_empty() || names.iter().any(String::is_empty) || names.len() > 8 {
        let text =
            "write a claim's name, as in \"email\", \"acme.db_user\" or [\"https://acme.com/db\", \"user\"]";
        section.reading.problem(&items.span, &items.key, text);
        return None;
    }
    Some(names)
}

/// The names under `issuer`: one or several.
pub(super) fn issuers_of(section: &SectionReader<'_, '_>) -> Option<Vec<String>> {
    let items = section.texts("issuer")?;
    if items.value.is_empty() {
        let text = "write the name of an [[issuer]], or several in a list, or leave the key out";
        section.reading.problem(&items.span, &items.key, text);
    }
    Some(items.value.into_iter().map(|item| item.value.to_owned()).collect())
}
