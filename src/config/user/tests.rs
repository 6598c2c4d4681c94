//! How the database user follows from a token, as people write it, rightly and wrongly.

use super::super::tests::{REFERENCE, problem, read, with};
use crate::config::Config;

#[test]
fn j9_patterns_are_anchored_bounded_and_capture_one_thing() {
    let regex = |pattern: &str| read(&with(&[("regex", &format!("regex = '{pattern}'"))]));
    let compiled = regex(r"([^@]+)@acme\.com").unwrap().clusters[0].user.all()[0].regex.clone().unwrap();
    assert_eq!(
        compiled.regex.captures("alice@acme.com").unwrap().get(compiled.group).unwrap().as_str(),
        "alice"
    );
    for other in ["alice@evil.com.acme.com.x", "alice@acme.com\n", "a@acme.comb"] {
        assert!(!compiled.regex.is_match(other), "{other:?}");
    }
    let named = regex("(x)(?<user>y)").unwrap().clusters[0].user.all()[0].regex.clone().unwrap();
    assert_eq!(named.group, 2);
    let long = |n: usize| format!("({})", "a".repeat(n - 2));
    assert!(regex(&long(1_024)).is_ok());
    for bad in ["a", "(a)(b)", "(", "a)(b", &long(1_025), "((a{1000}){1000})"] {
        assert!(regex(bad).is_err(), "{bad}");
    }
}

#[test]
fn j10_a_tag_cannot_be_pinned_to_a_changed_claim() {
    for pin in ["session-tag", "both"] {
        for change in [
            ("regex", "regex = '(.+)@acme'"),
            ("lowercase", "lowercase = true"),
            ("prefix", "prefix = \"x_\""),
        ] {
            let report = problem(&[("pin", &format!("pin = \"{pin}\"")), change]);
            assert!(report.contains("byte for byte"), "{report}");
        }
        read(&with(&[("pin", &format!("pin = \"{pin}\""))])).unwrap();
    }
}

#[test]
fn claims_can_be_nested_or_hold_dots() {
    let claim = |value: &str| {
        read(&with(&[("claim", &format!("claim = {value}"))]))
            .map(|c| c.clusters[0].user.all()[0].claim.clone())
    };
    assert_eq!(claim("\"a.b\"").unwrap(), ["a", "b"]);
    assert_eq!(claim("[\"https://acme.com/x\", \"y\"]").unwrap(), ["https://acme.com/x", "y"]);
    assert_eq!(claim("[\"https://acme.com/x\"]").unwrap(), ["https://acme.com/x"]);
    assert!(claim("\"a..b\"").is_err());
    assert!(claim("[]").is_err());
    let zitadel = "\"urn:zitadel:iam:org:project:roles\"";
    assert_eq!(claim(zitadel).unwrap(), ["urn:zitadel:iam:org:project:roles"]);
}

/// A URL as a text would be cut at the dots of its host: a claim that no token has, so that no rule holds.
#[test]
fn a_claim_that_is_a_url_is_a_list() {
    let rule = |claim: &str| format!("{{ claim = {claim}, any = [\"x\"] }}");
    for url in ["https://acme.com/groups", "acme.com/groups", "https://acme/x", "/groups", "a.b/c"] {
        let group = format!(
            "\n[[cluster.group]]\nname = \"g\"\nwhen = {}\n[cluster.user]",
            rule(&format!("{url:?}"))
        );
        for (key, text) in [
            ("claim", with(&[("claim", &format!("claim = {url:?}"))])),
            ("user_claim", with(&[("user_claim", &format!("user_claim = {url:?}"))])),
            ("claim", with(&[("require", &format!("require = {}", rule(&format!("{url:?}"))))])),
            ("claim", with(&[("allow", &format!("allow = [{}]", rule(&format!("{url:?}"))))])),
            ("claim", REFERENCE.replacen("\n[cluster.user]", &group, 1)),
        ] {
            let problems = read(&text).unwrap_err();
            let remedy = format!("{key} = [{url:?}]");
            assert_eq!(problems.list.len(), 1, "{problems}");
            assert!(problems.list[0].text.contains(&remedy), "{problems}");
        }
        read(&with(&[("require", &format!("require = {}", rule(&format!("[{url:?}]"))))])).unwrap();
    }
}

/// The reference with a second issuer and these rules for the user.
fn ruled(rules: &str) -> String {
    let partner = "[[issuer]]\nname = \"partner\"\nurl = \"https://idp.partner.example\"\naudience = \"x\"\n\n[[cluster]]\n";
    let at = REFERENCE.find("\n[cluster.user]\n").unwrap();
    format!("{}\n{rules}\n", REFERENCE[..at].replacen("[[cluster]]\n", partner, 1))
}

fn warnings(config: &Config) -> String {
    config.warnings.join("\n")
}

#[test]
fn each_issuer_has_its_own_rule() {
    let rules = "[[cluster.user]]\nissuer = \"partner\"\nclaim = \"login\"\nprefix = \"partner_\"\n\
                 [[cluster.user]]\nclaim = \"email\"\n";
    let config = read(&ruled(rules)).unwrap();
    let user = &config.clusters[0].user;
    assert_eq!(user.of("partner").unwrap().claim, ["login"]);
    assert_eq!(user.of("okta").unwrap().claim, ["email"]);
    assert_eq!(warnings(&config), "");
    // A claim that is written for an issuer goes before the issuer's own, the general one does not.
    let theirs = ["upn".to_owned()];
    assert_eq!(user.of("partner").unwrap().claim_for(Some(&theirs)), ["login"]);
    assert_eq!(user.of("okta").unwrap().claim_for(Some(&theirs)), ["upn"]);
    let own = user.of("okta").unwrap();
    assert_eq!(user.foreign_prefix(own, "partner_x"), Some("partner_"));
    assert_eq!(user.foreign_prefix(own, "partner"), None);
    assert_eq!(user.foreign_prefix(user.of("partner").unwrap(), "partner_x"), None);
}

#[test]
fn rules_that_contradict_each_other_are_problems() {
    let rule = |keys: &str| format!("[[cluster.user]]\n{keys}\n");
    for (rules, words) in [
        (rule("claim = \"a\"") + &rule("claim = \"b\""), "another [[cluster.user]] is for the same issuer"),
        (
            rule("issuer = \"okta\"") + &rule("issuer = [\"partner\", \"okta\"]"),
            "another [[cluster.user]] is for the same issuer",
        ),
        (rule("issuer = []"), "write the name of an [[issuer]]"),
        (rule("issuer = \"unknown\""), "there is no [[issuer]] with the name \"unknown\""),
        (
            rule("issuer = \"okta\"\nprefix = \"p_\"") + &rule("issuer = \"partner\"\nprefix = \"p_x_\""),
            "prefixes that do not begin with each other",
        ),
        (rule("prefix = \"a*\""), "cannot begin a database user"),
        (rule("prefix = \"\""), "cannot begin a database user"),
        (rule("list_of_one = 1"), "expected true or false, found the integer 1"),
    ] {
        let problems = read(&ruled(&rules)).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        let problem = &problems.list[0];
        assert!(problem.text.contains(words), "{problems}");
        assert!(problem.key.starts_with("cluster[0].user"), "{problems}");
    }
}

/// `alice` of one issuer is not `alice` of another: one rule for both is told, and so are two that do the same.
#[test]
fn two_issuers_by_one_rule_are_a_warning() {
    let rule = |keys: &str| format!("[[cluster.user]]\n{keys}\n");
    let one_rule = "people of issuer \"okta\" and issuer \"partner\" become database users by one rule";
    let two = rule("issuer = \"okta\"\nclaim = \"login\"") + &rule("issuer = \"partner\"\nclaim = \"login\"");
    for (rules, words) in [
        ("[cluster.user]\nclaim = \"email\"".to_owned(), one_rule),
        (String::new(), one_rule),
        (rule("issuer = [\"okta\", \"partner\"]"), one_rule),
        (two.clone(), "become database users by rules that do the same"),
        (rule("issuer = \"okta\""), "people of issuer \"partner\" are refused"),
        ("[cluster.user]\nissuers_share_names = true".to_owned(), ""),
        (two.replace("\"partner\"\n", "\"partner\"\nprefix = \"partner_\"\n"), ""),
        (two.replace("partner\"\nclaim = \"login\"", "partner\"\nclaim = \"sub\""), ""),
    ] {
        let config = read(&ruled(&rules)).unwrap();
        let told = warnings(&config);
        assert!(told.contains(words), "{rules}\n{told}");
        assert_eq!(told.is_empty(), words.is_empty(), "{rules}\n{told}");
        assert!(words.is_empty() || told.contains("cluster[0].user: "), "{told}");
    }
    // Issuers whose people do not come here do not count.
    for key in ["issuers = [\"okta\"]", "role_arn = { okta = \"arn:aws:iam::123456789012:role/r\" }"] {
        let text = ruled("");
        let name = key.split(' ').next().unwrap();
        let old = text
            .lines()
            .find(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")))
            .unwrap();
        assert_eq!(warnings(&read(&text.replacen(old, key, 1)).unwrap()), "", "{key}");
    }
}

/// A group of one issuer is not that of another, which can put anybody into its own.
#[test]
fn a_rule_on_groups_of_two_issuers_is_a_warning() {
    let users = "[[cluster.user]]\nissuer = \"okta\"\n[[cluster.user]]\nissuer = \"partner\"\nprefix = \"partner_\"\n";
    let group = |rule: &str| format!("{users}[[cluster.group]]\nname = \"dba\"\nwhen = {rule}\n");
    let open = "{ claim = \"groups\", any = [\"dba\"] }";
    let closed = "{ issuer = \"okta\", claim = \"groups\", any = [\"dba\"] }";
    let told = |text: &str| warnings(&read(text).unwrap());
    let words =
        "a rule on claim \"groups\" applies to people of issuer \"okta\" and issuer \"partner\" alike";
    let allow = |rule: &str| {
        let old = REFERENCE.lines().rfind(|line| line.starts_with("# allow = ")).unwrap();
        ruled(users).replacen(old, &format!("allow = [{rule}]"), 1)
    };
    for text in [ruled(&group(open)), ruled(&group(&format!("[{closed}, {open}]"))), allow(open)] {
        assert!(told(&text).contains(words), "{}", told(&text));
    }
    for text in [ruled(&group(closed)), allow(closed), ruled(users)] {
        assert_eq!(told(&text), "");
    }
    for text in [ruled(&group(&closed.replace("okta", "x"))), allow(&closed.replace("okta", "x"))] {
        let problems = read(&text).unwrap_err().to_string();
        assert!(problems.contains("there is no [[issuer]] with the name \"x\""), "{problems}");
    }
    let own = problem(&[("require", &format!("require = {closed}"))]);
    assert!(own.contains("leave issuer out of them"), "{own}");
}
