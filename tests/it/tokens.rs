//! Bad tokens of every kind, against the running proxy: what the client is told, and that nobody else is asked.

use aws_emulator::{Issuer, IssuerOptions, KeyChoice};

use crate::world::{ErrorFields, World};

/// Refused as the person's own problem; neither STS nor the database has heard of it.
async fn refused(world: &World, token: &str) -> ErrorFields {
    let before = world.cloud.sts.count();
    let refusal = world.refusal("alice", &world.plant(token.to_owned())).await;
    assert_eq!(refusal.sqlstate(), "28P01", "{refusal:?}");
    assert_eq!(refusal.message(), "password authentication failed for user \"alice\"");
    assert_eq!(world.cloud.sts.count(), before);
    refusal
}

async fn detail(world: &World, token: &str) -> String {
    refused(world, token).await.detail()
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_text_that_is_no_token_is_named_as_such() {
    let world = World::start().await;
    let detail = detail(&world, "hunter2").await;
    assert!(detail.contains("is not a JWT"), "{detail}");
    let refusal = refused(&world, "hunter2").await;
    assert!(refusal.hint().contains("as the password"), "{refusal:?}");
    let empty = world.refusal("alice", "").await;
    assert!(empty.detail().contains("the password is empty"), "{empty:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_a_signature_that_does_not_hold() {
    let world = World::start().await;
    let other = Issuer::start(IssuerOptions::default()).unwrap();
    let forged = other.mint(world.claims("alice"));
    let foreign = world.cloud.issuer.sign(
        &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, world.cloud.issuer.kid(&KeyChoice::Rs256)),
        serde_json::Value::from(world.claims("alice")).to_string().as_bytes(),
        &KeyChoice::Bytes(vec![7; 256]),
    );
    let bad_signature = detail(&world, &foreign).await;
    assert!(bad_signature.contains("signature"), "{bad_signature}");
    // l8: an unknown key id is not told apart from a bad signature.
    assert_eq!(detail(&world, &forged).await, bad_signature);
}

#[tokio::test(flavor = "multi_thread")]
async fn j2_no_algorithm_but_the_configured_ones() {
    let world = World::start().await;
    let payload = serde_json::Value::from(world.claims("alice")).to_string();
    let issuer = &world.cloud.issuer;
    let kid = issuer.kid(&KeyChoice::Rs256);
    let header = |alg: &str| format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"JWT"}}"#);
    let pem = issuer.rsa_public_pem().into_bytes();
    for (alg, key) in [
        ("none", KeyChoice::Unsigned),
        ("None", KeyChoice::Unsigned),
        ("HS256", KeyChoice::Hs256(pem)),
        ("PS256", KeyChoice::Ps256),
        ("rs256", KeyChoice::Rs256),
        ("ES256", KeyChoice::Rs256),
    ] {
        let token = issuer.sign(&header(alg), payload.as_bytes(), &key);
        detail(&world, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j5_issuer_audience_and_expiry_must_be_there_and_right() {
    let world = World::start().await;
    let claims = || world.claims("alice");
    for (token, expected) in [
        (claims().set("aud", "somebody-else"), "audience"),
        (claims().without("aud"), "\"aud\""),
        (claims().without("exp"), "\"exp\""),
        (claims().without("iat"), "\"iat\""),
        (claims().without("sub"), "\"sub\""),
    ] {
        let told = detail(&world, &world.mint(token)).await;
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let url = world.cloud.issuer.url();
    for iss in [format!("{url}/"), url.to_uppercase(), "https://evil.example".to_owned()] {
        let told = detail(&world, &world.mint(claims().set("iss", iss))).await;
        assert!(told.contains("issuer"), "{told}");
    }
    let told = detail(&world, &world.mint(claims().set("aud", "somebody-else"))).await;
    assert!(told.contains("pgpassport") && told.contains("somebody-else"), "expected and got: {told}");
}

/// Keycloak's mapper "audience resolve" puts every client into `aud` in which the person has a role.
#[tokio::test(flavor = "multi_thread")]
async fn j5_a_token_may_have_any_number_of_audiences() {
    let world = World::start().await;
    for count in [33, 60, 800] {
        let mut audiences: Vec<_> = (1..count).map(|number| format!("client-{number}")).collect();
        audiences.push("pgpassport".to_owned());
        let token = world.mint(world.claims("alice").set("aud", audiences).set("azp", "pgpassport"));
        world.connect("alice", &token).await.unwrap_or_else(|error| panic!("{count}: {error:?}"));
    }
}

/// Serialisers write what is absent as `null`.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_null_is_absent() {
    let world = World::start().await;
    let kid = world.cloud.issuer.kid(&KeyChoice::Rs256);
    let claims =
        world.claims("alice").set("nbf", serde_json::Value::Null).set("jti", serde_json::Value::Null);
    let header = format!(r#"{{"alg":"RS256","kid":"{kid}","typ":null,"crit":null}}"#);
    let payload = serde_json::Value::from(claims).to_string();
    let token = world.plant(world.cloud.issuer.sign(&header, payload.as_bytes(), &KeyChoice::Rs256));
    world.connect("alice", &token).await.unwrap();
}

/// The client reads which limit its token has met.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_named_where_it_is_met() {
    let world = World::start().await;
    let payload = serde_json::Value::from(world.claims("alice")).to_string();
    let deep = format!("{},\"deep\":{}{}}}", &payload[..payload.len() - 1], "[".repeat(200), "]".repeat(200));
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, world.cloud.issuer.kid(&KeyChoice::Rs256));
    let token = world.cloud.issuer.sign(&header, deep.as_bytes(), &KeyChoice::Rs256);
    let told = detail(&world, &token).await;
    assert!(told.contains("payload") && told.contains("126"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j6_times_are_checked() {
    let world = World::start().await;
    let now = world.cloud.clock.unix();
    let claims = || world.claims("alice");
    for (token, expected) in [
        (claims().set("exp", now - 720).set("iat", now - 1_000).set("nbf", now - 1_000), "expired"),
        (claims().set("nbf", now + 600), "not valid yet"),
        (claims().set("iat", now + 600).set("nbf", now - 5), "in the future"),
        (claims().set("exp", "soon"), "\"exp\""),
    ] {
        let told = detail(&world, &world.mint(token)).await;
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let expired = refused(&world, &world.mint(claims().set("exp", now - 720).set("iat", now - 1_000))).await;
    assert!(expired.detail().contains("12 minutes ago"), "{expired:?}");
    assert!(expired.hint().contains("fresh token"), "{expired:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j7_a_duplicate_member_is_refused() {
    let world = World::start().await;
    let payload = serde_json::Value::from(world.claims("mallory")).to_string();
    let twice = payload.replacen('{', "{\"sub\":\"alice\",", 1);
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, world.cloud.issuer.kid(&KeyChoice::Rs256));
    let token = world.cloud.issuer.sign(&header, twice.as_bytes(), &KeyChoice::Rs256);
    detail(&world, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_20_000_bytes_passes_and_one_more_does_not() {
    let world = World::start().await;
    let long = world.plant(world.cloud.issuer.mint_sized(world.claims("alice"), 20_400));
    assert!(long.len() > 20_000);
    let told = detail(&world, &long).await;
    assert!(told.contains("20000") || told.contains("20,000"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_fetched_and_the_old_one_forgotten() {
    let world = World::start().await;
    let old = world.token("alice");
    world.connect("alice", &old).await.unwrap();
    world.cloud.issuer.rotate(true).unwrap();
    // The first unknown key id may be met at once: the set was last fetched at start.
    world.log_line("key set").await;
    let fresh = world.token("alice");
    match world.connect("alice", &fresh).await {
        Ok(_) => {}
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_a_forged_token_opens_no_connection() {
    let quiet = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::builder()
        .upstream(quiet.local_addr().unwrap(), &aws_emulator::Ca::new().unwrap())
        .start()
        .await;
    let other = Issuer::start(IssuerOptions::default()).unwrap();
    let (mut exists, mut does_not) = (None, None);
    let forged = |name: &str| world.plant(other.mint(world.claims(name)));
    let (alice, nobody) = (forged("alice"), forged("nobody"));
    for _ in 0..20 {
        exists = Some(world.refusal("alice", &alice).await);
        does_not = Some(world.refusal("nobody", &nobody).await);
    }
    let (exists, does_not) = (exists.unwrap(), does_not.unwrap());
    assert_eq!((exists.sqlstate(), exists.detail()), (does_not.sqlstate(), does_not.detail()));
    assert_eq!(exists.message().replace("alice", ""), does_not.message().replace("nobody", ""));
    assert_eq!(world.cloud.sts.count(), 0);
    let dialled = tokio::select! {
        biased;
        accepted = quiet.accept() => Some(accepted),
        () = std::future::ready(()) => None,
    };
    assert!(dialled.is_none(), "the upstream was dialled");
}
