//! Commands of a client, and the queue of those that the server has not answered (MySQL Internals, "Command Phase").

use std::collections::VecDeque;

/// `COM_QUIT`.
pub(super) const QUIT: u8 = 0x01;
/// `COM_INIT_DB`.
pub(super) const INIT_DB: u8 = 0x02;
/// `COM_QUERY`.
pub(super) const QUERY: u8 = 0x03;
/// `COM_PROCESS_KILL`.
pub(super) const PROCESS_KILL: u8 = 0x0c;
/// `COM_PING`.
pub(super) const PING: u8 = 0x0e;
/// `COM_CHANGE_USER`.
pub(super) const CHANGE_USER: u8 = 0x11;
/// `COM_RESET_CONNECTION`.
pub(super) const RESET_CONNECTION: u8 = 0x1f;
/// `COM_SLEEP`, which every server answers with error 1047, "Unknown command".
pub(super) const SLEEP: u8 = 0x00;

/// Statement and parameter in front of the data of a `COM_STMT_SEND_LONG_DATA`, in bytes.
const LONG_DATA_HEADER: usize = 6;

/// Most runs of equal commands without an answer. More make the session busy for good.
pub(super) const MAX_RUNS: usize = 4_096;

/// Grammar of a command's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A single OK, EOF, or error.
    Simple,
    /// `COM_RESET_CONNECTION`: as [`Command::Simple`]; it closes all cursors.
    Reset,
    /// `COM_STMT_RESET` of a statement: as [`Command::Simple`]; it closes the statement's cursor.
    ResetStatement(u32),
    /// Result sets.
    Results,
    /// `COM_STMT_EXECUTE` of a statement: result sets, of which one may have a cursor.
    Execute(u32),
    /// `COM_STMT_PREPARE`.
    Prepare,
    /// `COM_STMT_FETCH` of a statement: rows up to the end.
    Fetch(u32),
    /// `COM_FIELD_LIST`: column definitions up to the end.
    Fields,
    /// A string or an error.
    Text,
    /// `COM_STMT_CLOSE` of a statement, which is not answered; it closes the statement's cursor.
    Close(u32),
}

/// Effect of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientMessage {
    /// A command that joins the queue.
    Queued(Command),
    /// A command without an answer or an effect here.
    Unanswered,
    /// `COM_QUIT`.
    Quit,
    /// A command whose answers are not understood here, for example a replica's.
    Unknown,
}

impl ClientMessage {
    /// Reads the first bytes of a command.
    pub(super) fn of(head: &[u8]) -> Self {
        let Some((kind, rest)) = head.split_first() else { return Self::Unknown };
        let statement = rest.first_chunk().map(|id| u32::from_le_bytes(*id));
        let of_statement = |command: fn(u32) -> Command| {
            statement.map_or(Self::Queued(Command::Simple), |id| Self::Queued(command(id)))
        };
        Self::Queued(match *kind {
            QUIT => return Self::Quit,
            // CREATE_DB, DROP_DB, REFRESH, SHUTDOWN, CONNECT, DEBUG, TIME,
            // DELAYED_INSERT, CONNECT_OUT, SET_OPTION, DAEMON.
            SLEEP
            | 0x02
            | 0x05..=0x08
            | 0x0b
            | PROCESS_KILL
            | 0x0d
            | PING
            | 0x0f
            | 0x10
            | 0x14
            | 0x1b
            | 0x1d => Command::Simple,
            QUERY | 0x0a => Command::Results, // and PROCESS_INFO
            0x04 => Command::Fields,
            0x09 => Command::Text,
            0x16 => Command::Prepare,
            0x17 | 0xfa => return of_statement(Command::Execute), // and MariaDB's STMT_BULK_EXECUTE
            // STMT_SEND_LONG_DATA: MySQL answers one that is too short, MariaDB answers none.
            0x18 if rest.len() >= LONG_DATA_HEADER => return Self::Unanswered,
            0x19 => match statement {
                Some(id) => Command::Close(id),
                None => return Self::Unknown, // as above
            },
            0x1a => return of_statement(Command::ResetStatement),
            0x1c => return of_statement(Command::Fetch),
            RESET_CONNECTION => Command::Reset,
            // CHANGE_USER does not get here; BINLOG_DUMP, TABLE_DUMP, REGISTER_SLAVE, and newer ones.
            _ => return Self::Unknown,
        })
    }
}

/// The queue is too long to be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Commands in the client's order, equal ones counted.
#[derive(Debug, Default)]
pub(super) struct CommandQueue(VecDeque<(Command, u32)>);

impl CommandQueue {
    pub(super) fn push(&mut self, command: Command) -> Result<(), TooDeep> {
        if let Some((last, count)) = self.0.back_mut()
            && *last == command
            && let Some(more) = count.checked_add(1)
        {
            *count = more;
            return Ok(());
        }
        if self.0.len() == MAX_RUNS {
            return Err(TooDeep);
        }
        self.0.push_back((command, 1));
        Ok(())
    }

    pub(super) fn front(&self) -> Option<Command> {
        self.0.front().map(|(command, _)| *command)
    }

    pub(super) fn pop(&mut self) {
        match self.0.front_mut() {
            Some((_, count @ 2..)) => *count -= 1,
            _ => drop(self.0.pop_front()),
        }
        if self.0.is_empty() && self.0.capacity() > 64 {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_commands_are_counted_and_others_are_limited() {
        let mut queue = CommandQueue::default();
        for _ in 0..100_000 {
            queue.push(Command::Execute(1)).unwrap();
        }
        assert_eq!(queue.0.len(), 1);
        for _ in 0..100_000 {
            assert_eq!(queue.front(), Some(Command::Execute(1)));
            queue.pop();
        }
        assert!(queue.is_empty());
        queue.pop();
        for statement in 0..u32::try_from(MAX_RUNS).unwrap() {
            queue.push(Command::Execute(statement)).unwrap();
        }
        assert_eq!(queue.push(Command::Simple), Err(TooDeep));
        while !queue.is_empty() {
            queue.pop();
        }
        assert_eq!(queue.0.capacity(), 0, "an idle session holds no long queue");
    }

    #[test]
    fn every_command_has_a_grammar_or_none() {
        for kind in 0..=u8::MAX {
            let message = ClientMessage::of(&[kind, 1, 0, 0, 0, 0, 0]);
            let unknown = !matches!(kind, 0x00..=0x10 | 0x14 | 0x16..=0x1d | 0x1f | 0xfa);
            assert_eq!(message == ClientMessage::Unknown, unknown, "0x{kind:02x}");
        }
        assert_eq!(ClientMessage::of(b""), ClientMessage::Unknown);
        assert_eq!(ClientMessage::of(&[0x19, 7, 0, 0, 0]), ClientMessage::Queued(Command::Close(7)));
        assert_eq!(ClientMessage::of(&[0x18, 1, 0, 0, 0, 0, 0]), ClientMessage::Unanswered);
        for short in [&[0x19, 7][..], &[0x18], &[0x18, 1, 0, 0, 0, 0]] {
            assert_eq!(ClientMessage::of(short), ClientMessage::Unknown, "servers differ: {short:?}");
        }
        assert_eq!(
            ClientMessage::of(&[0x1c, 7]),
            ClientMessage::Queued(Command::Simple),
            "the server says what is wrong"
        );
    }
}
