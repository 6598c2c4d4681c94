//! Keys of the running configuration with their values, for the console. The reader records each key that it asks for.
//! No key holds a secret: secrets are in files, and the keys have the files' names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use toml::de::{DeInteger, DeValue};

use super::Config;
use super::restart_only::is_restart_only;
use super::schema::forms;
use crate::names::visible;

/// Longest value, in bytes.
const MAX_VALUE: usize = 1_024;

/// Longest name of the operator's own key in a value, in bytes.
const MAX_NAME: usize = 63;

/// A key of the running configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningKey {
    /// The key with its tables, as in `cluster[0].endpoint`.
    pub key: String,
    /// Value; the default where the file does not have the key.
    pub value: Option<String>,
    /// Default. A default that other keys decide may be absent.
    pub default: Option<String>,
    /// True if a change takes effect at a restart only.
    pub needs_restart: bool,
}

impl Config {
    /// Shows `value` for a key, which the command line has set.
    pub fn show_value(&mut self, key: &str, value: &str) {
        for shown in Arc::make_mut(&mut self.keys).iter_mut().filter(|shown| shown.key == key) {
            shown.value = Some(value.to_owned());
        }
    }
}

/// Names and numbers of a key, for its order.
type KeyParts = Vec<(usize, String)>;

/// The keys that the reader has asked for, in their order.
#[derive(Debug, Default)]
pub(super) struct KeyRecorder(BTreeMap<KeyParts, RunningKey>);

impl KeyRecorder {
    /// Records a key whose value has this form. `found` is its value in the file.
    pub(super) fn value(&mut self, key: String, form: &Value, found: Option<&DeValue<'_>>) {
        let needs_restart = is_restart_only(&key);
        let parts = parts(&key);
        let unread = RunningKey { key, value: None, default: None, needs_restart };
        let recorded = self.0.entry(parts).or_insert(unread);
        if recorded.default.is_none() {
            recorded.default = form.get("default").and_then(default);
        }
        recorded.value = match found {
            Some(found) => Some(written(found, form)),
            None => recorded.default.clone(),
        };
    }

    /// The keys.
    pub(super) fn finish(self) -> Vec<RunningKey> {
        self.0.into_values().collect()
    }
}

/// `a[10].b` as a, 10, b: numbers in the order of their values.
fn parts(key: &str) -> KeyParts {
    let parts = key.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
}

/// The default of a form. A list or a table has none.
fn default(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value as operators read it: a text without quotes, a duration in the spelling of the defaults, else TOML.
fn written(value: &DeValue<'_>, form: &Value) -> String {
    let duration = |text| {
        let parsed = humantime::parse_duration(text).ok().filter(|_| forms::is_duration(form));
        parsed.map(|time| humantime::format_duration(time).to_string())
    };
    match value {
        DeValue::String(text) => duration(text).unwrap_or_else(|| visible(text, MAX_VALUE)),
        other => {
            let mut out = String::new();
            append(other, &mut out);
            visible(&out, MAX_VALUE)
        }
    }
}

/// Appends a value as TOML. Stops at the longest length.
fn append(value: &DeValue<'_>, out: &mut String) {
    if out.len() > MAX_VALUE {
        return;
    }
    match value {
        DeValue::String(text) => *out += &Value::from(text.as_ref()).to_string(),
        DeValue::Integer(number) => *out += &decimal(number),
        DeValue::Float(number) => *out += number.as_str(),
        DeValue::Boolean(value) => *out += if *value { "true" } else { "false" },
        DeValue::Datetime(time) => *out += &time.to_string(),
        DeValue::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                *out += if at == 0 { "" } else { ", " };
                append(item.get_ref(), out);
            }
            out.push(']');
        }
        DeValue::Table(table) => {
            *out += "{ ";
            for (at, (name, item)) in table.iter().enumerate() {
                *out += if at == 0 { "" } else { ", " };
                *out += &visible(name.get_ref(), MAX_NAME);
                *out += " = ";
                append(item.get_ref(), out);
            }
            *out += " }";
        }
    }
}

/// An integer in decimal digits.
fn decimal(number: &DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::tests::REFERENCE;

    /// Value, default and restart mark of a key in the reference with some lines replaced.
    fn shown(edits: &[(&str, &str)], key: &str) -> (Option<String>, Option<String>, bool) {
        let edit = |text: String, (from, to): &(&str, &str)| text.replacen(from, to, 1);
        let text = edits.iter().fold(REFERENCE.to_owned(), edit);
        let config = Config::from_toml(&text, "proxy.toml").unwrap_or_else(|why| panic!("{why}"));
        let found = config.keys.iter().find(|found| found.key == key).cloned();
        let found = found.unwrap_or_else(|| panic!("no {key} in {:?}", config.keys));
        (found.value, found.default, found.needs_restart)
    }

    #[expect(clippy::unnecessary_wraps, reason = "values are compared with it")]
    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_key_has_its_value_or_its_default() {
        let (value, default, needs_restart) = shown(&[], "limits.login_timeout");
        assert_eq!((value, default, needs_restart), (text("1m"), text("1m"), false));
        for (written, value) in [("\"90s\"", "1m 30s"), ("\"0h 2m\"", "2m")] {
            let edit = format!("\n[limits]\nlogin_timeout = {written}\n");
            assert_eq!(shown(&[("\n[limits]\n", &edit)], "limits.login_timeout").0, text(value));
        }
        let edit = "\n[limits]\nmax_client_conn = 0x100\n";
        assert_eq!(shown(&[("\n[limits]\n", edit)], "limits.max_client_conn").0, text("256"));
        assert_eq!(shown(&[("\n[limits]\n", edit)], "limits.max_logins").0, text("192"));
        assert_eq!(shown(&[], "issuer[0].audience").0, text("[\"api://aurora\"]"));
        assert_eq!(shown(&[], "cluster[0].hostaddr").0, None);
        assert_eq!(shown(&[], "log.format"), (text("text"), text("text"), true));
        let mut config = Config::from_toml(REFERENCE, "proxy.toml").unwrap();
        config.show_value("log.format", "json");
        let format = config.keys.iter().find(|key| key.key == "log.format").unwrap();
        assert_eq!((&format.value, &format.default), (&text("json"), &text("text")));
        let edit = "\n[admin]\nview = [{ claim = \"groups\", any = [\"a\\u0007\"] }]\n";
        assert_eq!(shown(&[("\n[admin]\n", edit)], "admin.view[0].any").0, text("[\"a\\u0007\"]"));
    }

    #[test]
    fn a_value_is_cut_and_one_line() {
        let many: Vec<_> = (0..1_000).map(|n| format!("\"person{n}\"")).collect();
        let edit = format!("\n[[denied]]\nsubjects = [{}]\n", many.join(", "));
        let value = shown(&[("\n[denied]\n", &edit)], "denied[0].subjects").0.unwrap();
        assert!(value.len() < 1_030 && value.ends_with('…'), "{value}");
        let edit = "\n[egress]\nno_proxy = \"\"\"\nacme.com\"\"\"\nproxy = \"http://proxy.acme.com:3128\"\n";
        assert_eq!(shown(&[("\n[egress]\n", edit)], "egress.no_proxy").0, text("acme.com"));
    }

    #[test]
    fn numbers_of_tables_are_in_their_order() {
        let table = |number| format!("\n[[denied]]\nsubjects = [\"{number}\"]\n");
        let tables: Vec<_> = (0..12).map(table).collect();
        let tables = tables.concat();
        let config =
            Config::from_toml(&REFERENCE.replacen("\n[denied]\n", &tables, 1), "proxy.toml").unwrap();
        let order: Vec<_> = config.keys.iter().filter_map(|key| key.key.strip_suffix("].subjects")).collect();
        let expected: Vec<_> = (0..12).map(|number| format!("denied[{number}")).collect();
        assert_eq!(order, expected);
    }

    /// The console shows all values, so a secret may be in a file only.
    #[test]
    fn no_key_holds_a_secret() {
        let config = Config::from_toml(REFERENCE, "proxy.toml").unwrap();
        assert!(config.keys.len() > 80, "{}", config.keys.len());
        let mut files = 0;
        for key in config.keys.iter() {
            let name = key.key.rsplit('.').next().unwrap_or_default();
            let may_be_secret =
                ["secret", "password", "credential", "key"].iter().any(|word| name.contains(word));
            if may_be_secret && name != "keys" {
                assert!(name.ends_with("_file"), "{}: a secret in the configuration", key.key);
                files += 1;
            }
        }
        assert!(files > 3, "{files}");
    }
}
