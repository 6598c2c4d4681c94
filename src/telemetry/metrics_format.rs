//! Formats of the metrics, and the choice between them by a request's `Accept` (RFC 9110, section 12.5.1).

/// Most media ranges of an `Accept` that are read.
const MAX_RANGES: usize = 32;

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus's text format, version 0.0.4. Readable by every tool, so it answers requests without a preference.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// The format that the client prefers: `OpenMetrics` if `accept` names it at least as high as plain text.
    pub fn preferred(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',').take(MAX_RANGES).map(MediaRange::parse);
        let (mut open, mut plain) = (0, 0);
        for MediaRange { media, version, quality } in ranges {
            if media.eq_ignore_ascii_case("application/openmetrics-text")
                && matches!(version, "" | "1.0.0" | "0.0.1")
            {
                open = open.max(quality);
            } else if media.eq_ignore_ascii_case("text/plain") {
                plain = plain.max(quality);
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A media range of an `Accept`.
struct MediaRange<'a> {
    media: &'a str,
    version: &'a str,
    /// Thousandths.
    quality: u32,
}

impl<'a> MediaRange<'a> {
    fn parse(range: &'a str) -> Self {
        let mut parts = range.split(';').map(str::trim);
        let mut parsed = Self { media: parts.next().unwrap_or_default(), version: "", quality: 1_000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "version" => parsed.version = value.trim().trim_matches('"'),
                "q" | "Q" => parsed.quality = quality(value.trim()),
                _ => {}
            }
        }
        parsed
    }
}

/// Thousandths of a quality value; 0 for anything that is none.
fn quality(value: &str) -> u32 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    match (whole, fraction.len(), format!("{fraction:0<3}").parse::<u32>()) {
        ("1", ..) => 1_000,
        ("0", 0..=3, Ok(thousandths)) => thousandths,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::MetricsFormat::{OpenMetrics, Prometheus};
    use super::*;

    #[test]
    fn each_client_gets_a_format_that_it_reads() {
        for (accept, format) in [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Prometheus),
            // Prometheus 2.42 and 3.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                OpenMetrics,
            ),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
            (Some("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.3"), Prometheus),
            (Some("application/openmetrics-text;version=2.0.0"), Prometheus),
            (Some("application/openmetrics-text;q=0"), Prometheus),
            (Some("application/openmetrics-text; q=0.001"), OpenMetrics),
            (Some("application/openmetrics-text; q=-1"), Prometheus),
            (Some("APPLICATION/OPENMETRICS-TEXT"), OpenMetrics),
            (Some(";;=;q=;,,"), Prometheus),
        ] {
            assert_eq!(MetricsFormat::preferred(accept), format, "{accept:?}");
        }
        let late = format!("{}application/openmetrics-text", "x/y,".repeat(MAX_RANGES));
        assert_eq!(MetricsFormat::preferred(Some(&late)), Prometheus);
    }
}
