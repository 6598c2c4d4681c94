//! Output of findings: terminal, plain text, JSON.

use std::fmt::Write as _;

use super::report::{Finding, LinkState};
use crate::names::visible;

/// Style of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStyle {
    /// Plain text.
    Plain,
    /// Marks and colors, for a terminal.
    Coloured,
}

impl OutputStyle {
    /// Selects colors for terminals, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn of(terminal: bool, no_color: Option<&str>) -> Self {
        if terminal && no_color.is_none_or(str::is_empty) { Self::Coloured } else { Self::Plain }
    }
}

/// A finding as a line, with cause and remedy below it.
pub fn text(finding: &Finding, look: OutputStyle) -> String {
    let (word, mark, colour) = match finding.state {
        LinkState::Ok => ("ok  ", "✓", "32"),
        LinkState::Warning => ("warn", "!", "33"),
        LinkState::Failed => ("FAIL", "✗", "31"),
        LinkState::Skipped => ("skip", "-", "2"),
    };
    let head = match look {
        OutputStyle::Plain => word.to_owned(),
        OutputStyle::Coloured => format!("\u{1b}[{colour}m{mark}\u{1b}[0m"),
    };
    let mut out = format!("{head}  {:<20}  {}\n", finding.link.id(), lines(&finding.found));
    if finding.state == LinkState::Failed {
        let _ = writeln!(out, "      checked  {}", finding.checked);
    }
    for (name, text) in [("cause   ", &finding.cause), ("remedy  ", &finding.remedy)] {
        if let Some(text) = text {
            let _ = writeln!(out, "      {name} {}", lines(text));
        }
    }
    out
}

/// `text` in lines, without terminal control characters.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| visible(line, usize::MAX)).collect();
    lines.join("\n")
}

/// A finding as a JSON object in one line.
pub fn json(finding: &Finding) -> String {
    serde_json::to_string(finding).unwrap_or_default() + "\n" // strings only, so it cannot fail
}

#[cfg(test)]
mod tests {
    use super::super::report::ChainLink;
    use super::*;

    #[test]
    fn a_terminal_gets_marks_and_colours_and_a_pipe_plain_words() {
        let finding = |state| Finding {
            link: ChainLink::Tcp,
            state,
            checked: "a connection",
            found: "refused".to_owned(),
            cause: None,
            remedy: Some("open the port".to_owned()),
        };
        for (state, plain, mark, colour) in [
            (LinkState::Ok, "ok    tcp ", "✓", "32"),
            (LinkState::Warning, "warn  tcp ", "!", "33"),
            (LinkState::Failed, "FAIL  tcp ", "✗", "31"),
            (LinkState::Skipped, "skip  tcp ", "-", "2"),
        ] {
            let (piped, shown) =
                (text(&finding(state), OutputStyle::Plain), text(&finding(state), OutputStyle::Coloured));
            assert!(piped.starts_with(plain) && piped.is_ascii() && !piped.contains('\u{1b}'), "{piped}");
            assert!(shown.starts_with(&format!("\u{1b}[{colour}m{mark}\u{1b}[0m  tcp ")), "{shown}");
            for line in [&piped, &shown] {
                assert!(line.ends_with("      remedy   open the port\n"), "{line}");
            }
        }
    }
}
