//! Rules about claims, with every form that a claim can have.

use serde_json::json;

use super::*;
use crate::config::test_fixture::config;

fn rule(claim: &str, any: &[&str], all: &[&str]) -> ClaimRule {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    ClaimRule { claim: vec![claim.to_owned()], any: texts(any), all: texts(all), issuers: None, keys: false }
}

fn keyed(claim: &[&str], any: &str) -> ClaimRule {
    let claim = claim.iter().map(|name| (*name).to_owned()).collect();
    ClaimRule { claim, any: vec![any.to_owned()], all: vec![], issuers: None, keys: true }
}

fn verdict(rule: &ClaimRule, claims: &Value) -> RuleVerdict {
    evaluate(rule, claims.as_object().unwrap())
}

#[test]
fn a_rule_holds_for_the_values_it_names_and_no_others() {
    let claims = json!({
        "groups": ["analysts", "db users", 7],
        "scope": "openid db",
        "scp": ["db", "x"],
        "team": "db users",
        "verified": true,
        "level": 3,
    });
    for good in [
        rule("groups", &["x", "analysts"], &[]),
        rule("groups", &[], &["analysts", "db users"]),
        rule("groups", &["7"], &[]),
        rule("scope", &["db"], &[]),
        rule("scp", &["db"], &[]),
        rule("team", &["db users"], &[]),
        rule("verified", &["true"], &[]),
        rule("level", &["3"], &[]),
    ] {
        assert_eq!(verdict(&good, &claims), RuleVerdict::Holds, "{good:?}");
    }
    for bad in [
        rule("groups", &["analyst"], &[]),
        rule("groups", &["Analysts"], &[]),
        rule("groups", &["db"], &[]),
        rule("groups", &["analysts"], &["x"]),
        rule("scope", &["openid db"], &[]),
        rule("verified", &["false"], &[]),
        rule("level", &["30"], &[]),
    ] {
        assert_eq!(verdict(&bad, &claims), RuleVerdict::Fails, "{bad:?}");
    }
    assert_eq!(verdict(&rule("groups", &["a"], &[]), &json!({"groups": []})), RuleVerdict::Fails);
    assert_eq!(verdict(&rule("groups", &["a"], &[]), &json!({"groups": "b"})), RuleVerdict::Fails);
}

/// Every way in which a claim does not tell its values, with the words of the log.
#[test]
fn a_claim_that_cannot_be_read_decides_nothing() {
    let wanted = rule("groups", &["analysts"], &[]);
    let overage =
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}});
    for (claims, words) in [
        (json!({}), "is absent"),
        (json!({"Groups": ["analysts"]}), "is absent; \"Groups\" is another claim"),
        (json!({"groups": null}), "is null"),
        (json!({"groups": {"analysts": {}}}), "is an object"),
        (json!({"groups": 1.5}), "is not an unsigned integer"),
        (json!({"groups": -1}), "is not an unsigned integer"),
        (json!({"groups": "analysts engineers"}), "may encode several values"),
        (json!({"groups": "analysts,engineers"}), "may encode several values"),
        (json!({"groups": ["x", ["analysts"]]}), "is a list with elements other than strings"),
        (json!({"groups": ["x", {"name": "analysts"}]}), "is a list with elements other than strings"),
        (json!({"groups": ["x", null]}), "is a list with elements other than strings"),
        (overage, "groups overage of Microsoft Entra ID"),
        (json!({"hasgroups": true}), "groups overage of Microsoft Entra ID"),
        (json!({"hasgroups": "true"}), "groups overage of Microsoft Entra ID"),
        (
            json!({"groups": ["x"], "_claim_names": {"groups": "src1"}}),
            "groups overage of Microsoft Entra ID",
        ),
    ] {
        let RuleVerdict::Undecided(doubt) = verdict(&wanted, &claims) else { panic!("{claims} decides") };
        assert!(doubt.to_string().contains(words), "{claims}: {doubt}");
        assert_eq!(doubt.is_groups_overage(), words.contains("overage"), "{claims}");
        assert_eq!(has_groups_overage(claims.as_object().unwrap()), words.contains("overage"), "{claims}");
    }
    // Nested: the way to the claim ends early.
    let nested = ClaimRule { claim: vec!["realm_access".into(), "roles".into()], ..wanted.clone() };
    for claims in [json!({}), json!({"realm_access": {}}), json!({"realm_access": "roles"})] {
        assert!(matches!(verdict(&nested, &claims), RuleVerdict::Undecided(_)), "{claims}");
    }
    // What can be read of a claim still counts.
    for claims in [json!({"groups": ["analysts", null]}), json!({"groups": ["analysts"], "hasgroups": true})]
    {
        assert_eq!(verdict(&wanted, &claims), RuleVerdict::Holds, "{claims}");
    }
    for claims in [json!({"groups": ["x"], "hasgroups": false}), json!({"groups": ["x"], "_claim_names": {}})]
    {
        assert_eq!(verdict(&wanted, &claims), RuleVerdict::Fails, "{claims}");
    }
}

/// Zitadel: the roles are the keys of an object, and behind each stand the organisations that it is from.
#[test]
fn keys_of_an_object_are_values_where_the_rule_says_so() {
    let roles = "urn:zitadel:iam:org:project:roles";
    let claims = json!({ roles: { "analyst": { "2219": "acme.zitadel.cloud" } } });
    assert_eq!(verdict(&keyed(&[roles], "analyst"), &claims), RuleVerdict::Holds);
    assert_eq!(verdict(&keyed(&[roles], "2219"), &claims), RuleVerdict::Fails);
    assert_eq!(verdict(&keyed(&[roles, "analyst"], "2219"), &claims), RuleVerdict::Holds);
    assert_eq!(verdict(&keyed(&[roles, "analyst"], "9999"), &claims), RuleVerdict::Fails);
    let plain = ClaimRule { keys: false, ..keyed(&[roles], "analyst") };
    assert!(matches!(verdict(&plain, &claims), RuleVerdict::Undecided(_)));
    for other in
        [json!({ roles: ["analyst"] }), json!({ roles: "analyst" }), json!({ roles: null }), json!({})]
    {
        assert!(matches!(verdict(&keyed(&[roles], "analyst"), &other), RuleVerdict::Undecided(_)), "{other}");
    }
    assert_eq!(verdict(&keyed(&[roles], "analyst"), &json!({ roles: {} })), RuleVerdict::Fails);
}

fn cluster(groups: &str) -> ClusterSettings {
    config("http://127.0.0.1:1", "https://idp.example", groups).clusters.remove(0)
}

fn group_of(cluster: &ClusterSettings, claims: &Value) -> Result<Option<String>, String> {
    let at = group(cluster, "idp", claims.as_object().unwrap())?;
    Ok(at.map(|at| cluster.groups[at].name.clone()))
}

const ANALYSTS: &str =
    "[[cluster.group]]\nname = \"analysts\"\nwhen = { claim = \"groups\", any = [\"analysts\"] }\n";

#[test]
fn a_cluster_with_groups_is_for_their_members() {
    assert_eq!(group_of(&cluster(""), &json!({})), Ok(None));
    let closed = cluster(&format!("{ANALYSTS}read_only = true"));
    assert_eq!(group_of(&closed, &json!({"groups": ["analysts"]})), Ok(Some("analysts".into())));
    for claims in [json!({"groups": []}), json!({"groups": ["engineers"]})] {
        assert_eq!(
            group_of(&closed, &claims),
            Err("no [[cluster.group]] matches the token".into()),
            "{claims}"
        );
    }
    let missing = group_of(&closed, &json!({})).unwrap_err();
    assert_eq!(missing, "no [[cluster.group]] matches the token; claim \"groups\" is absent");
}

/// Whoever might be in a group is not in a later one that allows more.
#[test]
fn a_restriction_does_not_fall_away_with_its_claim() {
    let others = "[[cluster.group]]\nname = \"others\"\neveryone = true\n";
    let unreadable = [
        json!({}),
        json!({"groups": null}),
        json!({"groups": 7.5}),
        json!({"groups": {"analysts": 1}}),
        json!({"groups": "analysts engineers"}),
        json!({"hasgroups": true}),
    ];
    let limits = [
        "read_only = true",
        "databases = [\"reporting\"]",
        "statement_timeout = \"5m\"",
        "max_client_conn = 3",
        "max_lifetime = \"8h\"",
    ];
    for limit in limits {
        let open = cluster(&format!("{ANALYSTS}{limit}\n{others}"));
        assert_eq!(group_of(&open, &json!({"groups": ["engineers"]})), Ok(Some("others".into())));
        for claims in &unreadable {
            let why = group_of(&open, claims).unwrap_err();
            assert!(why.contains("analysts") && why.contains("others allows more"), "{claims}: {why}");
        }
        // The other way round the claim grants, and without it there is less.
        let grants = cluster(&format!("{ANALYSTS}{others}{limit}"));
        for claims in &unreadable {
            assert_eq!(group_of(&grants, claims), Ok(Some("others".into())), "{claims}");
        }
        let same = cluster(&format!("{ANALYSTS}{limit}\n{others}{limit}"));
        assert_eq!(group_of(&same, &json!({})), Ok(Some("others".into())));
    }
}

#[test]
fn groups_are_compared_limit_by_limit() {
    let groups = |first: &str, second: &str| {
        let text = format!("{ANALYSTS}{first}\n[[cluster.group]]\nname = \"b\"\neveryone = true\n{second}");
        let groups = cluster(&text).groups;
        groups[1].allows_no_more_than(&groups[0])
    };
    for (first, second, no_more) in [
        ("databases = [\"a\"]", "", false),
        ("databases = [\"a\"]", "databases = [\"a\", \"b\"]", false),
        ("databases = [\"a\", \"b_*\"]", "databases = [\"a\"]", true),
        ("databases = [\"b_*\"]", "databases = [\"b_1\", \"b_x_*\"]", true),
        ("databases = [\"b_*\"]", "databases = [\"b*\"]", false),
        ("databases = [\"b_1\"]", "databases = [\"b_1*\"]", false),
        ("statement_timeout = \"5m\"", "statement_timeout = \"6m\"", false),
        ("statement_timeout = \"5m\"", "statement_timeout = \"4m\"", true),
        ("max_client_conn = 3", "max_client_conn = 4", false),
        ("max_lifetime = \"8h\"", "max_lifetime = \"1h\"", true),
        ("read_only = true\nmax_lifetime = \"8h\"", "read_only = true", false),
        ("", "read_only = true", true),
    ] {
        assert_eq!(groups(first, second), no_more, "{first} / {second}");
    }
}

/// The groups of one issuer are not those of another.
#[test]
fn a_rule_can_be_for_tokens_of_one_issuer() {
    let theirs = ClaimRule { issuers: Some(vec!["okta".to_owned()]), ..rule("groups", &["dba"], &[]) };
    let claims = json!({"groups": ["dba"]});
    let verdict =
        |issuer, claims: &Value| any_of(std::slice::from_ref(&theirs), issuer, claims.as_object().unwrap());
    assert_eq!(verdict("okta", &claims), RuleVerdict::Holds);
    assert_eq!(verdict("partner", &claims), RuleVerdict::Fails);
    assert_eq!(verdict("partner", &json!({})), RuleVerdict::Fails);
    assert!(matches!(verdict("okta", &json!({})), RuleVerdict::Undecided(_)));
}
