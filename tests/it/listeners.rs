//! Several listeners of one proxy, each with its own rules.

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
