//! Values that several sections have in common.

use std::time::Duration;

use super::reader::{SectionReader, SpannedValue};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// A limit of 0 is no limit, as in PgBouncer.
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

/// Tokens and keys travel to this address: https, or http to this very machine.
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
            return Err("http to this machine is for trying things; it needs private_network = true".into());
        }
        _ => return Err("write an address that begins with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or password in it is not used; leave them out".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("leave out everything from '?' or '#' on".into());
    }
    Ok(url)
}

pub(super) fn required_texts(
    section: &SectionReader<'_, '_>,
    key: &'static str,
    example: &str,
) -> Option<Vec<String>> {
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

/// `"a.b"` is claim b inside claim a; a name that holds dots itself is written as a list. A text with a slash is the
/// name of one claim (RFC 7519, section 4.2, collision-resistant names) and would be cut at the dots of its host, so
/// that the claim is never found: it is a problem.
pub(super) fn claim_path(section: &SectionReader<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let items = section.texts(key)?;
    let names: Vec<String> = match items.value.as_slice() {
        // A text covers the whole value; in a list each text is a name as it stands.
        [one] if one.span == items.span => {
            if one.value.contains('/') {
                let text = format!(
                    "a claim whose name is a URL is written as a list: {key} = [{:?}]; a text is a path that is cut \
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
