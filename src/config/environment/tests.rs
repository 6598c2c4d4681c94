//! Variables of the environment over the reference configuration.

use std::path::Path;

use super::*;
use crate::config::problems::ConfigProblems;
use crate::config::{Config, TrustAnchors};

const REFERENCE: &str = include_str!("../../../proxy.toml");

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::of(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
    Config::from_toml_and(text, "/etc/pgpassport/proxy.toml", &environment(variables))
}

#[test]
fn a_variable_sets_its_key_over_the_file() {
    let config = read(
        REFERENCE,
        &[
            ("PGPASSPORT_LISTEN__ADDR", "127.0.0.1:6000"),
            ("PGPASSPORT_LIMITS__LOGIN_TIMEOUT", "50s"),
            ("PGPASSPORT_LIMITS__MAX_CLIENT_CONN", " 77 "),
            ("PGPASSPORT_ISSUER__0__AUDIENCE", "[\"a\", \"b\"]"),
            ("PGPASSPORT_CLUSTER__ORDERS__CA_FILE", "rds"),
            ("PGPASSPORT_CLUSTER__0__USER__CLAIM", "upn"),
            ("PGPASSPORT_CLUSTER__0__REGION", ""),
            ("PGPASSPORT_LOG_LEVEL", "debug"),
            ("OTHER__KEY", "x"),
        ],
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.listeners[0].addr.to_string(), "127.0.0.1:6000");
    assert_eq!(config.limits.login_timeout.as_secs(), 50);
    assert_eq!(config.limits.max_client_conn, 77);
    assert_eq!(config.clusters[0].authorities, TrustAnchors::Rds);
    let sources: Vec<_> = config.sources.iter().map(|one| format!("{} {}", one.key, one.variable)).collect();
    assert_eq!(
        sources,
        [
            "cluster[0].user.claim PGPASSPORT_CLUSTER__0__USER__CLAIM",
            "cluster[0].ca_file PGPASSPORT_CLUSTER__ORDERS__CA_FILE",
            "issuer[0].audience PGPASSPORT_ISSUER__0__AUDIENCE",
            "limits.login_timeout PGPASSPORT_LIMITS__LOGIN_TIMEOUT",
            "limits.max_client_conn PGPASSPORT_LIMITS__MAX_CLIENT_CONN",
            "listen.addr PGPASSPORT_LISTEN__ADDR",
        ]
    );
}

/// Every key of a configuration by variables alone; numbers are taken in their order.
#[test]
fn a_configuration_needs_no_file() {
    let mut variables = vec![
        ("PGPASSPORT_LISTEN__ADDR", "0.0.0.0:5432"),
        ("PGPASSPORT_LISTEN__TLS_CERT_FILE", "/run/tls/tls.crt"),
        ("PGPASSPORT_LISTEN__TLS_KEY_FILE", "credential:server.key"),
        ("PGPASSPORT_ISSUER__0__NAME", "okta"),
        ("PGPASSPORT_ISSUER__0__URL", "https://acme.okta.com/oauth2/default"),
        ("PGPASSPORT_ISSUER__0__AUDIENCE", "api://aurora"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/pgpassport.service"),
    ];
    let names: Vec<String> = (0..11).map(|n| format!("PGPASSPORT_CLUSTER__{n}__")).collect();
    let cluster: Vec<_> = names
        .iter()
        .enumerate()
        .flat_map(|(n, prefix)| {
            [
                ("NAME", format!("c{n}")),
                ("ENDPOINT", format!("c{n}.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com:5432")),
                ("REGION", "eu-central-1".to_owned()),
                ("ROLE_ARN", "arn:aws:iam::123456789012:role/pgpassport".to_owned()),
                ("CA_FILE", "rds".to_owned()),
                ("DATABASES", format!("db{n}")),
            ]
            .map(|(key, value)| (format!("{prefix}{key}"), value))
        })
        .collect();
    variables.extend(cluster.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let config = read("", &variables).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.clusters.len(), 11);
    assert_eq!(config.clusters[10].name, "c10");
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.key_file, Path::new("/run/credentials/pgpassport.service/server.key"));
    assert_eq!(config.issuers[0].name, "okta");
}

#[test]
fn a_problem_names_the_variable_and_shows_its_value() {
    let problems = |name: &str, value: &str| read(REFERENCE, &[(name, value)]).unwrap_err().to_string();
    let text = problems("PGPASSPORT_LIMITS__LOGIN_TIMEOUT", "10");
    assert!(
        text.starts_with("PGPASSPORT_LIMITS__LOGIN_TIMEOUT: limits.login_timeout: expected a duration"),
        "{text}"
    );
    assert!(
        text.contains("PGPASSPORT_LIMITS__LOGIN_TIMEOUT = 10\n") && text.ends_with("1 problem"),
        "{text}"
    );
    for (name, value, said) in [
        ("PGPASSPORT_LIMITS__LOGN_TIMEOUT", "10s", "did you mean login_timeout?"),
        ("PGPASSPORT_CLUSTER__2__NAME", "x", "leaves out a number; the next one is 1"),
        ("PGPASSPORT_CLUSTER__SALES__NAME", "x", "no entry of cluster has the name sales"),
        ("PGPASSPORT_LISTEN__TLS_KEY_FILE__X", "x", "listen.tls_key_file is no table"),
        ("PGPASSPORT_LISTEN____X", "x", "has an empty part"),
        ("PGPASSPORT_CLUSTER__0__REGION", "\"a\\nb\"", "is not a Region"),
        ("PGPASSPORT_CLUSTER__0__REGION", "a\nregion = \"eu-central-1\"", "is not a Region"),
        ("PGPASSPORT_CLUSTER__0__NAME", "1", "found the integer 1"),
    ] {
        let text = problems(name, value);
        assert!(text.starts_with(&format!("{name}: ")) && text.contains(said), "{name}: {text}");
    }
    let text = read("", &[("PGPASSPORT_LISTEN__TLS_KEY_FILE", "credential:key")]).unwrap_err().to_string();
    assert!(text.contains("$CREDENTIALS_DIRECTORY is not set"), "{text}");
    let outside =
        [("PGPASSPORT_LISTEN__TLS_KEY_FILE", "credential:../key"), ("CREDENTIALS_DIRECTORY", "/run/c")];
    let text = read("", &outside).unwrap_err().to_string();
    assert!(text.contains("is not the name of a credential"), "{text}");
}

#[test]
fn values_are_toml_where_they_can_be_and_strings_else() {
    for (value, toml) in [
        ("10", "10"),
        ("true", "true"),
        ("[\"a\"]", "[\"a\"]"),
        ("{ a = 1 }", "{ a = 1 }"),
        ("\"10\"", "\"10\""),
        ("10s", "\"10s\""),
        ("1.5", "\"1.5\""),
        ("2026-01-01", "\"2026-01-01\""),
        ("inf", "\"inf\""),
        ("[\"a#b\"]", "[\"a#b\"]"),
        ("a # b", "\"a # b\""),
        ("1 # b", "\"1 # b\""),
        ("1\ny = 2", "\"1\\u000Ay = 2\""),
        ("c:\\x\"", "\"c:\\\\x\\\"\""),
    ] {
        assert_eq!(in_toml(value), toml, "{value}");
        let line = format!("x = {}", in_toml(value));
        assert!(DeTable::parse(&line).is_ok(), "{line}");
    }
}
