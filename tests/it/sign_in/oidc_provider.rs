//! The flows of `pgpassport` against a provider that others wrote: npm's `oidc-provider`, as an independent judge.
//! `tests/clients/oidc-provider/run` installs it and runs these tests.

use std::collections::BTreeSet;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use super::{Ended, LoginInProgress, Person};
use crate::agent::refresh::agent_of;
use crate::world::openid_provider::OpenIdProvider;
use crate::world::{World, database};

/// The provider drops `offline_access` without `prompt=consent` (OpenID Connect Core 1.0, section 11).
const CONSENT: &str = "prompt = \"consent\"";

/// Renews the token: the provider's are good for 15 minutes.
const RENEW: [&str; 3] = ["token", "--min-lifetime", "15m"];

fn person(provider: &OpenIdProvider, world: &World, more: &str) -> Person {
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    Person::with_profile(&format!(
        "[[profile]]\nname = \"test\"\nissuer = \"{}\"\nissuer_ca_file = \"{}\"\nprivate_network = true\n\
         client_id = \"pgpassport\"\nproxy = \"localhost:{}\"\nca_file = \"{}\"\ndatabases = [\"app\"]\n\
         scopes = [\"openid\", \"offline_access\", \"db\"]\n{more}\n",
        provider.url,
        provider.ca.display(),
        world.port,
        ca.display()
    ))
}

/// Signs alice in by a code with PKCE.
async fn login(provider: &OpenIdProvider, person: &Person) -> Ended {
    let (login, page) = person.begin_login().await;
    provider.sign_in(&page, "", "alice").await;
    signed_in(login).await
}

/// Signs alice in by a device code.
async fn login_by_device_code(provider: &OpenIdProvider, person: &Person) -> Ended {
    let mut login = LoginInProgress::start(person.command(&["login", "--device"]));
    let line = login.line_with("type the code").await;
    let words: Vec<_> = line.split(' ').collect();
    provider.sign_in(words[1], words.last().unwrap(), "alice").await;
    signed_in(login).await
}

async fn signed_in(login: LoginInProgress) -> Ended {
    let ended = login.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("Signed in as alice (profile test)."), "{}", ended.stderr);
    ended
}

/// The cached refresh token.
fn refresh_token(person: &Person) -> String {
    let record = std::fs::read(person.record()).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["refresh"].as_str().expect("a refresh token").to_owned()
}

/// Asserts that the provider takes the refresh token of a record no more.
async fn assert_has_ended(person: &Person, record: &[u8]) {
    std::fs::write(person.record(), record).unwrap();
    set_permissions(person.record(), Permissions::from_mode(0o600)).unwrap();
    let ended = person.run(&RENEW).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("has ended: invalid_grant"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`pgpassport login --profile test`"), "{}", ended.stderr);
}

async fn psql(person: &Person, world: &World) {
    world.plant(person.run(&["token"]).await.stdout);
    let ended = person.run(&["psql", "--", "-XAtc", "select current_user"]).await;
    world.hear(ended.stderr.as_bytes());
    assert_eq!(ended.stdout, "alice\n", "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an OpenID provider: tests/clients/oidc-provider/run"]
async fn a_code_with_pkce_or_a_device_code_signs_in_and_psql_connects() {
    let provider = OpenIdProvider::start().await;
    let world = provider.world("").await;
    let person = person(&provider, &world, CONSENT);
    for by_device_code in [false, true] {
        if by_device_code {
            login_by_device_code(&provider, &person).await;
        } else {
            login(&provider, &person).await;
        }
        let before = refresh_token(&person);
        psql(&person, &world).await;
        assert_eq!(person.run(&RENEW).await.code, Some(0));
        assert_ne!(refresh_token(&person), before, "it does not rotate");
        psql(&person, &world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an OpenID provider: tests/clients/oidc-provider/run"]
async fn refresh_tokens_rotate_and_a_spent_one_ends_the_sign_in() {
    let provider = OpenIdProvider::start().await;
    let world = provider.world("").await;
    let person = person(&provider, &world, CONSENT);
    login(&provider, &person).await;
    let first = std::fs::read(person.record()).unwrap();
    let (mut tokens, mut refresh_tokens) = (BTreeSet::new(), BTreeSet::from([refresh_token(&person)]));
    for _ in 0..3 {
        let ended = person.run(&RENEW).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        tokens.insert(ended.stdout);
        refresh_tokens.insert(refresh_token(&person));
    }
    assert_eq!((tokens.len(), refresh_tokens.len()), (3, 4));
    let latest = std::fs::read(person.record()).unwrap();
    assert_has_ended(&person, &first).await;
    assert_has_ended(&person, &latest).await;
    assert!(person.run(&RENEW).await.stderr.contains("is signed out"));
    login(&provider, &person).await;
    psql(&person, &world).await;
}

/// psql through the agent, with the token of the sign-in, a renewed one, and after a logout.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an OpenID provider: tests/clients/oidc-provider/run"]
async fn psql_connects_through_the_agent() {
    let provider = OpenIdProvider::start().await;
    let world = provider.world("").await;
    let person = person(&provider, &world, CONSENT);
    let (_agent, folder) = agent_of(&person).await;
    let psql = async || {
        let mut psql = tokio::process::Command::from(database().postgres.psql());
        psql.args(["-h", folder.to_str().unwrap(), "-d", "app", "-c", "select current_user"]);
        super::ended(psql).await
    };
    assert!(psql().await.stderr.contains("Run `pgpassport login --profile test` in a terminal."));
    login(&provider, &person).await;
    for renew in [false, true] {
        if renew {
            assert_eq!(person.run(&RENEW).await.code, Some(0));
        }
        world.plant(person.run(&["token"]).await.stdout);
        let ended = psql().await;
        assert_eq!(ended.stdout, "alice\n", "{}", ended.stderr);
    }
    assert_eq!(person.run(&["logout"]).await.code, Some(0));
    assert!(psql().await.stderr.contains("is signed out"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an OpenID provider: tests/clients/oidc-provider/run"]
async fn logout_ends_the_sign_in_at_the_provider() {
    let provider = OpenIdProvider::start().await;
    let world = provider.world("").await;
    let person = person(&provider, &world, CONSENT);
    login(&provider, &person).await;
    let record = std::fs::read(person.record()).unwrap();
    let ended = person.run(&["logout"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the issuer takes its tokens no more"), "{}", ended.stderr);
    assert!(!person.record().exists());
    assert_has_ended(&person, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an OpenID provider: tests/clients/oidc-provider/run"]
async fn without_prompt_consent_the_sign_in_ends_with_the_token_and_the_message_names_the_key() {
    let provider = OpenIdProvider::start().await;
    let world = provider.world("").await;
    let person = person(&provider, &world, "");
    login(&provider, &person).await;
    psql(&person, &world).await;
    let ended = person.run(&RENEW).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("prompt = \"consent\""), "{}", ended.stderr);
}
