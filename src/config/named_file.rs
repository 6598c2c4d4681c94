//! Files that a configuration names: path, key, and place in the configuration, so that a problem with the file is
//! reported like a problem of the configuration itself.

use std::fmt::Display;
use std::path::PathBuf;

use super::problem::ConfigProblem;

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
