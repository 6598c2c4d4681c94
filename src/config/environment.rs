//! Configuration from the environment: variables that set single keys, and the whole file in one variable.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt::Write;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::names::visible;

/// Beginning of the names of variables that set a key. Variables without a double underscore have other purposes.
const PREFIX: &str = "PGPASSPORT_";

/// Separator of tables, numbers and keys in the name of a variable.
const SEPARATOR: &str = "__";

/// Variable with the text of the whole file.
pub const WHOLE_FILE: &str = "PGPASSPORT_CONFIG_TOML";

/// Longest part of a name that a problem repeats, in bytes.
const MAX_SHOWN: usize = 60;

/// The environment's part of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Text of the file, from [`WHOLE_FILE`].
    pub whole_file: Option<String>,
    /// Folder of systemd's credentials (`$CREDENTIALS_DIRECTORY`).
    pub(super) credentials: Option<PathBuf>,
    variables: Vec<Variable>,
}

/// A variable that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    name: String,
    value: String,
    /// Tables, numbers, names and the key.
    path: Vec<String>,
}

/// A key and the variable that sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// The key, as in `cluster[0].endpoint`.
    pub key: String,
    /// Name of the variable.
    pub variable: String,
}

impl Environment {
    /// Takes what concerns the configuration from `variables`. An empty value is the same as none.
    pub fn of(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut found = Self::default();
        for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
            let (name, text) = (name.to_string_lossy(), value.to_string_lossy());
            match name.as_ref() {
                WHOLE_FILE => found.whole_file = Some(text.into_owned()),
                "CREDENTIALS_DIRECTORY" => found.credentials = Some(value.into()),
                _ => found.variables.extend(Variable::parse(&name, &text)),
            }
        }
        // Two names can spell one key, in upper and lower case.
        let order = |one: &Variable, other: &Variable| {
            compare(&one.path, &other.path).then_with(|| one.name.cmp(&other.name))
        };
        found.variables.sort_unstable_by(order);
        found
    }

    /// The variables as a TOML document, one a line.
    pub(super) fn document(&self) -> String {
        let line = |variable: &Variable| format!("{} = {}\n", variable.name, in_toml(&variable.value));
        self.variables.iter().map(line).collect()
    }

    /// Sets the keys of the variables in `root`. `values` is the parsed document of the variables. Returns the keys that
    /// were set, and a problem for each variable whose key cannot exist, with the place of its name.
    pub(super) fn apply<'t>(
        &self,
        root: &mut Spanned<DeTable<'t>>,
        mut values: DeTable<'t>,
    ) -> (Vec<KeySource>, Vec<(Range<usize>, String)>) {
        let (mut sources, mut problems) = (Vec::new(), Vec::new());
        for variable in &self.variables {
            let Some((name, value)) = values.remove_entry(variable.name.as_str()) else { continue };
            match set(root.get_mut(), &variable.path, "", (name.span(), value)) {
                Ok(key) => sources.push(KeySource { key, variable: variable.name.clone() }),
                Err(text) => problems.push((name.span(), text)),
            }
        }
        (sources, problems)
    }
}

impl Variable {
    /// `None` for a variable with another purpose.
    fn parse(name: &str, value: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !rest.contains(SEPARATOR) || !rest.chars().all(is_plain) {
            return None;
        }
        let path = rest.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
        Some(Self { name: name.to_owned(), value: value.to_owned(), path })
    }
}

/// Order in which variables are taken: numbers by their value and before names, so that a table is there before its name
/// is used.
fn compare(one: &[String], other: &[String]) -> Ordering {
    let rank = |part: &String| (part.parse::<usize>().unwrap_or(usize::MAX), part.clone());
    one.iter().map(rank).cmp(other.iter().map(rank))
}

/// The value in TOML: as it is if it is an integer, a boolean, a string in quotes, an array or an inline table; else as a
/// string.
fn in_toml(value: &str) -> String {
    let trimmed = value.trim();
    let is_value = |value: &DeValue<'_>| !matches!(value, DeValue::Float(_) | DeValue::Datetime(_));
    match DeValue::parse(trimmed) {
        Ok(value) if is_value(value.get_ref()) => trimmed.to_owned(),
        _ => quoted(value),
    }
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))), // a String takes every write
            c => out.push(c),
        }
    }
    out + "\""
}

type PlacedValue<'t> = (Range<usize>, Spanned<DeValue<'t>>);

/// Sets the key at `path` below `table`. Returns the whole key.
fn set<'t>(
    table: &mut DeTable<'t>,
    path: &[String],
    above: &str,
    (span, value): PlacedValue<'t>,
) -> Result<String, String> {
    let Some((first, rest)) = path.split_first() else { return Err("the name has no key".to_owned()) };
    if first.is_empty() {
        return Err("the name has an empty part; write it as in PGPASSPORT_LIMITS__LOGIN_TIMEOUT".to_owned());
    }
    let key = if above.is_empty() { first.clone() } else { format!("{above}.{first}") };
    let Some(next) = rest.first() else {
        table.remove(first.as_str());
        table.insert(Spanned::new(span, Cow::Owned(first.clone())), value);
        return Ok(key);
    };
    if !table.contains_key(first.as_str()) {
        let is_number = next.parse::<usize>().is_ok();
        let empty = if is_number { DeValue::Array(DeArray::new()) } else { DeValue::Table(DeTable::new()) };
        table
            .insert(Spanned::new(span.clone(), Cow::Owned(first.clone())), Spanned::new(span.clone(), empty));
    }
    match table.get_mut(first.as_str()).map(Spanned::get_mut) {
        // A single table is also the first one of its kind.
        Some(DeValue::Table(found)) if next == "0" => {
            set(found, rest.get(1..).unwrap_or_default(), &key, (span, value))
        }
        Some(DeValue::Table(found)) => set(found, rest, &key, (span, value)),
        Some(DeValue::Array(found)) => {
            let number = entry(found, next, &key, &span)?;
            let key = format!("{key}[{number}]");
            match found.get_mut(number).map(Spanned::get_mut) {
                Some(DeValue::Table(found)) => {
                    set(found, rest.get(1..).unwrap_or_default(), &key, (span, value))
                }
                _ => Err(format!("{key} is no table")),
            }
        }
        _ => Err(format!("{key} is no table")),
    }
}

/// Number of the entry of an array of tables that is named by its number or by its `name`. The number behind the last
/// entry makes a new one.
fn entry(array: &mut DeArray<'_>, part: &str, key: &str, span: &Range<usize>) -> Result<usize, String> {
    let count = array.iter().count();
    match part.parse::<usize>() {
        Ok(number) if number < count => Ok(number),
        Ok(number) if number == count => {
            array.push(Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
            Ok(number)
        }
        Ok(number) => Err(format!("{key}[{number}] leaves out a number; the next one is {count}")),
        Err(_) => array.iter().position(|entry| is_named(entry.get_ref(), part)).ok_or_else(|| {
            let part = visible(part, MAX_SHOWN);
            format!("no entry of {key} has the name {part}; write its name in capitals with _ for other characters, or its number")
        }),
    }
}

/// True for a table whose `name` is `part`, where characters that a variable cannot have are underscores.
fn is_named(entry: &DeValue<'_>, part: &str) -> bool {
    let name = entry.as_table().and_then(|table| table.get("name")).and_then(|name| name.get_ref().as_str());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.is_some_and(|name| name.chars().map(plain).collect::<String>() == part)
}

#[cfg(test)]
mod tests;
