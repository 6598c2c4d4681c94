//! Endpoints of other kinds than Aurora's: RDS Proxy, DSQL, and servers that want TLS at once.

use aws_emulator::{Ca, names};

use crate::world::World;
use crate::world::scripted_server::{Script, ScriptedServer, welcome};

const PROXY: &str = "app.proxy-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
const DSQL: &str = "abcdefghijklmnopqrst123456.dsql.eu-central-1.on.aws";

#[tokio::test(flavor = "multi_thread")]
async fn direct_tls_shows_the_name_and_needs_alpn() {
    let ca = Ca::new().unwrap();
    let server = ScriptedServer::start(&ca, Script::Direct { alpn: true }).await;
    let world = World::builder().upstream(server.addr, &ca).cluster("direct_tls = true").start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    let heard = String::from_utf8(server.heard()).unwrap();
    let expected = format!("{} {}/?Action=connect&DBUser=alice&", names::ENDPOINT_HOST, names::ENDPOINT);
    assert!(heard.starts_with(&expected), "{}", &heard[..heard.len().min(150)]);

    let server = ScriptedServer::start(&ca, Script::Direct { alpn: false }).await;
    let world = World::builder().upstream(server.addr, &ca).cluster("direct_tls = true").start().await;
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert_eq!(refusal.message(), "cannot connect now: database not trusted");
    world.log_line("the server does not support direct TLS for PostgreSQL (ALPN)").await;
    assert!(server.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dsql_is_asked_for_with_a_token_of_its_own() {
    let ca = Ca::new().unwrap();
    let cert = ca.server(&[DSQL]).unwrap();
    let server = ScriptedServer::with_cert(&cert, Script::Direct { alpn: true }).await;
    let world = World::builder()
        .upstream(server.addr, &ca)
        .endpoint(&format!("{DSQL}:5432"))
        .resource("")
        .cluster("direct_tls = true")
        .start()
        .await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    let heard = String::from_utf8(server.heard()).unwrap();
    assert!(heard.starts_with(&format!("{DSQL} {DSQL}/?Action=DbConnect&")), "{}", &heard[..150]);
    assert!(heard.contains("%2Feu-central-1%2Fdsql%2Faws4_request") && !heard.contains("DBUser"));
    let policy = world.cloud.sts.calls()[0].policy.clone().unwrap();
    let cluster = DSQL.split('.').next().unwrap();
    let resource = format!("arn:aws:dsql:eu-central-1:{}:cluster/{cluster}", names::ACCOUNT);
    assert!(policy.contains(&resource) && policy.contains("dsql:DbConnect"), "{policy}");
    // Its administrator is nobody's to become.
    let refusal = world.refusal("admin", &world.token("admin")).await;
    assert!(refusal.detail().contains("nobody may log in as \"admin\""), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rds_proxy_is_never_told_of_a_cancel() {
    let ca = Ca::new().unwrap();
    let cert = ca.server(&[PROXY]).unwrap();
    let server = ScriptedServer::with_cert(&cert, Script::AfterPassword(welcome())).await;
    let world = World::builder()
        .upstream(server.addr, &ca)
        .endpoint(&format!("{PROXY}:5432"))
        .resource("resource_id = \"prx-0a1b2c3d\"")
        .start()
        .await;
    let client = world.connect("alice", &world.token("alice")).await.unwrap();
    let policy = world.cloud.sts.calls()[0].policy.clone().unwrap();
    assert!(policy.contains("dbuser:prx-0a1b2c3d/alice"), "{policy}");
    // The driver has a key, as from every server, and its cancel ends here.
    client.cancel_token().cancel_query(world.connector()).await.unwrap();
    let record = world.audit("outcome", "cancel").await;
    assert!(record.to_string().contains("RDS Proxy does not support CancelRequest"), "{record}");
    assert_eq!(server.count(), 1);
}
