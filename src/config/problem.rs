//! One problem of a configuration file: position, key, text, and the line.

use std::ops::Range;

/// A problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key, for example `cluster[0].region`; empty for the whole file.
    pub key: String,
    /// Description and correction.
    pub text: String,
    /// Variable of the environment with the value; line and column then count in no file.
    pub variable: Option<String>,
    /// The line of the file.
    pub(super) source: String,
    /// Number of characters to underline.
    pub(super) width: usize,
}

impl ConfigProblem {
    /// A problem at the bytes `span` of the file's text `source`.
    pub fn at(source: &str, span: &Range<usize>, key: &str, text: String) -> Self {
        let start = source.floor_char_boundary(span.start);
        let (before, after) = source.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = after.find('\n').map_or(source.len(), |newline| start + newline);
        let line = source.get(line_start..line_end).unwrap_or_default().trim_end_matches('\r');
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let marked = source.get(start..span.end.min(line_end).max(start)).unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            key: key.to_owned(),
            text,
            variable: None,
            source: line.to_owned(),
            width: marked.chars().count().max(1),
        }
    }

    /// The problem as one of the variable whose value is in the line.
    pub(super) fn in_variable(self) -> Self {
        let name = self.source.split_once(" = ").map(|(name, _)| name.to_owned());
        Self { variable: name, ..self }
    }

    /// Position, key and text in one line.
    pub fn line_in(&self, file: &str) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        match &self.variable {
            Some(variable) => format!("{variable}: {key}{}", self.text),
            None => format!("{file}:{}:{}: {key}{}", self.line, self.column, self.text),
        }
    }
}
