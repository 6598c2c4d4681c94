//! Report of a client program: one JSON object a line. Changes when the contract with the programs does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::protocol::{Check, MatrixProtocol};

/// Note of a check that a program has not reported.
const MISSING: &str = "not reported";

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellOutcome {
    /// As it should.
    Ok,
    /// The client has a limit there, and shows it.
    Limit,
    /// The client has no such thing.
    Absent,
    /// Not as it should.
    Failed,
}

/// A cell of the table.
#[derive(Clone, Debug)]
pub(crate) struct TableCell {
    pub(crate) outcome: CellOutcome,
    /// Note about it; may be empty.
    pub(crate) note: String,
}

/// All that one client said.
#[derive(Clone, Debug)]
pub(crate) struct MatrixReport {
    /// Checks of the client.
    checks: &'static [Check],
    pub(crate) version: String,
    pub(crate) cells: BTreeMap<String, TableCell>,
    /// Other features that work, in the program's words.
    pub(crate) extras: Vec<String>,
    /// Limits that the program has shown, in its words.
    pub(crate) limits: Vec<String>,
    /// Failures of the program as a whole.
    pub(crate) troubles: Vec<String>,
}

/// Request of a program to its runner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ContractItem {
    /// Nothing; the line was a report.
    Nothing,
    /// To be told when the sleeping query runs.
    Sleeping,
    /// The proxy stopped and started again.
    Restart,
}

impl MatrixReport {
    /// A report of nothing yet.
    pub(crate) fn new(protocol: MatrixProtocol) -> Self {
        Self {
            checks: protocol.checks(),
            version: String::new(),
            cells: BTreeMap::new(),
            extras: Vec::new(),
            limits: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// Takes one line of a program's output.
    pub(crate) fn take(&mut self, line: &str) -> ContractItem {
        let Ok(said) = serde_json::from_str::<Value>(line) else {
            self.troubles.push(format!("not a line of the contract: {line}"));
            return ContractItem::Nothing;
        };
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        let kinds = ["await", "version", "check", "extra", "limit"];
        let Some((kind, value)) = kinds.iter().find_map(|kind| Some((*kind, text(kind)?))) else {
            self.troubles.push(format!("not a line of the contract: {line}"));
            return ContractItem::Nothing;
        };
        let result = text("result");
        let shown = result.as_deref() == Some("ok");
        match kind {
            "await" if value == "sleeping" => return ContractItem::Sleeping,
            "await" if value == "restart" => return ContractItem::Restart,
            "version" => self.version = value,
            "check" => self.cell(&value, result.as_deref(), text("note").unwrap_or_default()),
            "extra" if shown => self.extras.push(value),
            "limit" if shown => self.limits.push(value),
            _ => self.troubles.push(format!("not shown: {value}")),
        }
        ContractItem::Nothing
    }

    fn cell(&mut self, check: &str, result: Option<&str>, note: String) {
        let outcome = match result {
            Some("ok") => CellOutcome::Ok,
            Some("limit") => CellOutcome::Limit,
            Some("absent") => CellOutcome::Absent,
            _ => CellOutcome::Failed,
        };
        if !self.checks.iter().any(|(name, _)| *name == check) {
            self.troubles.push(format!("no such check: {check}"));
        } else if self.cells.insert(check.to_owned(), TableCell { outcome, note }).is_some() {
            self.troubles.push(format!("reported twice: {check}"));
        }
    }

    /// To be called when the program has ended: what it did not report has failed.
    pub(crate) fn close(&mut self) {
        for (name, _) in self.checks {
            let missing = || TableCell { outcome: CellOutcome::Failed, note: MISSING.to_owned() };
            self.cells.entry((*name).to_owned()).or_insert_with(missing);
        }
        if self.version.is_empty() {
            self.troubles.push("the version is not reported".to_owned());
        }
    }

    fn count(&self, outcome: CellOutcome) -> usize {
        self.cells.values().filter(|cell| cell.outcome == outcome).count()
    }

    /// Checks that went as they should, and limits that were shown.
    pub(crate) fn passed(&self) -> usize {
        self.count(CellOutcome::Ok) + self.count(CellOutcome::Limit) + self.extras.len() + self.limits.len()
    }

    /// Checks that did not, and troubles.
    pub(crate) fn failed(&self) -> usize {
        self.count(CellOutcome::Failed) + self.troubles.len()
    }

    /// Checks that the client has nothing for.
    pub(crate) fn absent(&self) -> usize {
        self.count(CellOutcome::Absent)
    }

    /// A line of progress, and one more for each failure.
    pub(crate) fn summary(&self, name: &str, took: Duration) -> String {
        let word = if self.failed() == 0 { "ok    " } else { "FAILED" };
        let mut lines = vec![format!(
            "  {word} {name} ({}): {} passed, {} failed, {:.1} s",
            self.version,
            self.passed(),
            self.failed(),
            took.as_secs_f32()
        )];
        let failed = self.cells.iter().filter(|(_, cell)| cell.outcome == CellOutcome::Failed);
        let (missing, wrong): (Vec<_>, Vec<_>) = failed.partition(|(_, cell)| cell.note == MISSING);
        lines.extend(wrong.iter().map(|(name, cell)| format!("         {name}: {}", cell.note)));
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
            lines.push(format!("         {MISSING}: {}", names.join(", ")));
        }
        lines.extend(self.troubles.iter().map(|trouble| format!("         {trouble}")));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_contract_are_cells_versions_limits_and_wishes() {
        let mut report = MatrixReport::new(MatrixProtocol::Postgresql);
        assert_eq!(report.take(r#"{"version": "libfoo 1"}"#), ContractItem::Nothing);
        assert_eq!(report.take(r#"{"await": "sleeping"}"#), ContractItem::Sleeping);
        assert_eq!(report.take(r#"{"await": "restart"}"#), ContractItem::Restart);
        report.take(r#"{"check": "copy", "result": "absent", "note": "none"}"#);
        report.take(r#"{"check": "big", "result": "ok"}"#);
        report.take(r#"{"limit": "at most 7", "result": "ok"}"#);
        report.take(r#"{"extra": "seven", "result": "ok"}"#);
        assert_eq!((report.passed(), report.failed(), report.absent()), (3, 0, 1));
    }

    #[test]
    fn what_is_not_reported_or_not_understood_has_failed() {
        let mut report = MatrixReport::new(MatrixProtocol::Postgresql);
        report.close();
        assert_eq!(report.failed(), report.checks.len() + 1, "every check, and the version");
        for line in ["hello", "{}", r#"{"check": "what"}"#, r#"{"limit": "not shown"}"#, r#"{"await": "me"}"#]
        {
            let before = report.troubles.len();
            report.take(line);
            assert_eq!(report.troubles.len(), before + 1, "{line}");
        }
        let mut report = MatrixReport::new(MatrixProtocol::Postgresql);
        report.take(r#"{"check": "big", "result": "ok"}"#);
        report.take(r#"{"check": "big", "result": "ok"}"#);
        assert_eq!(report.troubles, ["reported twice: big"]);
        report.take(r#"{"check": "copy", "result": "fine"}"#);
        assert_eq!(report.failed(), 2, "a result of another name is none");
    }
}
