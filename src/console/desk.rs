//! The desk of the console: executes commands on the control runtime, with the state of the process.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::averages::PERIOD;
use super::command::Command;
use super::state::ConsoleDesk;
use super::{ConsoleRequest, Operator, show};
use crate::identity::ConsoleRight;
use crate::postgres::command_failure::CommandFailure;
use crate::postgres::command_server::{CommandAnswer, RowEncoder};
use crate::telemetry::console_audit::{CommandOutcome, CommandRecord};

impl ConsoleDesk {
    /// Executes requests until there can be no more, and ends the periods of statistics. Can be called again after a
    /// panic.
    pub async fn serve(self: &Arc<Self>, incoming: &Mutex<Receiver<ConsoleRequest>>) {
        let mut incoming = incoming.lock().await;
        let mut period = interval_at(Instant::now() + PERIOD, PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let request = tokio::select! {
                request = incoming.recv() => request,
                _ = period.tick() => {
                    self.periods.end(Instant::now(), self.shared.registry.totals());
                    continue;
                }
            };
            let Some(request) = request else { return };
            let desk = Arc::clone(self);
            tokio::spawn(async move {
                let ConsoleRequest { operator, command, rows, reply } = request;
                let answer = desk.execute(&operator, &command, rows).await;
                let _ = reply.send(answer); // a client that is gone needs no answer
            });
        }
    }

    async fn execute(
        &self,
        operator: &Operator,
        command: &Command,
        rows: RowEncoder,
    ) -> Result<CommandAnswer, CommandFailure> {
        if self.shared.clock.now() > operator.accepted_until {
            return Err(CommandFailure::new("28P01", "the token of this connection has expired")
                .hint("Connect again with a fresh token."));
        }
        let needed = command.right();
        if needed == ConsoleRight::View {
            return Ok(self.show(command, rows));
        }
        if !self.current.load().context.admits_records() {
            let failure = CommandFailure::new("57P03", "audit records cannot be written");
            return Err(failure.detail("Nothing is changed without a record."));
        }
        let tag = command.tag();
        let result = if operator.right < needed {
            let message = format!("permission denied for {tag}");
            let detail =
                "Your token fits a rule of admin.view and none of admin.allow: it may show, and not change.";
            Err((CommandOutcome::Refused, CommandFailure::new("42501", message).detail(detail)))
        } else {
            Ok(())
        };
        let result = match result {
            Ok(()) => self.change(command).await.map_err(|why| (CommandOutcome::Failed, why)),
            Err(refused) => Err(refused),
        };
        self.record(operator, command, &result);
        let affected = result.map_err(|(_, failure)| failure)?;
        Ok(CommandAnswer { rows: None, tag: tag.to_owned(), notice: affected })
    }

    /// Executes a command that changes nothing.
    fn show(&self, command: &Command, mut rows: RowEncoder) -> CommandAnswer {
        match command {
            Command::Show(topic) => show::fill(self, *topic, &mut rows),
            Command::ShowSetting(value) => rows.push(&[(*value).into()]),
            _ => return CommandAnswer { tag: command.tag().to_owned(), ..CommandAnswer::default() },
        }
        let (rows, left_out) = rows.finish();
        let notice = (left_out > 0).then(|| format!("{left_out} more rows are left out"));
        CommandAnswer { rows: Some(rows), tag: command.tag().to_owned(), notice }
    }

    fn record(
        &self,
        operator: &Operator,
        command: &Command,
        result: &Result<Option<String>, (CommandOutcome, CommandFailure)>,
    ) {
        let (outcome, reason) = match result {
            Ok(_) => (CommandOutcome::Done, None),
            Err((outcome, failure)) => (*outcome, Some(failure.message.as_str())),
        };
        let record = CommandRecord {
            session: operator.session,
            client: operator.client,
            listener: &operator.listener,
            issuer: &operator.issuer,
            subject: &operator.subject,
            command: &command.to_string(),
            outcome,
            reason,
        };
        record.write(&self.shared.log.noise());
    }
}
