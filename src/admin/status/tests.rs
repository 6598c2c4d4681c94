//! Pages of a healthy service, of an outage, and of a service that has just started. With `STATUS_PAGES=<folder>` the
//! pages are written there, to be looked at in a browser.

use tokio::time::Instant;

use super::*;
use crate::admin::problems::problems;
use crate::config::DatabaseProtocol;
use crate::supervisor::{TaskKind, TaskStatus};
use crate::telemetry::aws_metrics::{AwsSnapshot, StsSnapshot};
use crate::telemetry::cluster_metrics::{ClusterSnapshot, WorkSnapshot};
use crate::telemetry::issuer_metrics::IssuerSnapshot;
use crate::telemetry::labels::KeyFetchResult;
use crate::telemetry::log_metrics::LogSnapshot;
use crate::telemetry::login_totals::LoginTotals;
use crate::telemetry::metrics::MetricsSnapshot;
use crate::telemetry::pool_metrics::PoolSnapshot;
use crate::telemetry::process_metrics::ProcessSnapshot;

const UNIX: i64 = 1_795_000_000;
const ORDERS: &str = "orders";
const REPORTING: &str = "reporting-with-a-<long>-name";

fn snapshot() -> MetricsSnapshot {
    let issuer = |name: &str, age| IssuerSnapshot {
        name: name.to_owned(),
        keys: 3,
        age: Duration::from_secs(age),
        max_age: Duration::from_hours(1),
        usable: true,
        fetches: vec![(KeyFetchResult::Good, 90), (KeyFetchResult::Failed, 0)],
        ..IssuerSnapshot::default()
    };
    let sts = StsSnapshot {
        host: "sts.eu-central-1.amazonaws.com".to_owned(),
        paused: false,
        tries: vec![("granted", 4_211), ("refused", 12), ("throttled", 3), ("failing", 0)],
        clock_ahead: 0,
    };
    let cluster = |name: &str| ClusterSnapshot {
        name: name.to_owned(),
        protocol: if name == ORDERS { DatabaseProtocol::PostgreSql } else { DatabaseProtocol::MySql },
        paused: false,
        draining: false,
        waiting: 0,
    };
    let work = |name: &str, queries| WorkSnapshot {
        cluster: name.to_owned(),
        queries,
        transactions: queries / 3,
        to_server: queries * 140,
        to_client: queries * 2_900,
    };
    MetricsSnapshot {
        gates: [ORDERS, REPORTING].map(cluster).to_vec(),
        work: vec![work(ORDERS, 48_211_907), work(REPORTING, 310_422)],
        active: 214,
        waiting: 3,
        max_clients: 1_000,
        ready: true,
        issuers: vec![issuer("okta", 84), issuer("github", 131)],
        certificates: vec![("0.0.0.0:5432".to_owned(), UNIX + 41 * 86_400)],
        aws: AwsSnapshot { sts: vec![sts], cache_hits: 9_120, cache_entries: 148, ..AwsSnapshot::default() },
        pool: PoolSnapshot { hits: 5_200, misses: 4_310, idle: 37, ..PoolSnapshot::default() },
        tasks: vec![TaskStatus { kind: TaskKind::Acceptor, restarts: 0, up: true }],
        threads: 14,
        log: LogSnapshot { log_writable: true, audit_writable: true, ..LogSnapshot::default() },
        process: ProcessSnapshot {
            cpu: Duration::from_secs(1_930),
            resident: 61 << 20,
            virtual_memory: 900 << 20,
            open_files: 494,
            max_files: 20_000,
        },
        ..MetricsSnapshot::default()
    }
}

/// An hour with a wave of sessions; in an outage STS has failed for the last ten minutes.
fn view(outage: bool) -> StatusView {
    let now = Instant::now() + Duration::from_secs(4_000);
    let mut totals = LoginTotals::default();
    let samples = (0..=240_u32).map(|number| {
        let wave = (f64::from(number) / 38.0).sin() * 60.0 + (f64::from(number) / 7.0).sin() * 9.0 + 190.0;
        let broken = outage && number > 200;
        let logins =
            if broken { u64::from(number.is_multiple_of(9)) } else { 4 + u64::from(number * 7 % 11) };
        totals.logins += logins;
        totals.rejected += u64::from(number.is_multiple_of(13));
        totals.failed += if broken { 7 + u64::from(number * 5 % 4) } else { 0 };
        totals.refused = vec![
            ("authorization", totals.rejected / 2),
            ("token", totals.rejected - totals.rejected / 2),
            ("sts", totals.failed),
            ("limits", 0),
        ];
        let sts = if broken { 4_800 } else { 38 };
        let means = [9, 4, 1, 0, 12, sts, 0, 21, 0].map(Duration::from_millis);
        for (step, mean) in totals.steps.iter_mut().zip(means) {
            *step = (step.0 + logins, step.1 + mean * u32::try_from(logins).unwrap());
        }
        totals.slowest = means.map(|mean| mean * 4);
        let sessions = if broken { wave * (1.0 - (f64::from(number) - 200.0) / 70.0) } else { wave };
        HistorySample {
            at: now - Duration::from_secs(15 * u64::from(240 - number)),
            sessions: format!("{sessions:.0}").parse().unwrap(),
            ready: !(outage && number > 214),
            totals: totals.clone(),
        }
    });
    let samples = samples.collect();
    let route = |cluster: &str, sessions, logins| RouteSessions {
        cluster: cluster.to_owned(),
        listener: "0.0.0.0:5432".to_owned(),
        sessions,
        logins,
    };
    let mut snapshot = snapshot();
    if outage {
        snapshot.aws.sts[0].paused = true;
        snapshot.aws.sts[0].tries[3] = ("failing", 402);
        snapshot.issuers[0].age = Duration::from_mins(62);
        snapshot.issuers[0].usable = false;
        snapshot.issuers[0].fetches[1] = (KeyFetchResult::Failed, 61);
        snapshot.issuers[1].age = Duration::from_mins(21);
        snapshot.certificates[0].1 = UNIX + 5 * 86_400;
        snapshot.log.audit_writable = false;
        snapshot.active = 73;
        (snapshot.gates[1].paused, snapshot.gates[1].waiting) = (true, 4);
    }
    StatusView {
        now,
        unix_seconds: UNIX,
        uptime: Duration::from_hours(9 * 24),
        ready: if outage { Err("audit records cannot be written") } else { Ok(()) },
        faults: Vec::new(),
        reload_applied: !outage,
        routes: vec![route(ORDERS, 170, 3_980), route(REPORTING, 44, 231)],
        snapshot,
        samples,
    }
}

/// A document whose elements are all closed, with escaped texts.
fn check(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("STATUS_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.html")), page).unwrap();
    }
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{name}: <{tag}"));
        let word = tag.split([' ', '/']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(end) => assert_eq!(open.pop(), Some(end), "{name}"),
            None if tag.ends_with('/') || ["!doctype", "meta", "link"].contains(&word) => {}
            None => open.push(word),
        }
    }
    assert!(open.is_empty(), "{name}: {open:?}");
    for forbidden in ["<script", " style=", "http:", "https:", "NaN", " inf", "onclick"] {
        assert!(!page.contains(forbidden), "{name}: {forbidden}");
    }
}

#[test]
fn a_healthy_service_has_no_problems_and_shows_its_hour() {
    let view = view(false);
    assert_eq!(problems(&view), []);
    let page = page(&view);
    check("healthy", &page);
    for text in [
        "<span class=\"badge\">ready</span>",
        "<b>214</b><span>sessions, of 1000 places",
        "slowest step: sts",
        "reporting-with-a-&lt;long&gt;-name",
        "41 days left",
        "reporting-with-a-&lt;long&gt;-name <span class=\"dim\">MySQL</span></td>",
        "<td>orders</td><td class=\"word\"><span class=\"ok-text\">open</span></td><td data-name=\"sessions\">170</td>",
        "<td data-name=\"logins\">3,980</td><td data-name=\"queries\">48,211,907</td>",
        "<td>sts.eu-central-1.amazonaws.com</td><td class=\"word\"><span class=\"ok-text\">in use</span></td><td data-name=\"granted\">4,211</td>",
        "up for 9 days",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(!page.contains("class=\"alerts\""));
}

#[test]
fn an_outage_is_named_first_with_its_runbooks() {
    let view = view(true);
    let problems = problems(&view);
    let alerts: Vec<_> = problems.iter().map(|problem| (problem.alert, problem.critical)).collect();
    assert_eq!(
        alerts,
        [
            ("PgpassportNotReady", true),
            ("PgpassportKeysUnusable", true),
            ("PgpassportStsPaused", true),
            ("PgpassportLogUnwritable", true),
            ("PgpassportKeysOld", false),
            ("PgpassportClusterClosed", false),
            ("PgpassportCertificateExpires", false),
            ("PgpassportReloadRefused", false),
        ]
    );
    let page = page(&view);
    check("outage", &page);
    let runbooks = crate::admin::runbooks::page();
    check("runbooks", &runbooks);
    for problem in problems {
        let anchor = problem.alert.to_lowercase();
        assert!(page.contains(&format!("<a href=\"runbooks#{anchor}\">")), "{anchor}");
        assert!(runbooks.contains(&format!("<h2 id=\"{anchor}\">")), "{anchor}");
    }
    assert!(page.contains("not ready: audit records cannot be written"));
    assert!(page.contains("is paused: new logins wait for RESUME, 4 now."));
    assert!(page.contains("class=\"down\"") && page.contains("class=\"failed\""));
}

#[test]
fn a_service_that_has_just_started_says_that_nothing_has_happened() {
    let now = Instant::now();
    let sample = HistorySample { at: now, sessions: 0, ready: true, totals: LoginTotals::default() };
    let view = StatusView {
        now,
        uptime: Duration::ZERO,
        snapshot: MetricsSnapshot { log: snapshot().log, max_clients: 10, ..MetricsSnapshot::default() },
        routes: Vec::new(),
        samples: vec![sample],
        ..view(false)
    };
    assert_eq!(problems(&view), []);
    let page = page(&view);
    check("started", &page);
    assert!(page.contains("No login in the last hour.") && page.contains("None since the start."), "{page}");
}

#[test]
fn the_page_of_a_full_hour_is_small() {
    assert!(page(&view(true)).len() < 60_000);
}
