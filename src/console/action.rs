//! Commands that change the service.

use std::time::Duration;

use tokio::time::timeout;

use super::command::Command;
use super::state::ConsoleDesk;
use crate::names::visible;
use crate::postgres::command_failure::CommandFailure;

/// Longest wait for the result of a reload, which continues after that.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// Longest text of a failed reload that the operator gets.
const MAX_PROBLEMS: usize = 4_000;

impl ConsoleDesk {
    /// Executes a command that changes the service. Returns a text for the operator.
    pub(super) async fn change(&self, command: &Command) -> Result<Option<String>, CommandFailure> {
        match command {
            Command::SetLogLevel(level) => {
                self.shared.log.set_level(*level);
                tracing::info!(level = level.word(), "log level changed on the console");
                Ok(None)
            }
            Command::Reload => self.reload().await,
            Command::Shutdown => {
                self.shared.shutdown.ask();
                let text = "the service stops: sessions end when they are idle, at the latest after shutdown_timeout";
                Ok(Some(text.to_owned()))
            }
            Command::Kill(id) => {
                if self.shared.registry.end(*id) || self.shared.console.sessions.end(*id) {
                    return Ok(None);
                }
                Err(CommandFailure::new("42704", format!("there is no session {id}"))
                    .hint("It may have ended. SHOW SESSIONS has the live ones."))
            }
            Command::KillSubject { subject, issuer } => {
                let ended = self.shared.registry.end_subject(issuer.as_deref(), subject)
                    + self.shared.console.sessions.end_subject(issuer.as_deref(), subject);
                let text = match ended {
                    0 => "the subject has no session".to_owned(),
                    1 => "1 session ends".to_owned(),
                    many => format!("{many} sessions end"),
                };
                Ok(Some(format!("{text}; [[denied]] in the configuration keeps a person out")))
            }
            Command::Pause(cluster) => self.pause(cluster.as_deref()).await,
            Command::Resume(cluster) => self.resume(cluster.as_deref()),
            Command::Drain(cluster) => self.drain(cluster),
            Command::Show(_)
            | Command::ShowSetting(_)
            | Command::Ignored(_)
            | Command::Begin
            | Command::End(_) => Ok(None),
        }
    }

    async fn reload(&self) -> Result<Option<String>, CommandFailure> {
        if self.shared.shutdown.is_over() {
            return Err(CommandFailure::new("57P01", "the service is stopping"));
        }
        let failure = |text: String| {
            CommandFailure::new("F0000", "configuration not reloaded; the current one stays in use")
                .detail(text)
        };
        match timeout(RELOAD_TIMEOUT, self.shared.reloads.request()).await {
            Ok(Ok(())) => Ok(None),
            // The text has several lines with a column mark, so each of them is kept.
            Ok(Err(problems)) => {
                let lines: Vec<_> = problems.lines().map(|line| visible(line, MAX_PROBLEMS)).collect();
                let mut text = lines.join("\n");
                text.truncate(text.floor_char_boundary(MAX_PROBLEMS));
                Err(failure(text))
            }
            Err(_) => Err(failure("the reload has not ended; the log will have its result".to_owned())),
        }
    }
}
