//! The TOML document of a file: its syntax, then its sections.

use toml::Spanned;
use toml::de::DeTable;

use super::reader::{FileReader, SectionReader};

impl<'t> FileReader<'t> {
    /// Parses `text`, the file without the variables. Each error of the syntax becomes a problem.
    pub(super) fn parse(&self, text: &'t str) -> Spanned<DeTable<'t>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let whole = error.message().lines().collect::<Vec<_>>().join(", ");
            self.problem(&error.span().unwrap_or(0..0), "", format!("this is not TOML: {whole}"));
        }
        root
    }

    /// Reads the sections of `root` with `whole`. `None` if there is a problem, before or after.
    pub(super) fn read<T>(
        &self,
        root: &Spanned<DeTable<'t>>,
        whole: impl FnOnce(&SectionReader<'_, 't>) -> Option<T>,
    ) -> Option<T> {
        if !self.problems.borrow().is_empty() {
            return None;
        }
        whole(&SectionReader::root(self, root)).filter(|_| self.problems.borrow().is_empty())
    }
}
