//! Output for people: short lines, in color only on a terminal.

use std::io::{IsTerminal as _, Stdout, Write as _};

/// Writes to standard output. Nobody is helped by an error about a closed pipe, so none is made of it.
pub(crate) struct DemoScreen {
    out: Stdout,
    colour: bool,
}

impl DemoScreen {
    pub(crate) fn new() -> Self {
        let out = std::io::stdout();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out, colour }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) {
        let _ = writeln!(&self.out, "{text}");
    }

    /// A heading with an empty line before it.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.painted("1", text)));
    }

    /// A name and what it is.
    pub(crate) fn fact(&self, name: &str, value: &str) {
        self.line(&format!("  {} {value}", self.painted("2", &format!("{name:<18}"))));
    }

    /// Something that went as it must.
    pub(crate) fn good(&self, text: &str) {
        self.line(&format!("  {} {text}", self.painted("32", "ok")));
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Says on standard error why the program ends.
pub(crate) fn complain(problem: &str) {
    let _ = writeln!(std::io::stderr(), "aws-emulator: {problem}");
}
