//! Building blocks of the pages: escaped text, durations, and numbers as people read them.

use std::fmt;
use std::time::Duration;

/// Text with the characters of HTML replaced.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => fmt::Write::write_char(f, other)?,
            }
        }
        Ok(())
    }
}

/// A duration in one or two units.
pub(super) fn duration(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    match seconds {
        0 if millis == 0 && duration.is_zero() => "0".to_owned(),
        0 if millis == 0 => "&lt; 1 ms".to_owned(),
        0 => format!("{millis} ms"),
        1..=9 if duration.subsec_nanos() == 0 => format!("{seconds} s"),
        1..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Days that are left, in a unit of their size.
pub(super) fn days_left(seconds: u64) -> String {
    match seconds / 86_400 {
        0..3_650 => format!("{} left", duration(Duration::from_secs(seconds))),
        days => format!("{} years left", number(days / 365)),
    }
}

/// An age in whole seconds or longer units.
pub(super) fn age(age: Duration) -> String {
    let whole = Duration::from_secs(age.as_secs());
    if whole.is_zero() { "&lt; 1 s".to_owned() } else { duration(whole) }
}

/// A number with separators of thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in a unit of three digits at most.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=1_023 => format!("{bytes} B"),
        1_024..=1_048_575 => format!("{} KiB", bytes >> 10),
        1_048_576..=10_737_418_239 => format!("{} MiB", number(bytes >> 20)),
        _ => format!("{} GiB", number(bytes >> 30)),
    }
}

/// A number for a drawing. Larger ones are cut, which a drawing does not show.
pub(super) fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(Escaped("<b a='\"&x\">é").to_string(), "&lt;b a=&#39;&quot;&amp;x&quot;&gt;é");
        for (given, text) in [
            (0, "0"),
            (1, "1 ms"),
            (999, "999 ms"),
            (1_500, "1.5 s"),
            (59_000, "59 s"),
            (600_000, "10 min"),
            (7_260_000, "2 h 1 min"),
            (864_000_000, "10 days"),
            (3_000, "3 s"),
        ] {
            assert_eq!(duration(Duration::from_millis(given)), text);
        }
        assert_eq!(duration(Duration::from_micros(3)), "&lt; 1 ms");
        assert_eq!(
            [3_600, 41 * 86_400, 36_500 * 86_400].map(days_left),
            ["60 min left", "41 days left", "100 years left"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 2_048, 50 << 20, 20 << 30].map(bytes),
            ["0 B", "999 B", "2 KiB", "50 MiB", "20 GiB"]
        );
        assert_eq!(
            [0, 999, 3_700, 59_999].map(|ms| age(Duration::from_millis(ms))),
            ["&lt; 1 s", "&lt; 1 s", "3 s", "59 s"]
        );
    }
}
