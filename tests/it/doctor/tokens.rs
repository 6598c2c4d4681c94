//! Faults of tokens and of access.
#![expect(clippy::too_many_lines, reason = "tables")]

use aws_emulator::{KeyChoice, TokenClaims};
use serde_json::json;

use super::DoctorRun;
use super::faults::{examine, row};
use crate::world::World;

pub(super) async fn tokens() -> Vec<String> {
    let rule = "require = { claim = \"scope\", any = [\"db\"] }";
    let world = World::builder().issuer(rule).start().await;
    let issuer = &world.cloud.issuer;
    let now = world.cloud.clock.unix();
    let claims = || world.claims("alice").set("scope", "db");
    let with = |key: &KeyChoice| world.plant(issuer.mint_with(claims(), key));
    let mint = |claims: TokenClaims| world.mint(claims);
    let pem = issuer.rsa_public_pem().into_bytes();
    let twice = serde_json::Value::from(claims()).to_string().replacen('{', "{\"sub\":\"bob\",", 1);
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, issuer.kid(&KeyChoice::Rs256));
    let logout = header.replace("\"alg\"", "\"typ\":\"logout+jwt\",\"alg\"");
    let payload = serde_json::Value::from(claims()).to_string();
    let sign = |header: &str, payload: &str, key| world.plant(issuer.sign(header, payload.as_bytes(), key));
    let cases = [
        ("no JWT", "hunter2".to_owned(), "token", "the token is not a JWT: it has no dots"),
        (
            "a token with Bearer before it",
            format!("Bearer {}", world.token("alice")),
            "token",
            "the token is not a JWT: it begins with the word Bearer",
        ),
        (
            "the whole JSON answer",
            format!("{{\"access_token\":\"{}\"}}", world.token("alice")),
            "token",
            "the token is not a JWT: it is a whole JSON object",
        ),
        (
            "a token in quotation marks",
            format!("\"{}\"", world.token("alice")),
            "token",
            "the token is not a JWT: it is in quotation marks",
        ),
        (
            "a JSON answer with an error",
            "{\"error\":\"invalid_grant\"}".to_owned(),
            "token",
            "the token is not a JWT: it is a whole JSON object",
        ),
        ("null", "null".to_owned(), "token", "the token is not a JWT: it is the word null"),
        ("an empty file", String::new(), "token", "the token is not a JWT: it is empty"),
        (
            "an opaque token",
            "gho_16C7e42F292c6912E7710c838347Ae178B4a".to_owned(),
            "token",
            "the token is not a JWT: it has no dots",
        ),
        ("encrypted token", "a.b.c.d.e".to_owned(), "token", "the token is encrypted"),
        (
            "token over 20000 bytes",
            world.plant(issuer.mint_sized(claims(), 20_400)),
            "token",
            "the token has 204",
        ),
        ("HS256", with(&KeyChoice::Hs256(pem)), "token", "the token's signature algorithm is not accepted"),
        ("alg none", with(&KeyChoice::Unsigned), "token", "the token's signature algorithm is not accepted"),
        ("PS256", with(&KeyChoice::Ps256), "token", "the token's signature algorithm is not accepted"),
        (
            "claim twice",
            sign(&header, &twice, &KeyChoice::Rs256),
            "token",
            "the token's payload is unusable: a member occurs twice",
        ),
        (
            "logout token",
            sign(&logout, &payload, &KeyChoice::Rs256),
            "token",
            "the token's type (typ) is not",
        ),
        (
            "unknown issuer",
            mint(claims().set("iss", "https://evil.example")),
            "token-issuer",
            "the token's iss is",
        ),
        (
            "forged signature",
            sign(&header, &payload, &KeyChoice::Bytes(vec![7; 256])),
            "token-signature",
            "the token's signature does not hold",
        ),
        (
            "wrong aud",
            mint(claims().set("aud", "other")),
            "token-audience",
            "the token's audience is \"other\"",
        ),
        ("no aud", mint(claims().without("aud")), "token-audience", "the token has no claim \"aud\""),
        (
            "expired token",
            mint(claims().set("exp", now - 720).set("iat", now - 1_000).set("nbf", now - 1_000)),
            "token-times",
            "the token expired 12 minutes ago",
        ),
        (
            "token of tomorrow",
            mint(claims().set("nbf", now + 600)),
            "token-times",
            "the token is not valid yet",
        ),
        (
            "iat in the future",
            mint(claims().set("iat", now + 600).without("nbf")),
            "token-times",
            "the token was issued",
        ),
        ("no iat", mint(claims().without("iat")), "token-times", "the token has no claim \"iat\""),
        ("no exp", mint(claims().without("exp")), "token-times", "the token has no claim \"exp\""),
        (
            "token that lives too long",
            mint(claims().set("exp", now + 90_000)),
            "token-times",
            "the token lives for",
        ),
        ("no sub", mint(claims().without("sub")), "token-claims", "the token has no claim \"sub\""),
        (
            "scope missing",
            mint(claims().without("scope")),
            "token-claims",
            "the token's claim \"scope\" does not hold",
        ),
    ];
    let mut rows = Vec::new();
    for (fault, token, link, words) in cases {
        let before = world.cloud.sts.count();
        rows.push(row(fault, &examine(&world, &token).await, link, words));
        assert_eq!(world.cloud.sts.count(), before, "STS was asked for a bad token");
    }
    rows
}

pub(super) async fn access() -> Vec<String> {
    let allow = "allow = [{ claim = \"groups\", any = [\"analysts\"] }]";
    let world = World::builder().cluster(allow).start().await;
    let claims = |sub: &str| world.claims(sub).set("groups", json!(["analysts"]));
    let regex = |toml: String| {
        toml.replace("[cluster.user]", "[cluster.user]\nclaim = \"email\"\nregex = '(.+)@acme\\.com'")
    };
    let pinned = |toml: String| toml.replace("allow = ", "pin = \"session-tag\"\nallow = ");
    let tagged = world.mint(claims("alice").tag("dbuser", "bob"));
    let (good, denied, outsider) =
        (world.mint(claims("alice")), world.mint(claims("postgres")), world.token("alice"));
    vec![
        row(
            "no rule of allow fits",
            &examine(&world, &outsider).await,
            "cluster",
            "database \"app\" is not served here",
        ),
        row(
            "denied name",
            &examine(&world, &denied).await,
            "database-user",
            "nobody may log in as \"postgres\"",
        ),
        row(
            "regex does not match",
            &DoctorRun::with(&good).changing(regex).examine(&world).await,
            "database-user",
            "the token's claim \"email\" is \"alice@example.com\", from which no",
        ),
        row(
            "user claim missing",
            &DoctorRun::with(&good)
                .changing(|toml| toml.replace("[cluster.user]", "[cluster.user]\nclaim = \"upn\""))
                .examine(&world)
                .await,
            "database-user",
            "the token has no claim \"upn\"",
        ),
        row(
            "session tag missing",
            &DoctorRun::with(&good).changing(pinned).examine(&world).await,
            "session-tag",
            "the token does not carry the session tag",
        ),
        row(
            "session tag of somebody else",
            &DoctorRun::with(&tagged).changing(pinned).examine(&world).await,
            "session-tag",
            "the token's session tag \"dbuser\" is \"bob\"",
        ),
    ]
}
