//! State of a session, derived from the types of the messages in both directions: idle, in a transaction,
//! busy, copying, and the number of outstanding answers. Pure: no I/O, no payload.
//!
//! The messages allow one course of the exchange ([`Exchange`]), but behind a COPY IN that fails: nobody can know from
//! outside which of the Syncs sent meanwhile the server had read before. Where that makes a difference to what the
//! server reads next, each course that is possible is followed until the answers tell. A session is called idle only
//! where all of them agree; messages that fit no course make it busy for good.
//!
//! An idle server can therefore count as busy behind such a COPY: where the client sent statements ahead that the server
//! skips in one course and executes in another. Later answers fit the wrong course only while the later statements
//! repeat those sent ahead. A Sync for each owed ReadyForQuery, one Sync more, and a Query end every wrong course: a
//! ReadyForQuery alone answers a Sync and no statement, and a Query's answer fits no Sync.

pub use super::exchange::CopyMode;
use super::exchange::{Exchange, Fork};
use super::frames::Frames;
pub use crate::protocol::{SessionState, SessionTracker, WorkCounts};

/// Most hypotheses followed for one exchange. More make the session busy for good.
const MAX_HYPOTHESES: usize = 8;

/// Tracks both directions of one session from its first ReadyForQuery.
#[derive(Debug)]
pub struct Tracker {
    client: Frames,
    server: Frames,
    courses: Hypotheses,
}

/// Hypotheses about the exchange.
#[derive(Debug)]
struct Hypotheses {
    first: Exchange,
    /// The other possible hypotheses.
    others: Vec<Exchange>,
    /// True if the client has sent Terminate.
    terminated: bool,
    /// True if the server has reported a parameter.
    told_parameter: bool,
    counts: WorkCounts,
    last_from_server: u8,
}

impl Tracker {
    /// Starts after a ReadyForQuery with this transaction status: `I`, `T` or `E`.
    pub fn new(status: u8) -> Self {
        let courses = Hypotheses {
            first: Exchange::new(status),
            others: Vec::new(),
            terminated: false,
            told_parameter: false,
            counts: WorkCounts::default(),
            last_from_server: b'Z',
        };
        Self { client: Frames::default(), server: Frames::default(), courses }
    }

    /// The COPY in progress, or possibly in progress.
    pub fn copying(&self) -> Option<CopyMode> {
        self.courses.all().find_map(Exchange::copying)
    }

    /// Most ReadyForQuery messages that the server still owes.
    pub fn owed(&self) -> u64 {
        self.courses.all().map(Exchange::owed).max().unwrap_or(0)
    }
}

impl SessionTracker for Tracker {
    fn to_server(&mut self, bytes: &[u8]) {
        let courses = &mut self.courses;
        self.client.feed(bytes, |tag, _| courses.client_sent(tag));
    }

    fn to_client(&mut self, bytes: &[u8]) {
        let courses = &mut self.courses;
        self.server.feed(bytes, |tag, first| courses.server_sent(tag, first));
    }

    fn state(&self) -> SessionState {
        if self.courses.terminated || !self.client.at_boundary() || !self.server.at_boundary() {
            return SessionState::Busy;
        }
        let state = self.courses.first.standing();
        let agree = self.courses.others.iter().all(|other| other.standing() == state);
        if agree { state } else { SessionState::Busy }
    }

    fn owes_nothing(&self) -> bool {
        self.owed() == 0
    }

    fn is_transferring(&self) -> bool {
        self.copying().is_some()
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
        self.courses.last_from_server == b'E' && self.server.at_boundary()
    }

    fn told_parameter(&self) -> bool {
        self.courses.told_parameter
    }

    fn terminated(&self) -> bool {
        self.courses.terminated
    }

    fn counts(&self) -> WorkCounts {
        self.courses.counts
    }
}

impl Hypotheses {
    fn all(&self) -> impl Iterator<Item = &Exchange> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn client_sent(&mut self, tag: u8) {
        self.terminated |= tag == b'X';
        let fork = self.first.client_sent(tag);
        if fork.is_some() || !self.others.is_empty() {
            self.follow_others(fork, |course| course.client_sent(tag));
        }
    }

    fn server_sent(&mut self, tag: u8, first: u8) {
        // A further row of the same kind changes nothing, whatever the client has sent meanwhile: that waits
        // behind what the rows answer.
        if matches!(tag, b'D' | b'd') && tag == self.last_from_server {
            return;
        }
        self.last_from_server = tag;
        match tag {
            // Notices, notifications and changed parameters arrive at any time and answer nothing.
            b'N' | b'A' => return,
            b'S' => return self.told_parameter = true,
            // A request up to its ReadyForQuery is one query, as PgBouncer counts; without an open transaction behind it,
            // it has ended one.
            b'Z' => {
                self.counts.queries += 1;
                self.counts.transactions += u64::from(first == b'I');
            }
            _ => {}
        }
        let fork = self.first.server_sent(tag, first);
        if fork.is_some() || !self.others.is_empty() {
            self.follow_others(fork, |course| course.server_sent(tag, first));
        }
    }

    /// Advances the other hypotheses by one message, and drops those that became impossible or equal.
    #[cold]
    fn follow_others(&mut self, fork: Fork, follow: impl FnMut(&mut Exchange) -> Fork) {
        let forks: Vec<_> = self.others.iter_mut().filter_map(follow).collect();
        self.others.extend(fork.into_iter().chain(forks).map(|course| *course));
        // An unlikely answer ends a course where another one explains it.
        let explained = self.all().any(Exchange::fits);
        let possible = |course: &Exchange| if explained { course.fits() } else { !course.is_lost() };
        self.others.retain(possible);
        if !possible(&self.first) && !self.others.is_empty() {
            self.first = self.others.swap_remove(0);
        }
        self.first.accept();
        self.others.iter_mut().for_each(Exchange::accept);
        let mut courses = std::mem::take(&mut self.others);
        while let Some(course) = courses.pop() {
            if course != self.first && !courses.contains(&course) {
                self.others.push(course);
            }
        }
        if self.others.len() >= MAX_HYPOTHESES {
            self.others.clear();
            self.first.lose();
        }
    }
}

#[cfg(test)]
mod tests;
