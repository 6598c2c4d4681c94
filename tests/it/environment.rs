//! A configuration from variables of the environment, as the program itself reads it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use crate::world::World;

fn check(world: &World, variables: &BTreeMap<&str, String>, args: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
        .arg("check")
        .args(args)
        .envs(variables)
        .current_dir(world.folder())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_variable_sets_which_key() {
    let world = World::start().await;
    let file = world.config_file().display().to_string();
    let limit = BTreeMap::from([("PGPASSPORT_LIMITS__MAX_CLIENT_CONN", "77".to_owned())]);
    let (code, out, err) = check(&world, &limit, &["--config", &file]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("limits.max_client_conn is from PGPASSPORT_LIMITS__MAX_CLIENT_CONN"), "{out}");
    let (_, out, _) = check(&world, &limit, &["--config", &file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let from = &json["from_environment"]["limits.max_client_conn"];
    assert_eq!(from, "PGPASSPORT_LIMITS__MAX_CLIENT_CONN", "{json}");

    let wrong = BTreeMap::from([("PGPASSPORT_CLUSTER__APP__REGION", "nowhere".to_owned())]);
    let (code, out, err) = check(&world, &wrong, &["--config", &file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!((code, &json["problems"][0]["line"]), (78, &serde_json::Value::Null), "{json}");
    assert_eq!(json["problems"][0]["variable"], "PGPASSPORT_CLUSTER__APP__REGION", "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_file_can_be_a_variable() {
    let world = World::start().await;
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let whole = BTreeMap::from([("PGPASSPORT_CONFIG_TOML", text)]);
    let (code, out, err) = check(&world, &whole, &["--config", "/nowhere/proxy.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("PGPASSPORT_CONFIG_TOML: no problems found"), "{out}");
    let bad = BTreeMap::from([("PGPASSPORT_CONFIG_TOML", "[listen]\nwhat = 1".to_owned())]);
    let (code, _, err) = check(&world, &bad, &[]);
    assert_eq!(code, 78);
    assert!(err.starts_with("PGPASSPORT_CONFIG_TOML:") && err.contains("  2 | what = 1"), "{err}");
}
