//! The permit that a connection holds from accept to its end.

use super::{
    CountedPermit, EvictionEntry, EvictionSignal, EvictionStep, KeyedPermit, LimitReached, LimitScope, Source,
};

/// Permit of a connection at accept.
#[derive(Debug)]
pub enum ConnectionAdmission {
    /// The connection may log in.
    Login(LoginPermit),
    /// The connection is refused with a reason.
    Refusal(RefusalPermit),
}

/// Permit of a client. Until its token is verified it counts against `limits.max_logins` and may be evicted.
#[derive(Debug)]
pub struct LoginPermit {
    pub(super) login: Option<EvictionEntry<CountedPermit>>,
    pub(super) client: Option<CountedPermit>,
    pub(super) source: Option<KeyedPermit<Source>>,
    pub(super) max_logins: usize,
    pub(super) evicted: EvictionSignal,
}

/// A connection over a limit that may stay long enough to be refused.
#[derive(Debug)]
pub struct RefusalPermit {
    pub(super) why: AdmissionError,
    pub(super) refusal: EvictionEntry<()>,
    pub(super) evicted: EvictionSignal,
}

/// Reason for refusing a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// A limit is reached.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    /// File descriptors ran out.
    #[error("the process has run out of file descriptors")]
    Descriptors,
}

/// The limit of refusals is reached too; the connection is closed silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSilently;

impl ConnectionAdmission {
    /// Checks for a login permit. The error is the reason for the refusal.
    pub fn login_permit(&self) -> Result<(), AdmissionError> {
        match self {
            Self::Login(_) => Ok(()),
            Self::Refusal(refusal_permit) => Err(refusal_permit.why.clone()),
        }
    }

    /// Signals the eviction.
    pub fn evicted(&self) -> EvictionSignal {
        match self {
            Self::Login(login_permit) => login_permit.evicted.clone(),
            Self::Refusal(refusal_permit) => refusal_permit.evicted.clone(),
        }
    }

    /// Records a completed step of the login. The next one is that of `turn`.
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

    /// Records that the token was verified: the connection no longer counts as a login and can no longer be
    /// evicted. Fails if it was evicted just now.
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
