//! OAUTHBEARER with real clients and a real OpenID provider. They need more than a distribution has, so that
//! `tests/clients/oauth-device-flow/run` installs it and runs these tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::world::World;
use crate::world::openid_provider::{OpenIdProvider, tools};

const SCOPE: &str = "openid db";

/// Debian's psql 18 with the OAuth module.
fn psql() -> PathBuf {
    tools().join("libpq18/bin/psql")
}

fn connection(provider: &OpenIdProvider, world: &World, ca: &Path) -> String {
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=alice dbname=app sslmode=verify-full sslrootcert={} \
         oauth_issuer={} oauth_client_id=psql",
        world.port,
        ca.display(),
        provider.url
    )
}

/// A proxy whose listener `name` sends people to the provider.
async fn world_of(provider: &OpenIdProvider, name: &str) -> World {
    let listen = format!(
        "name = \"{name}\"\nauth = \"oauthbearer\"\noauth_issuer = \"op\"\noauth_scope = \"{SCOPE}\""
    );
    provider.world(&listen).await
}

/// `Visit <page> and enter the code: <code>`, as libpq-oauth says it.
fn page_and_code(line: &str) -> Option<(String, String)> {
    let (page, code) = line.split_once("Visit ")?.1.split_once(" and enter the code: ")?;
    Some((page.to_owned(), code.trim().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs psql 18 and an OpenID provider: tests/clients/oauth-device-flow/run"]
async fn j16_psql_18_logs_in_by_the_device_flow() {
    let provider = OpenIdProvider::start().await;
    let world = world_of(&provider, "device-flow").await;
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let mut psql = Command::new(psql())
        .arg(connection(&provider, &world, &ca))
        .args(["-X", "-A", "-t", "-c", "select current_user"])
        // The only way to name an authority of the issuer's; it makes libpq talk about the exchange, too.
        .env("PGOAUTHDEBUG", "UNSAFE")
        .env("PGOAUTHCAFILE", &provider.ca)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(psql.stderr.take().unwrap()).lines();
    let (page, code) = loop {
        let line = said.next_line().await.unwrap().expect("psql says where to log in");
        if let Some(found) = page_and_code(&line) {
            break found;
        }
    };
    assert!(page.starts_with(&provider.url), "{page}");
    let reading = tokio::spawn(async move {
        let mut rest = String::new();
        while let Ok(Some(line)) = said.next_line().await {
            rest += &line;
            rest.push('\n');
        }
        rest
    });
    provider.sign_in(&page, &code, "alice").await;
    let mut answer = String::new();
    psql.stdout.take().unwrap().read_to_string(&mut answer).await.unwrap();
    let said = reading.await.unwrap();
    assert!(psql.wait().await.unwrap().success(), "{said}");
    assert_eq!(answer.trim(), "alice");
    // Two connections: the first one asked where tokens come from, and is no failed login.
    let first = world.audit_of("device-flow", "outcome", "discovery").await;
    assert!(first["sqlstate"].is_null(), "{first}");
    let second = world.audit_of("device-flow", "outcome", "session").await;
    assert_eq!(
        (second["subject"].as_str(), second["issuer"].as_str()),
        (Some("alice"), Some(&*provider.url))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs psycopg and an OpenID provider: tests/clients/oauth-device-flow/run"]
async fn j16_a_program_brings_its_token_by_libpqs_hook() {
    let provider = OpenIdProvider::start().await;
    let world = world_of(&provider, "hook").await;
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let hook = async |more: &str, token: &str| {
        let output = Command::new(tools().join("oauth-device-flow/venv/bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/oauth-device-flow/hook.py"))
            .args([&format!("{} {more}", connection(&provider, &world, &ca)), token])
            .current_dir(provider.folder())
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let token = world.plant(provider.token().await);
    for negotiation in ["postgres", "direct"] {
        let (ok, said, error) =
            hook(&format!("sslnegotiation={negotiation} require_auth=oauth"), &token).await;
        assert!(ok, "{negotiation}: {said}{error}");
        let document = format!("{}/.well-known/openid-configuration", provider.url);
        assert!(said.contains(&format!("hook: {document} {SCOPE}\n")), "{said}");
        assert!(said.contains("user: alice\n"), "{said}");
    }
    world.audit_of("hook", "outcome", "discovery").await;
    // What a person is told whose token is not taken.
    let (ok, said, error) = hook("", "opaque-token").await;
    world.hear(error.as_bytes());
    assert!(!ok, "{said}");
    assert!(error.contains("OAuth bearer authentication failed for user \"alice\""), "{error}");
    assert!(error.contains("the token is not a JWT"), "{error}");
    let refused = world.audit_of("hook", "outcome", "refused").await;
    assert_eq!((refused["sqlstate"].as_str(), refused["stage"].as_str()), (Some("28P01"), Some("token")));
}
