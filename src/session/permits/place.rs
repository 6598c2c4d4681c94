//! What one connection holds from its first moment to its end.

use super::{EvictionEntry, EvictionSignal, Full, Held, HeldBy, Source, Turn, Whose};

/// What a connection holds from its first moment.
#[derive(Debug)]
pub enum Place {
    /// It may log in.
    Seat(Seat),
    /// It may not, and has to be told.
    Standing(Standing),
}

/// A client's place. Until its token was good it is one of `limits.max_logins`, and can be taken away.
#[derive(Debug)]
pub struct Seat {
    pub(super) login: Option<EvictionEntry<Held>>,
    pub(super) client: Option<Held>,
    pub(super) source: Option<HeldBy<Source>>,
    pub(super) max_logins: usize,
    pub(super) evicted: EvictionSignal,
}

/// The place of one that has none.
#[derive(Debug)]
pub struct Standing {
    pub(super) why: NoPlace,
    pub(super) refusal: EvictionEntry<()>,
    pub(super) evicted: EvictionSignal,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// A limit is reached.
    #[error(transparent)]
    Full(#[from] Full),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The system gives no more file descriptors.
    #[error("the process has run out of file descriptors")]
    Descriptors,
}

/// There is not even a place for a refusal: the connection has to be closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard;

impl Place {
    /// Whether it is a seat, or why not.
    pub fn seat(&self) -> Result<(), NoPlace> {
        match self {
            Self::Seat(_) => Ok(()),
            Self::Standing(standing) => Err(standing.why.clone()),
        }
    }

    /// Tells when the place is taken away.
    pub fn evicted(&self) -> EvictionSignal {
        match self {
            Self::Seat(seat) => seat.evicted.clone(),
            Self::Standing(standing) => standing.evicted.clone(),
        }
    }

    /// A step of the login is finished, and the next one is that of `turn`.
    pub fn step(&self, turn: Turn) {
        match self {
            Self::Seat(Seat { login: Some(login), .. }) => login.step(turn),
            Self::Seat(Seat { login: None, .. }) => {}
            Self::Standing(standing) => standing.refusal.step(turn),
        }
    }

    pub(super) fn relocate(&self, source: Source) {
        match self {
            Self::Seat(Seat { login: Some(login), .. }) => login.relocate(source),
            Self::Seat(Seat { login: None, .. }) => {}
            Self::Standing(standing) => standing.refusal.relocate(source),
        }
    }

    /// The token was good: the place among the logins is free for others, and the seat can no longer be taken away. Fails
    /// if it just has been.
    pub fn verified(&mut self) -> Result<(), NoPlace> {
        let Self::Seat(seat) = self else { return Ok(()) };
        seat.source = None;
        if let Some(login) = seat.login.take() {
            seat.client = login.leave();
        }
        match seat.client {
            Some(_) => Ok(()),
            None => Err(Full { of: Whose::Logins, max: seat.max_logins }.into()),
        }
    }
}
