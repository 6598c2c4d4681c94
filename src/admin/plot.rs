//! Plots of the last hour as inline SVG. Shapes stretch with the page; texts are HTML beside them, so that they stay
//! readable on a phone.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use super::history::{COVERED, HistorySample};
use super::html::{float, number};

/// Width and height of a drawing, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;

/// Bars of a plot, one for each minute.
const BARS: usize = 60;

/// Logins of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Minute {
    pub(super) logins: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
}

impl Minute {
    fn all(self) -> u64 {
        self.logins + self.rejected + self.failed
    }
}

/// The sessions as a line.
pub(super) fn sessions(samples: &[HistorySample], now: Instant) -> String {
    let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let most = samples.iter().map(|sample| whole(sample.sessions)).max().unwrap_or(0);
    let top = round_up(most);
    let mut line = String::new();
    for sample in samples {
        let y = HEIGHT - HEIGHT * float(whole(sample.sessions)) / float(top);
        let _ = write!(line, "{:.1},{y:.1} ", x(now.saturating_duration_since(sample.at)));
    }
    let (first, last) = (line.split(',').next().unwrap_or("0"), WIDTH);
    let shapes = format!(
        "<polygon class=\"area\" points=\"{first},{HEIGHT} {line}{last},{HEIGHT}\"/><polyline class=\"line\" points=\"{line}\"/>"
    );
    let current = samples.last().map_or(0, |sample| whole(sample.sessions));
    let label = format!("Sessions in the last hour: now {current}, at most {most}");
    frame(&label, &format!("{}{shapes}", not_ready(samples, now)), top)
}

/// The logins as a bar for each minute.
pub(super) fn logins(minutes: &[Minute], samples: &[HistorySample], now: Instant) -> String {
    let top = round_up(minutes.iter().map(|minute| minute.all()).max().unwrap_or(0));
    let width = WIDTH / f64::from(u32::try_from(BARS).unwrap_or(u32::MAX));
    let mut bars = not_ready(samples, now);
    let mut left = 0.0;
    for minute in minutes {
        let mut bottom = HEIGHT;
        for (class, count) in
            [("good", minute.logins), ("rejected", minute.rejected), ("failed", minute.failed)]
        {
            let height = HEIGHT * float(count) / float(top);
            if count > 0 {
                bottom -= height;
                let _ = write!(
                    bars,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{bottom:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                    left + width * 0.1,
                    width * 0.8
                );
            }
        }
        left += width;
    }
    let sum = |count: fn(&Minute) -> u64| minutes.iter().map(count).sum::<u64>();
    let (logins, rejected, failed) = (sum(|it| it.logins), sum(|it| it.rejected), sum(|it| it.failed));
    let label =
        format!("Logins a minute in the last hour: {logins} logins, {rejected} rejected, {failed} failed");
    frame(&label, &bars, top)
}

/// The logins of each of the last 60 minutes, the oldest first.
pub(super) fn minutes(samples: &[HistorySample], now: Instant) -> Vec<Minute> {
    let mut minutes = vec![Minute::default(); BARS];
    for (before, after) in samples.iter().zip(samples.iter().skip(1)) {
        let age = now.saturating_duration_since(after.at).as_secs() / 60;
        let ago = usize::try_from(age).unwrap_or(BARS);
        let Some(minute) = minutes.iter_mut().rev().nth(ago) else { continue };
        let (then, now) = (&before.totals, &after.totals);
        minute.logins += now.logins.saturating_sub(then.logins);
        minute.rejected += now.rejected.saturating_sub(then.rejected);
        minute.failed += now.failed.saturating_sub(then.failed);
    }
    minutes
}

/// Background of the times when the service was not ready.
fn not_ready(samples: &[HistorySample], now: Instant) -> String {
    let mut shapes = String::new();
    for (from, to) in samples.iter().zip(samples.iter().skip(1)).filter(|(from, _)| !from.ready) {
        let [left, right] = [from, to].map(|sample| x(now.saturating_duration_since(sample.at)));
        let width = right - left;
        let _ = write!(
            shapes,
            "<rect class=\"down\" x=\"{left:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"
        );
    }
    shapes
}

/// Place of a moment this long ago.
fn x(ago: Duration) -> f64 {
    (WIDTH * (1.0 - ago.as_secs_f64() / COVERED.as_secs_f64())).max(0.0)
}

/// The next of 1, 2, 5, 10, 20, ….
fn round_up(most: u64) -> u64 {
    let mut step = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let top = step.saturating_mul(factor);
            if top >= most {
                return top;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn frame(label: &str, shapes: &str, top: u64) -> String {
    let half = if top.is_multiple_of(2) { number(top / 2) } else { String::new() };
    format!(
        "<div class=\"plot\"><div class=\"scale\"><span>{}</span><span>{half}</span><span>0</span></div>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\
         <path class=\"grid\" d=\"M0 0.5H{WIDTH}M0 {}H{WIDTH}M0 {}H{WIDTH}\"/>{shapes}</svg>\
         <div class=\"time\"><span>60 min ago</span><span>30 min</span><span>now</span></div></div>",
        number(top),
        HEIGHT / 2.0,
        HEIGHT - 0.5,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::login_totals::LoginTotals;

    #[test]
    fn every_login_is_in_the_minute_in_which_it_ended() {
        let now = Instant::now() + COVERED;
        let sample = |ago: u64, logins, failed| HistorySample {
            at: now - Duration::from_secs(ago),
            sessions: 3,
            ready: failed == 0,
            totals: LoginTotals { logins, failed, ..LoginTotals::default() },
        };
        let samples = [sample(3_600, 100, 0), sample(130, 104, 0), sample(61, 110, 0), sample(0, 110, 7)];
        let minutes = minutes(&samples, now);
        let expected = |logins, failed| Minute { logins, failed, rejected: 0 };
        assert_eq!(minutes[BARS - 3..], [expected(4, 0), expected(6, 0), expected(0, 7)]);
        assert_eq!(minutes.iter().map(|minute| minute.all()).sum::<u64>(), 17);
        let plot = logins(&minutes, &samples, now);
        assert_eq!(plot.matches("<rect class=\"good\"").count(), 2, "{plot}");
        assert_eq!(plot.matches("<rect class=\"failed\"").count(), 1, "{plot}");
        assert!(plot.contains("10 logins, 0 rejected, 7 failed"), "{plot}");
    }

    #[test]
    fn scales_end_at_a_round_number() {
        assert_eq!([0, 1, 3, 7, 40, 51, 1_001].map(round_up), [1, 1, 5, 10, 50, 100, 2_000]);
        assert!(round_up(u64::MAX) >= 1_000);
        let plot = sessions(&[], Instant::now());
        assert!(plot.contains("now 0, at most 0"), "{plot}");
    }
}
