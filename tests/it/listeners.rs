//! Several listeners of one proxy, each with its own rules.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_its_own_rules() {
    let world = World::builder()
        .listen("name = \"strict\"")
        .second_listener("name = \"tunnel\"\nplaintext_from_loopback = true")
        .start()
        .await;
    let token = world.token("alice");
    let clear = |port: u16| format!("user=alice dbname=app sslmode=disable port={port}");
    let psql = world.psql(&clear(world.ports[1]), &token, &["-c", "select current_user"]).await;
    assert_eq!(psql.stdout.trim(), "alice", "{psql:?}");
    let psql = world.psql(&clear(world.ports[0]), &token, &["-c", "select 1"]).await;
    assert!(!psql.ok && psql.stderr.contains("connection requires TLS"), "{psql:?}");
    assert_eq!(world.audit_of("tunnel", "outcome", "session").await["db_user"], "alice");
    assert_eq!(world.audit_of("strict", "outcome", "refused").await["sqlstate"], "28000");
}

/// Errors are printed with their causes, each of which is named once.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_reported_once() {
    let world = World::builder().start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let usual = fs::read_to_string(world.config_file()).unwrap();
    let admin = format!("{usual}\n[admin]\naddr = \"{addr}\"\n");
    let listener = usual.replace("127.0.0.1:0", &addr.to_string());
    for (key, text) in [("listen.addr", listener), ("admin.addr", admin)] {
        let config = world.folder().join(format!("{key}.toml"));
        fs::write(&config, text).unwrap();
        let serve = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(["serve", "-c"])
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8(serve.stderr).unwrap();
        assert_eq!(serve.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{key}: cannot listen on {addr}: Address already in use")), "{said}");
        assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
    }
}
