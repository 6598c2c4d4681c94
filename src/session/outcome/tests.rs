//! Every end has its words, and every word is a series from the start.

use super::*;
use crate::mysql::Mysql;
use crate::postgres::Postgres;
use crate::postgres::cancel::CancelIgnored;
use crate::postgres::client::TokenError;
use crate::postgres::oauthbearer::BearerError;
use crate::session::explain::explain;
use crate::session::permits::LimitReached;
use crate::telemetry::metrics::{Metrics, MetricsSnapshot};
use crate::telemetry::metrics_format::MetricsFormat;

fn io() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn refused(why: impl Into<LoginError>) -> SessionEnd {
    let why = why.into();
    let refusal = Box::new(explain(&why));
    SessionEnd::Refused { why, refusal }
}

/// One end of each kind.
fn ends() -> Vec<SessionEnd> {
    let carried = |end| {
        let report =
            RelayReport { to_server: 1, to_client: 2, end, reusable: None, statement_cancelled: None };
        SessionEnd::Carried(report)
    };
    let mut ends = vec![
        SessionEnd::Dropped(NegotiationError::Silent),
        SessionEnd::Dropped(NegotiationError::HealthCheck),
        SessionEnd::Dropped(NegotiationError::TooManyRefusals),
        SessionEnd::Evicted,
        SessionEnd::Cancel(CancelOutcome::Forwarded(vec![SocketAddr::from(([10, 0, 0, 1], 5432))])),
        SessionEnd::Cancel(CancelOutcome::Together),
        SessionEnd::Cancel(CancelOutcome::Ignored(Box::new(CancelIgnored::Forged))),
        SessionEnd::Cancel(CancelOutcome::Failed(Box::new(DialError::TimedOut))),
        SessionEnd::NotWelcomed(io()),
        refused(TokenError::Bearer(BearerError::Discovery)),
        refused(AdmissionError::Descriptors),
        refused(AccessWithdrawn),
        refused(AdmissionError::LimitReached(LimitReached { scope: LimitScope::Clients, max: 1 })),
        carried(RelayEnd::ClientLeft),
        carried(RelayEnd::ClientLost(io())),
        carried(RelayEnd::ServerEnded),
        carried(RelayEnd::ServerLost(None)),
        carried(RelayEnd::ServerLost(Some(io()))),
    ];
    let causes = [
        EndCause::ClientIdle,
        EndCause::IdleInTransaction,
        EndCause::Lifetime,
        EndCause::TokenExpired,
        EndCause::Withdrawn,
        EndCause::Killed,
        EndCause::ClusterDrained,
        EndCause::Drained,
        EndCause::Stopped,
    ];
    ends.extend(causes.map(|cause| carried(RelayEnd::Ended { cause, told: true })));
    ends.extend(Stage::ALL.map(|stage| refused(LoginError::TimedOut(stage))));
    ends
}

#[test]
fn every_end_is_counted_in_a_series_that_was_there_before() {
    let metrics = Metrics::new();
    let series = |metrics: &Metrics| -> Vec<String> {
        let text = metrics.text(MetricsSnapshot::default(), MetricsFormat::OpenMetrics).unwrap();
        text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let before = series(&metrics);
    let ends = ends();
    for end in &ends {
        end.count(
            &end.outcome::<Postgres>(),
            Duration::ZERO,
            DatabaseProtocol::PostgreSql,
            (&metrics.connections, &metrics.logins),
        );
    }
    assert_eq!(series(&metrics), before);
    let text = metrics.text(MetricsSnapshot::default(), MetricsFormat::OpenMetrics).unwrap();
    let sum = |name: &str| -> usize {
        let of = text.lines().filter(|line| line.starts_with(name));
        of.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
    };
    assert_eq!(sum("pgpassport_connections_total{"), ends.len());
    assert_eq!(sum("pgpassport_cancels_total{"), 4);
    assert_eq!(sum("pgpassport_sessions_ended_total{"), 14);
    assert_eq!(sum("pgpassport_logins_refused_total{"), 17);
    assert_eq!(sum("pgpassport_closed_unheard_total"), 1);
    assert_eq!(sum("pgpassport_logins_evicted_total"), 1);
}

#[test]
fn a_fault_of_the_proxy_is_counted_for_its_protocol_whatever_code_its_client_gets() {
    let metrics = Metrics::new();
    let count = |end: &SessionEnd, protocol| {
        let outcome = match protocol {
            DatabaseProtocol::PostgreSql => end.outcome::<Postgres>(),
            DatabaseProtocol::MySql => end.outcome::<Mysql>(),
        };
        end.count(&outcome, Duration::ZERO, protocol, (&metrics.connections, &metrics.logins));
        outcome.sqlstate.unwrap()
    };
    let internal = || {
        let refusal = Box::new(Refusal::internal(Stage::Signing));
        SessionEnd::Refused { why: LoginError::TimedOut(Stage::Signing), refusal }
    };
    assert_eq!(count(&internal(), DatabaseProtocol::PostgreSql), "XX000");
    assert_eq!(count(&internal(), DatabaseProtocol::MySql), "HY000");
    // This one has the same SQLSTATE and another party that has to act.
    let elsewhere = refused(LoginError::TimedOut(Stage::Sts));
    assert_eq!(count(&elsewhere, DatabaseProtocol::MySql), "HY000");
    let text = metrics.text(MetricsSnapshot::default(), MetricsFormat::Prometheus).unwrap();
    for line in [
        "pgpassport_internal_errors_total{protocol=\"postgresql\"} 1\n",
        "pgpassport_internal_errors_total{protocol=\"mysql\"} 1\n",
        "pgpassport_logins_failed_total{protocol=\"mysql\"} 2\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
