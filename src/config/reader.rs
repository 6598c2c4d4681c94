//! Typed access to TOML tables. Each key is read once with its type. A wrong type or value, or a key that was
//! not read, becomes a problem with its position, and parsing continues.

mod distance;
mod recording;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::distance::distance;
use super::named_file::{NamedFile, parse_variable};
use super::named_principal::NamedPrincipal;
use super::problem::ConfigProblem;
use super::running_keys::KeyRecorder;
use super::schema::forms;
use super::schema::recorder::SchemaRecorder;
use crate::names::{printable, visible};

/// Longest text of the file that a problem repeats, in bytes.
const MAX_FOUND: usize = 60;

/// The file being parsed and its problems.
#[derive(Default)]
pub(super) struct FileReader<'t> {
    /// The file, and behind it the variables of the environment.
    pub(super) text: &'t str,
    /// Length of the file within the text.
    pub(super) file_length: usize,
    pub(super) folder: PathBuf,
    /// Folder of systemd's credentials.
    pub(super) credentials: Option<PathBuf>,
    pub(super) problems: RefCell<Vec<ConfigProblem>>,
    pub(super) warnings: RefCell<Vec<ConfigProblem>>,
    /// Paths that were read, in the order of reading.
    pub(super) files: RefCell<Vec<NamedFile>>,
    /// Users and groups that were read.
    pub(super) principals: RefCell<Vec<NamedPrincipal>>,
    /// Keys that were read, with their values.
    pub(super) keys: RefCell<KeyRecorder>,
    /// The record of all questions, where the schema is wanted.
    pub(super) schema: Option<RefCell<SchemaRecorder>>,
}

impl<'t> FileReader<'t> {
    pub(super) fn new(text: &'t str, folder: PathBuf) -> Self {
        Self { text, file_length: text.len(), folder, ..Self::default() }
    }

    pub(super) fn problem(&self, span: &Range<usize>, key: &str, text: impl Display) {
        self.problems.borrow_mut().push(self.at(span, key, text.to_string()));
    }

    /// A problem at `span`, which is in the file or in a variable.
    pub(super) fn at(&self, span: &Range<usize>, key: &str, text: String) -> ConfigProblem {
        let problem = ConfigProblem::at(self.text, span, key, text);
        if span.start > self.file_length { problem.in_variable() } else { problem }
    }
}

/// A value and its position.
pub(super) struct SpannedValue<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
    pub(super) key: String,
}

/// A table.
pub(super) struct SectionReader<'r, 't> {
    pub(super) reading: &'r FileReader<'t>,
    /// The table; `None` if it is absent, so that all keys have their defaults.
    table: Option<&'r DeTable<'t>>,
    pub(super) path: String,
    pub(super) span: Range<usize>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'r, 't> SectionReader<'r, 't> {
    pub(super) fn root(reading: &'r FileReader<'t>, table: &'r Spanned<DeTable<'t>>) -> Self {
        Self::new(reading, Some(table.get_ref()), String::new(), 0..0)
    }

    fn new(
        reading: &'r FileReader<'t>,
        table: Option<&'r DeTable<'t>>,
        path: String,
        span: Range<usize>,
    ) -> Self {
        Self { reading, table, path, span, read: RefCell::default() }
    }

    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn value(&self, name: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.read.borrow_mut().insert(name);
        let table = self.table?;
        table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }

    fn typed<V>(
        &self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&'r DeValue<'t>) -> Option<V>,
    ) -> Option<SpannedValue<V>> {
        let found = self.value(name)?;
        let item = |value| SpannedValue { value, span: found.span(), key: self.key(name) };
        if let Some(value) = read(found.get_ref()) {
            return Some(item(value));
        }
        let text = format!("expected {wanted}, found {}", shown(found.get_ref()));
        self.reading.problem(&found.span(), &self.key(name), text);
        None
    }

    /// A string, if the key is present.
    pub(super) fn text(&self, name: &'static str) -> Option<SpannedValue<&'r str>> {
        self.record(name, forms::text);
        self.typed(name, "a string in quotes", DeValue::as_str)
    }

    /// A string converted to `V`. The error of `parse` describes the problem.
    pub(super) fn parsed<V>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<V, String>,
    ) -> Option<V> {
        let item = self.text(name)?;
        parse(item.value).map_err(|text| self.reading.problem(&item.span, &item.key, text)).ok()
    }

    /// Like [`SectionReader::parsed`] for a required key. `example` is a valid value.
    pub(super) fn required<V>(
        &self,
        name: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<V, String>,
    ) -> Option<V> {
        self.record_required(name);
        if self.value(name).is_none() {
            self.missing(name, example);
        }
        self.parsed(name, parse)
    }

    /// Reports a problem with the value of `name`.
    pub(super) fn wrong(&self, name: &'static str, text: impl Display) {
        let span = self.value(name).map_or_else(|| self.span.clone(), Spanned::span);
        self.reading.problem(&span, &self.key(name), text);
    }

    /// Warns about a valid value that will probably not work.
    pub(super) fn warn(&self, name: &'static str, text: impl Display) {
        let span = self.value(name).map_or_else(|| self.span.clone(), Spanned::span);
        let warning = self.reading.at(&span, &self.key(name), text.to_string());
        self.reading.warnings.borrow_mut().push(warning);
    }

    pub(super) fn missing(&self, name: &str, example: &str) {
        let text = format!("this key is required: {name} = {example}");
        self.reading.problem(&self.span, &self.key(name), text);
    }

    /// A boolean.
    pub(super) fn boolean(&self, name: &'static str, default: bool) -> bool {
        self.record(name, || forms::boolean(default));
        self.typed(name, "true or false", DeValue::as_bool).map_or(default, |item| item.value)
    }

    /// An integer.
    pub(super) fn count(&self, name: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.record(name, || forms::count(&range, default));
        let read = |value: &'r DeValue<'t>| {
            let integer = value.as_integer()?;
            i128::from_str_radix(integer.as_str(), integer.radix()).ok()
        };
        let Some(item) = self.typed(name, "an integer", read) else { return default };
        match usize::try_from(item.value).ok().filter(|count| range.contains(count)) {
            Some(count) => count,
            None => {
                let text = format!("expected an integer from {} to {}", range.start(), range.end());
                self.reading.problem(&item.span, &item.key, text);
                default
            }
        }
    }

    /// A duration with its unit, `"90s"` or `"1h 30m"`.
    pub(super) fn duration(
        &self,
        name: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let show = |time: &Duration| humantime::format_duration(*time).to_string();
        self.record(name, || forms::duration(&range, default));
        let read = |value: &'r DeValue<'t>| value.as_str();
        let wanted = "a duration such as \"30s\", \"5m\" or \"1h 30m\"";
        let Some(item) = self.typed(name, wanted, read) else { return default };
        let parsed = humantime::parse_duration(item.value)
            .map_err(|_| format!("expected {wanted}, found \"{}\"", printable(item.value, MAX_FOUND)));
        let checked = parsed.and_then(|time| {
            let outside =
                || format!("expected a duration from {} to {}", show(range.start()), show(range.end()));
            if range.contains(&time) { Ok(time) } else { Err(outside()) }
        });
        checked.unwrap_or_else(|text| {
            self.reading.problem(&item.span, &item.key, text);
            default
        })
    }

    /// A word out of several.
    pub(super) fn choice<V: Copy + PartialEq>(
        &self,
        name: &'static str,
        default: V,
        words: &[(&str, V)],
    ) -> V {
        self.record(name, || forms::choice(words, &default));
        let parse = |text: &str| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            found.ok_or_else(|| format!("{text:?} is not known; write one of {}", known.join(", ")))
        };
        self.parsed(name, parse).unwrap_or(default)
    }

    /// A file path, relative to the folder of the configuration, or `credential:NAME` for one of systemd's credentials.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        let path = self.parsed(name, |text| self.resolve(text))?;
        let span = self.value(name).map_or_else(|| self.span.clone(), Spanned::span);
        let place = self.reading.at(&span, &self.key(name), String::new());
        let owner = self.table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == "name"));
        let owner =
            owner.and_then(|(_, value)| value.get_ref().as_str()).map(|owner| visible(owner, MAX_FOUND));
        let file = NamedFile::new(self.path.clone(), name, owner, path.clone(), place);
        self.reading.files.borrow_mut().push(file);
        Some(path)
    }

    /// Like [`SectionReader::path`] for a required key.
    pub(super) fn required_path(&self, name: &'static str, example: &str) -> Option<PathBuf> {
        self.record_required(name);
        if self.value(name).is_none() {
            self.missing(name, example);
        }
        self.path(name)
    }

    fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("write a path".into());
        }
        if let Some(variable) = parse_variable(text) {
            return variable;
        }
        let Some(name) = text.strip_prefix("credential:") else { return Ok(self.reading.folder.join(text)) };
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(format!("\"{}\" is not the name of a credential", printable(name, MAX_FOUND)));
        }
        let folder = self.reading.credentials.as_ref();
        folder.map(|folder| folder.join(name)).ok_or_else(|| {
            "$CREDENTIALS_DIRECTORY is not set: systemd passes credentials to services only (LoadCredential=)".into()
        })
    }

    /// A string or several.
    pub(super) fn texts(&self, name: &'static str) -> Option<SpannedValue<Vec<SpannedValue<&'r str>>>> {
        self.record(name, || forms::texts(None));
        let whole = self.value(name)?;
        let (key, span) = (self.key(name), whole.span());
        let item = |value: &'r str, span| SpannedValue { value, span, key: self.key(name) };
        if let Some(one) = whole.get_ref().as_str() {
            return Some(SpannedValue { value: vec![item(one, span.clone())], span, key });
        }
        let array = self.typed(name, "a string, or an array of strings", DeValue::as_array)?.value;
        let mut texts = Vec::new();
        for value in array {
            match value.get_ref().as_str() {
                Some(text) => texts.push(item(text, value.span())),
                None => self.reading.problem(&value.span(), &key, "expected a string in quotes"),
            }
        }
        Some(SpannedValue { value: texts, span, key })
    }

    /// The table `[name]`.
    pub(super) fn section(&self, name: &'static str) -> Self {
        self.record_below(name, false);
        match self.typed(name, "a table", DeValue::as_table) {
            Some(item) => Self::new(self.reading, Some(item.value), item.key, item.span),
            None => Self::new(self.reading, None, self.key(name), self.span.clone()),
        }
    }

    /// The tables `[[name]]`.
    pub(super) fn sections(&self, name: &'static str) -> Vec<Self> {
        self.record_below(name, true);
        let Some(array) = self.typed(name, "tables under a header in double brackets", DeValue::as_array)
        else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (number, value) in array.value.iter().enumerate() {
            let path = format!("{}[{number}]", array.key);
            match value.get_ref().as_table() {
                Some(table) => sections.push(Self::new(self.reading, Some(table), path, value.span())),
                None => self.reading.problem(&value.span(), &path, "expected a table"),
            }
        }
        sections
    }

    /// A table `[name]`, which may be absent, or several `[[name]]`.
    pub(super) fn one_or_several(&self, name: &'static str) -> Vec<Self> {
        self.record_below(name, false);
        self.record_below(name, true);
        match self.value(name) {
            Some(found) if found.get_ref().is_array() => self.sections(name),
            _ => vec![self.section(name)],
        }
    }

    /// A table with the operator's own keys, each with a string converted to `V`.
    pub(super) fn map<V>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<V, String>,
    ) -> BTreeMap<String, V> {
        self.record(name, forms::map);
        let Some(table) = self.typed(name, "a table of names and strings", DeValue::as_table) else {
            return BTreeMap::new();
        };
        let mut pairs = BTreeMap::new();
        for (key, value) in table.value {
            let path = format!("{}.{}", table.key, key.get_ref());
            let parsed = value.get_ref().as_str().ok_or_else(|| "expected a string in quotes".to_owned());
            match parsed.and_then(&parse) {
                Ok(value) => {
                    pairs.insert(key.get_ref().to_string(), value);
                }
                Err(text) => self.reading.problem(&value.span(), &path, text),
            }
        }
        pairs
    }

    /// True if the key is present.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.value(name).is_some()
    }

    /// True if the key holds a table.
    pub(super) fn is_table(&self, name: &'static str) -> bool {
        self.value(name).is_some_and(|value| value.get_ref().is_table())
    }

    /// Reports unknown keys. Call after all other reads.
    pub(super) fn finish(&self) {
        let read = self.read.borrow();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref();
            if read.contains(name.as_ref()) {
                continue;
            }
            let nearest = read.iter().min_by_key(|known| distance(known, name));
            let text = match nearest.filter(|known| distance(known, name) <= 3) {
                Some(known) => format!("this key is not known; did you mean {known}?"),
                None => {
                    let known: Vec<_> = read.iter().copied().collect();
                    format!("this key is not known; known here: {}", known.join(", "))
                }
            };
            self.reading.problem(&key.span(), &self.key(name), text);
        }
    }
}

/// A value of the wrong type, as a problem repeats it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", printable(text, MAX_FOUND)),
        DeValue::Integer(number) => format!("the integer {}", visible(number.as_str(), MAX_FOUND)),
        DeValue::Float(number) => format!("the number {}", visible(number.as_str(), MAX_FOUND)),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
