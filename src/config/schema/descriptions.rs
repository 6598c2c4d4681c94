//! The comments of the reference configuration, by key.

use std::collections::BTreeMap;

/// Keys of a rule about claims; the reference describes them together, at `issuer.require`.
const RULE_KEYS: [(&str, &str); 5] = [
    ("claim", "The claim: a name, a path with dots, or the names of a path as a list."),
    ("any", "Values of which at least one must be among the claim's."),
    ("all", "Values that must all be among the claim's."),
    ("issuer", "The [[issuer]] that the rule is for, by its name, or a list. Default: all."),
    ("keys", "The claim is an object, and the names of its members are the values."),
];

/// Tables that hold a rule about claims.
const RULES: [&str; 5] =
    ["admin.allow", "admin.view", "issuer.require", "cluster.allow", "cluster.group.when"];

/// Texts by table and key.
#[derive(Debug, Default)]
pub(super) struct Descriptions(BTreeMap<String, String>);

impl Descriptions {
    /// The comments of `reference`. A comment stands above its key or its table, or behind its key.
    pub(super) fn of(reference: &str) -> Self {
        let mut found = BTreeMap::new();
        let (mut table, mut comment, mut last) = (String::new(), String::new(), String::new());
        for line in reference.lines() {
            let content = line.trim_start_matches('#').trim();
            if let Some(name) = header(content) {
                name.clone_into(&mut table);
                found.entry(table.clone()).or_insert_with(|| std::mem::take(&mut comment));
                comment.clear();
                last.clear();
            } else if let Some((key, behind)) = key(content) {
                if !comment.is_empty() {
                    last = std::mem::take(&mut comment);
                }
                let text = behind.map_or_else(|| last.clone(), str::to_owned);
                found.entry(format!("{table}.{key}")).or_insert(text);
            } else if content.is_empty() {
                comment.clear();
                last.clear();
            } else if let Some(text) = line.strip_prefix("# ") {
                let parted = if text.starts_with("  ") { "\n" } else { " " };
                if !comment.is_empty() {
                    comment.push_str(parted);
                }
                comment.push_str(&text.trim().replace("[restart]", "Taken at a start only."));
            }
        }
        for table in RULES {
            found.extend(RULE_KEYS.map(|(key, text)| (format!("{table}.{key}"), text.to_owned())));
        }
        found.retain(|_, text| !text.is_empty());
        Self(found)
    }

    /// The text for a key of a table, which may be a table itself.
    pub(super) fn of_key(&self, table: &str, key: &str) -> Option<&str> {
        let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        self.0.get(&path).map(String::as_str)
    }
}

/// The table's name in `[name]` or `[[name]]`.
fn header(content: &str) -> Option<&str> {
    let name = content.strip_prefix('[')?.strip_suffix(']')?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')).then_some(name)
}

/// The key in `key = value`, and the comment behind the value.
fn key(content: &str) -> Option<(&str, Option<&str>)> {
    let (key, value) = content.split_once(" = ")?;
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_key.then_some((key, value.split_once("  # ").map(|(_, comment)| comment.trim())))
}
