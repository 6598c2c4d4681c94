//! Every fault of the stand-ins, the link that has to be blamed, and the first words of what is said.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::fs;
use std::time::Duration;

use aws_emulator::{Fault, Page};
use pgpassport::aws::retry::StsTimes;
use pgpassport::commands::doctor::{Finding, State};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::{Run, assert_complete};
use crate::world::World;

/// Short waits: the stand-ins are near.
pub(super) fn times() -> StsTimes {
    StsTimes {
        connect: Duration::from_secs(1),
        attempt: Duration::from_millis(500),
        operation: Duration::from_secs(1),
        patience: Duration::from_secs(1),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
    }
}

/// The row of the docs for one run: the first link that is not as it should be is `link`, and says `words` first. No
/// other link is blamed for it.
pub(super) fn row(fault: &str, findings: &[Finding], link: &str, words: &str) -> String {
    assert_complete(findings);
    let troubled: Vec<_> =
        findings.iter().filter(|one| matches!(one.state, State::Failed | State::Warning)).collect();
    let failed = troubled.iter().filter(|one| one.state == State::Failed).count();
    let Some(blamed) = troubled.iter().find(|one| failed == 0 || one.state == State::Failed) else {
        panic!("{fault}: nothing is blamed: {findings:#?}")
    };
    assert_eq!((blamed.link.id(), failed <= 1), (link, true), "{fault}: {troubled:#?}");
    assert!(begins(&blamed.found, words), "{fault}: {words}: {blamed:#?}");
    let remedy = blamed.remedy.as_deref().unwrap_or_else(|| panic!("{fault}: no remedy: {blamed:#?}"));
    let state = if blamed.state == State::Failed { "failed" } else { "warning" };
    let cell = |text: &str| text.replace('|', "\\|");
    // The rest of what is said has numbers and paths of the run; the first words are the same each time.
    format!("| {fault} | `{link}` | {state} | {}… | {} |\n", cell(words), cell(&stable(remedy)))
}

/// Whether `text` begins with `words`, in which an ellipsis stands for anything.
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
    Run::with(token).examine(world).await
}

fn certificate(world: &World, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let path = world.folder().join("other.crt");
    fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(world.folder().join("other.key"), key.serialize_pem()).unwrap();
    std::os::unix::fs::chown(world.folder().join("other.key"), None, None).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    fs::set_permissions(world.folder().join("other.key"), mode).unwrap();
    path.display().to_string()
}

pub(super) async fn setup() -> Vec<String> {
    let world = World::start().await;
    let token = world.token("alice");
    let mut rows = Vec::new();
    let now = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(world.cloud.clock.unix()).unwrap());
    for (fault, change, words) in [
        (
            "listener certificate about to expire",
            Box::new(|params: &mut CertificateParams| {
                params.not_after = (now + Duration::from_hours(100)).into();
            }) as Box<dyn FnOnce(&mut CertificateParams)>,
            "the certificate in … expires in ",
        ),
        (
            "listener certificate expired",
            Box::new(|params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "the certificate in … has expired",
        ),
        (
            "listener certificate without names",
            Box::new(|params: &mut CertificateParams| params.subject_alt_names.clear()),
            "for no name at all",
        ),
    ] {
        let cert = certificate(&world, change);
        let run = Run::with(&token).changing(move |toml| {
            let at = toml.find("tls_cert_file").unwrap();
            let own = toml[at..].split('"').nth(1).unwrap().to_owned();
            toml.replace(&own, &cert).replace(&own.replace(".crt", ".key"), &cert.replace(".crt", ".key"))
        });
        rows.push(row(fault, &run.examine(&world).await, "listener-certificate", words));
    }
    let run = Run::with(&token).changing(|toml| toml.replace("/upstream/ca.pem", "/nowhere.pem"));
    let findings = run.examine(&world).await;
    assert_eq!(findings[0].link.id(), "config");
    assert!(findings[0].found.starts_with("cluster.ca_file: "), "{findings:#?}");
    let run = Run::with(&token).changing(|toml| toml.replace("resource_id", "# resource_id"));
    let findings = run.examine(&world).await;
    rows.push(row("no resource_id", &findings, "config", "cluster app has no resource_id"));
    rows
}

pub(super) async fn issuer() -> Vec<String> {
    let world = World::start().await;
    let token = world.token("alice");
    let issuer = &world.cloud.issuer;
    let url = issuer.url();
    let other_host = json!({ "issuer": url, "jwks_uri": "https://keys.example/jwks" }).to_string();
    let mut rows = Vec::new();
    let at_discovery = "issuer idp: …/.well-known/openid-configuration: ";
    let at_keys = "issuer idp: …/jwks: ";
    for (fault, page, shown, link, words) in [
        ("issuer closes connections", Page::Discovery, Fault::Close, "issuer-discovery", at_discovery),
        (
            "issuer answers 503 with HTML",
            Page::Discovery,
            Fault::html(503),
            "issuer-discovery",
            "issuer idp: …: HTTP status 503",
        ),
        (
            "issuer answers HTML",
            Page::Discovery,
            Fault::html(200),
            "issuer-discovery",
            "issuer idp: discovery document: ",
        ),
        (
            "issuer never answers",
            Page::Discovery,
            Fault::Hang,
            "issuer-discovery",
            "issuer idp: no answer within 5 s",
        ),
        (
            "issuer redirects",
            Page::Discovery,
            Fault::Redirect("https://elsewhere.example/".to_owned()),
            "issuer-discovery",
            "issuer idp: …: HTTP status 302",
        ),
        (
            "discovery document of another issuer",
            Page::Discovery,
            Fault::json("{\"issuer\":\"https://other.example\",\"jwks_uri\":\"https://other.example/k\"}"),
            "issuer-discovery",
            "issuer idp: discovery document: its issuer is not",
        ),
        (
            "keys at another host",
            Page::Discovery,
            Fault::json(other_host),
            "issuer-discovery",
            "issuer idp: discovery document: its jwks_uri is at another host",
        ),
        (
            "key set that is no JSON",
            Page::Jwks,
            Fault::html(200),
            "issuer-keys",
            "issuer idp: the key set is ",
        ),
        (
            "key set without keys",
            Page::Jwks,
            Fault::json("{\"keys\":[]}"),
            "issuer-keys",
            "issuer idp: the key set has no usable key",
        ),
        ("key set too large", Page::Jwks, Fault::oversize(600_000), "issuer-keys", at_keys),
        ("key set that never ends", Page::Jwks, Fault::Endless, "issuer-keys", at_keys),
        (
            "key set missing",
            Page::Jwks,
            Fault::status(404),
            "issuer-keys",
            "issuer idp: …/jwks: HTTP status 404",
        ),
    ] {
        issuer.fail(page, shown);
        rows.push(row(fault, &examine(&world, &token).await, link, words));
        issuer.heal();
    }
    issuer.rotate(false).unwrap();
    let words = "issuer idp: no key with the token's kid";
    rows.push(row("key rotated away", &examine(&world, &token).await, "token-signature", words));
    rows
}
