//! Tokens that the proxy refuses as too old although their time is not over for the agent.

use std::fs;

use aws_emulator::{HttpFault, IssuerPage};
use tokio::task::JoinSet;

use super::refresh::{agent_of, connect};
use crate::sign_in::session::person_of;
use crate::sign_in::{Person, asked};
use crate::world::World;

/// A token of alice that expired for the proxy, and that is good for 15 minutes by its own times.
fn expired(world: &World) -> String {
    let now = world.cloud.clock.unix();
    world.mint(world.claims("alice").set("iat", now - 1_500).set("nbf", now - 1_500).set("exp", now - 600))
}

/// Puts `token` into the cache, as if it had come with the last refresh.
fn replace_token(person: &Person, token: &str) {
    let record = fs::read(person.record()).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["current"] = token.into();
    fs::write(person.record(), record.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_proxy_refuses_as_expired_is_fetched_anew_once() {
    let world = World::start().await;
    let person = person_of(&world, "").await;
    replace_token(&person, &expired(&world));
    let (_agent, folder) = agent_of(&person).await;
    let before = asked(&world.cloud.issuer);
    let mut tools = JoinSet::new();
    for _ in 0..8 {
        tools.spawn(connect(folder.clone()));
    }
    tools.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(asked(&world.cloud.issuer) - before, 1, "requests for a token");
}

/// A proxy whose clock is wrong refuses every token. The issuer is not asked for each connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_again_is_not_replaced_again() {
    let world = World::start().await;
    let person = person_of(&world, "").await;
    replace_token(&person, &expired(&world));
    let (_agent, folder) = agent_of(&person).await;
    let issuer = &world.cloud.issuer;
    let id = issuer.mint(issuer.default_claims("alice").set("aud", "pgpassport"));
    let answer = serde_json::json!({ "access_token": expired(&world), "id_token": id, "expires_in": 900, "refresh_token": "next" });
    issuer.fail_times(IssuerPage::Token, 1, HttpFault::json(answer.to_string()));
    for refreshes in [1, 0, 0] {
        let before = asked(issuer);
        let error = connect(folder.clone()).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.detail().unwrap().contains("the token expired 10 minutes ago"), "{error:?}");
        assert_eq!(asked(issuer) - before, refreshes, "requests for a token");
    }
}

/// Other refusals of the proxy are no reason to ask the issuer.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_another_reason_brings_no_other_token() {
    let world = World::builder().cluster("allow = { claim = \"sub\", any = [\"bob\"] }").start().await;
    let person = person_of(&world, "").await;
    let (_agent, folder) = agent_of(&person).await;
    let before = asked(&world.cloud.issuer);
    let error = connect(folder).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "28P01", "{error:?}");
    assert_eq!(asked(&world.cloud.issuer), before);
}

/// Between the proxy's refusal and the tool's answer the sign-in may prove to have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_of_a_revoked_sign_in_says_to_log_in() {
    let world = World::start().await;
    let person = person_of(&world, "").await;
    replace_token(&person, &expired(&world));
    let (_agent, folder) = agent_of(&person).await;
    world.cloud.issuer.revoke_user("alice");
    let error = connect(folder).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.detail().unwrap().contains("has ended: invalid_grant"), "{error:?}");
    assert_eq!(error.hint(), Some("Run `pgpassport login --profile test` in a terminal."));
}
