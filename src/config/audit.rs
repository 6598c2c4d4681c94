//! `[audit]`: destination of audit records, and behavior if they cannot be written.

use std::path::PathBuf;

use super::reader::SectionReader;

/// Socket of the local syslog, which is journald's under systemd.
const SYSLOG: &str = "/dev/log";

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// File of the audit records, or socket of syslog; if absent, they are log lines.
    pub file: Option<PathBuf>,
    /// Behavior of new logins while records cannot be written.
    pub when_unwritable: WhenUnwritable,
}

/// Behavior of new logins while audit records cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnwritable {
    /// Logins are refused.
    RefuseLogins,
    /// Logins continue, and lost records are counted.
    Continue,
}

pub(super) fn audit(section: &SectionReader<'_, '_>) -> AuditSettings {
    // Words without a slash are reserved for future destinations.
    let word = section.text("to").map(|to| to.value);
    let is_log = word.is_none_or(|word| word == "log");
    let file = if is_log {
        None
    } else if word == Some("syslog") {
        Some(PathBuf::from(SYSLOG))
    } else {
        let path = section.path("to");
        if path.is_some() && section.text("to").is_some_and(|to| !to.value.contains('/')) {
            let text = "write \"log\", \"syslog\", or the path of a file with a slash in it, as in \"/var/log/pgpassport/audit.json\"";
            section.wrong("to", text);
        }
        path
    };
    let words = [("refuse_logins", WhenUnwritable::RefuseLogins), ("continue", WhenUnwritable::Continue)];
    let default = if is_log { WhenUnwritable::Continue } else { WhenUnwritable::RefuseLogins };
    let when_unwritable = section.choice("when_unwritable", default, &words);
    section.finish();
    AuditSettings { file, when_unwritable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::tests::{REFERENCE, problem};

    fn read(keys: &str) -> AuditSettings {
        let text = REFERENCE.replacen("\n[audit]\n", &format!("\n[audit]\n{keys}\n"), 1);
        let config = Config::from_toml(&text, "/etc/pgpassport/proxy.toml");
        config.unwrap_or_else(|problems| panic!("{problems}")).audit
    }

    #[test]
    fn logins_are_refused_by_default_where_records_have_a_file_of_their_own() {
        let [refuse, go_on] = [WhenUnwritable::RefuseLogins, WhenUnwritable::Continue];
        for (keys, file, when_unwritable) in [
            ("", None, go_on),
            ("to = \"log\"", None, go_on),
            ("when_unwritable = \"refuse_logins\"", None, refuse),
            ("to = \"/var/log/a.json\"", Some("/var/log/a.json"), refuse),
            ("to = \"/a\"\nwhen_unwritable = \"continue\"", Some("/a"), go_on),
            ("to = \"syslog\"", Some("/dev/log"), refuse),
            ("to = \"./log\"", Some("/etc/pgpassport/./log"), refuse),
        ] {
            let wanted = AuditSettings { file: file.map(PathBuf::from), when_unwritable };
            assert_eq!(read(keys), wanted, "{keys}");
        }
    }

    #[test]
    fn what_is_neither_the_log_nor_a_path_is_a_problem() {
        for word in ["journald", "stderr", "audit.json"] {
            let text = problem(&[("to", &format!("to = \"{word}\""))]);
            assert!(text.contains("audit.to") && text.contains("with a slash"), "{text}");
        }
        assert!(problem(&[("to", "to = \"\"")]).contains("write a path"));
        assert!(problem(&[("when_unwritable", "when_unwritable = \"stop\"")]).contains("\"refuse_logins\""));
    }
}
