//! The one place that reads the wall clock, and the ways AWS writes a moment down.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sync::lock;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// The time that a stand-in believes in. Clones share it, so a test can move all of them at once.
#[derive(Clone)]
pub struct SettableClock(Arc<Mutex<ClockReading>>);

#[derive(Clone, Copy)]
enum ClockReading {
    /// The machine's clock, moved by so many seconds.
    Moved(i64),
    /// Standing still.
    Fixed(i64),
}

impl SettableClock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(ClockReading::Moved(0))))
    }

    /// A clock that stands at `unix` seconds since 1970.
    pub fn fixed(unix: i64) -> Self {
        Self(Arc::new(Mutex::new(ClockReading::Fixed(unix))))
    }

    /// Seconds since 1970.
    pub fn unix(&self) -> i64 {
        match *lock(&self.0) {
            ClockReading::Moved(by) => machine() + by,
            ClockReading::Fixed(at) => at,
        }
    }

    /// Moves the clock forward (or back, when `seconds` is negative) for everyone who shares it.
    pub fn advance(&self, seconds: i64) {
        match &mut *lock(&self.0) {
            ClockReading::Moved(at) | ClockReading::Fixed(at) => *at += seconds,
        }
    }
}

impl Default for SettableClock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for SettableClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", extended(self.unix()))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn machine() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `2026-01-02T03:04:05Z`, as in an STS answer's `Expiration`.
pub fn extended(unix: i64) -> String {
    let (year, month, day) = date(unix.div_euclid(DAY));
    let second = unix.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20260102T030405Z`, as in `X-Amz-Date`.
pub fn basic(unix: i64) -> String {
    extended(unix).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// Reads what [`basic`] writes; anything else, also a day that does not exist, is `None`.
pub fn parse_basic(text: &str) -> Option<i64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i64>().ok();
    let days = days(part(0..4)?, part(4..6)?, part(6..8)?);
    let unix = days * DAY + part(8..10)? * 3600 + part(10..12)? * 60 + part(12..14)?;
    // Writing it again catches every other shape and every impossible date in one comparison.
    (basic(unix) == text).then_some(unix)
}

/// Days since 1970 of a date in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let day_of_year = (153 * since_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The date of a day since 1970: the inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * since_march + 2) / 5 + 1;
    let month = if since_march < 10 { since_march + 3 } else { since_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_aws_writes_them() {
        assert_eq!(extended(1_767_323_045), "2026-01-02T03:04:05Z");
        assert_eq!(basic(1_835_395_200), "20280229T000000Z");
        assert_eq!(extended(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_written_is_read_back_for_every_day_of_four_centuries() {
        for day in 0..146_097 {
            let unix = day * DAY + day % DAY;
            assert_eq!(parse_basic(&basic(unix)), Some(unix), "{}", basic(unix));
        }
    }

    #[test]
    fn other_shapes_and_impossible_days_are_refused() {
        for text in [
            "",
            "20260230T000000Z",
            "2026-01-02T03:04:05Z",
            "20260102T030405",
            "20260102T250000Z",
            "20261301T000000Z",
        ] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
    }

    #[test]
    fn a_moved_clock_moves_its_clones() {
        let clock = SettableClock::fixed(100);
        let other = clock.clone();
        clock.advance(-30);
        assert_eq!(other.unix(), 70);
    }
}
