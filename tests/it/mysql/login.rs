//! The main job, end to end.

use serde_json::Value;

use super::{builder, databases, shown, told};

#[tokio::test(flavor = "multi_thread")]
async fn alice_logs_in_with_mysql_and_her_token() {
    for database in databases().await {
        let world = builder(database).start().await;
        let token = world.mint(world.claims("alice").set("jti", "mysql-1"));
        let sql = "select current_user(), database(), connection_id() > 0";
        let output = world.mysql_sql(database, "alice", &token, sql).await;
        assert_eq!(shown(&output), "alice@%\tapp\t1");

        let calls = world.cloud.sts.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let session = calls[0].access_key_id.clone();
        let decisions = database.gate.decisions_for("alice");
        assert!(decisions.iter().any(|one| one.accepted() && one.access_key_id == session), "{decisions:?}");

        let record = world.audit("token_id", "mysql-1").await;
        assert_eq!(record["outcome"], "session");
        assert_eq!((&record["db_user"], &record["database"]), (&"alice".into(), &"app".into()));
        assert_eq!((&record["tls"], &record["protocol"]), (&"TLSv1.3".into(), &"mysql".into()));
        assert!(record["application_name"].is_string(), "{record}");
        for number in ["upstream_pid", "bytes_to_server", "bytes_to_client"] {
            assert!(record[number].as_u64().unwrap() > 0, "{number}: {record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_counted_by_protocol() {
    for database in databases().await {
        let world = builder(database).start().await;
        let (_, before) = world.get("/metrics").await;
        let logins = before.lines().find(|line| line.starts_with("pgpassport_logins_total{")).unwrap();
        let logins = logins.strip_suffix(" 0").expect("a series before any login");
        assert!(logins.ends_with(",protocol=\"mysql\"}"), "{logins}");
        shown(&world.mysql_sql(database, "alice", &world.token("alice"), "select 1").await);
        told(&world.mysql_sql(database, "bob", &world.token("alice"), "select 1").await);
        let failed = "pgpassport_logins_failed_total{protocol=\"mysql\"}";
        world.metric_is(failed, 0.0).await;
        world.cloud.sts.fail(aws_emulator::HttpFault::Close);
        told(&world.mysql_sql(database, "bob", &world.token("bob"), "select 1").await);
        world.metric_is(failed, 1.0).await;
        world.metric_is(logins, 1.0).await;
        world.metric_is("pgpassport_refusals_total{sqlstate=\"28000\",protocol=\"mysql\"}", 1.0).await;
        world.metric_is("pgpassport_refusals_total{sqlstate=\"28P01\",protocol=\"postgresql\"}", 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_no_database() {
    for database in databases().await {
        let world = builder(database).start().await;
        let token = world.mint(world.claims("alice").set("jti", "mysql-2"));
        let mut client = world.mysql(database, "alice", &token);
        let output =
            client.args(["-e", "select database(); use app; select database()"]).output().await.unwrap();
        assert_eq!(shown(&output), "NULL\napp");
        assert_eq!(world.audit("token_id", "mysql-2").await["database"], Value::from(""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_takes_tokens_of_every_usual_size() {
    for database in databases().await {
        let world = builder(database).start().await;
        for size in [800, 3_000, 16_000, 20_000] {
            let token = world.plant(world.cloud.issuer.mint_sized(world.claims("alice"), size));
            let output = world.mysql_sql(database, "alice", &token, "select current_user()").await;
            assert_eq!(shown(&output), "alice@%", "{size}");
        }
    }
}

/// The greeting of a new connection repeats what the server showed at the last login.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_the_servers() {
    for database in databases().await {
        let version = database.server.sql("select version()");
        let world = builder(database).start().await;
        let greeted = async || {
            let mut greeting = vec![0; 60];
            let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
            tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut greeting).await.unwrap();
            let text: Vec<u8> = greeting[5..].iter().copied().take_while(|byte| *byte != 0).collect();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(greeted().await, "8.0.39");
        shown(&world.mysql_sql(database, "alice", &world.token("alice"), "select 1").await);
        assert!(greeted().await.ends_with(version.trim()), "{version}");
        shown(&world.mysql_sql(database, "alice", &world.token("alice"), "select 1").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openid_connect_plugin_of_mysql_brings_the_token() {
    use aws_emulator::MysqlEngine;
    for database in databases().await.into_iter().filter(|one| one.server.engine() == MysqlEngine::Mysql) {
        for keys in ["auth = \"openid-connect\""] {
            let world = crate::world::World::builder().mysql(database, keys).start().await;
            let file = world.folder().join("token");
            std::fs::write(&file, world.token("alice")).unwrap();
            let mut client = world.mysql(database, "alice", "");
            let plugins = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(".tools/mysql/root/usr/lib/mysql/plugin");
            client
                .env_remove("MYSQL_PWD")
                .arg(format!("--plugin-dir={}", plugins.display()))
                .arg(format!("--authentication-openid-connect-client-id-token-file={}", file.display()))
                .args(["-e", "select current_user()"]);
            let output = client.output().await.unwrap();
            assert_eq!(shown(&output), "alice@%");
        }
    }
}
