//! Policy documents: what the files in `policies/` and each part of the language decide.

use std::net::IpAddr;

use aws_emulator::policy::{AccessRequest, Effect, IamPolicy, RequestContext};
use aws_emulator::{Cloud, CloudOptions, PolicyTemplate, SourceIp};
use serde_json::{Value, json};

use crate::support::assume;

/// Decision of a statement with this condition in this context.
fn holds(condition: &Value, context: &[(&str, &str)]) -> bool {
    let policy = json!({ "Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "rds-db:connect", "Resource": "*", "Condition": condition } });
    let policy = IamPolicy::identity(&policy.to_string()).unwrap();
    let mut values = RequestContext::default();
    for (key, value) in context {
        values.add(key, *value);
    }
    policy.allows(&AccessRequest {
        action: "rds-db:connect",
        resource: Some("r"),
        provider: None,
        context: &values,
    })
}

fn decide(statements: &Value, action: &str, resource: &str) -> Effect {
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    let policy = IamPolicy::identity(&policy.to_string()).unwrap();
    policy.decide(&AccessRequest {
        action,
        resource: Some(resource),
        provider: None,
        context: &RequestContext::default(),
    })
}

#[test]
fn string_operators_decide_as_in_iam() {
    let a = [("k", "a*")];
    assert!(holds(&json!({ "StringEquals": { "k": ["x", "a*"] } }), &a));
    assert!(holds(&json!({ "StringEquals": { "K": "a*" } }), &a), "keys have no case");
    assert!(!holds(&json!({ "StringEquals": { "k": "A*" } }), &a), "values do");
    assert!(!holds(&json!({ "StringEquals": { "k": "*" } }), &a), "StringEquals has no wildcards");
    assert!(holds(&json!({ "StringEqualsIgnoreCase": { "k": "A*" } }), &a));
    assert!(holds(&json!({ "StringLike": { "k": "?*" } }), &a));
    assert!(!holds(&json!({ "StringLike": { "k": "b*" } }), &a));
    assert!(!holds(&json!({ "StringNotEquals": { "k": ["x", "a*"] } }), &a));
    assert!(holds(&json!({ "StringNotEquals": { "k": ["x", "y"] } }), &a));
    assert!(!holds(&json!({ "StringEquals": { "k": "a*", "j": "b" } }), &a), "all keys must hold");
    assert!(!holds(&json!({ "StringEquals": { "k": "a*" }, "StringLike": { "k": "b" } }), &a));
}

#[test]
fn a_missing_key_matches_nothing() {
    assert!(!holds(&json!({ "StringEquals": { "k": "" } }), &[]));
    assert!(!holds(&json!({ "StringLike": { "k": "*" } }), &[]));
    assert!(!holds(&json!({ "IpAddress": { "k": "0.0.0.0/0" } }), &[]));
    assert!(holds(&json!({ "StringNotEquals": { "k": "a" } }), &[]));
    assert!(holds(&json!({ "StringEqualsIfExists": { "k": "a" } }), &[]));
    assert!(!holds(&json!({ "StringEqualsIfExists": { "k": "a" } }), &[("k", "b")]));
    assert!(holds(&json!({ "Null": { "k": "true" } }), &[]));
    assert!(!holds(&json!({ "Null": { "k": "true" } }), &[("k", "a")]));
    assert!(holds(&json!({ "Null": { "k": "false" } }), &[("k", "a")]));
}

#[test]
fn lists_need_a_quantifier() {
    let two = [("k", "a"), ("k", "b")];
    assert!(!holds(&json!({ "StringEquals": { "k": "a" } }), &two));
    assert!(holds(&json!({ "ForAnyValue:StringEquals": { "k": "a" } }), &two));
    assert!(!holds(&json!({ "ForAnyValue:StringEquals": { "k": "c" } }), &two));
    assert!(!holds(&json!({ "ForAllValues:StringEquals": { "k": "a" } }), &two));
    assert!(holds(&json!({ "ForAllValues:StringEquals": { "k": ["a", "b", "c"] } }), &two));
    assert!(holds(&json!({ "ForAllValues:StringEquals": { "k": "a" } }), &[]));
    assert!(!holds(&json!({ "ForAnyValue:StringEquals": { "k": "a" } }), &[]));
}

#[test]
fn addresses_are_compared_as_networks() {
    let at = |operator: &str, network: &str, address: &str| {
        holds(&json!({ operator: { "aws:SourceIp": network } }), &[("aws:SourceIp", address)])
    };
    assert!(at("IpAddress", "10.1.0.0/16", "10.1.255.255") && !at("IpAddress", "10.1.0.0/16", "10.2.0.0"));
    assert!(at("IpAddress", "10.1.0.1", "10.1.0.1") && !at("IpAddress", "10.1.0.1", "10.1.0.2"));
    assert!(at("IpAddress", "0.0.0.0/0", "1.2.3.4") && !at("IpAddress", "0.0.0.0/0", "::1"));
    assert!(
        at("IpAddress", "2001:db8::/32", "2001:db8::1") && !at("IpAddress", "2001:db8::/32", "2001:db9::1")
    );
    assert!(at("NotIpAddress", "10.0.0.0/8", "11.0.0.0") && !at("NotIpAddress", "10.0.0.0/8", "10.0.0.0"));
}

#[test]
fn deny_wins_and_silence_refuses() {
    let allow = json!({ "Effect": "Allow", "Action": "rds-db:*", "Resource": "a/*" });
    let deny = json!({ "Effect": "Deny", "Action": ["x:y", "RDS-DB:Connect"], "Resource": "a/root" });
    assert_eq!(decide(&json!([allow, deny]), "rds-db:connect", "a/alice"), Effect::Allow);
    assert_eq!(decide(&json!([allow, deny]), "rds-db:connect", "a/root"), Effect::Deny);
    assert_eq!(decide(&json!([deny, allow]), "rds-db:connect", "a/root"), Effect::Deny);
    assert_eq!(decide(&json!([allow]), "rds-db:connect", "b/alice"), Effect::Silent);
    assert_eq!(decide(&json!([allow]), "rds:connect", "a/alice"), Effect::Silent);
    let but = json!({ "Effect": "Allow", "NotAction": "iam:*", "NotResource": "a/root" });
    assert_eq!(decide(&json!([but]), "rds-db:connect", "a/alice"), Effect::Allow);
    assert_eq!(decide(&json!([but]), "rds-db:connect", "a/root"), Effect::Silent);
    assert_eq!(decide(&json!([but]), "iam:PassRole", "a/alice"), Effect::Silent);
}

#[test]
fn trust_policies_test_the_token_and_where_it_comes_from() {
    let cloud = Cloud::start(CloudOptions::default()).unwrap();
    let issuer = cloud.issuer.url();
    let provider = issuer.strip_prefix("http://").unwrap();
    let key = |name: &str| format!("{provider}:{name}");
    let claims = cloud.issuer.default_claims("alice").set("aud", "other").set("azp", "pgpassport");
    let token = cloud.issuer.mint(claims.set("amr", json!(["pwd", "mfa"])));
    let status = |condition: Value| {
        let mut role = cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
        let mut policy: Value = serde_json::from_str(&role.trust_policy).unwrap();
        policy["Statement"][0]["Condition"] = condition;
        role.trust_policy = policy.to_string();
        cloud.sts.put_role(&role).unwrap();
        assume(&cloud, &token, &[]).status
    };
    assert_eq!(status(json!({ "StringEquals": { key("aud"): "pgpassport", key("oaud"): "other" } })), 200);
    assert_eq!(status(json!({ "StringEquals": { key("aud"): "other" } })), 403);
    assert_eq!(status(json!({ "StringEquals": { key("sub"): "alice" } })), 200);
    assert_eq!(status(json!({ "StringLike": { key("sub"): "b*" } })), 403);
    assert_eq!(status(json!({ "StringEquals": { key("email"): "alice@example.com" } })), 200);
    assert_eq!(status(json!({ "ForAnyValue:StringEquals": { key("amr"): "mfa" } })), 200);
    assert_eq!(status(json!({ "ForAnyValue:StringEquals": { key("amr"): "otp" } })), 403);
    assert_eq!(status(json!({ "StringEquals": { "other.example.com:aud": "pgpassport" } })), 403);
    assert_eq!(status(json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } })), 200);
    cloud.sts.set_source_ip(SourceIp::Fixed(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(status(json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } })), 403);
    cloud.sts.set_source_ip(SourceIp::Absent);
    assert_eq!(status(json!({ "IpAddress": { "aws:SourceIp": "0.0.0.0/0" } })), 403);
}

#[test]
fn an_explicit_deny_in_the_trust_policy_wins() {
    let cloud = Cloud::start(CloudOptions::default()).unwrap();
    let mut role = cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    let mut policy: Value = serde_json::from_str(&role.trust_policy).unwrap();
    let mut deny = policy["Statement"][0].clone();
    deny["Effect"] = json!("Deny");
    deny["Condition"] = json!({ "StringEquals": { "aws:RequestTag/dbuser": "root" } });
    policy["Statement"].as_array_mut().unwrap().push(deny);
    policy["Statement"][0]["Action"] = json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]);
    role.trust_policy = policy.to_string();
    cloud.sts.put_role(&role).unwrap();
    let token = |tag: &str| cloud.issuer.mint(cloud.issuer.default_claims("alice").tag("dbuser", tag));
    assert_eq!(assume(&cloud, &token("alice"), &[]).status, 200);
    assert_eq!(assume(&cloud, &token("root"), &[]).error(), (403, "AccessDenied"));
}

#[test]
fn documents_that_iam_would_not_take_are_errors() {
    for bad in ["", "[]", "{}", r#"{"Statement":[{"Effect":"Allow","Action":"a:b"}]}"#] {
        assert!(IamPolicy::identity(bad).is_err(), "{bad}");
    }
    assert!(
        IamPolicy::trust(r#"{"Statement":{"Effect":"Allow","Action":"sts:*"}}"#).is_err(),
        "no principal"
    );
    let operator =
        r#"{"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*","Condition":{"X":{"k":"v"}}}}"#;
    assert!(IamPolicy::identity(operator).unwrap_err().to_string().contains("unknown condition operator X"));
    let network = operator.replace("\"X\"", "\"IpAddress\"");
    assert!(IamPolicy::identity(&network).is_err());
}
