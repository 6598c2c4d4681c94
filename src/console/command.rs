//! Commands of the console: parsing, the right that each needs, and columns.

use std::fmt;

use super::lexer::{Word, commands};
use super::setting;
use super::topic::Topic;
use crate::config::LogLevel;
use crate::identity::ConsoleRight;
use crate::names::{SessionId, visible};
use crate::postgres::command_failure::CommandFailure;
use crate::postgres::command_server::Column;

/// Longest part of a command that an error repeats.
const MAX_SHOWN: usize = 63;

const SETTING: &[Column] = &[Column::text("setting")];

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `SHOW` of the service.
    Show(Topic),
    /// `SHOW` of a session setting: its value.
    ShowSetting(&'static str),
    /// `SET`, `RESET` or `DISCARD` of session settings, or `DEALLOCATE`, without effect: its tag.
    Ignored(&'static str),
    /// `BEGIN`
    Begin,
    /// `COMMIT` or `ROLLBACK`: its tag.
    End(&'static str),
    /// `SET log_level`
    SetLogLevel(LogLevel),
    /// `RELOAD`
    Reload,
    /// `SHUTDOWN`
    Shutdown,
    /// `KILL` of one session or console connection.
    Kill(SessionId),
    /// `PAUSE` of a cluster, or of all.
    Pause(Option<String>),
    /// `RESUME` of a cluster, or of all.
    Resume(Option<String>),
    /// `DRAIN` of a cluster.
    Drain(String),
    /// `KILL SUBJECT`: all sessions of a person, at one issuer (by its configured name) or at all.
    KillSubject { subject: String, issuer: Option<String> },
}

impl Command {
    /// The right that the command needs.
    pub(super) fn right(&self) -> ConsoleRight {
        match self {
            Self::Show(_) | Self::ShowSetting(_) | Self::Ignored(_) | Self::Begin | Self::End(_) => {
                ConsoleRight::View
            }
            Self::SetLogLevel(_)
            | Self::Reload
            | Self::Shutdown
            | Self::Kill(_)
            | Self::KillSubject { .. }
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Drain(_) => ConsoleRight::Change,
        }
    }

    /// Columns of the answer; empty for a command that answers no rows.
    pub(super) fn columns(&self) -> &'static [Column] {
        match self {
            Self::Show(topic) => topic.columns(),
            Self::ShowSetting(_) => SETTING,
            Self::Ignored(_)
            | Self::Begin
            | Self::End(_)
            | Self::SetLogLevel(_)
            | Self::Reload
            | Self::Shutdown
            | Self::Kill(_)
            | Self::KillSubject { .. }
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Drain(_) => &[],
        }
    }

    /// Command tag of the answer.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Show(_) | Self::ShowSetting(_) => "SHOW",
            Self::Ignored(tag) | Self::End(tag) => tag,
            Self::Begin => "BEGIN",
            Self::SetLogLevel(_) => "SET",
            Self::Reload => "RELOAD",
            Self::Shutdown => "SHUTDOWN",
            Self::Kill(_) | Self::KillSubject { .. } => "KILL",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Drain(_) => "DRAIN",
        }
    }

    /// Parses one command.
    pub(super) fn parse(text: &str) -> Result<Self, CommandFailure> {
        let parts = commands(text)?;
        let [words] = parts.as_slice() else { return Err(unknown(text)) };
        let [verb, rest @ ..] = words.as_slice() else { return Err(unknown(text)) };
        let is = |keyword: &str| verb.is(keyword);
        if is("SHOW") {
            show(rest)
        } else if is("SET") {
            set(rest)
        } else if is("KILL") || is("KILL_CLIENT") {
            kill(rest)
        } else if is("PAUSE") {
            Ok(Self::Pause(cluster(verb, rest)?))
        } else if is("RESUME") {
            Ok(Self::Resume(cluster(verb, rest)?))
        } else if is("DRAIN") {
            cluster(verb, rest)?.map(Self::Drain).ok_or_else(|| needs_cluster(verb))
        } else if is("RELOAD") && rest.is_empty() {
            Ok(Self::Reload)
        } else if is("SHUTDOWN") && rest.is_empty() {
            Ok(Self::Shutdown)
        } else if is("RESET") {
            Ok(Self::Ignored("RESET"))
        } else if is("DISCARD") {
            Ok(Self::Ignored("DISCARD ALL"))
        } else if is("DEALLOCATE") {
            Ok(Self::Ignored("DEALLOCATE ALL"))
        } else if is("BEGIN") || is("START") {
            Ok(Self::Begin)
        } else if is("COMMIT") || is("END") {
            Ok(Self::End("COMMIT"))
        } else if is("ROLLBACK") || is("ABORT") {
            Ok(Self::End("ROLLBACK"))
        } else if SQL.iter().any(|keyword| is(keyword)) {
            Err(no_sql(verb))
        } else {
            Err(unknown(text))
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Show(topic) => write!(f, "SHOW {}", topic.word()),
            Self::SetLogLevel(level) => write!(f, "SET log_level = {}", level.word()),
            Self::Kill(id) => write!(f, "KILL {id}"),
            Self::KillSubject { subject, issuer } => {
                write!(f, "KILL SUBJECT {}", quoted(subject))?;
                issuer.as_ref().map_or(Ok(()), |issuer| write!(f, " ISSUER {}", quoted(issuer)))
            }
            Self::Pause(Some(cluster)) | Self::Resume(Some(cluster)) | Self::Drain(cluster) => {
                write!(f, "{} {}", self.tag(), quoted(cluster))
            }
            Self::ShowSetting(_)
            | Self::Ignored(_)
            | Self::Begin
            | Self::End(_)
            | Self::Pause(None)
            | Self::Resume(None)
            | Self::Reload
            | Self::Shutdown => f.write_str(self.tag()),
        }
    }
}

/// First words of SQL that clients and tools send by themselves.
const SQL: [&str; 9] = ["SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "COPY", "EXPLAIN"];

fn show(words: &[Word]) -> Result<Command, CommandFailure> {
    let name = match words {
        [one] => one.value().to_owned(),
        // PostgreSQL's own words for two settings.
        [time, zone] if time.is("TIME") && zone.is("ZONE") => "timezone".to_owned(),
        [first, isolation, level]
            if first.is("TRANSACTION") && isolation.is("ISOLATION") && level.is("LEVEL") =>
        {
            "transaction_isolation".to_owned()
        }
        _ => return Err(unknown_topic(words)),
    };
    if let Some(topic) = Topic::ALL.into_iter().find(|topic| name.eq_ignore_ascii_case(topic.word())) {
        return Ok(Command::Show(topic));
    }
    let setting = setting::find(&name).map(|(_, value)| Command::ShowSetting(value));
    setting.ok_or_else(|| unknown_topic(words))
}

fn kill(words: &[Word]) -> Result<Command, CommandFailure> {
    match words {
        [keyword, subject] if keyword.is("SUBJECT") => {
            Ok(Command::KillSubject { subject: subject.value().to_owned(), issuer: None })
        }
        [keyword, subject, at, issuer] if keyword.is("SUBJECT") && at.is("ISSUER") => {
            let (subject, issuer) = (subject.value().to_owned(), issuer.value().to_owned());
            Ok(Command::KillSubject { subject, issuer: Some(issuer) })
        }
        [id] => SessionId::parse(id.value()).map(Command::Kill).ok_or_else(|| {
            let message = format!("\"{}\" is not the id of a session", visible(id.value(), MAX_SHOWN));
            CommandFailure::new("22023", message).hint("SHOW SESSIONS has the ids, of 16 hexadecimal digits.")
        }),
        _ => Err(CommandFailure::new("42601", "KILL needs a session or a subject")
            .hint("Write KILL <id>, KILL SUBJECT '<sub>', or KILL SUBJECT '<sub>' ISSUER '<name>'.")),
    }
}

/// The cluster behind `verb`, if one is named.
fn cluster(verb: &Word, words: &[Word]) -> Result<Option<String>, CommandFailure> {
    match words {
        [] => Ok(None),
        [name] => Ok(Some(name.value().to_owned())),
        _ => Err(needs_cluster(verb)),
    }
}

fn needs_cluster(verb: &Word) -> CommandFailure {
    let verb = verb.value().to_ascii_uppercase();
    CommandFailure::new("42601", format!("{verb} needs the name of one cluster"))
        .hint("SHOW CLUSTERS has the names. A name with spaces stands in single quotes.")
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn set(words: &[Word]) -> Result<Command, CommandFailure> {
    let words = match words {
        [scope, rest @ ..] if scope.is("SESSION") || scope.is("LOCAL") => rest,
        all => all,
    };
    match words {
        [name, to, value] if name.is("log_level") && (to.is("=") || to.is("TO")) => {
            let known = LogLevel::WORDS.iter().find(|(word, _)| value.value().eq_ignore_ascii_case(word));
            known.map(|(_, level)| Command::SetLogLevel(*level)).ok_or_else(|| {
                let words: Vec<_> = LogLevel::WORDS.iter().map(|(word, _)| *word).collect();
                CommandFailure::new("22023", "log_level has no such value")
                    .hint(format!("Use one of {}.", words.join(", ")))
            })
        }
        [first, ..] if first.is("TRANSACTION") || first.is("CHARACTERISTICS") || first.is("TIME") => {
            Ok(Command::Ignored("SET"))
        }
        [name, ..] if setting::find(name.value()).is_some() || name.value().contains('.') => {
            Ok(Command::Ignored("SET"))
        }
        _ => {
            let name = words.first().map(Word::value).unwrap_or_default();
            let message = format!("unrecognized configuration parameter \"{}\"", visible(name, MAX_SHOWN));
            Err(CommandFailure::new("42704", message).hint(
                "The console can set log_level. Other keys are in the configuration file; RELOAD reads it.",
            ))
        }
    }
}

fn unknown_topic(words: &[Word]) -> CommandFailure {
    let name: Vec<_> = words.iter().map(Word::value).collect();
    let message = format!("there is no SHOW {}", visible(&name.join(" "), MAX_SHOWN));
    let topics: Vec<_> = Topic::ALL.iter().map(|topic| topic.word()).collect();
    CommandFailure::new("42601", message).hint(format!("The topics are {}.", topics.join(", ")))
}

fn unknown(text: &str) -> CommandFailure {
    let message = format!("the console has no command \"{}\"", visible(text, MAX_SHOWN));
    CommandFailure::new("42601", message).hint("SHOW HELP lists the commands.")
}

fn no_sql(verb: &Word) -> CommandFailure {
    let message = format!("the console executes no {}", verb.value().to_ascii_uppercase());
    CommandFailure::new("0A000", message)
        .detail("This is the console of pgpassport. It has no tables and no functions.")
        .hint("SHOW HELP lists its commands. Connect to another database for SQL.")
}

#[cfg(test)]
mod tests;
