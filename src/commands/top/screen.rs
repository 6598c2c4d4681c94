//! One screen of `pgpassport top`, at most 80 columns wide.

use std::fmt::Write;
use std::net::SocketAddr;

use super::Look;
use super::scrape::{Scrape, Series};
use crate::names::visible;
use crate::telemetry::login_metrics::LoginStep;

/// Most rows of one table.
const MAX_ROWS: usize = 12;

/// Points of a curve.
const CURVE: usize = 40;

/// Appearance of the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScreenStyle {
    pub(super) color: bool,
}

impl ScreenStyle {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

/// The screen of these looks, the oldest first. `lost` is why the last one failed.
pub(super) fn screen(addr: SocketAddr, looks: &[Look], lost: Option<&str>, style: ScreenStyle) -> String {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return String::new() };
    let (before, now) = (&first.scrape, &last.scrape);
    let seconds = last.at.duration_since(first.at).as_secs_f64().max(0.001);
    let mut text = header(addr, last, lost, style);
    let percent = 100.0 * now.increase(before, "process_cpu_seconds_total", &[]) / seconds;
    let _ = writeln!(
        text,
        "sessions {} of {}   logging in {}   CPU {percent:.0} %   memory {:.0} MiB   files {} of {}\n",
        style.bold(&format!("{:.0}", now.sum("pgpassport_cl_active", &[]))),
        now.sum("pgpassport_max_client_conn", &[]),
        now.sum("pgpassport_cl_waiting", &[]),
        now.sum("process_resident_memory_bytes", &[]) / 1_048_576.0,
        now.sum("process_open_fds", &[]),
        now.sum("process_max_fds", &[]),
    );
    let problems = problems(now);
    for problem in &problems {
        let _ = writeln!(text, "{}", style.red(problem));
    }
    if !problems.is_empty() {
        text.push('\n');
    }
    text.push_str(&curves(looks, style));
    text.push_str(&steps(before, now, style));
    text.push_str(&clusters(before, now, seconds, style));
    text.push_str(&issuers(now, style));
    text.push_str(&endpoints(before, now, seconds, style));
    text.push_str(&refusals(before, now, style));
    let _ = writeln!(text, "{}", style.dim(&format!("rates and quantiles of the last {seconds:.0} s")));
    text
}

fn header(addr: SocketAddr, last: &Look, lost: Option<&str>, style: ScreenStyle) -> String {
    let version =
        last.scrape.series("pgpassport_build_info").first().map_or("", |series| series.label("version"));
    let state = match (lost, &last.not_ready) {
        (Some(why), _) => style.red(&format!("no answer: {}", shown(why, 60))),
        (None, Some(why)) => style.red(&format!("not ready: {}", shown(why, 60))),
        (None, None) => style.paint("32", "ready"),
    };
    format!("{} at {addr}   {state}\n", style.bold(&format!("pgpassport {}", shown(version, 20))))
}

/// Faults that gauges show.
fn problems(now: &Scrape) -> Vec<String> {
    let faults = [
        ("pgpassport_task_up", 0.0, "task", "task does not run"),
        ("pgpassport_key_set_usable", 0.0, "issuer", "keys are not usable: issuer"),
        ("pgpassport_sts_paused", 1.0, "endpoint", "STS calls pause:"),
        ("pgpassport_cluster_paused", 1.0, "cluster", "an operator has paused cluster"),
        ("pgpassport_cluster_draining", 1.0, "cluster", "an operator drains cluster"),
        ("pgpassport_log_writable", 0.0, "sink", "cannot be written:"),
        ("pgpassport_config_last_reload_successful", 0.0, "", "the last reload was refused"),
    ];
    let found = faults.iter().flat_map(|&(name, bad, label, words)| {
        let is_bad = move |series: &&Series| (series.value - bad).abs() < 0.5;
        let word = move |series: &Series| format!("{words} {}", shown(series.label(label), 50));
        now.series(name).iter().filter(is_bad).map(word)
    });
    found.take(MAX_ROWS).collect()
}

/// Curves of the sessions, and of logins between the looks.
fn curves(looks: &[Look], style: ScreenStyle) -> String {
    let recent = looks.get(looks.len().saturating_sub(CURVE + 1)..).unwrap_or_default();
    let sessions: Vec<_> = recent.iter().map(|look| look.scrape.sum("pgpassport_cl_active", &[])).collect();
    let rates = |count: &dyn Fn(&Scrape, &Scrape) -> f64| -> Vec<f64> {
        let pairs = recent.iter().zip(recent.iter().skip(1));
        pairs
            .map(|(from, to)| {
                count(&to.scrape, &from.scrape) / to.at.duration_since(from.at).as_secs_f64().max(0.001)
            })
            .collect()
    };
    let logins = rates(&|now, before| now.increase(before, "pgpassport_logins_total", &[]));
    let failed = |now: &Scrape, before: &Scrape| now.increase(before, "pgpassport_logins_failed_total", &[]);
    let refused = |now: &Scrape, before: &Scrape| now.increase(before, "pgpassport_refusals_total", &[]);
    let rejected = rates(&|now, before| (refused(now, before) - failed(now, before)).max(0.0));
    let failed = rates(&failed);
    let mut text = String::new();
    let rows = [
        ("sessions", sessions, "36"),
        ("logins/s", logins, "36"),
        ("rejected/s", rejected, "33"),
        ("failed/s", failed, "31"),
    ];
    for (name, values, color) in rows {
        let current = values.last().copied().unwrap_or(0.0);
        let current = if name == "sessions" { format!("{current:.0}") } else { format!("{current:.1}") };
        let _ = writeln!(text, "{name:<12}{current:>8}  {}", style.paint(color, &curve(&values)));
    }
    text.push('\n');
    text
}

/// Values as blocks between 0 and the largest.
fn curve(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let blocks = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let block = |value: &f64| {
        let level = if most > 0.0 { value / most * 8.0 } else { 0.0 };
        let places = (0_u8..).zip(blocks);
        places.filter(|(place, _)| f64::from(*place) <= level.ceil()).last().map_or(' ', |(_, block)| block)
    };
    values.iter().map(block).collect()
}

fn steps(before: &Scrape, now: &Scrape, style: ScreenStyle) -> String {
    let row = |name: &str, metric: &str, labels: &[(&str, &str)]| {
        let bucket = format!("{metric}_bucket");
        let quantile = |part| now.quantile(before, &bucket, labels, part).map_or("-".to_owned(), within);
        let count = now.increase(before, &format!("{metric}_count"), labels);
        format!("{name:<24}{:>12}{:>12}{count:>10.0}\n", quantile(0.5), quantile(0.95))
    };
    let mut text =
        style.dim(&format!("{:<24}{:>12}{:>12}{:>10}\n", "login, by step", "half", "95 %", "count"));
    text.push_str(&style.bold(&row("all steps", "pgpassport_login_seconds", &[("outcome", "session")])));
    // The pool's step exists only where there is a pool.
    let happened =
        |step: &LoginStep| now.sum("pgpassport_login_step_seconds_count", &[("step", step.word())]) > 0.5;
    let known = LoginStep::ALL.into_iter().filter(|step| *step != LoginStep::Pool || happened(step));
    for step in known {
        text.push_str(&row(step.word(), "pgpassport_login_step_seconds", &[("step", step.word())]));
    }
    text.push('\n');
    text
}

fn clusters(before: &Scrape, now: &Scrape, seconds: f64, style: ScreenStyle) -> String {
    let mut names = words(now, "pgpassport_sessions", "cluster");
    let sessions = |name: &str| now.sum("pgpassport_sessions", &[("cluster", name)]);
    names.sort_unstable_by(|a, b| sessions(b).total_cmp(&sessions(a)).then_with(|| a.cmp(b)));
    let head = ("cluster", "sessions", "waiting", "logins/s", "queries/s", "trans./s");
    let (cluster, live, waiting, logins, queries, transactions) = head;
    let head = format!("{cluster:<28}{live:>10}{waiting:>9}{logins:>10}{queries:>11}{transactions:>11}\n");
    let mut text = style.dim(&head);
    for name in names.iter().take(MAX_ROWS) {
        let labels = [("cluster", *name)];
        let rate = |metric| now.increase(before, metric, &labels) / seconds;
        let _ = writeln!(
            text,
            "{:<28}{:>10.0}{:>9.0}{:>10.1}{:>11.1}{:>11.1}",
            shown(name, 26),
            sessions(name),
            now.sum("pgpassport_cluster_logins_waiting", &labels),
            rate("pgpassport_logins_total"),
            rate("pgpassport_queries_total"),
            rate("pgpassport_transactions_total"),
        );
    }
    if names.len() > MAX_ROWS {
        let _ = writeln!(text, "and {} more", names.len() - MAX_ROWS);
    }
    text.push('\n');
    text
}

fn issuers(now: &Scrape, style: ScreenStyle) -> String {
    let mut text = style.dim(&format!("{:<28}{:>12}{:>10}{:>12}\n", "issuer", "state", "keys", "age"));
    for series in now.series("pgpassport_key_set_usable").iter().take(MAX_ROWS) {
        let issuer = [("issuer", series.label("issuer"))];
        let state = if series.value > 0.5 { "usable" } else { "not usable" };
        let _ = writeln!(
            text,
            "{:<28}{state:>12}{:>10.0}{:>12}",
            shown(series.label("issuer"), 26),
            now.sum("pgpassport_key_set_keys", &issuer),
            seconds_text(now.sum("pgpassport_key_set_age_seconds", &issuer)),
        );
    }
    text.push('\n');
    text
}

fn endpoints(before: &Scrape, now: &Scrape, seconds: f64, style: ScreenStyle) -> String {
    let head = format!("{:<40}{:>10}{:>12}{:>12}\n", "STS endpoint", "state", "granted/s", "failed/s");
    let mut text = style.dim(&head);
    for series in now.series("pgpassport_sts_paused").iter().take(MAX_ROWS) {
        let endpoint = series.label("endpoint");
        let of = |outcome| {
            now.increase(
                before,
                "pgpassport_sts_tries_total",
                &[("endpoint", endpoint), ("outcome", outcome)],
            ) / seconds
        };
        let all = now.increase(before, "pgpassport_sts_tries_total", &[("endpoint", endpoint)]) / seconds;
        let failed = (all - of("granted") - of("refused")).max(0.0);
        let state = if series.value > 0.5 { "paused" } else { "in use" };
        let _ = writeln!(text, "{:<40}{state:>10}{:>12.1}{failed:>12.1}", shown(endpoint, 38), of("granted"));
    }
    text.push('\n');
    text
}

/// Refusals in the period, by SQLSTATE and by step.
fn refusals(before: &Scrape, now: &Scrape, style: ScreenStyle) -> String {
    let mut text = String::new();
    for (title, name, label) in [
        ("refused, by SQLSTATE", "pgpassport_refusals_total", "sqlstate"),
        ("refused, by step", "pgpassport_logins_refused_total", "stage"),
    ] {
        let counts = words(now, name, label).into_iter();
        let counts = counts.map(|word| (now.increase(before, name, &[(label, word)]), word));
        let mut counts: Vec<_> = counts.filter(|(count, _)| *count > 0.0).collect();
        counts.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let counts = counts.iter().take(4).map(|(count, word)| format!("{} {count:.0}", shown(word, 16)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let counts = if counts.is_empty() { "none".to_owned() } else { counts };
        let _ = writeln!(text, "{}{counts}", style.dim(&format!("{title:<24}")));
    }
    text
}

/// Values of a label, each once: the series of a value can differ in other labels.
fn words<'s>(now: &'s Scrape, name: &str, label: &str) -> Vec<&'s str> {
    let mut words: Vec<_> = now.series(name).iter().map(|series| series.label(label)).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Upper bound of a duration.
fn within(seconds: f64) -> String {
    if seconds.is_infinite() { "> 30 s".to_owned() } else { format!("< {}", seconds_text(seconds)) }
}

fn seconds_text(seconds: f64) -> String {
    match seconds {
        ..0.01 => format!("{:.1} ms", seconds * 1_000.0),
        0.01..1.0 => format!("{:.0} ms", seconds * 1_000.0),
        1.0..10.0 => format!("{seconds:.1} s"),
        10.0..120.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

/// Text of another process, without control characters.
fn shown(text: &str, most: usize) -> String {
    visible(text, most)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn look(after: u64, text: &str) -> Look {
        Look { at: Instant::now() + Duration::from_secs(after), scrape: Scrape::parse(text), not_ready: None }
    }

    #[test]
    fn the_screen_shows_rates_problems_and_no_control_characters() {
        let metrics = |logins: u32, usable: u8| {
            format!(
                "pgpassport_build_info{{version=\"9.9\"}} 1\npgpassport_cl_active 12\npgpassport_max_client_conn 1000\n\
                 pgpassport_sessions{{cluster=\"or\\u001b[2Jders\",listener=\"main\"}} 12\n\
                 pgpassport_logins_total{{cluster=\"orders\",listener=\"main\"}} {logins}\n\
                 pgpassport_cluster_paused{{cluster=\"orders\"}} 1\npgpassport_cluster_draining{{cluster=\"orders\"}} 0\n\
                 pgpassport_refusals_total{{sqlstate=\"57P03\",protocol=\"postgresql\"}} {0}\n\
                 pgpassport_refusals_total{{sqlstate=\"other\",protocol=\"postgresql\"}} {0}\n\
                 pgpassport_refusals_total{{sqlstate=\"other\",protocol=\"mysql\"}} {0}\n\
                 pgpassport_login_step_seconds_bucket{{step=\"sts\",le=\"0.05\"}} {logins}\n\
                 pgpassport_login_step_seconds_bucket{{step=\"sts\",le=\"+Inf\"}} {logins}\n\
                 pgpassport_login_step_seconds_count{{step=\"sts\"}} {logins}\n\
                 pgpassport_key_set_usable{{issuer=\"okta\"}} {usable}\npgpassport_key_set_age_seconds{{issuer=\"okta\"}} 4000\n",
                logins / 10
            )
            .replace("\\u001b", "\u{1b}")
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], 9127));
        let looks = [look(0, &metrics(100, 1)), look(10, &metrics(150, 0))];
        let plain = screen(addr, &looks, None, ScreenStyle { color: false });
        for text in [
            "pgpassport 9.9 at 127.0.0.1:9127   ready",
            "keys are not usable: issuer okta",
            "other 10, 57P03 5\n",
            "67 min",
            "an operator has paused cluster orders",
        ] {
            assert!(plain.contains(text), "{text} is not in\n{plain}");
        }
        let sts = plain.lines().find(|line| line.starts_with("sts ")).unwrap();
        assert_eq!(
            sts.split_whitespace().collect::<Vec<_>>(),
            ["sts", "<", "50", "ms", "<", "50", "ms", "50"]
        );
        assert!(
            plain.lines().find(|line| line.starts_with("logins/s")).unwrap().contains("5.0  █"),
            "{plain}"
        );
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert!(plain.lines().all(|line| line.chars().count() <= 100), "{plain}");
        let colored = screen(addr, &looks, Some("refused"), ScreenStyle { color: true });
        assert!(colored.contains("\u{1b}[1;31mno answer: refused\u{1b}[0m"), "{colored:?}");
    }

    #[test]
    fn curves_reach_from_nothing_to_the_largest() {
        assert_eq!(curve(&[0.0, 1.0, 4.0, 8.0]), " ▁▄█");
        assert_eq!(curve(&[0.0, 0.0]), "  ");
        assert_eq!(
            [0.002, 0.05, 1.5, 30.0, 600.0].map(seconds_text),
            ["2.0 ms", "50 ms", "1.5 s", "30 s", "10 min"]
        );
        assert_eq!(within(f64::INFINITY), "> 30 s");
    }
}
