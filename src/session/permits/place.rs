//! What one connection holds from its first moment to its end.

use super::{
    CountedPermit, EvictionEntry, EvictionSignal, EvictionStep, KeyedPermit, LimitReached, LimitScope, Source,
};

/// What a connection holds from its first moment.
#[derive(Debug)]
pub enum ConnectionAdmission {
    /// It may log in.
    Login(LoginPermit),
    /// It may not, and has to be told.
    Refusal(RefusalPermit),
}

/// A client's place. Until its token was good it is one of `limits.max_logins`, and can be taken away.
#[derive(Debug)]
pub struct LoginPermit {
    pub(super) login: Option<EvictionEntry<CountedPermit>>,
    pub(super) client: Option<CountedPermit>,
    pub(super) source: Option<KeyedPermit<Source>>,
    pub(super) max_logins: usize,
    pub(super) evicted: EvictionSignal,
}

/// The place of one that has none.
#[derive(Debug)]
pub struct RefusalPermit {
    pub(super) why: AdmissionError,
    pub(super) refusal: EvictionEntry<()>,
    pub(super) evicted: EvictionSignal,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// A limit is reached.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    /// The system gives no more file descriptors.
    #[error("the process has run out of file descriptors")]
    Descriptors,
}

/// There is not even a place for a refusal: the connection has to be closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSilently;

impl ConnectionAdmission {
    /// Whether it is a seat, or why not.
    pub fn login_permit(&self) -> Result<(), AdmissionError> {
        match self {
            Self::Login(_) => Ok(()),
            Self::Refusal(refusal_permit) => Err(refusal_permit.why.clone()),
        }
    }

    /// Tells when the place is taken away.
    pub fn evicted(&self) -> EvictionSignal {
        match self {
            Self::Login(login_permit) => login_permit.evicted.clone(),
            Self::Refusal(refusal_permit) => refusal_permit.evicted.clone(),
        }
    }

    /// A step of the login is finished, and the next one is that of `turn`.
    pub fn step(&self, turn: EvictionStep) {
        match self {
            Self::Login(LoginPermit { login: Some(login), .. }) => login.step(turn),
            Self::Login(LoginPermit { login: None, .. }) => {}
            Self::Refusal(refusal_permit) => refusal_permit.refusal.step(turn),
        }
    }

    pub(super) fn relocate(&self, source: Source) {
        match self {
            Self::Login(LoginPermit { login: Some(login), .. }) => login.relocate(source),
            Self::Login(LoginPermit { login: None, .. }) => {}
            Self::Refusal(refusal_permit) => refusal_permit.refusal.relocate(source),
        }
    }

    /// The token was good: the place among the logins is free for others, and the seat can no longer be taken away. Fails
    /// if it just has been.
    pub fn verified(&mut self) -> Result<(), AdmissionError> {
        let Self::Login(login_permit) = self else { return Ok(()) };
        login_permit.source = None;
        if let Some(login) = login_permit.login.take() {
            login_permit.client = login.leave();
        }
        match login_permit.client {
            Some(_) => Ok(()),
            None => Err(LimitReached { scope: LimitScope::Logins, max: login_permit.max_logins }.into()),
        }
    }
}
