//! The files around the binary, as far as they can be checked without the programs that read them.

use std::fs;
use std::path::Path;

use pgpassport::config::Config;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_images_are_built_in_stages_and_run_as_nobody() {
    let dockerfile = read("Dockerfile");
    let stages: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert!(stages.len() >= 2, "not a multi-stage build: {stages:?}");
    let users: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("USER ")).collect();
    assert_eq!(users, ["USER 65532:65532"; 2]);
    assert!(dockerfile.contains("cargo build --locked"), "the build must use the lock file");
    for target in ["AS stand-ins", "AS pgpassport"] {
        assert!(stages.iter().any(|stage| stage.ends_with(target)), "{target}");
    }
}

#[test]
fn the_compose_file_configures_the_proxy_as_the_proxy_wants_it() {
    let compose: serde_json::Value = serde_saphyr::from_str(&read("docker-compose.yml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>().len(), 3);
    let config = compose["configs"]["proxy"]["content"].as_str().unwrap();
    let config = Config::from_toml(config, "proxy.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let command = services["stand-ins"]["command"].to_string();
    assert!(command.contains(&format!("--issuer-url={}", config.issuers[0].issuer.as_str())), "{command}");
    let sts = config.clusters[0].sts_endpoint_url.clone().unwrap();
    assert!(command.contains(&format!("--sts-addr=127.0.0.1:{}", sts.port().unwrap())), "{command}");
    for port in services["stand-ins"]["ports"].as_array().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "published to the world: {port}");
    }
}

#[test]
fn the_unit_is_sandboxed_and_outlives_the_drain() {
    let unit = read("packaging/pgpassport.service");
    let value = |key: &str| {
        let line =
            unit.lines().find(|line| line.starts_with(&format!("{key}="))).unwrap_or_else(|| panic!("{key}"));
        line.split_once('=').unwrap().1.to_owned()
    };
    assert_eq!(value("Type"), "notify");
    assert!(value("ExecReload").contains("pgpassport"));
    assert_eq!((value("CapabilityBoundingSet").as_str(), value("NoNewPrivileges").as_str()), ("", "yes"));
    assert!(value("IPAddressDeny").contains("169.254.169.254"), "instance credentials are out of reach");
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > 30 + 5, "the default drain and the goodbye");
    assert_eq!(value("RestartPreventExitStatus"), "78");
}
