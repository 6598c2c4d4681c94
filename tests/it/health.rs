//! `pgpassport health`, as a container runtime calls it.

use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::world::World;
use crate::world::admin::until;

/// Exit code and words.
async fn health(args: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pgpassport")).arg("health").args(args).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_follows_the_service() {
    let world = World::builder().limits("shutdown_delay = \"1h\"").start().await;
    until("keys", async || world.get("/readyz").await.0 == 200).await;
    let addr = world.admin_addr.to_string();
    assert_eq!(health(&["--addr", &addr]).await, (Some(0), "alive\n".to_owned(), String::new()));
    assert_eq!(health(&["--ready", "--addr", &addr]).await, (Some(0), "ready\n".to_owned(), String::new()));
    world.stopping.asked.cancel();
    let (code, out, err) = health(&["--ready", "--addr", &addr]).await;
    assert_eq!((code, &*out, &*err), (Some(1), "", "pgpassport: stopping\n"));
    assert_eq!(health(&["--addr", &addr]).await.0, Some(0), "a drain is no reason to be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_comes_from_the_configuration() {
    let world = World::start().await;
    let file = world.folder().join("health.toml");
    let config = fs::read_to_string(world.config_file()).unwrap();
    let with = |addr: &str| fs::write(&file, format!("{config}\n[admin]\naddr = \"{addr}\"\n")).unwrap();
    let path = file.to_str().unwrap();
    // A wildcard address is asked over loopback.
    with(&format!("0.0.0.0:{}", world.admin_addr.port()));
    assert_eq!(health(&["-c", path]).await.0, Some(0));
    fs::write(&file, &config).unwrap();
    let (code, _, err) = health(&["-c", path]).await;
    assert_eq!(code, Some(78));
    assert!(err.contains("no admin.addr") && err.contains("--addr"), "{err}");
    let missing = Path::new("/nonexistent/proxy.toml");
    assert_eq!(health(&["-c", missing.to_str().unwrap()]).await.0, Some(78));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    with(&free);
    let (code, out, err) = health(&["-c", path]).await;
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(err.contains(&free) && err.contains("refused"), "{err}");
}
