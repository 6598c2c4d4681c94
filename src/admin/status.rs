//! The status page: state, problems, the last hour, and the parts that logins depend on. One HTML document without
//! scripts and without anything from elsewhere.

use std::fmt::Write;
use std::time::Duration;

use super::history::HistorySample;
use super::html::{Escaped, age, bytes, days_left, duration, float, number};
use super::plot::{Minute, logins, minutes, sessions};
use super::problems::problems;
pub(super) use super::status_view::StatusView;
use crate::telemetry::labels::KeyFetchResult;
use crate::telemetry::login_metrics::{LoginStep, RouteSessions};

/// Style of all pages.
pub(super) const STYLE: &str = include_str!("style.css");

/// Seconds after which a browser loads the page again.
const REFRESH: u32 = 15;

/// Summary of a login step over the last hour.
struct StepSummary {
    word: &'static str,
    count: u64,
    mean: Duration,
    slowest: Duration,
}

/// A document of the admin server.
pub(super) fn document(title: &str, refresh: Option<u32>, body: &str) -> String {
    let refresh = refresh
        .map_or(String::new(), |seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">{refresh}\
         <link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main>{body}</main></body></html>\n"
    )
}

/// The page.
pub(super) fn page(view: &StatusView) -> String {
    let minutes = minutes(&view.samples, view.now);
    let steps = steps(&view.samples);
    let mut body = String::new();
    let badge = match view.ready {
        Ok(()) => "<span class=\"badge\">ready</span>".to_owned(),
        Err(why) => format!("<span class=\"badge bad\">not ready: {}</span>", Escaped(why)),
    };
    let _ = write!(
        body,
        "<header><h1>pgpassport</h1>{badge}<span class=\"dim\">version {} · up for {}</span></header>",
        env!("CARGO_PKG_VERSION"),
        duration(view.uptime)
    );
    body.push_str(&alerts(view));
    body.push_str(&tiles(view, &minutes, &steps));
    let _ = write!(
        body,
        "<div class=\"row\"><section><h2>Sessions</h2>{}</section><section><h2>Logins per minute</h2>{}{}</section></div>",
        sessions(&view.samples, view.now),
        logins(&minutes, &view.samples, view.now),
        legend(),
    );
    let _ = write!(body, "<div class=\"row\">{}</div>", cluster_table(view));
    let side_by_side = [
        (step_table(&steps), [refusal_table(view), issuer_table(view), aws_table(view)].concat()),
        (process_table(view), route_table(view)),
    ];
    for (section, stack) in side_by_side {
        let stack = if stack.is_empty() { stack } else { format!("<div class=\"stack\">{stack}</div>") };
        let _ = write!(body, "<div class=\"row\">{section}{stack}</div>");
    }
    body.push_str(
        "<footer><a href=\"runbooks\">runbooks</a> · <a href=\"metrics\">metrics</a> · <a href=\"readyz?verbose\">readyz</a> · \
         <a href=\"livez\">livez</a> · this page loads again every 15 seconds</footer>",
    );
    let title = if view.ready.is_ok() { "pgpassport" } else { "pgpassport: not ready" };
    document(title, Some(REFRESH), &body)
}

fn alerts(view: &StatusView) -> String {
    let problems = problems(view);
    if problems.is_empty() {
        return String::new();
    }
    let items = problems.iter().map(|problem| {
        let (class, word) = if problem.critical { ("critical", "Critical") } else { ("warn", "Warning") };
        format!(
            "<li class=\"{class}\"><b>{word}</b> {} <a href=\"runbooks#{}\">runbook</a></li>",
            problem.text,
            problem.alert.to_lowercase()
        )
    });
    format!("<ul class=\"alerts\">{}</ul>", items.collect::<String>())
}

fn tiles(view: &StatusView, minutes: &[Minute], steps: &[StepSummary]) -> String {
    let sum = |count: fn(&Minute) -> u64| number(minutes.iter().map(count).sum());
    let slowest = steps.iter().max_by_key(|step| step.mean);
    let slowest = slowest.map_or(("–".to_owned(), "slowest step".to_owned()), |step| {
        (duration(step.mean), format!("slowest step: {}", step.word))
    });
    let places = format!("sessions, of {} places", view.snapshot.max_clients);
    let tiles = [
        (view.snapshot.active.to_string(), places),
        (view.snapshot.waiting.to_string(), "connections before a session".to_owned()),
        (sum(|minute| minute.logins), "logins in the last hour".to_owned()),
        (sum(|minute| minute.rejected), "rejected: token, person, client".to_owned()),
        (sum(|minute| minute.failed), "failed: database, AWS, issuer, limit".to_owned()),
        slowest,
    ];
    let tiles =
        tiles.map(|(value, text)| format!("<div class=\"tile\"><b>{value}</b><span>{text}</span></div>"));
    format!("<div class=\"tiles\">{}</div>", tiles.concat())
}

fn legend() -> String {
    let square = |(class, text)| {
        format!(
            "<span><svg viewBox=\"0 0 10 10\"><rect class=\"{class}\" width=\"10\" height=\"10\"/></svg>{text}</span>"
        )
    };
    let squares = [("good", "logins"), ("rejected", "rejected"), ("failed", "failed"), ("down", "not ready")]
        .map(square);
    format!("<div class=\"legend\">{}</div>", squares.concat())
}

fn table(title: &str, head: &[&str], rows: &str, empty: &str) -> String {
    if rows.is_empty() {
        return format!("<section><h2>{title}</h2><span class=\"dim\">{empty}</span></section>");
    }
    // Words are aligned as the first column is, numbers to the right.
    let cell = |name: &&str| match *name {
        "state" | "listener" => format!("<th class=\"word\">{name}</th>"),
        _ => format!("<th>{name}</th>"),
    };
    let head: String = head.iter().map(cell).collect();
    format!(
        "<section><h2>{title}</h2><div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\
         </div></section>"
    )
}

/// A table that is a list on narrow screens, where each cell with a `data-name` has its name beside it, and there is no head.
fn wide_table(title: &str, head: &[&str], rows: &str) -> String {
    table(title, head, rows, "None.").replacen("<table>", "<table class=\"wide\">", 1)
}

/// The steps that logins of the last hour took, in their order.
fn steps(samples: &[HistorySample]) -> Vec<StepSummary> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let mut steps = Vec::new();
    let totals = first.totals.steps.iter().zip(&last.totals.steps);
    for ((at, step), (before, after)) in LoginStep::ALL.iter().enumerate().zip(totals) {
        let count = after.0.saturating_sub(before.0);
        let sum = after.1.saturating_sub(before.1);
        let slowest = samples.iter().skip(1).filter_map(|sample| sample.totals.slowest.get(at)).max();
        let slowest = slowest.copied().unwrap_or_default();
        if let Some(mean) = sum.checked_div(u32::try_from(count).unwrap_or(u32::MAX)) {
            steps.push(StepSummary { word: step.word(), count, mean, slowest: slowest.max(mean) });
        }
    }
    steps
}

fn step_table(steps: &[StepSummary]) -> String {
    let longest = steps.iter().map(|step| step.mean).max().unwrap_or_default();
    let micros = |duration: Duration| float(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    let mut rows = String::new();
    for step in steps {
        let class = if step.mean == longest { " class=\"slow\"" } else { "" };
        let _ = write!(
            rows,
            "<tr{class}><td>{}</td><td><svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\">\
             <rect width=\"{:.1}\" height=\"8\"/></svg></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            step.word,
            100.0 * micros(step.mean) / micros(longest).max(1.0),
            duration(step.mean),
            duration(step.slowest),
            number(step.count)
        );
    }
    table(
        "Steps of logins, last hour",
        &["step", "", "mean", "slowest", "count"],
        &rows,
        "No login in the last hour.",
    )
}

fn refusal_table(view: &StatusView) -> String {
    let (Some(first), Some(last)) = (view.samples.first(), view.samples.last()) else { return String::new() };
    let before =
        |stage: &str| first.totals.refused.iter().find(|(known, _)| *known == stage).map_or(0, |(_, it)| *it);
    let mut rows: Vec<_> = last
        .totals
        .refused
        .iter()
        .map(|(stage, count)| (*stage, count.saturating_sub(before(stage)), *count))
        .filter(|(_, _, all)| *all > 0)
        .collect();
    rows.sort_unstable_by_key(|(stage, recent, all)| (std::cmp::Reverse((*recent, *all)), *stage));
    let rows = rows
        .iter()
        .map(|(stage, recent, all)| {
            format!("<tr><td>{stage}</td><td>{}</td><td>{}</td></tr>", number(*recent), number(*all))
        })
        .collect::<Vec<_>>()
        .concat();
    table("Refused logins by step", &["step", "last hour", "since start"], &rows, "None since the start.")
}

/// A row for each cluster, with the counts since the start.
fn cluster_table(view: &StatusView) -> String {
    let mut rows = String::new();
    for cluster in &view.snapshot.gates {
        let state = match (cluster.paused, cluster.draining) {
            (false, false) => "<span class=\"ok-text\">open</span>",
            (true, false) => "<span class=\"warn-text\">paused</span>",
            (false, true) => "<span class=\"warn-text\">draining</span>",
            (true, true) => "<span class=\"warn-text\">paused, draining</span>",
        };
        let engine = if cluster.is_mysql() { " <span class=\"dim\">MySQL</span>" } else { "" };
        let routes = || view.routes.iter().filter(|route| route.cluster == cluster.name);
        let work = view.snapshot.work.iter().find(|work| work.cluster == cluster.name);
        let [queries, transactions, received, sent] =
            work.map_or([0; 4], |work| [work.queries, work.transactions, work.to_server, work.to_client]);
        let counts = [
            ("sessions", number(routes().map(|route| route.sessions).sum())),
            ("logins", number(routes().map(|route| route.logins).sum())),
            ("queries", number(queries)),
            ("transactions", number(transactions)),
            ("to servers", bytes(received)),
            ("to clients", bytes(sent)),
        ];
        let counts = counts.map(|(name, value)| format!("<td data-name=\"{name}\">{value}</td>"));
        let _ = write!(
            rows,
            "<tr><td>{}{engine}</td><td class=\"word\">{state}</td>{}</tr>",
            Escaped(&cluster.name),
            counts.concat()
        );
    }
    let head =
        ["cluster", "state", "sessions", "logins", "queries", "transactions", "to servers", "to clients"];
    wide_table("Clusters, since start", &head, &rows)
}

/// Sessions by cluster and listener, where there are several listeners.
fn route_table(view: &StatusView) -> String {
    let first = view.routes.first().map(|route| &route.listener);
    if view.routes.iter().all(|route| Some(&route.listener) == first) {
        return String::new();
    }
    let row = |route: &RouteSessions| {
        format!(
            "<tr><td>{}</td><td class=\"word\">{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&route.cluster),
            Escaped(&route.listener),
            number(route.sessions),
            number(route.logins)
        )
    };
    let rows: String = view.routes.iter().map(row).collect();
    table("Listeners", &["cluster", "listener", "sessions", "logins since start"], &rows, "None.")
}

fn issuer_table(view: &StatusView) -> String {
    let row = |issuer: &crate::telemetry::issuer_metrics::IssuerSnapshot| {
        let state = match (issuer.usable, issuer.age > issuer.max_age / 4) {
            (false, _) => "<span class=\"bad-text\">not usable</span>",
            (true, true) => "<span class=\"warn-text\">old</span>",
            (true, false) => "<span class=\"ok-text\">fresh</span>",
        };
        let failed = issuer
            .fetches
            .iter()
            .find(|(outcome, _)| *outcome == KeyFetchResult::Failed)
            .map_or(0, |(_, count)| *count);
        format!(
            "<tr><td>{}</td><td class=\"word\">{state}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&issuer.name),
            issuer.keys,
            age(issuer.age),
            number(failed)
        )
    };
    let rows: String = view.snapshot.issuers.iter().map(row).collect();
    table("Issuers and their keys", &["issuer", "state", "keys", "age", "failed"], &rows, "None.")
}

fn aws_table(view: &StatusView) -> String {
    let mut rows = String::new();
    for sts in &view.snapshot.aws.sts {
        let state = if sts.paused {
            "<span class=\"bad-text\">paused</span>"
        } else {
            "<span class=\"ok-text\">in use</span>"
        };
        let count =
            |wanted: &str| sts.tries.iter().find(|(outcome, _)| *outcome == wanted).map_or(0, |(_, it)| *it);
        let granted = count("granted");
        let failed: u64 = sts.tries.iter().map(|(_, it)| *it).sum::<u64>() - granted - count("refused");
        let _ = write!(
            rows,
            "<tr><td>{}</td><td class=\"word\">{state}</td><td data-name=\"granted\">{}</td>\
             <td data-name=\"refused\">{}</td><td data-name=\"failed\">{}</td></tr>",
            Escaped(&sts.host),
            number(granted),
            number(count("refused")),
            number(failed)
        );
    }
    wide_table("AWS STS, since start", &["endpoint", "state", "granted", "refused", "failed"], &rows)
}

fn process_table(view: &StatusView) -> String {
    let now = &view.snapshot;
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = write!(rows, "<tr><td>{name}</td><td>{value}</td></tr>");
    };
    for (listener, expires) in &now.certificates {
        let left = u64::try_from(expires - view.unix_seconds).unwrap_or(0);
        let left =
            if left == 0 { "<span class=\"bad-text\">expired</span>".to_owned() } else { days_left(left) };
        row(&format!("certificate of {}", Escaped(listener)), &left);
    }
    row("remembered role credentials", &number(now.aws.cache_entries));
    let reused = now.pool.hits + now.pool.misses;
    if reused > 0 {
        row(
            "pool: idle, reused, new",
            &format!("{}, {}, {}", now.pool.idle, number(now.pool.hits), number(now.pool.misses)),
        );
    }
    row("memory", &bytes(now.process.resident));
    row("CPU time", &duration(now.process.cpu));
    row(
        "file descriptors",
        &format!("{} of {}", number(now.process.open_files), number(now.process.max_files)),
    );
    row("threads", &now.threads.to_string());
    let restarts: u64 = now.tasks.iter().map(|task| task.restarts).sum();
    row("restarted tasks", &number(restarts));
    let lost = now.log.log.lost_lines
        + now.log.audit.lost_lines
        + now.log.log.lost_records
        + now.log.audit.lost_records;
    row("lost log lines and records", &number(lost));
    row(
        "configuration",
        if view.reload_applied {
            "as on disk when last read"
        } else {
            "<span class=\"warn-text\">last reload refused</span>"
        },
    );
    table("Certificates and process", &["", ""], &rows, "")
}

#[cfg(test)]
mod tests;
