//! Random identifier of a session, and the random source.

use std::fmt;

/// Random identifier of a connection, used in log lines, audit records and refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A new identifier from the system's random source.
    pub fn random() -> Self {
        Self(u64::from_be_bytes(random_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `N` bytes from the cryptographic random source.
///
/// # Panics
/// If the random source fails, because nothing is safe without it.
#[expect(clippy::expect_used, reason = "a machine without randomness must not serve logins")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}
