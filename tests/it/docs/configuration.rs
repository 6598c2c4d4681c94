//! `docs/configuration.md`: the keys are those of the schema, which the reader itself records, in the order of the
//! reference configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use pgpassport::config::Config;
use regex::Regex;
use serde_json::Value;

use super::root;

/// A key of the reference configuration, as it is written there.
struct ReferenceKey {
    /// Path of its table, empty for the tables themselves.
    table: String,
    name: String,
    sample: String,
    commented: bool,
}

/// Tables of the reference with their headings, and their keys, in its order.
fn reference() -> (Vec<(String, String)>, Vec<ReferenceKey>) {
    let text = fs::read_to_string(root().join("proxy.toml")).unwrap();
    let (mut tables, mut keys): (Vec<(String, String)>, Vec<ReferenceKey>) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let content = line.trim_start_matches('#').trim();
        let name = content.trim_matches(['[', ']']);
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
        if content.starts_with('[') && content.ends_with(']') && is_name(name) {
            tables.push((name.to_owned(), content.to_owned()));
        } else if let Some((key, value)) = content.split_once(" = ").filter(|(key, _)| is_name(key)) {
            let sample = value.split("  #").next().unwrap().trim();
            keys.push(ReferenceKey {
                table: tables.last().unwrap().0.clone(),
                name: key.to_owned(),
                sample: format!("{key} = {sample}"),
                commented: line.starts_with('#'),
            });
        }
    }
    (tables, keys)
}

/// The schema of a table: of one element where there may be several.
fn table<'s>(schema: &'s Value, path: &str) -> &'s Value {
    path.split('.').fold(schema, |at, part| {
        let form = &at["properties"][part];
        let first = form["anyOf"].get(0).unwrap_or(form);
        if first["type"] == "array" { &first["items"] } else { first }
    })
}

/// Text of Markdown that shows `text`. Names of pages become links; names, quoted words, and options code.
fn shown(text: &str) -> String {
    let continued = Regex::new("\n([^\"])").unwrap().replace_all(text, " $1").into_owned();
    let special = Regex::new(concat!(
        r"docs/(?<page>[a-z0-9-]+\.md)|(?<certs>certs/README\.md)|(?<option>(?m)^\x22[a-z_-]+\x22  +)",
        r"|(?<kept>`[^`]*`)|(?<code>\x22[^\x22\s]+\x22|\[\[?[a-z.]+\]\]?",
        r"|\b(?:issuer|cluster|log|session|egress|listen|audit)\.[a-z_.]*[a-z]\b",
        r"|\b[a-z.]*[a-z]+_[a-z_]*[a-z](?:\(\))?)|(?<escaped>[<>*`_\[\]\\])",
    ));
    let marked = special.unwrap().replace_all(&continued, |found: &regex::Captures<'_>| {
        let group = |name| found.name(name).map(|group| group.as_str().trim());
        if let Some(page) = group("page") {
            format!("[{page}]({page})")
        } else if group("certs").is_some() {
            "[certs/README.md](../certs/README.md)".to_owned()
        } else if let Some(option) = group("option") {
            format!("- `{option}`: ")
        } else if let Some(code) = group("code") {
            format!("`{code}`")
        } else if let Some(kept) = group("kept") {
            kept.to_owned()
        } else {
            format!("\\{}", &found["escaped"])
        }
    });
    let text = marked.replace("Taken at a start only.", "A reload cannot change it.");
    // Comments behind a value are no sentences.
    let sentence = text.is_empty() || text.ends_with('.') || text.contains("\n- ");
    let first = text.chars().next().filter(|first| first.is_lowercase());
    match first {
        Some(first) if !sentence => format!("{}{}.", first.to_uppercase(), &text[first.len_utf8()..]),
        _ if !sentence => format!("{text}."),
        _ => text,
    }
}

/// Description, and the limits of a duration, such as " from 1s to 1h".
fn split(form: &Value) -> (&str, &str) {
    let whole = form["description"].as_str().unwrap_or_default();
    match whole.rfind("From ").filter(|_| form.get("pattern").is_some()) {
        Some(at) => (whole[..at].trim(), whole[at + "From".len()..].trim_end_matches('.')),
        None => (whole, ""),
    }
}

/// Kind of a value, and its limits.
fn kind(form: &Value) -> String {
    let limits = split(form).1;
    let words = |form: &Value| {
        let words: Vec<_> = form["enum"].as_array()?.iter().map(|word| format!("`{word}`")).collect();
        Some(words.join(", "))
    };
    let one = |form: &Value| {
        words(form).unwrap_or_else(|| match form["type"].as_str().unwrap() {
            "string" if form.get("pattern").is_some() => format!("duration from{limits}"),
            "string" => "text".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            "integer" | "number" => format!("number from {} to {}", form["minimum"], form["maximum"]),
            "object" if form.get("properties").is_some() => "[rule](#rules-about-claims)".to_owned(),
            "object" => "table of texts".to_owned(),
            other => panic!("{other}: {form}"),
        })
    };
    match form["anyOf"].as_array().map(Vec::as_slice) {
        None => one(form),
        Some([first, second]) if second["type"] == "array" => format!("{}, or a list", one(first)),
        Some([first, second]) => format!("{}, or {}", one(first), one(second)),
        Some(other) => panic!("{other:?}"),
    }
}

/// The section of one key.
fn section(key: &ReferenceKey, form: &Value, required: bool) -> String {
    let ReferenceKey { table, name, sample, commented } = key;
    let description = split(form).0;
    let default = form.get("default").map(|default| format!("default `{default}`"));
    // Without a default in the schema the commented line shows it, unless the text says otherwise or the table is one.
    let is_example =
        !*commented || description.to_lowercase().contains("default:") || table == "cluster.group";
    let written = sample.split_once(" = ").unwrap().1;
    let shown_default =
        if is_example { format!("example: `{sample}`") } else { format!("default `{written}`") };
    let value =
        if required { format!("required; example: `{sample}`") } else { default.unwrap_or(shown_default) };
    let kind =
        if form["type"] == "array" { "list of [rules](#rules-about-claims)".to_owned() } else { kind(form) };
    format!("### `{table}.{name}`\n\n*{kind}; {value}*\n\n{}\n\n", shown(description))
}

/// Sections of all keys.
fn keys(schema: &Value) -> String {
    let (tables, keys) = reference();
    let mut text = String::new();
    let mut written = BTreeSet::new();
    for (path, heading) in &tables {
        let place = table(schema, path);
        let parent = path.rsplit_once('.').map_or(schema, |(parent, _)| table(schema, parent));
        let name = path.rsplit('.').next().unwrap();
        let form = &parent["properties"][name];
        let about = form["description"].as_str().unwrap_or_default();
        write!(text, "## `{heading}`\n\n").unwrap();
        if !about.is_empty() {
            write!(text, "{}\n\n", shown(about)).unwrap();
        }
        for key in keys.iter().filter(|key| key.table == *path) {
            let form = place["properties"].get(&key.name).unwrap_or_else(|| panic!("{path}.{}", key.name));
            let required =
                place["required"].as_array().is_some_and(|all| all.contains(&key.name.as_str().into()));
            text.push_str(&section(key, form, required));
            assert!(written.insert(format!("{path}.{}", key.name)), "{path}.{} twice", key.name);
        }
        let below: Vec<_> = tables.iter().map(|(path, _)| path.as_str()).collect();
        for name in place["properties"].as_object().unwrap().keys() {
            let full = format!("{path}.{name}");
            assert!(
                written.contains(&full) || below.contains(&full.as_str()),
                "{full} is not in the reference"
            );
        }
    }
    text.push_str("## Rules about claims\n\nA rule is a table, as in `{ claim = \"groups\", any = [\"analysts\"] }`.\n\n");
    text.push_str("| key | value | |\n|---|---|---|\n");
    for (name, form) in table(schema, "issuer.require")["properties"].as_object().unwrap() {
        let about = shown(form["description"].as_str().unwrap());
        writeln!(text, "| `{name}` | {} | {about} |", kind(form)).unwrap();
    }
    text.push('\n');
    text
}

#[test]
fn the_page_of_keys_is_what_the_reader_reads() {
    let schema: Value = serde_json::from_str(&Config::schema()).unwrap();
    let text = keys(&schema);
    let path = root().join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- keys -->\n", "<!-- end of keys -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (kept, after) = rest.split_once(end).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{text}{end}{after}")).unwrap();
    } else {
        assert!(kept == text, "docs/configuration.md is stale: run this test with WRITE_DOCS=1");
    }
}
