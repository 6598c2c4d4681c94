//! How a session stands, told from the types of the messages that have passed in both directions: idle, in a
//! transaction, busy, copying, and how many answers the server still owes. Pure: no I/O, no payload.
//!
//! The server works through the client's messages one by one, so what it has not answered yet is a queue. A
//! Query, a FunctionCall and a Sync each earn one ReadyForQuery; the messages of the extended protocol earn one
//! completion each, until an error makes the server skip everything up to the next Sync. In COPY IN the server
//! ignores Sync and Flush (PostgreSQL manual, "COPY Operations"). When such a COPY fails, nobody can know from
//! outside which of the Syncs sent meanwhile the server had read before: they may earn a ReadyForQuery or none.
//! Until a later answer tells, the session counts as busy. It is never called idle by mistake; what the tracker
//! does not understand makes it busy for good.

use std::collections::VecDeque;

use super::frames::Frames;

/// Most client messages, or runs of extended-protocol messages, that wait for an answer and are followed. A
/// pipeline that is deeper makes the session busy for good. Real pipelines are some hundreds deep.
const MAX_QUEUE: usize = 8_192;

/// Places for waiting messages that are kept when none waits.
const KEPT_QUEUE: usize = 32;

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is under way in any direction, and there is no transaction.
    Idle,
    /// The server waits for the client inside a transaction.
    InTransaction,
    /// The server waits for the client to end a transaction that has failed.
    InFailedTransaction,
    /// Something is under way, or it cannot be told.
    Busy,
}

/// A COPY that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// From client to server.
    In,
    /// From server to client.
    Out,
    /// Both ways (replication).
    Both,
}

/// What the client has sent and the server has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// So many Parse, Bind, Describe, Execute and Close.
    Extended(u32),
    /// A Query or FunctionCall.
    Query,
    Sync,
    /// So many Syncs that the server may have ignored, at least one.
    PerhapsSyncs(u32),
    /// CopyDone or CopyFail: ends a COPY IN, and is ignored where there is none.
    CopyEnd,
}

/// Follows both directions of one session from its first ReadyForQuery on.
#[derive(Debug)]
pub struct Tracker {
    client: Frames,
    server: Frames,
    exchange: Exchange,
    /// The server has told a parameter.
    told_parameter: bool,
}

#[derive(Debug)]
struct Exchange {
    waiting: VecDeque<Waiting>,
    /// Transaction status of the last ReadyForQuery.
    status: u8,
    /// Messages of the extended protocol have been answered since the last ReadyForQuery.
    batch: bool,
    /// The server skips everything up to the next Sync; so many may have ended that before.
    skipping: Option<u32>,
    copy: Option<Copying>,
    copy_in: CopyIn,
    /// Something was not understood.
    doubt: bool,
    terminated: bool,
    last_from_server: u8,
}

/// What the client has sent during a COPY IN.
#[derive(Debug, Default)]
struct CopyIn {
    /// Its end, or something that has no place in it: then the server ends the session, unless the COPY fails
    /// before that.
    ended: bool,
    /// Syncs.
    syncs: u32,
}

impl Tracker {
    /// Begins behind a ReadyForQuery with this transaction status: `I`, `T` or `E`.
    pub fn new(status: u8) -> Self {
        let exchange = Exchange {
            waiting: VecDeque::new(),
            status,
            batch: false,
            skipping: None,
            copy: None,
            copy_in: CopyIn::default(),
            doubt: false,
            terminated: false,
            last_from_server: b'Z',
        };
        Self { client: Frames::default(), server: Frames::default(), exchange, told_parameter: false }
    }

    /// Takes note of bytes that went to the server.
    pub fn to_server(&mut self, bytes: &[u8]) {
        let exchange = &mut self.exchange;
        self.client.feed(bytes, |tag, _| exchange.client_sent(tag));
    }

    /// Takes note of bytes that went to the client.
    pub fn to_client(&mut self, bytes: &[u8]) {
        let (exchange, told_parameter) = (&mut self.exchange, &mut self.told_parameter);
        self.server.feed(bytes, |tag, first| {
            *told_parameter |= tag == b'S';
            exchange.server_sent(tag, first);
        });
    }

    /// How the session stands.
    pub fn standing(&self) -> Standing {
        let exchange = &self.exchange;
        if !exchange.quiet() || !self.client.at_boundary() || !self.server.at_boundary() {
            return Standing::Busy;
        }
        match exchange.status {
            b'I' => Standing::Idle,
            b'T' => Standing::InTransaction,
            b'E' => Standing::InFailedTransaction,
            _ => Standing::Busy,
        }
    }

    /// The COPY that is under way.
    pub fn copying(&self) -> Option<Copying> {
        self.exchange.copy
    }

    /// ReadyForQuery messages that the server still owes, perhaps fewer.
    pub fn owed(&self) -> usize {
        let owes = |item: &Waiting| match item {
            Waiting::Query | Waiting::Sync => 1,
            Waiting::PerhapsSyncs(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Waiting::Extended(_) | Waiting::CopyEnd => 0,
        };
        self.exchange.waiting.iter().map(owes).fold(0, usize::saturating_add)
    }

    /// Whether the server's direction stands between two messages.
    pub fn server_between_messages(&self) -> bool {
        self.server.at_boundary()
    }

    /// Whether the client's direction stands between two messages.
    pub fn client_between_messages(&self) -> bool {
        self.client.at_boundary()
    }

    /// How many bytes from the server, of those that come next, belong to the message that is under way.
    pub fn rest_of_server_message(&self, next: &[u8]) -> usize {
        self.server.rest_of_message(next)
    }

    /// Whether the last whole message from the server was an error.
    pub fn server_ended_with_error(&self) -> bool {
        self.exchange.last_from_server == b'E' && self.server.at_boundary()
    }

    /// Whether the server has told a parameter (ParameterStatus) on the way.
    pub fn told_parameter(&self) -> bool {
        self.told_parameter
    }

    /// Whether the client has said goodbye.
    pub fn terminated(&self) -> bool {
        self.exchange.terminated
    }
}

impl Exchange {
    fn quiet(&self) -> bool {
        self.waiting.is_empty()
            && !self.batch
            && self.skipping.is_none()
            && self.copy.is_none()
            && !self.doubt
            && !self.terminated
    }

    fn client_sent(&mut self, tag: u8) {
        if tag == b'd' {
            return; // data is data
        }
        self.copy_in.ended |= matches!(tag, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C');
        match tag {
            b'Q' | b'F' => self.wait_for(Waiting::Query),
            b'P' | b'B' | b'D' | b'E' | b'C' => match self.waiting.back_mut() {
                Some(Waiting::Extended(count)) => *count = count.saturating_add(1),
                _ => self.wait_for(Waiting::Extended(1)),
            },
            b'S' if self.in_open_copy() => self.copy_in.syncs = self.copy_in.syncs.saturating_add(1),
            b'S' => self.wait_for_sync(),
            b'c' | b'f' if self.in_open_copy() => self.copy_in.ended = true,
            // Behind a COPY that has failed it is ignored.
            b'c' | b'f' if matches!(self.waiting.back(), Some(Waiting::PerhapsSyncs(_))) => {}
            b'c' | b'f' => self.wait_for(Waiting::CopyEnd),
            b'H' => {} // a Flush earns nothing
            b'X' => self.terminated = true,
            _ => self.lose(),
        }
    }

    fn in_open_copy(&self) -> bool {
        self.copy == Some(Copying::In) && !self.copy_in.ended
    }

    fn wait_for(&mut self, item: Waiting) {
        // A server that skips ignores all but the Sync; what comes behind that waits as usual.
        let ignored = self.skipping.is_some() && self.waiting.is_empty() && item != Waiting::Sync;
        if self.doubt || ignored {
            return;
        }
        if self.waiting.len() >= MAX_QUEUE {
            return self.lose();
        }
        self.waiting.push_back(item);
    }

    /// One ReadyForQuery is as good as another: those that are sure to come go before those that are not.
    fn wait_for_sync(&mut self) {
        let perhaps = match self.waiting.back() {
            Some(Waiting::PerhapsSyncs(_)) => self.waiting.pop_back(),
            _ => None,
        };
        self.wait_for(Waiting::Sync);
        self.waiting.extend(perhaps);
    }

    /// Gives up: never idle again.
    fn lose(&mut self) {
        self.doubt = true;
        self.waiting = VecDeque::new();
    }

    fn server_sent(&mut self, tag: u8, first: u8) {
        // Another row tells nothing that the one before has not told, whatever the client has sent meanwhile:
        // that waits behind what the rows answer.
        if matches!(tag, b'D' | b'd') && tag == self.last_from_server {
            return;
        }
        match tag {
            // Notice, notification and changed parameter come at any time and answer nothing.
            b'N' | b'A' | b'S' => return self.last_from_server = tag,
            b'Z' => self.ready(first),
            _ => self.answered(tag),
        }
        self.last_from_server = tag;
    }

    /// An answer that is not ReadyForQuery.
    fn answered(&mut self, tag: u8) {
        // It cannot be a Sync's: a Sync behind a ReadyForQuery earns another one and nothing else.
        while matches!(self.waiting.front(), Some(Waiting::CopyEnd | Waiting::PerhapsSyncs(_))) {
            self.waiting.pop_front();
        }
        let front = self.waiting.front().copied();
        match (tag, front) {
            (b'E', _) => self.failed(front),
            (b'D' | b'd' | b'c' | b't' | b'V' | b'T', Some(Waiting::Query))
            | (b'D' | b'd' | b'c' | b't', Some(Waiting::Extended(_))) => {}
            (b'C' | b'I', Some(Waiting::Query)) => self.end_copy(),
            (b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's', Some(Waiting::Extended(count))) => {
                self.end_copy();
                self.batch = true;
                self.waiting.pop_front();
                if count > 1 {
                    self.waiting.push_front(Waiting::Extended(count - 1));
                }
            }
            (b'G', Some(Waiting::Query | Waiting::Extended(_))) => self.begin_copy_in(front),
            (b'H', Some(Waiting::Query | Waiting::Extended(_))) => self.copy = Some(Copying::Out),
            (b'W', Some(Waiting::Query)) => self.copy = Some(Copying::Both),
            _ => self.lose(),
        }
    }

    /// The server has begun to read the client's next messages as data, up to the first end of a COPY.
    fn begin_copy_in(&mut self, front: Option<Waiting>) {
        self.copy = Some(Copying::In);
        // More of the same run has been sent, and no Sync or end of the COPY between.
        self.copy_in = CopyIn { ended: matches!(front, Some(Waiting::Extended(2..))), syncs: 0 };
        while !self.copy_in.ended {
            match self.waiting.get(1) {
                None => return,
                Some(Waiting::Sync) => self.copy_in.syncs = self.copy_in.syncs.saturating_add(1),
                Some(Waiting::PerhapsSyncs(count)) => {
                    self.copy_in.syncs = self.copy_in.syncs.saturating_add(*count);
                }
                Some(Waiting::CopyEnd) => self.copy_in.ended = true,
                Some(Waiting::Extended(_) | Waiting::Query) => return self.copy_in.ended = true,
            }
            self.waiting.remove(1);
        }
    }

    fn end_copy(&mut self) {
        (self.copy, self.copy_in) = (None, CopyIn::default());
    }

    fn failed(&mut self, front: Option<Waiting>) {
        let perhaps = self.copy_in.syncs;
        self.end_copy();
        match front {
            Some(Waiting::Extended(_)) => {
                self.skipping = Some(perhaps);
                while self.waiting.front().is_some_and(|item| *item != Waiting::Sync) {
                    self.waiting.pop_front();
                }
            }
            Some(Waiting::Query) => {
                self.waiting.pop_front();
                self.perhaps(perhaps);
                self.waiting.push_front(Waiting::Query);
            }
            Some(_) => {}
            // It answers nothing: the server is about to end the session.
            None => self.lose(),
        }
    }

    /// Puts Syncs that may have been ignored first in the queue, but behind those that were not.
    fn perhaps(&mut self, count: u32) {
        if count > 0 {
            let sure = |item: &Waiting| matches!(item, Waiting::Sync | Waiting::CopyEnd);
            let place = self.waiting.iter().take_while(|item| sure(item)).count();
            self.waiting.insert(place, Waiting::PerhapsSyncs(count));
        }
    }

    fn ready(&mut self, status: u8) {
        self.end_copy();
        (self.status, self.batch) = (status, false);
        let perhaps = self.skipping.take().unwrap_or(0);
        while self.waiting.front() == Some(&Waiting::CopyEnd) {
            self.waiting.pop_front();
        }
        match self.waiting.pop_front() {
            Some(Waiting::Query | Waiting::Sync) => self.perhaps(perhaps),
            Some(Waiting::PerhapsSyncs(count)) => self.perhaps(count - 1),
            None if perhaps > 0 => self.perhaps(perhaps - 1),
            _ => return self.lose(),
        }
        while self.waiting.front() == Some(&Waiting::CopyEnd) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_QUEUE {
            self.waiting = VecDeque::new();
        }
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
