//! The table: a row a figure, a column a contestant, how pgpassport stands to the others, and whether that is what was
//! wanted.

use std::fmt::Write;

use crate::ground::{Contestant, Kind};
use crate::measure::median;

/// Contestants beside pgpassport.
const OTHERS: [Kind; 5] = [Kind::Pgbouncer, Kind::Router, Kind::Haproxy, Kind::Floor, Kind::Former];

/// Requirement on a figure of pgpassport.
#[derive(Clone, Copy)]
enum FigureLimit {
    /// At most this share of another's figure.
    ShareAtMost(f64, Kind),
    /// At least this share.
    ShareAtLeast(f64, Kind),
    AtMost(f64),
    AtLeast(f64),
}

/// A line of the table.
pub(crate) struct TableRow {
    goal: &'static str,
    what: String,
    unit: &'static str,
    /// A contestant's figures, one a round, by the number of its [`Kind`].
    figures: [Vec<f64>; 7],
    limits: Vec<FigureLimit>,
    /// Figures that may be next to zero, of which only the medians can be compared.
    of_medians: bool,
    why_not: Option<&'static str>,
}

impl TableRow {
    /// `goal` is the number of the goal, empty for a figure without one.
    pub(crate) fn new(goal: &'static str, what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            goal,
            what: what.into(),
            unit,
            figures: Default::default(),
            limits: Vec::new(),
            of_medians: false,
            why_not: None,
        }
    }

    /// The figures of everyone, `of` each run; `runs` are in the order of `contestants`.
    pub(crate) fn everyone<R>(
        mut self,
        contestants: &[Contestant],
        runs: &[Vec<R>],
        of: impl Fn(&R) -> f64,
    ) -> Self {
        for (contestant, runs) in contestants.iter().zip(runs) {
            self.figures[contestant.kind as usize] = runs.iter().map(&of).collect();
        }
        self
    }

    /// The figures of one contestant.
    pub(crate) fn of(mut self, kind: Kind, figures: Vec<f64>) -> Self {
        self.figures[kind as usize] = figures;
        self
    }

    pub(crate) fn of_medians(mut self) -> Self {
        self.of_medians = true;
        self
    }

    pub(crate) fn share_at_most(mut self, share: f64, of: Kind) -> Self {
        self.limits.push(FigureLimit::ShareAtMost(share, of));
        self
    }

    pub(crate) fn share_at_least(mut self, share: f64, of: Kind) -> Self {
        self.limits.push(FigureLimit::ShareAtLeast(share, of));
        self
    }

    pub(crate) fn at_most(mut self, figure: f64) -> Self {
        self.limits.push(FigureLimit::AtMost(figure));
        self
    }

    pub(crate) fn at_least(mut self, figure: f64) -> Self {
        self.limits.push(FigureLimit::AtLeast(figure));
        self
    }

    pub(crate) fn not_measured(mut self, why: &'static str) -> Self {
        self.why_not = Some(why);
        self
    }

    fn median(&self, kind: Kind) -> f64 {
        median(&self.figures[kind as usize])
    }

    /// Pgpassport's share of another's figure in each round: what disturbs a round disturbs both of its parts.
    fn shares(&self, other: Kind) -> Vec<f64> {
        let (ours, theirs) = (&self.figures[Kind::Pgpassport as usize], &self.figures[other as usize]);
        if self.of_medians || ours.len() != theirs.len() {
            let (ours, theirs) = (median(ours), median(theirs));
            return if theirs > 0.0 { vec![ours / theirs] } else { Vec::new() };
        }
        ours.iter()
            .zip(theirs)
            .filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    }

    fn wanted(&self) -> String {
        let words = self.limits.iter().map(|limit| match limit {
            FigureLimit::ShareAtMost(share, of) => format!("≤ {share:.2} of {}", of.name()),
            FigureLimit::ShareAtLeast(share, of) => format!("≥ {share:.2} of {}", of.name()),
            FigureLimit::AtMost(figure) => format!("≤ {figure}"),
            FigureLimit::AtLeast(figure) => format!("≥ {figure}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn verdict(&self) -> String {
        if let Some(why) = self.why_not {
            return format!("not measured: {why}");
        }
        let ours = self.median(Kind::Pgpassport);
        let held = self.limits.iter().map(|limit| match limit {
            FigureLimit::ShareAtMost(share, of) => (median(&self.shares(*of)), *share, true),
            FigureLimit::ShareAtLeast(share, of) => (median(&self.shares(*of)), *share, false),
            FigureLimit::AtMost(figure) => (ours, *figure, true),
            FigureLimit::AtLeast(figure) => (ours, *figure, false),
        });
        let mut verdict = "";
        for (is, wanted, at_most) in held {
            if is.is_nan() {
                return "not measured".to_owned();
            }
            let holds = if at_most { is <= wanted } else { is >= wanted };
            verdict = if holds && verdict != "**missed**" { "met" } else { "**missed**" };
        }
        verdict.to_owned()
    }

    fn text(&self, kinds: &[Kind]) -> String {
        let mut row = format!("| {} | {} | {} |", self.goal, self.what, self.unit);
        for kind in kinds {
            let figures = &self.figures[*kind as usize];
            let spread = if *kind == Kind::Pgpassport { spread(figures) } else { String::new() };
            let _ = write!(row, " {}{spread} |", shown(median(figures)));
        }
        for other in others(kinds) {
            let shares = self.shares(other);
            match median(&shares) {
                middle if middle.is_nan() => row += " – |",
                middle => drop(write!(row, " {middle:.2}{} |", spread(&shares))),
            }
        }
        let _ = write!(row, " {} | {} |", self.wanted(), self.verdict());
        row
    }
}

/// Contestants of the run that pgpassport is compared with.
fn others(kinds: &[Kind]) -> impl Iterator<Item = Kind> {
    OTHERS.into_iter().filter(|other| kinds.contains(other))
}

/// A section: the words that `--only` knows it by, and what it measures.
pub(crate) type Section<S> = (&'static str, fn(&S, &mut ReportTable));

/// Collects rows and writes them as Markdown.
pub(crate) struct ReportTable {
    kinds: &'static [Kind],
    rows: Vec<String>,
}

impl ReportTable {
    /// An empty table with a column for each of `kinds`.
    pub(crate) fn new(kinds: &'static [Kind]) -> Self {
        Self { kinds, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, row: &TableRow) {
        let text = row.text(self.kinds);
        println!("{text}");
        self.rows.push(text);
    }

    pub(crate) fn finish(self) -> String {
        let mut text = String::from("| goal | what | unit |");
        for kind in self.kinds {
            let _ = write!(text, " {} |", kind.name());
        }
        for other in others(self.kinds) {
            let _ = write!(text, " to {} |", other.name());
        }
        text += " wanted | verdict |\n|---|---|---|";
        text += &"--:|".repeat(self.kinds.len() + others(self.kinds).count());
        text += "---|---|\n";
        text += &self.rows.join("\n");
        text.push('\n');
        text
    }
}

/// The least and the most of several figures, in brackets.
fn spread(figures: &[f64]) -> String {
    if figures.len() < 2 || figures.iter().any(|figure| figure.is_nan()) {
        return String::new();
    }
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(" ({}–{})", shown(least), shown(most))
}

fn shown(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
