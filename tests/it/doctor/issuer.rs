//! Faults of the issuer: its certificate, its discovery document, its keys.
#![expect(clippy::too_many_lines, reason = "tables")]

use aws_emulator::{Ca, HttpFault, IssuerPage};
use pgpassport::commands::doctor::{Finding, LinkState};
use serde_json::json;

use super::faults::{about_to_expire, certificate, examine, out_of_order, row};
use super::{DoctorRun, found};
use crate::world::World;
use crate::world::tls_front::TlsFront;

pub(super) async fn issuer() -> Vec<String> {
    let world = World::builder().issuer("jwks_timeout = \"2s\"").start().await;
    let token = world.token("alice");
    let issuer = &world.cloud.issuer;
    let with_broken = |key: serde_json::Value| {
        let mut set = issuer.jwks();
        set["keys"].as_array_mut().unwrap().push(key);
        HttpFault::json(set.to_string())
    };
    let url = issuer.url();
    let other_host = json!({ "issuer": url, "jwks_uri": "https://keys.example/jwks" }).to_string();
    let mut rows = Vec::new();
    let at_discovery = "issuer idp: …/.well-known/openid-configuration: ";
    let at_keys = "issuer idp: …/jwks: ";
    for (fault, page, shown, link, words) in [
        (
            "issuer closes connections",
            IssuerPage::Discovery,
            HttpFault::Close,
            "issuer-discovery",
            at_discovery,
        ),
        (
            "issuer answers 503 with HTML",
            IssuerPage::Discovery,
            HttpFault::html(503),
            "issuer-discovery",
            "issuer idp: …: HTTP status 503",
        ),
        (
            "issuer answers HTML",
            IssuerPage::Discovery,
            HttpFault::html(200),
            "issuer-discovery",
            "issuer idp: discovery document: ",
        ),
        (
            "issuer never answers",
            IssuerPage::Discovery,
            HttpFault::Hang,
            "issuer-discovery",
            "issuer idp: …: no complete answer within 2 s",
        ),
        (
            "issuer redirects",
            IssuerPage::Discovery,
            HttpFault::Redirect("https://elsewhere.example/".to_owned()),
            "issuer-discovery",
            "issuer idp: …: HTTP status 302",
        ),
        (
            "discovery document of another issuer",
            IssuerPage::Discovery,
            HttpFault::json(
                "{\"issuer\":\"https://other.example\",\"jwks_uri\":\"https://other.example/k\"}",
            ),
            "issuer-discovery",
            "issuer idp: discovery document: its issuer is not",
        ),
        (
            "keys at another host",
            IssuerPage::Discovery,
            HttpFault::json(other_host),
            "issuer-discovery",
            "issuer idp: discovery document: its jwks_uri is at another host",
        ),
        (
            "discovery document missing",
            IssuerPage::Discovery,
            HttpFault::status(404),
            "issuer-discovery",
            "issuer idp: …/.well-known/openid-configuration: HTTP status 404",
        ),
        (
            "discovery document that never ends",
            IssuerPage::Discovery,
            HttpFault::Endless,
            "issuer-discovery",
            at_discovery,
        ),
        (
            "key set that is no JSON",
            IssuerPage::Jwks,
            HttpFault::html(200),
            "issuer-keys",
            "issuer idp: the key set is ",
        ),
        (
            "key set without keys",
            IssuerPage::Jwks,
            HttpFault::json("{\"keys\":[]}"),
            "issuer-keys",
            "issuer idp: the key set has no usable key",
        ),
        (
            "key set too large",
            IssuerPage::Jwks,
            HttpFault::oversize(600_000),
            "issuer-keys",
            "issuer idp: …/jwks: the answer is longer than 524288 bytes",
        ),
        (
            "key set with a key that is damaged",
            IssuerPage::Jwks,
            with_broken(json!({ "kty": "RSA", "kid": "broken", "n": "AQAB", "e": "AQAB" })),
            "issuer-keys",
            "issuer idp: 2 usable key(s); 1 cannot be used: key \"broken\": its RSA modulus has 17 bits",
        ),
        (
            "key set with a private key",
            IssuerPage::Jwks,
            with_broken(json!({ "kty": "RSA", "kid": "secret", "n": "AQAB", "e": "AQAB", "d": "AQAB" })),
            "issuer-keys",
            "issuer idp: 2 usable key(s); 1 cannot be used: key \"secret\": it is a private key",
        ),
        ("key set that never ends", IssuerPage::Jwks, HttpFault::Endless, "issuer-keys", at_keys),
        ("key set: connection closed", IssuerPage::Jwks, HttpFault::Close, "issuer-keys", at_keys),
        (
            "key set: no answer",
            IssuerPage::Jwks,
            HttpFault::Hang,
            "issuer-keys",
            "issuer idp: …: no complete answer within 2 s",
        ),
        (
            "key set: redirect",
            IssuerPage::Jwks,
            HttpFault::Redirect("https://elsewhere.example/".to_owned()),
            "issuer-keys",
            "issuer idp: …/jwks: HTTP status 302",
        ),
        (
            "key set missing",
            IssuerPage::Jwks,
            HttpFault::status(404),
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

/// A run in which the issuer's keys are fetched at `url`, trusting the authorities of `ca_pem`.
async fn over_tls(world: &World, url: &str, ca_pem: &str) -> Vec<Finding> {
    let ca_file = world.folder().join("issuer-ca.pem");
    std::fs::write(&ca_file, ca_pem).unwrap();
    let token = world.token("alice");
    let keys = format!("[[issuer]]\njwks_url = \"{url}/jwks\"\nca_file = \"{}\"", ca_file.display());
    DoctorRun::with(&token).changing(move |toml| toml.replace("[[issuer]]", &keys)).examine(world).await
}

pub(super) async fn tls() -> Vec<String> {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let authorities = format!("{}{}", ca.pem(), certificate(|_| {}).cert_pem);
    let ends = about_to_expire(&world);
    let authorities = format!("{authorities}{}", ends.cert_pem);
    let mut rows = Vec::new();
    for (fault, cert, words) in [
        (
            "issuer's certificate of an unknown authority",
            Ca::untrusted(&["localhost"]).unwrap(),
            "issuer idp: https://localhost:…/jwks: …invalid peer certificate: ",
        ),
        (
            "issuer's certificate for another name",
            ca.server(&["other.example"]).unwrap(),
            "issuer idp: https://localhost:…/jwks: …certificate not valid for name",
        ),
        (
            "issuer's certificate expired",
            ca.expired(&["localhost"]).unwrap(),
            "issuer idp: https://localhost:…/jwks: …certificate expired",
        ),
        ("issuer's certificate about to expire", ends, "issuer idp: its certificate expires in "),
        (
            "issuer's certificate in a chain out of order",
            out_of_order(&ca),
            "issuer idp: its certificate is in a chain in the wrong order",
        ),
    ] {
        let front = TlsFront::start(&cert, world.cloud.issuer.addr()).await;
        rows.push(row(fault, &over_tls(&world, &front.url(), &authorities).await, "issuer-tls", words));
    }
    let nobody = over_tls(&world, "https://localhost:1", ca.pem()).await;
    rows.push(row("issuer: nobody listens", &nobody, "issuer-tls", "issuer idp: https://localhost:1/jwks: "));
    rows
}

/// The same facts as of the listener and of the database.
#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_certificate_is_shown_with_names_chain_and_days() {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let mut cert = ca.server(&["localhost", "127.0.0.1"]).unwrap();
    cert.cert_pem += ca.pem();
    let front = TlsFront::start(&cert, world.cloud.issuer.addr()).await;
    let findings = over_tls(&world, &front.url(), ca.pem()).await;
    assert!(findings.iter().all(|one| one.state == LinkState::Ok), "{findings:#?}");
    for (link, more) in [
        ("listener-certificate", "for localhost, 127.0.0.1, 1 certificate(s)"),
        ("issuer-tls", "issuer idp: for localhost, 127.0.0.1, 2 certificate(s)"),
        ("issuer-tls", "verified by /"),
        ("tls", aws_emulator::names::ENDPOINT_HOST),
        ("tls", "1 certificate(s)"),
        ("tls", "TLSv1.3, verified by /"),
    ] {
        let line = found(&findings, link);
        assert!(line.found.contains(more), "{more}: {line:#?}");
        assert!(line.found.contains("signed by CN=pgpassport test authority, "), "{line:#?}");
        assert!(line.found.contains("s left"), "{line:#?}");
    }
    let keys = found(&findings, "issuer-discovery");
    assert!(keys.found.contains("jwks_url is configured") && keys.found.contains(&front.url()), "{keys:#?}");
}
