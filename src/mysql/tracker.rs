//! State of a session, derived from the messages of both directions: idle, in a transaction, or busy. Pure: no I/O, and
//! of each message only its first bytes.
//!
//! Clients may send commands ahead; the server answers them in order. An answer's grammar depends on its command
//! ([`Command`]), and the status in the last OK or EOF tells whether a transaction is open. An error has no status: after
//! one, the last status holds, and with autocommit off a transaction counts as open.

use super::capabilities::Capabilities;
use super::command::{ClientMessage, Command, CommandQueue};
use super::cursors::Cursors;
use super::file_transfer::FileTransfer;
use super::frames::{Frames, Message};
use super::limits::MAX_PAYLOAD;
use super::packet::Fields;
use super::server_error::ERR;
use crate::protocol::{SessionState, SessionTracker, WorkCounts};

/// Flags of a server's status (MySQL Internals, "Status Flags").
pub(super) const IN_TRANSACTION: u16 = 1;
const AUTOCOMMIT: u16 = 2;
const MORE_RESULTS: u16 = 8;
const CURSOR_EXISTS: u16 = 64;
const LAST_ROW_SENT: u16 = 128;

/// First bytes of answers.
const OK: u8 = 0x00;
const EOF: u8 = 0xfe;
const LOCAL_INFILE: u8 = 0xfb;

/// A message that begins like an EOF and is shorter is one; a row that begins like it is longer.
const LONGEST_EOF: u64 = 9;

/// Errors by which a server ends a session: `ER_SERVER_SHUTDOWN`, `ER_CONNECTION_KILLED` (MariaDB),
/// `ER_SESSION_WAS_KILLED`, `ER_CLIENT_INTERACTION_TIMEOUT`.
const LAST_ERRORS: [u16; 4] = [1053, 1927, 3169, 4031];

/// Position in the answer to the first command of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Its first message, or the first one of a further result.
    Begin,
    /// Column definitions up to an EOF; only without `CLIENT_DEPRECATE_EOF`.
    Columns,
    /// Messages up to the end of a result set.
    Rows,
    /// Definitions of a prepared statement: this many messages.
    Definitions(u32),
    /// The server reads a file from the client.
    File,
}

/// Side that has sent the last packet of the current answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastSide {
    /// The client, by its command.
    Command,
    /// The client, by data of a file.
    File,
    /// The server.
    Server,
}

/// Tracks both directions of one session from its first OK.
#[derive(Debug)]
pub struct Tracker {
    client: Frames,
    server: Frames,
    exchange: Exchange,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, in all combinations")]
struct Exchange {
    waiting: CommandQueue,
    answer: Answer,
    last: LastSide,
    deprecate_eof: bool,
    /// Status of the last OK or EOF.
    status: u16,
    cursors: Cursors,
    counts: WorkCounts,
    transfer: FileTransfer,
    terminated: bool,
    /// True if the messages contradict the grammar or are not understood.
    lost: bool,
    /// True if the last message was an error that ends the session.
    ended: bool,
}

impl Tracker {
    /// Starts after the server's OK with this status.
    pub fn new(capabilities: Capabilities, status: u16, transfer: FileTransfer) -> Self {
        let exchange = Exchange {
            waiting: CommandQueue::default(),
            answer: Answer::Begin,
            last: LastSide::Command,
            deprecate_eof: capabilities.contains(Capabilities::DEPRECATE_EOF),
            status,
            cursors: Cursors::default(),
            counts: WorkCounts::default(),
            transfer,
            terminated: false,
            lost: false,
            ended: false,
        };
        Self { client: Frames::default(), server: Frames::default(), exchange }
    }

    /// Sequence number of the message that the client expects next: an answer's next one, or 0.
    pub fn next_sequence(&self) -> u8 {
        if self.exchange.waiting.is_empty() {
            return 0;
        }
        match self.exchange.last {
            LastSide::Command => 1,
            LastSide::File => self.client.sequence().wrapping_add(1),
            LastSide::Server => self.server.sequence().wrapping_add(1),
        }
    }
}

impl SessionTracker for Tracker {
    fn to_server(&mut self, bytes: &[u8]) {
        let exchange = &mut self.exchange;
        self.client.feed(bytes, |message| exchange.client_sent(message));
    }

    fn to_client(&mut self, bytes: &[u8]) {
        let exchange = &mut self.exchange;
        self.server.feed(bytes, |message| exchange.server_sent(message));
    }

    fn state(&self) -> SessionState {
        let exchange = &self.exchange;
        let over = exchange.terminated || exchange.lost || exchange.ended;
        let boundary = self.client.at_boundary() && self.server.at_boundary();
        if over || !boundary || !exchange.waiting.is_empty() {
            return SessionState::Busy;
        }
        if exchange.status & IN_TRANSACTION != 0 || exchange.cursors.any() {
            return SessionState::InTransaction;
        }
        SessionState::Idle
    }

    fn owes_nothing(&self) -> bool {
        self.exchange.waiting.is_empty()
    }

    fn is_transferring(&self) -> bool {
        self.exchange.answer == Answer::File
    }

    fn server_between_messages(&self) -> bool {
        self.server.at_boundary()
    }

    fn client_between_messages(&self) -> bool {
        self.client.at_boundary()
    }

    fn rest_of_server_message(&self, next: &[u8]) -> usize {
        self.server.rest_of_message(next)
    }

    fn server_ended_with_error(&self) -> bool {
        self.exchange.ended && self.server.at_boundary()
    }

    fn told_parameter(&self) -> bool {
        false
    }

    fn terminated(&self) -> bool {
        self.exchange.terminated
    }

    fn counts(&self) -> WorkCounts {
        self.exchange.counts
    }
}

impl Exchange {
    fn client_sent(&mut self, message: Message<'_>) {
        if self.lost {
            return;
        }
        if self.answer == Answer::File {
            self.last = LastSide::File;
            if message.length == 0 {
                self.answer = Answer::Begin; // the end of the file: one more answer
            }
            return;
        }
        if message.sequence != 0 {
            return self.lose(); // data of a file that the server has not asked for yet
        }
        match ClientMessage::of(message.head) {
            ClientMessage::Queued(command) => {
                if self.waiting.push(command).is_err() {
                    self.lose();
                }
                self.close_unanswered();
            }
            ClientMessage::Unanswered => {}
            ClientMessage::Quit => self.terminated = true,
            ClientMessage::Unknown => self.lose(),
        }
    }

    /// Gives the session up: it is busy for good. From here on every packet that looks like a command is one for the
    /// filter, whatever a client has made the answers look like.
    fn lose(&mut self) {
        self.lost = true;
        self.transfer.end();
    }

    fn server_sent(&mut self, message: Message<'_>) {
        if self.lost {
            return;
        }
        let kind = message.head.first().copied();
        let Some(command) = self.waiting.front() else {
            // A message that answers nothing: the server is about to end the session.
            self.ended = kind == Some(ERR);
            return self.lose();
        };
        if kind == Some(ERR) {
            return self.failed(message.head, command);
        }
        self.last = LastSide::Server;
        match self.answer {
            Answer::Begin => self.began(command, kind, message),
            Answer::Columns if kind == Some(EOF) && message.length < LONGEST_EOF => {
                self.take_eof(message.head);
                self.answer = Answer::Rows;
                if self.status & CURSOR_EXISTS != 0 {
                    self.result_ended(command);
                }
            }
            Answer::Columns => {}
            Answer::Rows => {
                if kind == Some(EOF) && self.is_end(message.length) {
                    self.take_end(message.head);
                    self.result_ended(command);
                }
            }
            Answer::Definitions(left) => match left.checked_sub(1) {
                Some(0) | None => self.answered(),
                Some(left) => self.answer = Answer::Definitions(left),
            },
            Answer::File => self.lose(), // the file is not complete
        }
    }

    /// Records the first message of an answer that is no error.
    fn began(&mut self, command: Command, kind: Option<u8>, message: Message<'_>) {
        match (command, kind) {
            (Command::Text, Some(_)) => self.answered(),
            (Command::Simple | Command::Reset | Command::ResetStatement(_), Some(OK | EOF)) => {
                match kind {
                    Some(EOF) => self.take_end(message.head),
                    _ => self.take_ok(message.head),
                }
                match command {
                    Command::Reset => self.cursors = Cursors::default(),
                    Command::ResetStatement(statement) => self.cursors.close(statement),
                    _ => {}
                }
                self.answered();
            }
            (Command::Results | Command::Execute(_), Some(OK)) => {
                self.take_ok(message.head);
                self.result_ended(command);
            }
            (Command::Results, Some(LOCAL_INFILE)) => {
                self.answer = Answer::File;
                self.transfer.begin();
            }
            (Command::Results | Command::Execute(_), Some(1..=0xfa | 0xfc | 0xfd)) => {
                self.answer = if self.deprecate_eof { Answer::Rows } else { Answer::Columns };
            }
            (Command::Prepare, Some(OK)) => match self.definitions(message.head) {
                Some(0) => self.answered(),
                Some(count) => self.answer = Answer::Definitions(count),
                None => self.lose(),
            },
            (Command::Fetch(_) | Command::Fields, Some(EOF)) if self.is_end(message.length) => {
                self.take_end(message.head);
                self.result_ended(command);
            }
            (Command::Fetch(_) | Command::Fields, Some(_)) => self.answer = Answer::Rows,
            _ => self.lose(),
        }
    }

    /// Messages that describe a prepared statement: one for each parameter and column, and, without
    /// `CLIENT_DEPRECATE_EOF`, an EOF behind each of the two groups.
    fn definitions(&self, head: &[u8]) -> Option<u32> {
        let mut fields = Fields::of(head);
        fields.bytes(5)?; // OK and the statement's number
        let (columns, parameters) = (fields.u16()?, fields.u16()?);
        let of_group = |count: u16| {
            let eof = u32::from(!self.deprecate_eof && count > 0);
            u32::from(count) + eof
        };
        Some(of_group(columns) + of_group(parameters))
    }

    fn failed(&mut self, head: &[u8], command: Command) {
        let errno =
            head.get(1..3).and_then(|errno| errno.first_chunk()).map(|errno| u16::from_le_bytes(*errno));
        self.ended = errno.is_some_and(|errno| LAST_ERRORS.contains(&errno));
        if self.answer == Answer::File {
            return self.lose(); // servers read the whole file first
        }
        if self.status & AUTOCOMMIT == 0 {
            self.status |= IN_TRANSACTION; // the error does not tell
        }
        if let Command::Execute(statement) = command {
            self.cursors.close(statement);
        }
        self.answered();
    }

    /// True if a message of this length that begins like an EOF ends a result set.
    fn is_end(&self, length: u64) -> bool {
        if self.deprecate_eof {
            usize::try_from(length).is_ok_and(|length| length < MAX_PAYLOAD)
        } else {
            length < LONGEST_EOF
        }
    }

    /// Records the end of a result set or of one of several results.
    fn result_ended(&mut self, command: Command) {
        match command {
            Command::Execute(statement) if self.status & CURSOR_EXISTS != 0 => self.cursors.open(statement),
            Command::Execute(statement) => self.cursors.close(statement),
            Command::Fetch(statement) if self.status & LAST_ROW_SENT != 0 => self.cursors.close(statement),
            _ => {}
        }
        if self.status & MORE_RESULTS != 0 {
            self.answer = Answer::Begin;
        } else {
            self.answered();
        }
    }

    fn answered(&mut self) {
        // COM_QUERY and COM_STMT_EXECUTE are what the server counts in its status "Questions".
        if let Some(Command::Results | Command::Execute(_)) = self.waiting.front() {
            self.counts.queries += 1;
            self.counts.transactions += u64::from(self.status & IN_TRANSACTION == 0);
        }
        self.waiting.pop();
        (self.answer, self.last) = (Answer::Begin, LastSide::Command);
        self.close_unanswered();
    }

    /// Carries out the commands without an answer at the head of the queue.
    fn close_unanswered(&mut self) {
        while let Some(Command::Close(statement)) = self.waiting.front() {
            self.cursors.close(statement);
            self.waiting.pop();
        }
    }

    /// The end of a result set: an OK with another first byte, or an EOF.
    fn take_end(&mut self, head: &[u8]) {
        if self.deprecate_eof && head.len() > 5 { self.take_ok(head) } else { self.take_eof(head) }
    }

    fn take_eof(&mut self, head: &[u8]) {
        self.set_status(head.get(3..5).and_then(|status| status.first_chunk()));
    }

    fn take_ok(&mut self, head: &[u8]) {
        let mut fields = Fields::of(head);
        let numbers = fields.u8().and_then(|_| fields.length()).and_then(|_| fields.length());
        self.set_status(numbers.and_then(|_| fields.rest().first_chunk()));
    }

    fn set_status(&mut self, status: Option<&[u8; 2]>) {
        match status {
            Some(status) => self.status = u16::from_le_bytes(*status),
            None => self.lose(),
        }
    }
}

#[cfg(test)]
mod tests;
