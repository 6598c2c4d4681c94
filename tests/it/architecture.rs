//! The rules of the house, read from the sources: who may use whom, who may spend secrets, how long a file
//! may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `src`, as (path below `src`, text without its tests).
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
                if !name.contains("test") {
                    let text = fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\n").next().unwrap().to_owned();
                    found.push((name, code));
                }
            }
        }
    }
    assert!(found.len() > 30, "only {} files found", found.len());
    found
}

/// The part of the house a file belongs to.
fn part(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Modules of ours that a file names: `crate::x::…`.
fn uses(code: &str) -> Vec<&str> {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .flat_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(|item| item.trim().split("::").next().unwrap()).collect(),
                None => vec![&rest[..end]],
            }
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn nobody_uses_what_the_house_forbids() {
    let leaves = ["secret", "names", "refusal", "clock"];
    let allowed: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("secret", vec![]),
        ("names", vec![]),
        ("clock", vec![]),
        ("refusal", vec!["names"]),
        ("wire", leaves.to_vec()),
        ("config", vec!["names", "secret", "config"]),
        ("client", [&leaves[..], &["wire", "client"]].concat()),
        ("auth", [&leaves[..], &["auth", "config"]].concat()),
        ("aws", [&leaves[..], &["aws", "auth", "config"]].concat()),
        ("upstream", [&leaves[..], &["wire", "client", "auth", "config", "upstream"]].concat()),
        ("relay", [&leaves[..], &["wire"]].concat()),
        ("cancel", vec!["names"]),
        ("telemetry", vec!["names", "config", "telemetry"]),
        ("lifecycle", vec![]),
    ]);
    let mut checked = 0;
    for (file, code) in sources() {
        let Some(may) = allowed.get(part(&file)) else { continue };
        checked += 1;
        for used in uses(&code) {
            assert!(may.contains(&used) || used == part(&file), "src/{file} must not use {used}");
        }
    }
    assert!(checked > 25, "only {checked} files were checked");
}

#[test]
fn steps_take_their_own_settings_and_never_the_whole_config() {
    for (file, code) in sources() {
        if matches!(part(&file), "app" | "config" | "commands" | "main") {
            continue;
        }
        for line in code.lines().filter(|line| line.contains("config::")) {
            assert!(
                !line.contains("config::Config") && !line.contains("{Config") && !line.contains(", Config"),
                "src/{file} reads the whole configuration: {line}"
            );
        }
    }
}

#[test]
fn from_other_parts_only_types_are_used() {
    // The upstream knows what was granted and what the client asked for, and nothing of how.
    for (file, code) in sources() {
        let forbidden: &[&str] = match part(&file) {
            "upstream" => {
                &["auth::verify", "auth::keys", "client::negotiate", "client::password", "crate::aws"]
            }
            "aws" => &["auth::verify", "auth::keys"],
            "session" => &["crate::config", "pgwire", "aws_sdk"],
            _ => &[],
        };
        for name in forbidden {
            assert!(!code.contains(name), "src/{file} must not name {name}");
        }
    }
}

#[test]
fn one_place_for_each_power() {
    let places = |needle: &str| -> Vec<String> {
        sources().into_iter().filter(|(_, code)| code.contains(needle)).map(|(file, _)| file).collect()
    };
    assert_eq!(places("SystemTime::now"), ["clock.rs"]);
    assert_eq!(places("process::exit"), Vec::<String>::new(), "main returns an exit code instead");
    assert_eq!(places("ErrorResponse::new"), ["wire/error_response.rs"]);
    for (file, code) in sources() {
        let imports = code.lines().any(|line| line.starts_with("use pgwire"));
        assert!(!imports || ["wire", "client", "upstream"].contains(&part(&file)), "src/{file} names pgwire");
        assert!(!code.contains("static mut") && !code.contains("lazy_static"), "src/{file} has global state");
    }
}

#[test]
fn l2_secrets_are_read_only_where_they_are_spent() {
    let mut readers: Vec<String> = sources()
        .into_iter()
        .filter(|(file, code)| file != "secret.rs" && code.contains(".expose()"))
        .map(|(file, _)| file)
        .collect();
    readers.sort();
    assert_eq!(
        readers,
        ["auth/verify.rs", "aws/credentials.rs", "aws/iam_token.rs", "aws/sts.rs", "upstream/login.rs"]
    );
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut too_long = Vec::new();
    for (file, _) in sources() {
        let text = fs::read_to_string(root().join("src").join(&file)).unwrap();
        assert!(text.starts_with("//! "), "src/{file} does not begin by saying what it is for");
        if text.lines().count() > 400 {
            too_long.push(file);
        }
    }
    assert!(too_long.is_empty(), "over 400 lines: {too_long:?}");
}

#[test]
fn dependencies_are_new_enough_and_the_forbidden_are_absent() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let versions = |name: &str| -> Vec<(u64, u64, u64)> {
        lock.split("[[package]]")
            .filter(|package| package.contains(&format!("name = \"{name}\"\n")))
            .map(|package| {
                let version = package.split("version = \"").nth(1).unwrap().split('"').next().unwrap();
                let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or(0))
            })
            .collect()
    };
    for (name, least) in [
        ("jsonwebtoken", (10, 3, 0)),
        ("tokio-postgres", (0, 7, 18)),
        ("postgres-protocol", (0, 6, 12)),
        ("bytes", (1, 11, 1)),
        ("rustls", (0, 23, 18)),
        ("rustls-webpki", (0, 103, 13)),
        ("tracing-subscriber", (0, 3, 20)),
    ] {
        let found = versions(name);
        assert!(!found.is_empty() && found.iter().all(|version| *version >= least), "{name}: {found:?}");
    }
    // ring stands in the lock file for a feature that nobody turns on; deny.toml keeps it out of the build.
    for name in ["openssl", "openssl-sys", "native-tls", "rsa", "reqwest"] {
        assert!(versions(name).is_empty(), "{name} is in the tree");
    }
}
