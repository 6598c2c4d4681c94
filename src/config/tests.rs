//! The configuration as people write it, rightly and wrongly.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::problems::ConfigProblems;

pub(super) const REFERENCE: &str = include_str!("../../proxy.toml");

pub(super) fn read(text: &str) -> Result<Config, ConfigProblems> {
    Config::from_toml(text, "/etc/pgpassport/proxy.toml")
}

/// The reference with the lines of `keys` put in place of those that have the same key, commented or not.
pub(super) fn with(changes: &[(&str, &str)]) -> String {
    let mut text = REFERENCE.to_owned();
    for (key, line) in changes {
        let old = text
            .lines()
            .find(|l| l.trim_start_matches("# ").starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("proxy.toml does not mention {key}"))
            .to_owned();
        text = text.replacen(&old, line, 1);
    }
    text
}

pub(super) fn problem(changes: &[(&str, &str)]) -> String {
    let problems = read(&with(changes)).unwrap_err();
    assert_eq!(problems.list.len(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn the_reference_is_a_working_configuration() {
    let config = read(REFERENCE).unwrap();
    assert_eq!(config.listeners[0].addr.to_string(), "0.0.0.0:5432");
    assert_eq!(config.clusters[0].endpoint.port(), 5432);
    assert_eq!(config.clusters[0].user.all()[0].claim, ["sub"]);
}

/// Uncommenting a line must change nothing: it shows the default. Keys whose default is "not set" are named here.
#[test]
fn every_commented_line_of_the_reference_is_the_default() {
    let examples = "name issuer issuers client_tls_ca_file jwks_url ca_file hostaddr resource_id secret_file \
        sts_endpoint_url sts_ca_file regex prefix require user_claim listeners server_names databases \
        database_aliases default_database allow view proxy proxy_credentials_file no_proxy tls_cert_file tls_key_file client_file \
        endpoint headers_file url client_id client_secret_file audience scopes token databases listener mysql_proxy \
        mysql_listener";
    let examples: Vec<_> = examples.split(' ').collect();
    // Keys that mean something beside another one only.
    let needing = [
        ("client_tls_certificate", "# client_tls_ca_file = ", "client_tls_ca_file = "),
        ("listeners", "# name = ", "name = "),
        ("headers_file", "# endpoint = ", "endpoint = "),
        ("sample_ratio", "# endpoint = ", "endpoint = "),
        ("ca_file", "# endpoint = ", "endpoint = "),
        ("proxy_credentials_file", "# proxy = ", "proxy = "),
        ("no_proxy", "# proxy = ", "proxy = "),
        ("oauth_issuer", "# auth = \"password\"", "auth = \"oauthbearer\""),
        ("oauth_scope", "# auth = \"password\"", "auth = \"oauthbearer\""),
    ];
    // Without the list of keys, which says whether a key is in the file.
    let shown = |text: &str| {
        let config = read(text).unwrap_or_else(|problems| panic!("{problems}"));
        format!("{:?}", Config { keys: [].into(), ..config })
    };
    let mut tried = 0;
    for line in REFERENCE.lines().filter(|line| line.starts_with("# ") && line.contains(" = ")) {
        let Some((key, _)) = line[2..].split_once(" = ") else { continue };
        if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue; // a sentence with an equals sign in it
        }
        tried += 1;
        let of_others =
            ["tenants", "server_version", "socket_mode", "socket_group", "peer_users", "peer_groups"];
        if of_others.contains(&key) || line.contains("0:443") {
            continue; // goes with other keys, which do not go without it
        }
        let base = match needing.iter().find(|(needing, ..)| *needing == key) {
            Some((_, comment, needed)) => {
                REFERENCE.replacen(&format!("\n{comment}"), &format!("\n{needed}"), 1)
            }
            None => REFERENCE.to_owned(),
        };
        let changed = shown(&base.replacen(line, &line[2..], 1));
        let example = examples.contains(&key) || line.contains(":9127"); // admin.addr; listen.addr has a default
        assert_eq!(changed == shown(&base), !example, "{line}");
    }
    assert_eq!(tried, 125, "commented keys of proxy.toml");
}

/// The reader lists the keys it knows when it meets one it does not; each of them must be in the reference.
#[test]
fn every_known_key_is_in_the_reference() {
    let mut known = Vec::new();
    let headers = [
        "[listen]",
        "[limits]",
        "[session]",
        "[pool]",
        "[admin]",
        "[profiles]",
        "[sign_in]",
        "[egress]",
        "[log]",
        "[reload]",
        "[audit]",
        "[traces]",
        "[cancel]",
        "[denied]",
        "[[issuer]]",
        "[[cluster]]",
        "[cluster.user]",
    ];
    for header in headers {
        let text =
            REFERENCE.replacen(&format!("\n{header}\n"), &format!("\n{header}\nqqqqqqqqqqqqqqqq = 1\n"), 1);
        let problems = read(&text).unwrap_err();
        let list = problems.list[0].text.split("known here: ").nth(1).unwrap_or_else(|| panic!("{problems}"));
        known.extend(list.split(", ").map(str::to_owned));
    }
    let group = format!("{REFERENCE}\n[[cluster.group]]\nqqqqqqqqqqqqqqqq = 1\n");
    let problems = read(&group).unwrap_err().to_string();
    let list = problems.lines().find_map(|line| line.split("known here: ").nth(1)).unwrap();
    known.extend(list.split(", ").map(str::to_owned));
    assert!(known.len() > 40, "{known:?}");
    for key in known.iter().filter(|key| !["user", "group"].contains(&key.as_str())) {
        let mentioned = REFERENCE
            .lines()
            .any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = ")));
        assert!(mentioned, "proxy.toml does not mention {key}");
    }
}

/// Fixtures: `tests/config/valid/*.toml` are taken; the first comment lines of `invalid/*.toml` say how the
/// report must begin, line by line.
#[test]
fn fixtures_are_judged_as_they_say() {
    let folder = |name: &str| -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let (valid, invalid) = (folder("valid"), folder("invalid"));
    assert_eq!((valid.len(), invalid.len()), (4, 5));
    for file in valid {
        let text = fs::read_to_string(&file).unwrap();
        Config::from_toml(&text, &file).unwrap_or_else(|problems| panic!("{problems}"));
    }
    for file in invalid {
        let text = fs::read_to_string(&file).unwrap();
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect ")).collect();
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        let problems = Config::from_toml(&text, "f.toml").unwrap_err();
        let found: Vec<String> =
            problems.list.iter().map(|p| format!("{}:{} {}: {}", p.line, p.column, p.key, p.text)).collect();
        assert_eq!(found.len(), expected.len(), "{}: {problems}", file.display());
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{}:\n  {found}\n  {expected}", file.display());
        }
    }
}

#[test]
fn a_problem_is_shown_with_its_line() {
    let report = problem(&[("region", "region = \"eu\"")]);
    let line = REFERENCE.lines().position(|line| line.starts_with("region = ")).unwrap() + 1;
    let expected = format!(
        "/etc/pgpassport/proxy.toml:{line}:10: cluster[0].region: \"eu\" is not a Region; \
         write it as in \"eu-central-1\"\n  {line} | region = \"eu\"\n"
    );
    assert!(report.starts_with(&expected), "{report}");
    assert!(report.contains("^^^^\n1 problem"), "{report}");
}

#[test]
fn limits_of_values_hold_at_the_limit_and_past_it() {
    for (key, good, bad) in [
        ("leeway", "\"300s\"", "\"301s\""),
        ("max_token_lifetime", "\"7d\"", "\"7d 1s\""),
        ("jwks_timeout", "\"1s\"", "\"999ms\""),
        ("jwks_max_bytes", "16777216", "16777217"),
        ("jwks_refetch_interval", "\"1s\"", "\"999ms\""),
        ("max_token_lifetime", "\"60s\"", "\"59s\""),
        ("jwks_refresh", "\"30s\"", "\"29s\""),
        ("jwks_refresh", "\"24h\"", "\"24h 1s\""),
        ("jwks_max_stale", "\"24h\"", "\"24h 1s\""),
        ("jwks_max_stale", "\"60s\"", "\"59s\""),
        ("sts_duration", "\"15m\"", "\"899s\""),
        ("sts_duration", "\"12h\"", "\"12h 1s\""),
        ("max_client_conn", "2", "1"),
        ("max_logins", "999", "1000"),
        ("max_client_conn", "1000000", "1000001"),
        ("client_login_timeout", "\"1s\"", "\"999ms\""),
        ("client_login_timeout", "\"1m\"", "\"61s\""),
        ("server_connect_timeout", "\"1s\"", "\"999ms\""),
        ("server_connect_timeout", "\"1m\"", "\"61s\""),
        ("login_timeout", "\"1h\"", "\"1h 1s\""),
        ("shutdown_timeout", "\"0s\"", "\"24h 1s\""),
        ("shutdown_timeout", "\"24h\"", "\"24h 1s\""),
        ("client_idle_timeout", "\"24days\"", "\"25days\""),
        ("on_token_expiry", "\"close_when_idle\"", "\"drain\""),
    ] {
        read(&with(&[(key, &format!("{key} = {good}"))])).unwrap_or_else(|problems| panic!("{problems}"));
        let report = problem(&[(key, &format!("{key} = {bad}"))]);
        assert!(report.contains(key), "{report}");
    }
}

/// Neither strangers nor one person can take every place, however many places there are.
#[test]
fn c7_limits_that_are_not_set_follow_the_most_clients() {
    for (clients, logins, user) in [(2, 1, 1), (3, 2, 1), (200, 150, 100), (1_000, 750, 500)] {
        let config = read(&with(&[("max_client_conn", &format!("max_client_conn = {clients}"))])).unwrap();
        let limits = config.limits;
        assert_eq!(
            (limits.max_logins, limits.max_user_client_connections),
            (logins, Some(user)),
            "{clients}"
        );
    }
    let any = read(&with(&[("max_user_client_connections", "max_user_client_connections = 0")])).unwrap();
    assert_eq!(any.limits.max_user_client_connections, None);
    let both = [("max_client_conn", "max_client_conn = 300"), ("max_logins", "max_logins = 300")];
    let report = problem(&both);
    let line = with(&both).lines().position(|line| line == "max_logins = 300").unwrap() + 1;
    for text in
        [&format!("proxy.toml:{line}:14: limits.max_logins: "), "max_client_conn (300)", "at most 299"]
    {
        assert!(report.contains(text), "{report}");
    }
}

#[test]
fn rules_and_their_values_hold_up_to_256() {
    let rules = |count: usize| {
        let all = vec!["{ claim = \"groups\", any = \"a\" }"; count].join(", ");
        with(&[("require", &format!("require = [{all}]"))])
    };
    let values = |any: usize, all: usize| {
        let list = |count: usize| vec!["\"a\""; count].join(", ");
        let rule =
            format!("require = {{ claim = \"groups\", any = [{}], all = [{}] }}", list(any), list(all));
        with(&[("require", &rule)])
    };
    for good in [rules(1), rules(256), values(256, 0), values(1, 255), values(0, 1)] {
        read(&good).unwrap_or_else(|problems| panic!("{problems}"));
    }
    for (bad, text) in [
        (rules(0), "write 1 to 256 rules"),
        (rules(257), "write 1 to 256 rules"),
        (values(0, 0), "write 1 to 256 values"),
        (values(257, 0), "write 1 to 256 values"),
        (values(1, 256), "write 1 to 256 values"),
    ] {
        let problems = read(&bad).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        assert!(problems.list[0].text.contains(text), "{problems}");
    }
}

#[test]
fn times_need_units_and_types_are_told() {
    assert!(
        problem(&[("leeway", "leeway = 30")])
            .contains("expected a duration such as \"30s\", \"5m\" or \"1h 30m\", found the integer 30")
    );
    assert!(problem(&[("leeway", "leeway = \"30\"")]).contains("or \"1h 30m\", found \"30\""));
    assert!(
        problem(&[("lowercase", "lowercase = \"yes\"")])
            .contains("expected true or false, found the string \"yes\"")
    );
    assert!(problem(&[("pin", "pin = \"tag\"")]).contains("\"session-tag\""));
    assert!(problem(&[("name", "name = 7")]).contains("expected a string in quotes, found the integer 7"));
}

#[test]
fn a_slip_of_the_pen_is_guessed() {
    let report = problem(&[("lowercase", "lower_case = true")]);
    assert!(report.contains("did you mean lowercase?"), "{report}");
}

#[test]
fn tokens_travel_over_https_only() {
    let issuer = |url: &str| with(&[("url", &format!("url = \"{url}\""))]);
    for bad in [
        "http://idp.example",
        "http://127.0.0.1:9",
        "ftp://idp.example",
        "https://a:b@idp.example",
        "https://idp.example?x=1",
        "https://idp.example#x",
        "idp.example",
    ] {
        assert!(read(&issuer(bad)).is_err(), "{bad}");
    }
    let local = issuer("http://127.0.0.1:9").replace("# private_network = false", "private_network = true");
    read(&local).unwrap();
    let private = issuer("http://10.0.0.1").replace("# private_network = false", "private_network = true");
    assert!(read(&private).is_err());
    let slash = read(&issuer("https://tenant.auth0.com/")).unwrap();
    assert_eq!(slash.issuers[0].issuer.as_str(), "https://tenant.auth0.com/");
}

#[test]
fn the_region_is_compared_with_the_endpoint() {
    let at = |endpoint: &str, region: &str| {
        read(&with(&[
            ("endpoint", &format!("endpoint = \"{endpoint}\"")),
            ("region", &format!("region = \"{region}\"")),
        ]))
    };
    let report = at("x.cluster-abc.eu-west-1.rds.amazonaws.com", "eu-central-1").unwrap_err().to_string();
    assert!(report.contains("the endpoint is in eu-west-1"), "{report}");
    let report = at("x.cluster-abc.rds.cn-north-1.amazonaws.com.cn", "eu-central-1").unwrap_err().to_string();
    assert!(report.contains("the endpoint is in cn-north-1"), "{report}");
    at("x.global-abc.global.rds.amazonaws.com", "eu-central-1").unwrap();
    at("db.internal", "eu-central-1").unwrap();
    let report = at("10.0.0.7:5432", "eu-central-1").unwrap_err().to_string();
    assert!(report.contains("hostaddr"), "{report}");
}

#[test]
fn hostaddr_is_one_address_or_a_list_in_order() {
    let hostaddr = |value: &str| {
        let read = read(&with(&[("hostaddr", &format!("hostaddr = {value}"))]));
        read.map(|config| config.clusters[0].hostaddr.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(hostaddr("\"10.0.0.7\"").unwrap(), ["10.0.0.7:5432"]);
    assert_eq!(hostaddr("[\"10.0.0.9:6432\", \"::1\"]").unwrap(), ["10.0.0.9:6432", "[::1]:5432"]);
    let list = |count: usize| format!("[{}]", vec!["\"10.0.0.7\""; count].join(", "));
    assert_eq!(hostaddr(&list(8)).unwrap().len(), 8);
    for bad in [list(0), list(9)] {
        assert!(hostaddr(&bad).unwrap_err().to_string().contains("one to 8 addresses"), "{bad}");
    }
    assert!(hostaddr("[\"10.0.0.7\", \"db\"]").unwrap_err().to_string().contains("\"db\" is not an IP"));
}
