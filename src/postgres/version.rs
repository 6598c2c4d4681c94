//! Supported protocol versions and their differences.

use std::fmt;
use std::ops::RangeInclusive;

/// An existing minor version of protocol 3. They differ only in the length of cancel keys (PostgreSQL 18
/// manual, "Protocol Versions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinorVersion {
    /// PostgreSQL 7.4 and newer.
    V3_0,
    /// PostgreSQL 18 and newer.
    V3_2,
}

impl MinorVersion {
    /// Newest supported version.
    pub const NEWEST: Self = Self::V3_2;

    /// Newest version up to `3.minor`. There is no 3.1: old versions of `PgBouncer` claimed to support it, so
    /// PostgreSQL skipped it.
    pub fn up_to(minor: u16) -> Self {
        if minor < Self::V3_2.minor() { Self::V3_0 } else { Self::V3_2 }
    }

    /// Minor version number.
    pub fn minor(self) -> u16 {
        match self {
            Self::V3_0 => 0,
            Self::V3_2 => 2,
        }
    }

    /// Version number in StartupMessage and NegotiateProtocolVersion: major and minor, 16 bits each. The
    /// manual specifies only the minor version in the latter; PostgreSQL always sends both.
    pub fn number(self) -> i32 {
        (3 << 16) | i32::from(self.minor())
    }

    /// Valid lengths of a cancel key's secret.
    pub const fn key_lengths(self) -> RangeInclusive<usize> {
        match self {
            Self::V3_0 => 4..=4,
            Self::V3_2 => 4..=256,
        }
    }
}

impl fmt::Display for MinorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_version_comes_down_to_one_that_exists() {
        for (minor, spoken) in
            [(0, "3.0"), (1, "3.0"), (2, "3.2"), (3, "3.2"), (9_999, "3.2"), (65_535, "3.2")]
        {
            assert_eq!(MinorVersion::up_to(minor).to_string(), spoken, "{minor}");
        }
        assert_eq!((MinorVersion::V3_0.number(), MinorVersion::V3_2.number()), (196_608, 196_610));
    }
}
