//! One hypothesis about an exchange of messages: the client's messages that the server has not answered, and
//! how the server treats them. Pure: no I/O, no payload.
//!
//! A Query, a FunctionCall and a Sync each earn one ReadyForQuery: a Query and a FunctionCall behind a completion or an
//! error, a Sync without, unless the commit of its batch fails. The messages of the extended protocol earn one
//! completion each, until an error makes the server skip everything up to the next Sync. The server ignores Sync and
//! Flush in COPY IN, and it ignores `CopyData`, CopyDone and CopyFail outside of it (PostgreSQL manual, "COPY
//! Operations").

use super::runs::{MessageRun, RunQueue, TooDeep};
use crate::protocol::SessionState;

/// A COPY that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// From client to server.
    In,
    /// From server to client.
    Out,
    /// Both ways (replication).
    Both,
}

/// A hypothesis about an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    waiting: RunQueue,
    /// Transaction status of the last ReadyForQuery.
    status: u8,
    /// True if messages of the extended protocol were answered since the last ReadyForQuery.
    batch: bool,
    /// True if the Query or FunctionCall at the front has a completion or an error, so that only its ReadyForQuery is
    /// missing.
    completed: bool,
    /// The server skips everything up to the next Sync. Holds the number of earlier Syncs that may have ended
    /// the skipping.
    skipping: Option<u32>,
    copy: Option<CopyMode>,
    copy_in: CopyIn,
    fit: Fit,
}

/// Agreement of a hypothesis with the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// PostgreSQL gives the last answer in this hypothesis.
    Good,
    /// PostgreSQL does not give the last answer in this hypothesis.
    Unlikely,
    /// The messages contradict this hypothesis or are not understood.
    Lost,
}

/// The client's messages that the server reads as part of a COPY IN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CopyIn {
    /// The end of the COPY, or a message that is not allowed in it; the latter makes the server end the
    /// session unless the COPY fails first.
    ended: bool,
    /// Number of Syncs.
    syncs: u32,
}

/// A second hypothesis that the messages allow from here on.
pub(super) type Fork = Option<Box<Exchange>>;

impl Exchange {
    /// Starts after a ReadyForQuery with this transaction status.
    pub(super) fn new(status: u8) -> Self {
        Self {
            waiting: RunQueue::default(),
            status,
            batch: false,
            completed: false,
            skipping: None,
            copy: None,
            copy_in: CopyIn::default(),
            fit: Fit::Good,
        }
    }

    pub(super) fn standing(&self) -> SessionState {
        // A Sync after a ReadyForQuery does no work, so a missing answer to it does not matter.
        let done = self.waiting.iter().all(|run| matches!(run, MessageRun::PerhapsSyncs(_)));
        if !done || self.batch || self.skipping.is_some() || self.copy.is_some() || self.is_lost() {
            return SessionState::Busy;
        }
        match self.status {
            b'I' => SessionState::Idle,
            b'T' => SessionState::InTransaction,
            b'E' => SessionState::InFailedTransaction,
            _ => SessionState::Busy,
        }
    }

    pub(super) fn copying(&self) -> Option<CopyMode> {
        self.copy
    }

    pub(super) fn owed(&self) -> u64 {
        self.waiting.iter().map(|run| u64::from(run.owed())).sum()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.fit == Fit::Lost
    }

    /// True if PostgreSQL gives the last answer in this hypothesis.
    pub(super) fn fits(&self) -> bool {
        self.fit == Fit::Good
    }

    /// Forgets that the last answer was unlikely: no other hypothesis explains it better.
    pub(super) fn accept(&mut self) {
        if self.fit == Fit::Unlikely {
            self.fit = Fit::Good;
        }
    }

    #[cfg(test)]
    pub(super) fn holds_much(&self) -> bool {
        self.waiting.capacity() > super::runs::KEPT_RUNS
    }

    /// Abandons this hypothesis.
    pub(super) fn lose(&mut self) {
        *self = Self { fit: Fit::Lost, ..Self::new(self.status) };
    }

    /// Records a complete message of the client.
    pub(super) fn client_sent(&mut self, tag: u8) -> Fork {
        if self.is_lost() {
            return None;
        }
        let in_open_copy = self.copy == Some(CopyMode::In) && !self.copy_in.ended;
        match tag {
            b'Q' | b'F' => {
                self.copy_in.ended |= in_open_copy;
                return self.wait_for(MessageRun::Queries(1));
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                self.copy_in.ended |= in_open_copy;
                return self.wait_for(MessageRun::Extended(1));
            }
            b'S' if in_open_copy => self.swallow(1),
            b'S' => self.wait_for_sync(),
            b'c' | b'f' if in_open_copy => self.copy_in.ended = true,
            b'c' | b'f' => self.push(MessageRun::CopyEnds(1)),
            b'd' | b'H' | b'X' => {} // they earn nothing
            _ => self.lose(),
        }
        None
    }

    /// Records a message that a server ignores while it skips.
    fn wait_for(&mut self, run: MessageRun) -> Fork {
        match self.skipping {
            // If a Sync within the failed COPY has ended the skipping, the message is processed normally.
            Some(perhaps @ 1..) if self.waiting.is_empty() => {
                self.skipping = Some(0);
                let mut rest = RunQueue::default();
                let _ = rest.push(run); // the first has room
                Some(Box::new(self.read_from_sync(perhaps, rest)))
            }
            Some(_) if self.waiting.is_empty() => None,
            _ => {
                self.push(run);
                None
            }
        }
    }

    fn wait_for_sync(&mut self) {
        match self.waiting.back() {
            // The message that the server is processing stays separate.
            Some(MessageRun::Extended(each)) if self.waiting.len() > 1 => {
                self.waiting.pop_back();
                self.push(MessageRun::Batches { each, count: 1 });
            }
            Some(MessageRun::PerhapsSyncs(perhaps)) => {
                self.waiting.pop_back();
                self.push(MessageRun::Syncs(1));
                self.waiting.put_perhaps_syncs(perhaps);
            }
            _ => self.push(MessageRun::Syncs(1)),
        }
    }

    fn push(&mut self, run: MessageRun) {
        if self.waiting.push(run) == Err(TooDeep) {
            self.lose();
        }
    }

    /// Records a complete answer of the server, with the first byte of its body.
    pub(super) fn server_sent(&mut self, tag: u8, first: u8) -> Fork {
        if self.is_lost() {
            return None;
        }
        self.fit = Fit::Good;
        if tag == b'Z' {
            self.ready(first);
            return None;
        }
        // Not a Sync's answer: a Sync after a ReadyForQuery causes only another ReadyForQuery.
        if matches!(self.waiting.front(), Some(MessageRun::PerhapsSyncs(_))) {
            self.waiting.pop_front();
        }
        self.waiting.open_batch();
        if tag == b'E' {
            return self.failed();
        }
        self.answered(tag);
        None
    }

    /// Records an answer other than an error or ReadyForQuery.
    fn answered(&mut self, tag: u8) {
        use MessageRun as W;
        match (tag, self.waiting.front()) {
            (b'D' | b'd' | b'c' | b't' | b'T', Some(W::Queries(_) | W::Either(_)))
            | (b'V', Some(W::Either(_)))
            | (b'D' | b'd' | b'c' | b't', Some(W::Extended(_))) => {}
            (b'C' | b'I' | b'V', Some(W::Queries(_))) => {
                self.end_copy();
                self.completed = true;
            }
            (b'1' | b'2' | b'3' | b'n' | b'C' | b'I' | b's', Some(W::Either(_))) => self.end_copy(),
            (b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's', Some(W::Extended(_))) => {
                self.end_copy();
                self.batch = true;
                self.waiting.take_front();
                self.waiting.tidy();
            }
            (b'G', Some(W::Queries(_) | W::Extended(_))) => self.begin_copy_in(),
            (b'H', Some(W::Queries(_) | W::Extended(_) | W::Either(_))) => self.copy = Some(CopyMode::Out),
            (b'W', Some(W::Queries(_))) => self.copy = Some(CopyMode::Both),
            _ => self.lose(),
        }
    }

    /// Records that the server reads the client's next messages as COPY data, up to the first end of a COPY.
    fn begin_copy_in(&mut self) {
        self.copy = Some(CopyMode::In);
        self.copy_in = CopyIn::default();
        // More messages of the same kind were sent, without an end of the COPY between them.
        if matches!(self.waiting.front(), Some(MessageRun::Extended(2..) | MessageRun::Queries(2..))) {
            self.copy_in.ended = true;
            return;
        }
        while let Some(syncs) = self.waiting.take_syncs_behind_front() {
            self.swallow(syncs);
        }
        self.copy_in.ended = self.waiting.len() > 1;
        self.waiting.take_copy_end_behind_front();
    }

    /// Counts Syncs within a COPY IN.
    fn swallow(&mut self, syncs: u32) {
        match self.copy_in.syncs.checked_add(syncs) {
            Some(syncs) => self.copy_in.syncs = syncs,
            None => self.lose(),
        }
    }

    fn end_copy(&mut self) {
        (self.copy, self.copy_in) = (None, CopyIn::default());
    }

    fn failed(&mut self) -> Fork {
        let perhaps = self.copy_in.syncs;
        self.end_copy();
        match self.waiting.front() {
            Some(MessageRun::Extended(_)) => {
                self.waiting.take_front();
                return self.skip(perhaps);
            }
            Some(MessageRun::Queries(_)) => {
                self.completed = true; // its ReadyForQuery ends it
                if perhaps > 0 {
                    self.waiting.take_front();
                    self.waiting.put_perhaps_syncs(perhaps);
                    self.waiting.push_front(MessageRun::Queries(1));
                }
            }
            // A Sync fails if the commit of its batch fails.
            Some(MessageRun::Syncs(_)) if !self.batch || self.skipping.is_some() => self.fit = Fit::Unlikely,
            Some(MessageRun::Syncs(_) | MessageRun::Either(_)) => {}
            // The error answers no message: the server is about to end the session.
            Some(MessageRun::Batches { .. } | MessageRun::PerhapsSyncs(_) | MessageRun::CopyEnds(_))
            | None => self.lose(),
        }
        None
    }

    /// Skips waiting messages up to the next Sync. `perhaps` Syncs before them may already be that Sync.
    fn skip(&mut self, perhaps: u32) -> Fork {
        let next = self.waiting.iter().find(|run| !matches!(run, MessageRun::CopyEnds(_)));
        let sync_is_next = matches!(next, None | Some(MessageRun::Syncs(_)));
        let fork = if perhaps == 0 || sync_is_next {
            self.skipping = Some(perhaps);
            None
        } else {
            self.skipping = Some(0);
            Some(Box::new(self.read_from_sync(perhaps, self.waiting.clone())))
        };
        while let Some(run) = self.waiting.front() {
            match run {
                MessageRun::Syncs(_) => break,
                MessageRun::Batches { .. } => self.waiting.open_batch(),
                MessageRun::Either(_) => self.lose(), // which of them has the next Sync is not known
                MessageRun::Extended(_)
                | MessageRun::Queries(_)
                | MessageRun::PerhapsSyncs(_)
                | MessageRun::CopyEnds(_) => self.waiting.pop_front(),
            }
        }
        fork
    }

    /// The alternative after a failed COPY in the extended protocol: the first of `syncs`, which the server
    /// had not read before, ended the skipping, and `rest` is processed normally.
    fn read_from_sync(&self, syncs: u32, mut rest: RunQueue) -> Self {
        rest.put_perhaps_syncs(syncs - 1);
        rest.push_front(MessageRun::Syncs(1));
        rest.tidy();
        Self { waiting: rest, skipping: None, ..self.clone() }
    }

    fn ready(&mut self, status: u8) {
        self.end_copy();
        let completed = std::mem::take(&mut self.completed);
        (self.status, self.batch) = (status, false);
        let perhaps = self.skipping.take().unwrap_or(0);
        // Even an empty Query has an answer before its ReadyForQuery.
        if !completed && matches!(self.waiting.front(), Some(MessageRun::Queries(_))) {
            self.fit = Fit::Unlikely;
        }
        match self.waiting.front() {
            Some(
                MessageRun::Queries(_)
                | MessageRun::Syncs(_)
                | MessageRun::Either(_)
                | MessageRun::PerhapsSyncs(_),
            ) => {
                self.waiting.take_front();
                self.waiting.put_perhaps_syncs(perhaps);
            }
            None if perhaps > 0 => self.waiting.put_perhaps_syncs(perhaps - 1),
            Some(MessageRun::Extended(_) | MessageRun::Batches { .. } | MessageRun::CopyEnds(_)) | None => {
                return self.lose();
            }
        }
        self.waiting.tidy();
    }
}
