//! Listeners as people write them, rightly and wrongly.

use crate::config::ListenAuth;
use crate::config::tests::{REFERENCE, problem, read, with};

#[test]
fn listeners_are_one_table_or_several() {
    let pair = |first: &str, second: &str| {
        let files = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\n";
        let tables = format!("[[listen]]\n{files}{first}\n[[listen]]\n{files}{second}\n");
        let (start, end) = (REFERENCE.find("\n[listen]").unwrap(), REFERENCE.find("\n[limits]").unwrap());
        read(&format!("{}\n{tables}{}", &REFERENCE[..start], &REFERENCE[end..]))
    };
    let config = pair("", "name = \"vpn\"\naddr = \"[::1]:5433\"").unwrap();
    let names: Vec<_> = config.listeners.iter().map(|listen| listen.name.as_str()).collect();
    assert_eq!(names, ["0.0.0.0:5432", "vpn"]);
    pair("addr = \"127.0.0.1:0\"", "addr = \"127.0.0.1:0\"").unwrap();
    let report = pair("", "").unwrap_err().to_string();
    assert!(report.contains("another [[listen]] has the address 0.0.0.0:5432"), "{report}");
    let report = pair("name = \"a\"", "addr = \"0.0.0.0:1\"\nname = \"a\"").unwrap_err().to_string();
    assert!(report.contains("another [[listen]] has the name \"a\""), "{report}");
    let report = pair("", "adr = 1").unwrap_err().to_string();
    assert!(report.contains("listen[1].adr: this key is not known; did you mean addr?"), "{report}");
    assert!(read("listen = []").unwrap_err().to_string().contains("no [listen] section"));
}

#[test]
fn a_demand_for_certificates_needs_their_authority() {
    let report = problem(&[("client_tls_certificate", "client_tls_certificate = \"request\"")]);
    assert!(report.contains("this needs client_tls_ca_file"), "{report}");
    let ca = ("client_tls_ca_file", "client_tls_ca_file = \"ca.pem\"");
    let required = |more: &[(&str, &str)]| {
        let config = read(&with(&[&[ca], more].concat())).unwrap();
        config.listeners[0].client_certificate.clone().unwrap().required
    };
    assert!(required(&[]));
    assert!(!required(&[("client_tls_certificate", "client_tls_certificate = \"request\"")]));
}

#[test]
fn c10_balancers_are_named_by_networks_or_addresses() {
    let from = |value: &str| {
        read(&with(&[("proxy_protocol_from", &format!("proxy_protocol_from = {value}"))]))
            .map(|config| config.listeners[0].proxy_protocol_from.clone())
    };
    let networks = from("[\"10.0.0.0/16\", \"fd00::/8\", \"192.0.2.7\"]").unwrap();
    assert_eq!(
        networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/16", "fd00::/8", "192.0.2.7/32"]
    );
    for (bad, told) in [
        ("\"10.0.0.1/16\"", "write \"10.0.0.0/16\""),
        ("\"10.0.0.0/33\"", "is not a network"),
        ("\"balancer.example\"", "is not a network"),
        ("[7]", "expected a string in quotes"),
    ] {
        let report = from(bad).unwrap_err().to_string();
        assert!(report.contains(told), "{report}");
    }
}

#[test]
fn oauthbearer_needs_an_issuer_to_send_people_to_and_tls() {
    let auth = |more: &[(&str, &str)]| {
        let text = with(&[&[("auth", "auth = \"oauthbearer\"")], more].concat());
        read(&text).map(|config| config.listeners[0].auth.clone())
    };
    let Ok(ListenAuth::OAuthBearer { issuer, scope }) = auth(&[]) else { panic!("not oauthbearer") };
    assert_eq!((issuer.as_str(), scope.as_str()), ("https://acme.okta.com/oauth2/default", "openid"));
    auth(&[("oauth_scope", "oauth_scope = \"openid api://db/.default\"")]).unwrap();
    auth(&[("oauth_issuer", "oauth_issuer = \"okta\"")]).unwrap();
    for (key, line, told) in [
        ("oauth_issuer", "oauth_issuer = \"entra\"", "there is no [[issuer]] with the name \"entra\""),
        ("oauth_scope", "oauth_scope = \"\"", "one space between two"),
        ("oauth_scope", "oauth_scope = \"a  b\"", "one space between two"),
        ("oauth_scope", "oauth_scope = 'a\"b'", "one space between two"),
        ("plaintext_from_loopback", "plaintext_from_loopback = true", "requires TLS for every login"),
    ] {
        let report = auth(&[(key, line)]).unwrap_err().to_string();
        assert!(report.contains(told) && report.ends_with("\n1 problem"), "{report}");
    }
    for key in ["oauth_issuer", "oauth_scope"] {
        let report = problem(&[(key, &format!("{key} = \"okta\""))]);
        assert!(report.contains("this needs auth = \"oauthbearer\""), "{report}");
    }
    let url = "https://acme.okta.com/oauth2/default";
    let long = |length: usize| {
        auth(&[("oauth_scope", &format!("oauth_scope = \"{}\"", "x".repeat(length - url.len())))])
    };
    long(1_800).unwrap();
    assert!(long(1_801).unwrap_err().to_string().contains("more than 1800 bytes"));
    let second = "[[issuer]]\nname = \"entra\"\nurl = \"https://b.example\"\naudience = \"x\"\n";
    let two = with(&[("auth", "auth = \"oauthbearer\"")]).replacen(
        "\n[[issuer]]",
        &format!("\n{second}[[issuer]]"),
        1,
    );
    let report = read(&two).unwrap_err().to_string();
    assert!(report.contains("listen.oauth_issuer: this key is required"), "{report}");
}
