//! Every fault of the stand-ins, the link that has to be blamed, and the first words of what is said.

use std::time::{Duration, UNIX_EPOCH};

use aws_emulator::Ca;
use aws_emulator::certs::{CertFiles, ServerCert};
use pgpassport::aws::retry::StsTimes;
use pgpassport::commands::doctor::{Finding, LinkState};
use rcgen::{CertificateParams, KeyPair};

use super::{DoctorRun, assert_complete};
use crate::world::World;

/// Short waits: the stand-ins are near.
pub(super) fn times() -> StsTimes {
    StsTimes {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(3),
        operation: Duration::from_secs(3),
        patience: Duration::from_secs(3),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
    }
}

/// The row of the docs for one run: the first link that is not as it should be is `link`, and says `words` first. No
/// other link is blamed for it.
pub(super) fn row(fault: &str, findings: &[Finding], link: &str, words: &str) -> String {
    assert_complete(findings);
    blamed_row(fault, findings, link, words)
}

/// [`row`] for a part of a run.
pub(super) fn blamed_row(fault: &str, findings: &[Finding], link: &str, words: &str) -> String {
    let troubled: Vec<_> =
        findings.iter().filter(|one| matches!(one.state, LinkState::Failed | LinkState::Warning)).collect();
    let failed = troubled.iter().filter(|one| one.state == LinkState::Failed).count();
    let Some(blamed) = troubled.iter().find(|one| failed == 0 || one.state == LinkState::Failed) else {
        panic!("{fault}: nothing is blamed: {findings:#?}")
    };
    assert_eq!((blamed.link.id(), failed <= 1), (link, true), "{fault}: {troubled:#?}");
    assert!(begins(&blamed.found, words), "{fault}: {words}: {blamed:#?}");
    let remedy = blamed.remedy.as_deref().unwrap_or_else(|| panic!("{fault}: no remedy: {blamed:#?}"));
    let state = if blamed.state == LinkState::Failed { "failed" } else { "warning" };
    let cell = |text: &str| text.replace('|', "\\|");
    // The rest of what is said has numbers and paths of the run; the first words are the same each time.
    format!("| {fault} | `{link}` | {state} | {}… | {} |\n", cell(words), cell(&stable(remedy)))
}

/// True if `text` begins with `words`, in which an ellipsis matches any text.
fn begins(text: &str, words: &str) -> bool {
    let mut parts = words.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap()) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

/// Without what differs from run to run.
fn stable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let varies = word.contains("127.0.0.1:") || word.starts_with("/tmp/");
        words.push(if varies { "…".to_owned() } else { word.to_owned() });
    }
    words.join(" ")
}

pub(super) async fn examine(world: &World, token: &str) -> Vec<Finding> {
    DoctorRun::with(token).examine(world).await
}

/// A certificate for localhost that signs itself.
pub(super) fn certificate(change: impl FnOnce(&mut CertificateParams)) -> ServerCert {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert_pem = params.self_signed(&key).unwrap().pem();
    ServerCert { cert_pem, key_pem: key.serialize_pem() }
}

/// A certificate that expires within days.
pub(super) fn about_to_expire(world: &World) -> ServerCert {
    let now = UNIX_EPOCH + Duration::from_secs(u64::try_from(world.cloud.clock.unix()).unwrap());
    certificate(|params| params.not_after = (now + Duration::from_hours(100)).into())
}

/// A good certificate of `ca` for localhost, behind which comes one that has nothing to do with it.
pub(super) fn out_of_order(ca: &Ca) -> ServerCert {
    let mut cert = ca.server(&["localhost"]).unwrap();
    cert.cert_pem += &certificate(|_| {}).cert_pem;
    cert
}

/// The configuration with another certificate and key of the listener.
fn listening_with(toml: &str, files: &CertFiles) -> String {
    let at = toml.find("tls_cert_file").unwrap();
    let own = toml[at..].split('"').nth(1).unwrap().to_owned();
    let toml = toml.replace(&own, &files.cert.display().to_string());
    toml.replace(&own.replace(".crt", ".key"), &files.key.display().to_string())
}

pub(super) async fn setup() -> Vec<String> {
    let world = World::start().await;
    let token = world.token("alice");
    let mut rows = Vec::new();
    for (fault, cert, words) in [
        ("listener certificate about to expire", about_to_expire(&world), "the certificate in … expires in "),
        (
            "listener certificate expired",
            certificate(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "the certificate in … has expired",
        ),
        (
            "listener certificate of the future",
            certificate(|params| params.not_before = rcgen::date_time_ymd(2090, 1, 1)),
            "the certificate in … is not valid yet",
        ),
        (
            "listener certificate without names",
            certificate(|params| params.subject_alt_names.clear()),
            "for no name at all",
        ),
        (
            "listener certificate in a chain out of order",
            out_of_order(&Ca::new().unwrap()),
            "the certificate in … is in a chain in the wrong order",
        ),
    ] {
        let files = cert.write(&world.folder(), "other").unwrap();
        let run = DoctorRun::with(&token).changing(move |toml| listening_with(&toml, &files));
        rows.push(row(fault, &run.examine(&world).await, "listener-certificate", words));
    }
    let old = ServerCert::version_1().unwrap().write(&world.folder(), "old").unwrap();
    let run = DoctorRun::with(&token).changing(move |toml| listening_with(&toml, &old));
    let words = "listen[0].tls_cert_file: … the certificate cannot be used: it is of X.509 version 1 or 2";
    rows.push(row("listener certificate of X.509 version 1", &run.examine(&world).await, "config", words));
    let run = DoctorRun::with(&token).changing(|toml| toml.replace("/upstream/ca.pem", "/nowhere.pem"));
    let findings = run.examine(&world).await;
    assert_eq!(findings[0].link.id(), "config");
    assert!(findings[0].found.starts_with("cluster[0].ca_file: "), "{findings:#?}");
    let run = DoctorRun::with(&token).changing(|toml| toml.replace("resource_id", "# resource_id"));
    let findings = run.examine(&world).await;
    rows.push(row("no resource_id", &findings, "config", "cluster app has no resource_id"));
    let run =
        DoctorRun::with(&token).changing(|toml| toml.replace("resource_id", "pin = \"none\"\nresource_id"));
    let findings = run.examine(&world).await;
    rows.push(row("no pin", &findings, "config", "cluster app has pin = \"none\""));
    rows
}
