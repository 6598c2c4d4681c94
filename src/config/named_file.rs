//! Files that a configuration names: path, key, and place in the configuration, so that a problem with the file is
//! reported like a problem of the configuration itself.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::problem::ConfigProblem;

/// Beginning of a value that names a variable of the environment in the place of a file.
const VARIABLE: &str = "env:";

/// Longest name of a variable.
const MAX_NAME: usize = 255;

/// Name of the variable whose content is that of the file, if the path names one.
pub fn variable_of(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(VARIABLE)
}

/// Checks the name of the variable in a value of the form `env:NAME`. `None` for a path.
pub(super) fn parse_variable(text: &str) -> Option<Result<PathBuf, String>> {
    let name = text.strip_prefix(VARIABLE)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(legal);
    // The content itself must not be repeated.
    let wrong = || "write the name of a variable behind \"env:\", as in \"env:TLS_KEY\"".to_owned();
    Some(is_name.then(|| PathBuf::from(text)).ok_or_else(wrong))
}

/// File that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Path of the table, as in `cluster[0]`.
    pub table: String,
    /// Key in the table, as in `ca_file`.
    pub key: &'static str,
    /// Value of the table's key `name`, where it has one.
    pub owner: Option<String>,
    /// Path of the file, relative ones completed by the folder of the configuration.
    pub path: PathBuf,
    /// Place of the value.
    place: ConfigProblem,
}

impl NamedFile {
    pub(super) fn new(
        table: String,
        key: &'static str,
        owner: Option<String>,
        path: PathBuf,
        place: ConfigProblem,
    ) -> Self {
        Self { table, key, owner, path, place }
    }

    /// The key with its table, as in `cluster[0].ca_file`.
    pub fn full_key(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    /// Kind of the table: its path without numbers, as in `cluster`.
    pub fn section(&self) -> &str {
        self.table.split_once('[').map_or(self.table.as_str(), |(section, _)| section)
    }

    /// Problem with the file, at the place of its name; it says of which cluster, issuer or listener the file is.
    pub fn problem(&self, text: impl Display) -> ConfigProblem {
        let text = match &self.owner {
            Some(owner) => format!("{} {owner:?}: {text}", self.section()),
            None => text.to_string(),
        };
        let mut problem = self.place.clone();
        problem.text = text;
        problem
    }
}
