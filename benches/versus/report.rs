//! The table: a row a figure, a column a contestant, and how pgpassport stands to the others.

use std::fmt::Write;

use crate::contestants::Contestant;
use crate::loads::Figures;
use crate::measure::median;

/// Collects rows and writes them as Markdown.
pub(crate) struct Table {
    names: Vec<&'static str>,
    rows: Vec<String>,
}

impl Table {
    pub(crate) fn new(contestants: &[Contestant]) -> Self {
        Self { names: contestants.iter().map(|contestant| contestant.name).collect(), rows: Vec::new() }
    }

    /// CPU per unit of work.
    pub(crate) fn cpu(&mut self, load: &str, unit: &str, scale: f64, runs: &[Vec<Figures>]) {
        let cpu: Vec<Vec<f64>> =
            runs.iter().map(|runs| runs.iter().map(|run| run.cpu * scale).collect()).collect();
        self.figures(load, unit, &cpu);
    }

    /// Units a second.
    pub(crate) fn rate(&mut self, load: &str, unit: &str, runs: &[Vec<Figures>]) {
        let rate: Vec<Vec<f64>> = runs.iter().map(|runs| runs.iter().map(|run| run.rate).collect()).collect();
        self.figures(load, unit, &rate);
    }

    /// What a contestant adds to the time of a direct connection, which is the first.
    pub(crate) fn added_latency(&mut self, load: &str, runs: &[Vec<Figures>]) {
        let [direct, ..] = runs else { return };
        for (name, of) in [("p50", (|run: &Figures| run.p50) as fn(&Figures) -> f64), ("p99", |run| run.p99)]
        {
            let beside = |runs: &Vec<Figures>| -> Vec<f64> {
                runs.iter().zip(direct).map(|(run, direct)| (of(run) - of(direct)) * 1e6).collect()
            };
            let added: Vec<Vec<f64>> = runs.iter().map(beside).collect();
            self.figures(load, &format!("µs added at {name}"), &added);
        }
    }

    fn figures(&mut self, load: &str, unit: &str, figures: &[Vec<f64>]) {
        let medians: Vec<f64> = figures.iter().map(|runs| median(runs)).collect();
        let ours = self.names.iter().position(|name| *name == "pgpassport").unwrap_or(0);
        // Ratios within a round, so that what disturbed the round disturbs both of its parts.
        let ratios: Vec<(f64, f64, f64)> = figures
            .iter()
            .map(|theirs| {
                let each: Vec<f64> =
                    figures[ours].iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
                let least = each.iter().copied().fold(f64::INFINITY, f64::min);
                let most = each.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (median(&each), least, most)
            })
            .collect();
        self.row(load, unit, &medians, &ratios);
    }

    pub(crate) fn row(&mut self, load: &str, unit: &str, medians: &[f64], ratios: &[(f64, f64, f64)]) {
        let mut row = format!("| {load} | {unit} |");
        for value in medians {
            let _ = write!(row, " {} |", shown(*value));
        }
        for other in ["PgBouncer", "HAProxy (TCP)", "floor"] {
            let at = self.names.iter().position(|name| *name == other).unwrap_or(0);
            let ours = self.names.iter().position(|name| *name == "pgpassport").unwrap_or(0);
            let (middle, least, most) =
                ratios.get(at).copied().unwrap_or((medians[ours] / medians[at], f64::NAN, f64::NAN));
            if least.is_nan() {
                let _ = write!(row, " {middle:.2} |");
            } else {
                let _ = write!(row, " **{middle:.2}** ({least:.2}–{most:.2}) |");
            }
        }
        println!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn finish(self) -> String {
        let mut text = String::from("| load | figure |");
        for name in &self.names {
            let _ = write!(text, " {name} |");
        }
        text += " to PgBouncer | to HAProxy | to the floor |\n|---|---|";
        text += &"--:|".repeat(self.names.len() + 3);
        text.push('\n');
        text += &self.rows.join("\n");
        text.push('\n');
        text
    }
}

fn shown(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
