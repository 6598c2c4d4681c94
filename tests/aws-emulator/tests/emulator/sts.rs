//! STS: the good answer and each of AWS's refusals.

use aws_emulator::issuer::TAGS_CLAIM;
use aws_emulator::{
    Cloud, CloudOptions, HttpFault, Issuer, IssuerOptions, IssuerPage, KeyChoice, PolicyTemplate,
    TokenClaims, names,
};
use serde_json::{Value, json};

use crate::support::{assume, get, http, session};

fn cloud() -> Cloud {
    Cloud::start(CloudOptions::default()).unwrap()
}

fn tagging_cloud() -> Cloud {
    let trust = PolicyTemplate::TrustSessionTag;
    Cloud::start(CloudOptions { trust, ..CloudOptions::default() }).unwrap()
}

/// Status and code for claims that were changed from good ones.
fn refused(cloud: &Cloud, change: impl FnOnce(TokenClaims) -> TokenClaims) -> (u16, String) {
    let token = cloud.issuer.mint(change(cloud.issuer.default_claims("alice")));
    let reply = assume(cloud, &token, &[]);
    let (status, code) = reply.error();
    (status, code.to_owned())
}

fn invalid() -> (u16, String) {
    (400, "InvalidIdentityToken".to_owned())
}

#[test]
fn a_good_token_gives_credentials_in_awss_form() {
    let cloud = cloud();
    let reply = assume(&cloud, &cloud.issuer.token("a<b&c"), &[]);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.head.contains("content-type: text/xml"));
    assert!(reply.body.starts_with(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
    ));
    let element = |name: &str| reply.element(name).unwrap_or_else(|| panic!("{name}: {}", reply.body));
    assert_eq!(element("SubjectFromWebIdentityToken"), "a&lt;b&amp;c");
    assert_eq!(element("Provider"), cloud.issuer.url());
    assert_eq!(element("Audience"), "pgpassport");
    assert_eq!(element("PackedPolicySize"), "0");
    assert_eq!(element("Arn"), "arn:aws:sts::123456789012:assumed-role/pgpassport-app/alice");
    assert!(element("AssumedRoleId").starts_with("AROA") && element("AssumedRoleId").ends_with(":alice"));
    let id = element("AccessKeyId");
    assert!(id.starts_with("ASIA") && id.len() == 20);
    assert_eq!(element("SecretAccessKey").len(), 40);
    let token = element("SessionToken");
    assert!(token.len() == 1100 && token.contains('+') && token.contains('/') && token.ends_with('='));
    assert_eq!(reply.element("RequestId").unwrap().len(), 36);
    let session = cloud.sts.store().get(id).unwrap();
    assert_eq!(session.subject, "a<b&c");
    assert_eq!(element("Expiration"), aws_emulator::clock::extended(session.expiration));
    let calls = cloud.sts.calls();
    assert!(calls[0].granted() && calls[0].role_arn == names::ROLE_ARN && !calls[0].signed);
    assert_eq!(cloud.sts.count(), 1);
}

#[test]
fn every_algorithm_of_sts_is_taken_and_no_other() {
    let cloud = cloud();
    let with = |key: &KeyChoice| {
        assume(&cloud, &cloud.issuer.mint_with(cloud.issuer.default_claims("alice"), key), &[])
    };
    for key in [KeyChoice::Rs256, KeyChoice::Rs384, KeyChoice::Rs512, KeyChoice::Es256] {
        assert_eq!(with(&key).status, 200, "{key:?}");
    }
    let public = cloud.issuer.rsa_public_pem().into_bytes();
    for key in
        [KeyChoice::Ps256, KeyChoice::Hs256(public), KeyChoice::Unsigned, KeyChoice::Bytes(vec![0; 256])]
    {
        assert_eq!(with(&key).error(), (400, "InvalidIdentityToken"), "{key:?}");
    }
}

#[test]
fn tokens_of_others_and_changed_tokens_are_invalid() {
    let cloud = cloud();
    let other = Issuer::start(IssuerOptions::default()).unwrap();
    let reply = assume(&cloud, &other.token("alice"), &[]);
    let message = format!("No OpenIDConnect provider found in your account for {}", other.url());
    assert_eq!(reply.element("Message"), Some(message.as_str()));
    // The right issuer name and key id, signed with another issuer's key.
    let kid = cloud.issuer.kid(&KeyChoice::Rs256);
    let header = json!({ "alg": "RS256", "kid": kid }).to_string();
    let claims = Value::from(cloud.issuer.default_claims("alice")).to_string();
    let forged = other.sign(&header, claims.as_bytes(), &KeyChoice::Rs256);
    assert_eq!(assume(&cloud, &forged, &[]).error(), (400, "InvalidIdentityToken"));
    let good = cloud.issuer.sign(&header, claims.as_bytes(), &KeyChoice::Rs256);
    assert_eq!(assume(&cloud, &good, &[]).status, 200);
    let unknown = json!({ "alg": "RS256", "kid": "nobody" }).to_string();
    let unknown = cloud.issuer.sign(&unknown, claims.as_bytes(), &KeyChoice::Rs256);
    assert_eq!(assume(&cloud, &unknown, &[]).error(), (400, "InvalidIdentityToken"));
    for garbage in
        ["garbage", "a.b.c", &good[..good.len() - 4], &format!("{good}="), &good.replacen('.', "..", 1)]
    {
        assert_eq!(assume(&cloud, garbage, &[]).error(), (400, "InvalidIdentityToken"), "{garbage}");
    }
    // What is no object is no token either.
    for (header, payload) in [("[]", "{}"), (header.as_str(), "[]"), (header.as_str(), "\u{0}")] {
        let token = cloud.issuer.sign(header, payload.as_bytes(), &KeyChoice::Rs256);
        assert_eq!(assume(&cloud, &token, &[]).error(), (400, "InvalidIdentityToken"), "{payload}");
    }
}

#[test]
fn the_audience_is_azp_before_aud() {
    let cloud = cloud();
    assert_eq!(refused(&cloud, |claims| claims.set("aud", "other")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.without("aud")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.set("azp", "other")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.set("azp", 7)), invalid());
    assert_eq!(refused(&cloud, |claims| claims.set("aud", json!(["x", "pgpassport"]))), (200, String::new()));
    let azp = |claims: TokenClaims| claims.set("aud", "other").set("azp", "pgpassport");
    assert_eq!(refused(&cloud, azp), (200, String::new()));
}

#[test]
fn dates_are_integers_and_have_limits() {
    let cloud = cloud();
    let now = cloud.clock.unix();
    let expired = || (400, "ExpiredTokenException".to_owned());
    assert_eq!(refused(&cloud, |claims| claims.set("exp", now - 1)), expired());
    assert_eq!(refused(&cloud, |claims| claims.set("iat", now - 86_500)), expired());
    assert_eq!(refused(&cloud, |claims| claims.set("iat", now - 86_000)), (200, String::new()));
    assert_eq!(refused(&cloud, |claims| claims.without("iat")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.without("exp")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.without("sub")), invalid());
    assert_eq!(refused(&cloud, |claims| claims.set("exp", json!(4_000_000_000.5))), invalid());
    assert_eq!(refused(&cloud, |claims| claims.set("iat", now.to_string())), invalid());
    cloud.clock.advance(900);
    assert_eq!(refused(&cloud, |claims| claims.set("exp", now + 900)), expired());
}

#[test]
fn parameters_out_of_range_are_validation_errors() {
    let cloud = cloud();
    let token = cloud.issuer.token("alice");
    let validation = |field: (&str, &str)| {
        let reply = assume(&cloud, &token, &[field]);
        assert_eq!(reply.error(), (400, "ValidationError"), "{field:?}: {}", reply.body);
        assert!(!reply.body.contains(&token));
    };
    validation(("RoleArn", ""));
    validation(("RoleArn", "arn:aws:iam::1"));
    validation(("RoleSessionName", ""));
    validation(("RoleSessionName", "a"));
    validation(("RoleSessionName", &"a".repeat(65)));
    validation(("RoleSessionName", "auth0|alice"));
    validation(("RoleSessionName", "a b"));
    validation(("RoleSessionName", "jörg"));
    validation(("WebIdentityToken", ""));
    validation(("WebIdentityToken", "abc"));
    validation(("WebIdentityToken", &"a".repeat(20_001)));
    validation(("DurationSeconds", "899"));
    validation(("DurationSeconds", "43201"));
    validation(("DurationSeconds", "x"));
    validation(("Policy", &" ".repeat(2049)));
    validation(("ProviderId", "www.amazon.com"));
    let twice = assume(&cloud, &token, &[("RoleSessionName", "alice"), ("RoleSessionName", "bobby")]);
    assert_eq!(twice.error(), (400, "ValidationError"));
    assert_eq!(assume(&cloud, &token, &[("Action", "AssumeRole")]).error(), (400, "InvalidAction"));
    assert_eq!(assume(&cloud, &token, &[("Version", "2010-01-01")]).error(), (400, "InvalidAction"));
    assert_eq!(assume(&cloud, &token, &[("Action", "")]).error(), (400, "MissingAction"));
    let mut short = cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    short.max_session_duration = 3600;
    cloud.sts.put_role(&short).unwrap();
    validation(("DurationSeconds", "3601"));
    assert_eq!(assume(&cloud, &token, &[("DurationSeconds", "3600")]).status, 200);
}

#[test]
fn only_a_posted_form_is_read() {
    let cloud = cloud();
    let token = cloud.issuer.token("alice");
    let query = format!("{}/?Action=AssumeRoleWithWebIdentity&WebIdentityToken={token}", cloud.sts.url());
    assert_eq!(get(&query).error(), (400, "MissingAction"));
    let json = http(cloud.sts.addr(), "POST / HTTP/1.1\r\nContent-Type: application/json", "{}").unwrap();
    assert_eq!(json.error(), (400, "MissingAction"));
    let kind = "HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    for line in ["PUT /", "POST /?x=y", "POST /sts"] {
        let reply = http(cloud.sts.addr(), &format!("{line} {kind}"), "Action=x").unwrap();
        assert_eq!(reply.error(), (400, "MissingAction"), "{line}");
    }
    let head = format!("POST / {kind}");
    assert_eq!(http(cloud.sts.addr(), &head, "Action=x").unwrap().error(), (400, "InvalidAction"));
    let head = head.as_str();
    assert_eq!(http(cloud.sts.addr(), head, "Action=%zz").unwrap().error(), (400, "MalformedQueryString"));
}

#[test]
fn unknown_roles_and_roles_for_another_issuer_are_denied_alike() {
    let cloud = cloud();
    let token = cloud.issuer.token("alice");
    let unknown = assume(&cloud, &token, &[("RoleArn", "arn:aws:iam::123456789012:role/nobody")]);
    assert_eq!(unknown.error(), (403, "AccessDenied"));
    assert_eq!(unknown.element("Message"), Some("Not authorized to perform sts:AssumeRoleWithWebIdentity"));
    let mut role = cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    role.trust_policy = role.trust_policy.replace("oidc-provider/", "oidc-provider/x");
    cloud.sts.put_role(&role).unwrap();
    assert_eq!(assume(&cloud, &token, &[]).error(), (403, "AccessDenied"));
}

#[test]
fn session_policies_must_be_policies_and_fit() {
    let cloud = cloud();
    let token = cloud.issuer.token("alice");
    let with = |policy: &str| assume(&cloud, &token, &[("Policy", policy)]);
    let good = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"rds-db:connect","Resource":"*"}]}"#;
    assert_eq!(with(good).status, 200);
    assert_eq!(cloud.sts.calls()[0].policy.as_deref(), Some(good));
    for bad in [
        "x",
        "[]",
        "{}",
        r#"{"Statement":[]}"#,
        &good.replace("Allow", "allow"),
        &good.replace("rds-db:connect", "connect"),
        &good.replace("Resource", "Resources"),
        &good.replace("2012-10-17", "2026-01-01"),
        &good.replace("\"Resource\"", "\"Principal\":{\"AWS\":\"*\"},\"Resource\""),
        &good.replace("\"Resource\"", "\"Condition\":{\"StringEqual\":{\"a\":\"b\"}},\"Resource\""),
    ] {
        assert_eq!(with(bad).error(), (400, "MalformedPolicyDocument"), "{bad}");
    }
}

#[test]
fn tags_need_permission_and_reach_the_session() {
    let (plain, tagging) = (cloud(), tagging_cloud());
    let tag = |cloud: &Cloud| cloud.issuer.mint(cloud.issuer.default_claims("alice").tag("dbuser", "alice"));
    let denied = assume(&plain, &tag(&plain), &[]);
    assert_eq!(denied.error(), (403, "AccessDenied"));
    assert_eq!(denied.element("Message"), Some("Not authorized to perform sts:TagSession"));
    let expected = [("dbuser".to_owned(), "alice".to_owned())];
    assert_eq!(session(&tagging, &tag(&tagging), &[]).tags, expected);
    let flat = tagging.issuer.mint(tagging.issuer.default_claims("alice").flat_tag("dbuser", "alice"));
    assert_eq!(session(&tagging, &flat, &[]).tags, expected);
    // This trust policy wants the tag dbuser and no other.
    assert_eq!(refused(&tagging, |claims| claims).0, 403);
    assert_eq!(refused(&tagging, |claims| claims.tag("team", "x")).0, 403);
    assert_eq!(refused(&tagging, |claims| claims.tag("dbuser", "alice").tag("team", "x")).0, 403);
    assert_eq!(refused(&tagging, |claims| claims.set(TAGS_CLAIM, "x")), invalid());
}

#[test]
fn policies_and_tags_together_have_a_packed_limit() {
    let cloud = tagging_cloud();
    let mut role = cloud.role(PolicyTemplate::TrustSessionTag, PolicyTemplate::Permission);
    role.trust_policy = role.trust_policy.replace("ForAllValues:StringEquals", "ForAllValues:StringLike");
    role.trust_policy = role.trust_policy.replace("\"aws:TagKeys\": \"dbuser\"", "\"aws:TagKeys\": \"*\"");
    cloud.sts.put_role(&role).unwrap();
    let claims = (0..20).fold(cloud.issuer.default_claims("alice").tag("dbuser", "x"), |claims, n| {
        claims.tag(&format!("k{n}"), &"v".repeat(250))
    });
    assert_eq!(assume(&cloud, &cloud.issuer.mint(claims), &[]).error(), (400, "PackedPolicyTooLarge"));
}

#[test]
fn a_token_can_be_limited_to_some_roles() {
    let cloud = cloud();
    let roles = "https://aws.amazon.com/roles";
    assert_eq!(refused(&cloud, |claims| claims.set(roles, json!([names::ROLE_ARN]))), (200, String::new()));
    assert_eq!(refused(&cloud, |claims| claims.set(roles, "arn:x;arn:y")), invalid());
}

#[test]
fn keys_are_cached_and_read_again_for_an_unknown_kid() {
    let cloud = cloud();
    for _ in 0..3 {
        assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
    }
    assert_eq!(cloud.issuer.count(IssuerPage::Jwks), 1);
    cloud.issuer.rotate(false).unwrap();
    assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
    assert_eq!(cloud.issuer.count(IssuerPage::Jwks), 2);
}

#[test]
fn an_issuer_that_cannot_be_read_makes_the_token_invalid() {
    let cloud = cloud();
    let ask = || assume(&cloud, &cloud.issuer.token("alice"), &[]);
    let no_key = "Couldn't retrieve verification key from your identity provider";
    let jwks_uri = cloud.issuer.page_url(IssuerPage::Jwks);
    let impostor = json!({ "issuer": "http://other", "jwks_uri": jwks_uri }).to_string();
    let many = json!({ "keys": vec![json!({ "kty": "RSA" }); 101] }).to_string();
    for (page, fault, message) in [
        (IssuerPage::Discovery, HttpFault::Close, no_key),
        (
            IssuerPage::Discovery,
            HttpFault::html(200),
            "Please check .well-known/openid-configuration of provider",
        ),
        (
            IssuerPage::Discovery,
            HttpFault::json(impostor),
            "Please check .well-known/openid-configuration of provider",
        ),
        (IssuerPage::Jwks, HttpFault::status(500), no_key),
        (IssuerPage::Jwks, HttpFault::oversize(2_000_000), no_key),
        (IssuerPage::Jwks, HttpFault::json("{\"keys\":[]}"), no_key),
        (IssuerPage::Jwks, HttpFault::json(many), "The provider has more than 100 RSA keys"),
    ] {
        cloud.issuer.fail(page, fault.clone());
        let reply = ask();
        assert_eq!(reply.error(), (400, "InvalidIdentityToken"), "{fault:?}");
        let said = reply.element("Message").unwrap();
        assert!(said.starts_with(message), "{said} for {fault:?}");
        cloud.issuer.heal();
    }
    assert_eq!(ask().status, 200);
}
