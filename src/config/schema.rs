//! The JSON Schema of `proxy.toml`, for editors. The reader itself is asked: it reads two samples that hold every table,
//! and each key that it asks for is recorded with its type, limits and default. Descriptions are the comments of the
//! reference configuration.

mod descriptions;
pub(super) mod forms;
pub(super) mod recorder;

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Value, json};
use toml::de::DeTable;

use self::descriptions::Descriptions;
use self::recorder::SchemaRecorder;
use super::Config;
use super::problem::ConfigProblem;
use super::reader::{FileReader, SectionReader};

/// The reference configuration.
const REFERENCE: &str = include_str!("../../proxy.toml");

/// Two configurations that hold every table, and every form of it. A default that differs between them follows from
/// other keys, and is left to the description.
const SAMPLES: [&str; 2] = [include_str!("schema/first.toml"), include_str!("schema/second.toml")];

impl Config {
    /// The schema, as text.
    pub fn schema() -> String {
        format!("{:#}\n", schema().0)
    }
}

/// The schema, and the problems of the samples.
fn schema() -> (Value, Vec<ConfigProblem>) {
    let mut recorder = SchemaRecorder::default();
    let mut problems = Vec::new();
    for text in SAMPLES {
        let mut reading = FileReader::new(text, PathBuf::new());
        reading.schema = Some(RefCell::new(recorder));
        let (root, _) = DeTable::parse_recoverable(text);
        let _ = super::parse::whole(&SectionReader::root(&reading, &root)); // only its questions count
        problems.append(&mut reading.problems.into_inner());
        recorder = reading.schema.map(RefCell::into_inner).unwrap_or_default();
    }
    let mut root = recorder.table("", &Descriptions::of(REFERENCE));
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        root.insert("title".to_owned(), json!("proxy.toml, the configuration of pgpassport"));
    }
    (root, problems)
}

#[cfg(test)]
mod tests;
