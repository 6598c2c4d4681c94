//! `doctor` without a token: what a new machine needs, up to the database's certificate.

use std::process::Command;
use std::time::Duration;

use aws_emulator::Ca;
use pgpassport::clock::Clock;
use pgpassport::commands::doctor::{ChainLink, Finding, LinkState};

use super::faults::{blamed_row, certificate};
use super::{DoctorRun, found};
use crate::world::scripted_server::{Script, ScriptedServer};
use crate::world::second::{NO_SERVER, second_cluster};
use crate::world::tls_front::TlsFront;
use crate::world::{World, database};

/// Every link of a preflight is there once, in its order.
fn assert_complete(findings: &[Finding]) {
    let links: Vec<ChainLink> = findings.iter().map(|finding| finding.link).collect();
    assert_eq!(links, ChainLink::PREFLIGHT, "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_reaches_everything() {
    let world = World::start().await;
    let findings = DoctorRun::preflight().examine(&world).await;
    assert_complete(&findings);
    assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
    for (link, words) in [
        (ChainLink::StsEndpoint, " and answers, HTTP status "),
        (ChainLink::Cluster, aws_emulator::names::ENDPOINT),
        (ChainLink::Tls, aws_emulator::names::ENDPOINT_HOST),
        (ChainLink::PeerClocks, "less than 10 s from "),
    ] {
        assert!(found(&findings, link.id()).found.contains(words), "{words}: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cluster_is_examined_unless_one_is_named() {
    let second = second_cluster(NO_SERVER, "databases = [\"other\"]");
    let world = World::builder().cluster("databases = [\"app\"]").user(&second).start().await;
    let findings = DoctorRun::preflight().examine(&world).await;
    let failed: Vec<_> = findings.iter().filter(|one| one.state == LinkState::Failed).collect();
    let all: Vec<_> = failed.iter().map(|one| one.found.as_str()).collect();
    assert!(all.iter().any(|text| text.starts_with("cluster other: 127.0.0.1:1: ")), "{findings:#?}");
    assert!(all.iter().all(|text| text.starts_with("cluster other: ")), "{findings:#?}");
    let run = DoctorRun { cluster: Some("app"), ..DoctorRun::preflight() };
    let findings = run.examine(&world).await;
    assert_complete(&findings);
    assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_says_what_it_left_out() {
    let world = World::start().await;
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(["doctor", "--config"])
            .arg(world.config_file())
            .args(args)
            .output()
            .unwrap();
        world.hear(&output.stdout);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.lines().count()), (0, ChainLink::PREFLIGHT.len()), "{out}{err}");
    assert!(err.contains("--token-file FILE"), "{err}");
    let (code, out, err) = run(&["--json"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.lines().all(|line| line.contains("\"state\":\"ok\"")), "{out}");
    assert_eq!(run(&["--cluster", "nowhere"]).0, 1);
    assert_eq!(run(&["--database", "app"]).0, 2, "a database is for a login");
}

/// Rows of the table of faults.
pub(super) async fn preflight() -> Vec<String> {
    let world = World::start().await;
    let mut rows = Vec::new();
    let run = DoctorRun { cluster: Some("nowhere"), ..DoctorRun::preflight() };
    let findings = run.examine(&world).await;
    assert_complete(&findings);
    rows.push(blamed_row("no such cluster", &findings, "cluster", "there is no cluster \"nowhere\""));

    let sts_at = |url: &str| {
        let url = url.to_owned();
        DoctorRun::preflight().changing(move |toml| {
            let given = |line: &&str| !line.trim_start().starts_with("sts_endpoint_url");
            let toml = toml.lines().filter(given).collect::<Vec<_>>().join("\n");
            toml.replace("resource_id", &format!("sts_endpoint_url = \"{url}\"\nresource_id"))
        })
    };
    let findings = sts_at("https://localhost:1").examine(&world).await;
    assert_complete(&findings);
    rows.push(blamed_row("STS: nobody listens", &findings, "sts-endpoint", "localhost:1: "));
    let cert = certificate(|_| {});
    let front = TlsFront::start(&cert, world.cloud.issuer.addr()).await;
    let findings = sts_at(&front.url()).examine(&world).await;
    assert_complete(&findings);
    let words = "localhost: …invalid peer certificate: ";
    rows.push(blamed_row("STS: certificate of an unknown authority", &findings, "sts-endpoint", words));

    let real = database().postgres.addr().to_string();
    let ca = Ca::new().unwrap();
    let expired = ca.expired(&[aws_emulator::names::ENDPOINT_HOST]).unwrap();
    let server = ScriptedServer::with_cert(&expired, Script::AfterStartup(vec![])).await;
    let run = DoctorRun::preflight().changing(|toml| toml.replace(&real, &server.addr.to_string()));
    let findings = run.examine(&world).await;
    assert_complete(&findings);
    assert_eq!(found(&findings, "tls").state, LinkState::Failed, "{findings:#?}");

    let run = DoctorRun::preflight().changing(|toml| {
        let lines = toml
            .lines()
            .map(|line| if line.trim_start().starts_with("ca_file") { "ca_file = \"rds\"" } else { line });
        lines.collect::<Vec<_>>().join("\n")
    });
    let findings = run.examine(&world).await;
    assert_complete(&findings);
    let words = "TLS handshake with …: invalid peer certificate: ";
    rows.push(blamed_row("a database that is not of RDS, for ca_file = \"rds\"", &findings, "tls", words));

    let slow = Clock::from_fn(|| Clock::system().now() - Duration::from_mins(2));
    let findings = DoctorRun { clock: slow, ..DoctorRun::preflight() }.examine(&world).await;
    assert_complete(&findings);
    let words = "this machine's clock is 1";
    rows.push(blamed_row("our clock is slow", &findings, "peer-clocks", words));
    assert!(found(&findings, "peer-clocks").found.contains(" s behind that of "), "{findings:#?}");
    rows
}
