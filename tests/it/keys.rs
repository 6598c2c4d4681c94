//! Key sets as clients meet them: floods of unknown keys, an issuer that is down at start, keys that are rotated.

use std::sync::Arc;

use aws_emulator::{KeyChoice, Page};
use serde_json::{Value, json};

use crate::world::World;
use crate::world::admin::until;

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_flood_of_unknown_keys_is_one_fetch_and_keeps_nobody_else_waiting() {
    let world = Arc::new(World::start().await);
    let good = world.token("alice");
    world.connect("alice", &good).await.unwrap();
    let before = world.cloud.issuer.count(Page::Jwks);
    let payload = Value::from(world.claims("alice")).to_string();
    let unknown = |number: usize| {
        let header = json!({ "alg": "RS256", "kid": format!("nobody-{number}") }).to_string();
        world.cloud.issuer.sign(&header, payload.as_bytes(), &KeyChoice::Rs256)
    };
    let flood: Vec<_> = (0..100)
        .map(|number| {
            let (world, token) = (Arc::clone(&world), unknown(number));
            tokio::spawn(async move { world.refusal("alice", &token).await })
        })
        .collect();
    for _ in 0..5 {
        world.connect("alice", &good).await.unwrap();
    }
    for refused in flood {
        let refused = refused.await.unwrap();
        assert_eq!(refused.sqlstate(), "28P01");
        assert!(refused.detail().contains("could not be verified"), "{refused:?}");
    }
    assert_eq!(world.cloud.issuer.count(Page::Jwks), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_an_issuer_that_is_down_at_start_is_57p03_until_it_is_there_again() {
    let world = World::wishes().issuer_down().start().await;
    let token = world.token("alice");
    let refusal = world.refusal("alice", &token).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert_eq!(refusal.message(), "cannot connect now: issuer keys unavailable");
    assert_eq!(world.get("/readyz").await.0, 503);
    world.cloud.issuer.heal();
    until("it is ready by itself", async || world.get("/readyz").await.0 == 200).await;
    world.connect("alice", &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_rotation_costs_no_login_of_either_key() {
    let world = World::start().await;
    let old = world.token("alice");
    world.connect("alice", &old).await.unwrap();
    tokio::task::block_in_place(|| world.cloud.issuer.rotate(true).unwrap());
    world.cloud.sts.forget_keys();
    let new = world.token("alice");
    world.connect("alice", &new).await.unwrap();
    world.connect("alice", &old).await.unwrap();
    // One that nobody has used before the rotation.
    world.connect("bob", &world.token("bob")).await.unwrap();
}
