//! Issuers of several tenants, as people write them.

use super::super::tests::{problem, read, with};

const TEMPLATE: &str = "url = \"https://login.microsoftonline.com/{tenantid}/v2.0\"";
const FIRST: &str = "11111111-2222-3333-4444-555555555555";
const SECOND: &str = "99999999-8888-7777-6666-abcdefabcdef";

fn tenants(list: &[&str]) -> String {
    format!("tenants = {list:?}")
}

#[test]
fn a_template_is_as_many_issuers_as_it_has_tenants() {
    let text = with(&[("url", TEMPLATE), ("tenants", &tenants(&[FIRST, &SECOND.to_uppercase()]))]);
    let config = read(&text).unwrap();
    let issuer = &config.issuers[0];
    let url = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let accepted: Vec<_> = issuer.accepted().iter().map(|one| one.issuer.as_str().to_owned()).collect();
    assert_eq!(accepted, [url(FIRST), url(SECOND)]);
    assert_eq!(issuer.discovery_base(), url("common"));
    assert!(issuer.accepts(&url(FIRST)).is_some() && issuer.accepts(&url("common")).is_none());
    let warning = "the 2 tenants of issuer \"okta\" become database users by one rule";
    assert!(config.warnings[0].contains(warning), "{:?}", config.warnings);
    let one = read(&with(&[("url", TEMPLATE), ("tenants", &tenants(&[FIRST]))])).unwrap();
    assert_eq!(one.warnings, [""; 0]);
}

#[test]
fn a_template_and_its_tenants_go_together() {
    let fits = ("url", TEMPLATE);
    let list = tenants(&[FIRST]);
    for (changes, told) in [
        (vec![fits], "needs the list of yours: tenants = ["),
        (vec![("tenants", list.as_str())], "this needs {tenantid} once in url"),
        (
            vec![("url", "url = \"https://idp.example/{tenantid}/{tenantid}\""), ("tenants", list.as_str())],
            "this needs {tenantid} once in url",
        ),
        (vec![fits, ("tenants", "tenants = []")], "write 1 to 256"),
        (vec![fits, ("tenants", "tenants = \"common\"")], "\"common\" is not a tenant id"),
        (vec![fits, ("tenants", "tenants = [\"acme.onmicrosoft.com\"]")], "domain names are none"),
        (vec![fits, ("tenants", &tenants(&[FIRST, FIRST]))], "this tenant is listed twice"),
        (vec![fits, ("tenants", "tenants = \"*\"")], "\"*\" is not a tenant id"),
    ] {
        let report = problem(&changes);
        assert!(report.contains(told) && report.contains("issuer[0]."), "{report}");
    }
}

/// No token is of two issuers.
#[test]
fn a_tenant_is_of_one_issuer() {
    let text = with(&[("url", TEMPLATE), ("tenants", &tenants(&[FIRST]))]);
    let other = |url: &str, more: &str| {
        let more = format!(
            "\n[[issuer]]\nname = \"other\"\nurl = \"{url}\"\naudience = \"a\"\n{more}\n[[cluster]]\n"
        );
        read(&text.replacen("\n[[cluster]]\n", &more, 1))
    };
    let concrete = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let template = concrete("{tenantid}");
    for same in [other(&concrete(FIRST), ""), other(&template, &tenants(&[FIRST, SECOND]))] {
        let report = same.unwrap_err().to_string();
        assert!(report.contains("or the same tenant; give each its own"), "{report}");
    }
    other(&concrete(SECOND), "").unwrap();
}

#[test]
fn clients_are_not_sent_to_a_template() {
    let bearer = ("auth", "auth = \"oauthbearer\"");
    let report = problem(&[bearer, ("url", TEMPLATE), ("tenants", &tenants(&[FIRST]))]);
    assert!(report.contains("clients cannot be sent to a template"), "{report}");
}
