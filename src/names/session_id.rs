//! Random identifier of a session, and the random source.

use std::fmt;

/// Random identifier of a connection, used in log lines, audit records and refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A new identifier from the system's random source.
    pub fn random() -> Self {
        Self(u64::from_be_bytes(random_bytes()))
    }

    /// A number from 0 to below 1, the same for the same id: the choice of a share of all sessions.
    pub fn fraction(self) -> f64 {
        let [a, b, c, d, ..] = self.0.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }

    /// The id in a log line or a refusal: exactly 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_of_an_id_is_below_one() {
        assert!(SessionId(u64::MAX).fraction() < 1.0 && SessionId(0).fraction() <= 0.0);
        assert!((SessionId(1 << 63).fraction() - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for id in [SessionId::random(), SessionId(0), SessionId(u64::MAX)] {
            assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        }
        for text in ["", "0", "+000000000000001", "000000000000000g", "00000000000000000", "0x00000000000000"]
        {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }
}
