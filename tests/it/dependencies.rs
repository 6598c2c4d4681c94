//! The lock file: crates with known faults, and crates that must not be in the tree.

use std::fs;

use crate::architecture::root;

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
        ("time", (0, 3, 47)),
    ] {
        let found = versions(name);
        assert!(!found.is_empty() && found.iter().all(|version| *version >= least), "{name}: {found:?}");
    }
    for (name, least) in [("h2", (0, 4, 16)), ("ring", (0, 17, 12))] {
        assert!(versions(name).iter().all(|version| *version >= least), "{name}: {:?}", versions(name));
    }
    // ring stands in the lock file for a feature that nobody turns on; deny.toml keeps it out of the build.
    for name in ["openssl", "openssl-sys", "native-tls", "rsa", "reqwest"] {
        assert!(versions(name).is_empty(), "{name} is in the tree");
    }
}
