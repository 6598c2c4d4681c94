//! Problems of a configuration file in the format of compiler messages: position, key, problem, correction,
//! and the line.

use std::fmt;

use super::named_file::NamedFile;
use super::named_principal::NamedPrincipal;
use super::problem::ConfigProblem;

/// All problems of a file, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems {
    /// Name of the file as given.
    pub file: String,
    /// The problems, at least one.
    pub list: Vec<ConfigProblem>,
    /// Files that the configuration names, as far as it can be read.
    pub files: Vec<NamedFile>,
    /// Users and groups of this machine that it names.
    pub principals: Vec<NamedPrincipal>,
}

impl ConfigProblems {
    /// The problems `list` of `file`, which names `files`; they are put in the order of their lines.
    pub fn new(file: String, mut list: Vec<ConfigProblem>, files: Vec<NamedFile>) -> Self {
        list.sort_by_key(|problem| (problem.line, problem.column));
        Self { file, list, files, principals: Vec::new() }
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{}", problem.line_in(&self.file))?;
            let number =
                problem.variable.as_ref().map_or_else(|| problem.line.to_string(), |_| String::new());
            writeln!(f, "  {number} | {}", problem.source)?;
            let indent = " ".repeat(number.len() + problem.column + 4);
            writeln!(f, "{indent}{}", "^".repeat(problem.width))?;
        }
        match self.list.len() {
            1 => write!(f, "1 problem"),
            count => write!(f, "{count} problems"),
        }
    }
}

impl std::error::Error for ConfigProblems {}
