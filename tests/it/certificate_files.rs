//! Certificates and keys that cannot be used: `check`, `doctor` and a start say why in words, before a client comes.

use std::fs;
use std::process::Command;

use aws_emulator::Ca;
use aws_emulator::certs::ServerCert;
use rcgen::{CertificateParams, KeyPair};

use crate::world::World;

const BINARY: &str = env!("CARGO_BIN_EXE_pgpassport");

/// Message of each command about a configuration that it refuses.
fn said(world: &World) -> Vec<(&'static str, String)> {
    let token = world.folder().join("token");
    fs::write(&token, world.token("alice")).unwrap();
    let run = |command: &'static str, more: &[&str]| {
        let mut run = Command::new(BINARY);
        let output = run.arg(command).arg("--config").arg(world.config_file()).args(more).output().unwrap();
        assert!(!output.status.success(), "{command} finds nothing");
        let text = [output.stdout, output.stderr].concat();
        world.hear(&text);
        (command, String::from_utf8(text).unwrap())
    };
    vec![
        run("check", &[]),
        run("serve", &[]),
        run("doctor", &["--database", "app", "--token-file", token.to_str().unwrap()]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_or_key_that_cannot_be_used_is_named_in_words() {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let good = ca.server(&["localhost"]).unwrap();
    let other = ca.server(&["localhost"]).unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let files = good.write(&world.folder(), "good").unwrap();
    let own = fs::read_to_string(world.config_file()).unwrap();
    let value =
        |key: &str| own.split(&format!("{key} = \"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let changed = own
        .replace(&value("tls_cert_file"), files.cert.to_str().unwrap())
        .replace(&value("tls_key_file"), files.key.to_str().unwrap());
    fs::write(world.config_file(), changed).unwrap();
    let der = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let old = ServerCert::version_1().unwrap();
    let text = |text: &str| text.as_bytes().to_vec();
    for (cert, key, words) in [
        (
            text(&old.cert_pem),
            text(&old.key_pem),
            "the certificate cannot be used: it is of X.509 version 1 or 2",
        ),
        (text(&good.cert_pem), text(&other.key_pem), "the private key is not that of the certificate"),
        (text(&good.cert_pem), text(encrypted), "it is encrypted, and the service has no password for it"),
        (text(&good.cert_pem), text(&good.cert_pem), "no private key in the file; it holds a CERTIFICATE"),
        (text(&good.key_pem), text(&good.key_pem), "no certificate in the file; it holds a PRIVATE KEY"),
        (der, text(&good.key_pem), "no certificate in the file; it is DER, and has to be PEM"),
    ] {
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        for (command, said) in said(&world) {
            assert!(said.contains(words), "{command}, {words}: {said}");
            assert!(!said.contains("Error(") && !said.contains("https://docs.rs"), "{command}: {said}");
        }
    }
}
