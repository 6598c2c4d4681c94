//! Refusals, as the clients show them: one line with the server's own code.

use aws_emulator::MysqlEngine;

use super::{builder, databases, shown, told};
use crate::world::scripted_server::{Script, ScriptedServer};

#[tokio::test(flavor = "multi_thread")]
async fn c9_a_forged_mysql_token_opens_no_connection() {
    for database in databases().await {
        let server = ScriptedServer::start(&database.ca, Script::Silence).await;
        let world = builder(database).upstream(server.addr, &database.ca).start().await;
        let token = world.token("alice");
        let forged = world.plant(format!("{}AAAA", &token[..token.len() - 4]));
        let text = told(&world.mysql_sql(database, "alice", &forged, "select 1").await);
        assert!(
            text.contains(
                "1045 (28000): Access denied for user 'alice': stage token: the token's signature could not be verified."
            ),
            "{text}"
        );
        assert!(text.contains(" Session "), "{text}");
        assert_eq!((server.count(), world.cloud.sts.count()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_mysql_login_in_clear_is_refused_before_any_question() {
    for database in databases().await {
        let world = builder(database).start().await;
        let mut client = tokio::process::Command::from(database.server.client());
        client.args([
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--user=alice",
            &format!("--port={}", world.port),
        ]);
        client.arg(match database.server.engine() {
            MysqlEngine::Mysql => "--ssl-mode=DISABLED",
            MysqlEngine::MariaDb => "--skip-ssl",
        });
        client.env("MYSQL_PWD", world.token("alice"));
        let text = told(&client.output().await.unwrap());
        assert!(
            text.contains("3159") && text.contains("Connections using insecure transport are prohibited"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_the_servers_own_code() {
    for database in databases().await {
        let world = builder(database).user("startup_user = \"ignore\"").start().await;
        let login = async |user: &str, token: String, name: &str| {
            let mut client = world.mysql(database, user, &token);
            let output = client.args([name, "-e", "select 1"]).output().await.unwrap();
            world.hear(&output.stderr);
            output
        };
        let expired = world.mint(world.claims("alice").set("exp", world.cloud.clock.unix() - 720));
        for (user, token, name, expected) in [
            (
                "alice",
                expired,
                "app",
                "1045 (28000): Access denied for user 'alice': stage token: the token expired 12 minutes ago. Get a fresh token",
            ),
            ("alice", "a.b".to_owned(), "app", "the token is not a JWT"),
            ("x", world.token("nobody"), "app", "the database has no IAM user of the exact name 'nobody'"),
            ("x", world.token("Alice"), "app", "the database has no IAM user of the exact name 'Alice'"),
            ("x", world.token("carol"), "app", "the database has no IAM user of the exact name 'carol'"),
            (
                "x",
                world.token(&"a".repeat(33)),
                "app",
                "has 33 characters, and a database user of MySQL has at most 32",
            ),
            ("alice", world.token("alice"), "nowhere", "104"),
        ] {
            let text = told(&login(user, token, name).await);
            // A server asks an unknown user for the plugin of some user, which can be that of IAM. Then it refuses the token.
            let as_known =
                expected.contains("no IAM user") && text.contains("the database refused the IAM token");
            assert!(text.contains(expected) || as_known, "{expected}: {text}");
        }
        shown(&login("alice", world.token("alice"), "app").await);
    }
}

/// The prompt of both clients cuts a password at 79 bytes without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_cut_by_the_prompt_is_named_as_such() {
    for database in databases().await {
        let world = builder(database).start().await;
        let cut = &world.token("alice")[..79];
        let text = told(&world.mysql_sql(database, "alice", cut, "select 1").await);
        assert!(text.contains("cuts it at 79 bytes"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_mysql_server_that_refuses_the_token_is_named() {
    for database in databases().await {
        let world = builder(database).start().await;
        // A user of this test alone, because the gate is that of all tests.
        let create = "CREATE USER 'denied'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL";
        let server = database.server.clone();
        tokio::task::spawn_blocking(move || server.sql(create)).await.unwrap();
        database.gate.fail_user("denied", aws_emulator::GateFault::Deny);
        let text = told(&world.mysql_sql(database, "denied", &world.token("denied"), "select 1").await);
        assert!(
            text.contains("1045 (28000)") && text.contains("the database refused the IAM token"),
            "{text}"
        );
    }
}

/// Each kind of refused login once, and one that succeeds, with the token in an answer. The world itself looks for what it
/// planted, in the log and in what clients were told; here also for other spellings of a token.
#[tokio::test(flavor = "multi_thread")]
async fn l1_no_secret_of_mysql_is_in_any_log_line_or_message() {
    use aws_emulator::{GateFault, HttpFault, sts::StsFault};
    for database in databases().await {
        let world = builder(database).start().await;
        let mut tokens = Vec::new();
        let mut login = async |user: &str, token: String| {
            let output = world.mysql_sql(database, user, &token, "select 1").await;
            world.hear(&output.stdout);
            tokens.push(token);
            output
        };
        shown(&login("alice", world.token("alice")).await);
        told(&login("bob", world.token("alice")).await);
        told(&login("alice", world.mint(world.claims("alice").set("aud", "other"))).await);
        told(&login("carol", world.token("carol")).await);
        for fault in [StsFault::error(403, "AccessDenied", "no"), HttpFault::Close.into()] {
            world.cloud.sts.fail(fault);
            told(&login("bob", world.token("bob")).await);
            world.cloud.sts.heal();
        }
        database.gate.fail_user("bob", GateFault::Deny);
        told(&login("bob", world.token("bob")).await);
        database.gate.heal_user("bob");
        for token in tokens {
            let signature = token.rsplit('.').next().unwrap().bytes().take(24);
            let decimals: Vec<String> = signature.clone().map(|byte| byte.to_string()).collect();
            let hex: String = signature.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            for spelled in [decimals.join(", "), decimals.join(","), hex] {
                assert!(!world.has_logged(&spelled), "a token is in the log as {spelled}");
            }
        }
    }
}
