//! A configuration from variables of the environment, as the program itself reads it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use crate::world::World;
use crate::world::binary::{Launch, ProxyProcess};

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
async fn a_dash_is_standard_input() {
    let world = World::start().await;
    let run = |file: &str| {
        let input = std::fs::File::open(world.config_file()).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_pgpassport"));
        let output = check.args(["check", file]).stdin(input).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(run("-").starts_with("/dev/stdin: no problems found\n"), "{}", run("-"));
    assert!(run("./-").contains("./-: No such file or directory"), "{}", run("./-"));
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

/// Certificate, key and authority as the content of variables, as containers without files have them.
#[tokio::test(flavor = "multi_thread")]
async fn files_can_be_the_content_of_variables() {
    let world = World::start().await;
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(&format!("{key} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let keys = [("tls_cert_file", "CERT"), ("tls_key_file", "KEY"), ("ca_file", "RDS_CA")];
    let (mut whole, mut variables) = (text.clone(), BTreeMap::new());
    for (key, variable) in keys {
        let path = value(key);
        variables.insert(variable, std::fs::read_to_string(&path).unwrap());
        whole = whole.replacen(&format!("{key} = \"{path}\""), &format!("{key} = \"env:{variable}\""), 1);
    }
    let key = variables["KEY"].replace('\n', "\\n"); // as some stores of secrets write it
    variables.insert("KEY", key.clone());
    variables.insert("PGPASSPORT_CONFIG_TOML", whole);
    let (code, out, err) = check(&world, &variables, &[]);
    assert_eq!(code, 0, "{out}{err}");
    for (key, variable) in keys {
        assert!(out.contains(&format!("{key} is from {variable}")), "{out}");
    }
    let middle = &key[40..80];
    assert!(!out.contains(middle) && !err.contains(middle), "a value is shown");

    variables.insert("KEY", "not a key".to_owned());
    variables.remove("RDS_CA");
    let (code, out, err) = check(&world, &variables, &[]);
    assert_eq!(code, 78, "{out}{err}");
    assert!(err.contains("env:KEY: no private key in the file"), "{err}");
    assert!(err.contains("variable RDS_CA is not set"), "{err}");
    assert!(!err.contains("not a key"), "{err}");
}

/// A login at the binary, whose certificate and key are in its environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_files_serves_logins() {
    let world = World::start().await;
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let path = |key: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(&format!("{key} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let (cert, key) = (path("tls_cert_file"), path("tls_key_file"));
    let script = format!(
        "CERT=$(cat {cert}) KEY=$(cat {key}) PGPASSPORT_LISTEN__0__TLS_CERT_FILE=env:CERT PGPASSPORT_LISTEN__0__TLS_KEY_FILE=env:KEY exec \"$@\""
    );
    let proxy = ProxyProcess::launch(&world, Launch { shell: Some(script), ..Launch::usual() });
    proxy.login(&world).await.unwrap();
    proxy.signal("HUP");
    assert!(proxy.tells().contains("RELOADING=1"));
    assert!(proxy.tells().contains("READY=1"), "{}", proxy.log());
    proxy.login(&world).await.unwrap();
}
