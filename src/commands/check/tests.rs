//! Configurations with problems in their text and in their files.

use super::*;

fn world(mode: u32) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("server.crt", &issued.cert.pem());
    file("rds-global-bundle.pem", &issued.cert.pem());
    file("server.key", &issued.signing_key.serialize_pem());
    let key = folder.path().join("server.key");
    fs::set_permissions(key, fs::Permissions::from_mode(mode)).unwrap();
    let reference = include_str!("../../../proxy.toml").replace("/etc/pgpassport/", "");
    file("proxy.toml", &reference);
    let path = folder.path().join("proxy.toml");
    (folder, path)
}

#[test]
fn the_reference_configuration_is_a_good_one() {
    let (_folder, path) = world(0o600);
    let config = load(&path).unwrap();
    let summary = summary(&config);
    assert!(summary.contains("no problems found") && summary.contains("session policy"), "{summary}");
}

#[test]
fn an_alias_is_a_warning_and_no_problem() {
    let (_folder, path) = world(0o600);
    let text = fs::read_to_string(&path).unwrap();
    let host = "orders.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
    fs::write(&path, text.replace(host, "orders.acme.com")).unwrap();
    let summary = summary(&load(&path).unwrap());
    assert!(summary.contains("no problems found"), "{summary}");
    assert!(summary.contains("\nwarning: ") && summary.contains("CNAME"), "{summary}");
}

#[test]
fn a_proxy_in_the_environment_is_a_warning_unless_there_is_one_in_the_file() {
    let mut egress = EgressSettings::default();
    let warned = |egress: &EgressSettings, set: &str| unread_proxy(egress, |name| name == set);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let text = warned(&egress, name).unwrap();
        assert!(text.contains(name) && text.contains("[egress] proxy"), "{text}");
    }
    assert_eq!(warned(&egress, "HTTP_PROXY"), None);
    egress.proxy = Some("http://proxy:3128".parse().unwrap());
    assert_eq!(warned(&egress, "HTTPS_PROXY"), None);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (_folder, path) = world(0o604);
    let problems = load(&path).unwrap_err();
    assert!(problems.contains("listen.tls_key_file") && problems.contains("chmod 0600"), "{problems}");
}

#[test]
fn a_cancel_secret_is_looked_at_too() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = world(0o600);
    let reference = fs::read_to_string(&path).unwrap().replace("# secret_file", "secret_file");
    fs::write(&path, reference).unwrap();
    let problems = load(&path).unwrap_err();
    assert!(problems.contains("cancel.secret_file") && problems.contains("does not exist"), "{problems}");
    let secret = folder.path().join("cancel.secret");
    fs::write(&secret, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
    let problems = load(&path).unwrap_err();
    assert!(problems.contains("cancel.secret_file") && problems.contains("chmod 0600"), "{problems}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    load(&path).unwrap();
}

#[test]
fn all_missing_files_are_named_at_once() {
    let (folder, path) = world(0o600);
    fs::remove_file(folder.path().join("server.crt")).unwrap();
    fs::remove_file(folder.path().join("rds-global-bundle.pem")).unwrap();
    let problems = load(&path).unwrap_err();
    assert!(problems.contains("server.crt") && problems.contains("cluster[0].ca_file"), "{problems}");
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_missing() {
    let problems = load(Path::new("/nowhere/proxy.toml")).unwrap_err();
    assert!(problems.contains("/nowhere/proxy.toml") && problems.contains("--config"), "{problems}");
}

/// Problems of the text and of the files are in one list, each with its line and, where there is one, its remedy.
#[test]
fn files_are_looked_at_in_the_run_that_finds_problems_of_the_text() {
    let (folder, path) = world(0o644);
    fs::remove_file(folder.path().join("server.crt")).unwrap();
    fs::remove_file(folder.path().join("rds-global-bundle.pem")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen("\n[limits]\n", "\n[limits]\nlogin_timeout = 10\n", 1);
    fs::write(&path, &text).unwrap();
    let line_of = |start: &str| text.lines().position(|line| line.starts_with(start)).unwrap() + 1;
    let Err(CheckError::Problems(problems)) = examine(&path) else { panic!("no problems") };
    let found: Vec<_> = problems.list.iter().map(|one| (one.line, one.key.as_str())).collect();
    let expected = [
        (line_of("tls_cert_file"), "listen.tls_cert_file"),
        (line_of("tls_key_file"), "listen.tls_key_file"),
        (line_of("login_timeout"), "limits.login_timeout"),
        (line_of("ca_file"), "cluster[0].ca_file"),
    ];
    assert_eq!(found, expected, "{problems}");
    let text = problems.to_string();
    for said in [
        "server.crt does not exist",
        "in Kubernetes: defaultMode: 0440 and fsGroup",
        "expected a duration such as \"30s\", \"5m\" or \"1h 30m\", found the integer 10",
        "cluster \"orders\": ",
        "the RDS bundle is at https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
        "4 problems",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn programs_get_line_column_key_and_text() {
    let (folder, path) = world(0o600);
    let read = |path: &Path| serde_json::from_str::<serde_json::Value>(&json(path, &examine(path))).unwrap();
    let good = read(&path);
    assert!(good["ok"] == true && good["problems"] == serde_json::json!([]), "{good}");
    fs::remove_file(folder.path().join("server.key")).unwrap();
    let bad = read(&path);
    let problem = &bad["problems"][0];
    assert!(bad["ok"] == false && problem["key"] == "listen.tls_key_file", "{bad}");
    assert!(problem["line"].as_u64() > Some(1) && problem["column"].as_u64() > Some(1), "{bad}");
    assert!(problem["text"].as_str().unwrap().contains("does not exist"), "{bad}");
    let gone = read(&folder.path().join("gone.toml"));
    assert!(gone["ok"] == false && gone["problems"][0]["line"].is_null(), "{gone}");
}

#[test]
fn the_authorities_of_rds_need_no_file_and_are_known_to_be_old() {
    use std::time::Duration;
    let (_folder, path) = world(0o600);
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen("ca_file = \"rds-global-bundle.pem\"", "ca_file = \"rds\"", 1);
    fs::write(&path, &text).unwrap();
    let config = load(&path).unwrap();
    assert_eq!(config.clusters[0].authorities, TrustAnchors::Rds);
    assert!(config.files.iter().all(|file| file.section() != "cluster"), "{:?}", config.files);
    let later = Clock::system().now() + Duration::from_hours(20 * 365 * 24);
    let warnings = old_authorities(&config.clusters, later);
    assert!(warnings.iter().any(|text| text.contains("ship with pgpassport")), "{warnings:?}");
    assert!(crate::net::tls::cluster_config(&TrustAnchors::Rds, None).is_ok());

    fs::write(&path, text.replace("eu-central-1", "us-gov-west-1").replace("arn:aws:", "arn:aws-us-gov:"))
        .unwrap();
    let problems = load(&path).unwrap_err();
    assert!(problems.contains("none for us-gov-west-1"), "{problems}");
}

/// Every kind of file, damaged in each way that its kind can be.
#[test]
fn every_file_is_looked_at() {
    let (folder, path) = world(0o600);
    let reference = fs::read_to_string(&path).unwrap();
    let good = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (crt, other) = (good("server.crt"), rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap());
    let cases: [(&str, &str, &[u8], &str); 7] = [
        ("tls_cert_file", "a.pem", b"x", "no certificate"),
        ("tls_key_file", "b.pem", b"x", "no private key"),
        ("tls_cert_file", "c.pem", &other.cert.pem().into_bytes(), "c.pem"),
        ("ca_file", "d.pem", &crt, ""),
        ("ca_file", "e.pem", b"", "no certificate"),
        ("ca_file", ".", b"", "is a directory"),
        ("ca_file", "f/g.pem", b"", "does not exist"),
    ];
    for (key, name, content, said) in cases {
        let file = folder.path().join(name);
        if !file.is_dir() && !name.contains('/') {
            use std::os::unix::fs::PermissionsExt;
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let line = reference.lines().find(|line| line.starts_with(key)).unwrap();
        fs::write(&path, reference.replacen(line, &format!("{key} = \"{name}\""), 1)).unwrap();
        match load(&path) {
            Ok(_) => assert_eq!(said, "", "{key} = {name}"),
            Err(problems) => {
                assert!(!said.is_empty() && problems.contains(said) && problems.contains(key), "{problems}");
                assert!(problems.ends_with("1 problem"), "{problems}");
            }
        }
    }
}

#[test]
fn users_and_groups_that_the_machine_does_not_have_are_problems_with_their_lines() {
    let (_folder, path) = world(0o600);
    let text = fs::read_to_string(&path).unwrap();
    let socket = "addr = \"unix:/run/pgpassport/.s.PGSQL.5432\"\nsocket_group = \"no-such-owner\"\n\
                  peer_users = [\"root\", \"4711\", \"no-such-user\"]\npeer_groups = \"no-such-group\"\n";
    let text = text
        .replacen("\n[listen]\n", &format!("\n[listen]\n{socket}"), 1)
        .replacen("\ntls_cert_file = \"server.crt\"", "", 1)
        .replacen("\ntls_key_file = \"server.key\"", "", 1);
    let line = |of: &str| 1 + text.lines().position(|line| line.contains(of)).unwrap();
    fs::write(&path, &text).unwrap();
    let report = load(&path).unwrap_err();
    for (name, kind) in [("no-such-owner", "group"), ("no-such-user", "user"), ("no-such-group", "group")] {
        let place = format!("proxy.toml:{}:", line(name));
        let told = |found: &str| found.contains(&place) && found.contains(&format!("no {kind} \"{name}\""));
        assert!(report.lines().any(told), "{name}: {report}");
    }
    assert!(report.ends_with("3 problems") && report.contains("getent passwd"), "{report}");
    // They are found in the same run as problems of keys.
    fs::write(&path, text.replace("[limits]", "[limits]\nunknown = 1")).unwrap();
    let report = load(&path).unwrap_err();
    assert!(report.contains("limits.unknown") && report.ends_with("4 problems"), "{report}");
    // Only a look at this machine finds them.
    read(&path).unwrap_err();
    fs::write(&path, &text).unwrap();
    read(&path).unwrap();
}
