//! Key sets as clients meet them: floods of unknown keys, an issuer that is down at start, keys that are rotated, and keys
//! as other people's software writes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_emulator::{HttpFault, Issuer, IssuerOptions, IssuerPage, KeyChoice};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::world::World;
use crate::world::admin::until;

/// `issuer.jwks_refetch_interval`
const INTERVAL: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_flood_of_unknown_keys_is_one_fetch_per_interval_and_delays_no_login() {
    let world = Arc::new(World::start().await);
    let good = world.token("alice");
    world.connect("alice", &good).await.unwrap();
    let (before, begun) = (world.cloud.issuer.count(IssuerPage::Jwks), Instant::now());
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
    let fetches = world.cloud.issuer.count(IssuerPage::Jwks) - before;
    let most = begun.elapsed().as_millis() / INTERVAL.as_millis() + 1;
    assert!((1..=most).contains(&(fetches as u128)), "{fetches} fetches, {most} intervals");
    world
        .metric_is(
            "pgpassport_key_set_refetches_total{issuer=\"idp\",reason=\"unknown_key\"}",
            u32::try_from(fetches).unwrap().into(),
        )
        .await;
}

/// Publishes other keys from now on, for the proxy and for STS.
fn publish(world: &World, keys: &[Value]) {
    world.cloud.issuer.heal();
    world.cloud.issuer.fail(IssuerPage::Jwks, HttpFault::json(json!({ "keys": keys }).to_string()));
    world.cloud.sts.forget_keys();
}

/// The issuer replaces its key and keeps the name: the first token is let in, and not five minutes later.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_under_the_old_name_is_let_in_at_once() {
    let world = World::start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    let other = Issuer::start(IssuerOptions::default()).unwrap();
    let kid = world.cloud.issuer.kid(&KeyChoice::Rs256);
    let mut key = other.jwks()["keys"][0].clone();
    key["kid"] = kid.clone().into();
    publish(&world, &[key]);
    let header = json!({ "alg": "RS256", "kid": kid }).to_string();
    let payload = Value::from(world.claims("alice")).to_string();
    let token = world.plant(other.sign(&header, payload.as_bytes(), &KeyChoice::Rs256));
    world.connect("alice", &token).await.unwrap();
    world.metric_is("pgpassport_key_set_refetches_total{issuer=\"idp\",reason=\"bad_signature\"}", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_while_the_issuer_is_down_is_57p03() {
    let world = World::start().await;
    let old = world.token("alice");
    world.connect("alice", &old).await.unwrap();
    world.cloud.issuer.go_down();
    tokio::task::block_in_place(|| world.cloud.issuer.rotate(false).unwrap());
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.sqlstate(), "57P03");
    assert_eq!(refusal.message(), "cannot connect now: issuer keys unavailable");
    world.connect("alice", &old).await.unwrap();
}

/// STS accepts ES512, and so does the whole chain.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_signed_with_es512_logs_in() {
    let world = World::start().await;
    let key = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(66);
    let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
    publish(
        &world,
        &[json!({ "kty": "EC", "crv": "P-521", "use": "sig", "alg": "ES512", "kid": "p", "x": x, "y": y })],
    );
    let header = r#"{"alg":"ES512","kid":"p","typ":"JWT"}"#;
    let payload = Value::from(world.claims("alice")).to_string();
    let content = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload));
    let signature = key.sign(&SystemRandom::new(), content.as_bytes()).unwrap().as_ref().to_vec();
    let token = world.cloud.issuer.sign(header, payload.as_bytes(), &KeyChoice::Bytes(signature));
    world.connect("alice", &world.plant(token)).await.unwrap();
}

/// A key as some serialisers write it is used; of the others each is named in the log, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_left_out_are_named_and_null_is_absent() {
    let world = World::start().await;
    let mut key = world.cloud.issuer.jwks()["keys"][0].clone();
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "use", "alg", "key_ops", "x5c"] {
        key[name] = Value::Null;
    }
    let (mut private, mut small, mut encryption) = (key.clone(), key.clone(), key.clone());
    (private["d"], private["kid"]) = ("AQAB".into(), "left-out-private".into());
    (small["n"], small["kid"]) = ("AQAB".into(), "left-out-small".into());
    (encryption["use"], encryption["kid"]) = ("enc".into(), "left-out-encryption".into());
    publish(&world, &[key, private, small, encryption]);
    world.edit("private_network = true", "private_network = true\njwks_refresh = \"1h\"");
    assert!(world.reloaded().await);
    world.connect("alice", &world.token("alice")).await.unwrap();
    world.metric_is("pgpassport_key_set_left_out{issuer=\"idp\"}", 3.0).await;
    for (kid, level, reason) in [
        ("left-out-private", "WARN", "it is a private key"),
        ("left-out-small", "WARN", "its RSA modulus has 17 bits"),
        ("left-out-encryption", "INFO", "its use is"),
    ] {
        let line = world.log_line(kid).await;
        assert!(line.contains(level) && line.contains(reason), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_an_issuer_that_is_down_at_start_is_57p03_until_it_is_there_again() {
    let world = World::builder().issuer_down().start().await;
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
