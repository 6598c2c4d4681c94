//! `doctor` at MySQL and MariaDB: a login with a real token, and the faults of such a login in the words of
//! `docs/doctor.md`.

use std::net::SocketAddr;
use std::time::Duration;

use aws_emulator::{AnswerHold, Ca, CloudMysql, GateFault, MysqlEngine, names};
use pgpassport::clock::Clock;
use pgpassport::commands::doctor::{Finding, LinkState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::faults::{blamed_row, examine, row};
use super::{DoctorRun, assert_complete, found, written};
use crate::mysql::{builder, databases};
use crate::world::World;

const IAM: &str = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'";

async fn sql(database: &'static CloudMysql, sql: String) {
    tokio::task::spawn_blocking(move || database.server.sql(&sql)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_chain_to_mysql_is_good_in_every_link() {
    for database in databases().await {
        let world = builder(database).start().await;
        let token = world.token("alice");
        for (name, said) in [(Some("app"), "for database \"app\""), (None, "for no database")] {
            let run = DoctorRun { database: name, ..DoctorRun::with(&token) };
            let findings = run.examine(&world).await;
            assert_complete(&findings);
            for finding in &findings {
                assert_eq!(finding.state, LinkState::Ok, "{findings:#?}");
            }
            let version = database.server.sql("select version()");
            for (link, words) in [
                ("login", &*format!("the server takes the token of \"alice\" {said}")),
                ("current-user", "\"alice@%\""),
                ("rds-iam", "the account uses AWSAuthenticationPlugin and requires TLS"),
                ("privileges", "an ordinary user"),
                ("server-version", version.trim()),
                ("writer", "a writer"),
            ] {
                assert!(found(&findings, link).found.starts_with(words), "{words}: {findings:#?}");
            }
        }
        assert!(database.gate.decisions_for("alice").last().unwrap().accepted());
    }
}

/// Error numbers that differ between the engines, or that a test can make only with both of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_login_that_fails_names_its_remedy() {
    for database in databases().await {
        let mysql = database.server.engine() == MysqlEngine::Mysql;
        let without_plugin = if mysql {
            "UPDATE mysql.user SET plugin = 'NoSuchPlugin' WHERE User = 'unplugged'"
        } else {
            "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.plugin', 'NoSuchPlugin') WHERE User = 'unplugged'"
        };
        let setup = format!(
            "CREATE USER 'unplugged'@'%' {IAM}; {without_plugin}; FLUSH PRIVILEGES; \
             CREATE USER 'locked'@'%' {IAM} REQUIRE SSL ACCOUNT LOCK; \
             CREATE USER 'far'@'10.9.9.9' {IAM} REQUIRE SSL"
        );
        sql(database, setup).await;
        let world = builder(database).start().await;
        for (user, words, remedy) in [
            (
                "nobody",
                "the database has no IAM user of the exact name",
                "CREATE USER 'nobody'@'%' IDENTIFIED WITH",
            ),
            (
                "Alice",
                "the database has no IAM user of the exact name",
                "It needs this exact name, upper and lower case included",
            ),
            // MySQL asks an unknown user for a plugin picked by the name, which can be that of IAM.
            ("far", "the database", "host part that allows this machine"),
            ("unplugged", "IAM database authentication is off", "--enable-iam-database-authentication"),
            ("locked", "the server refused with", "ALTER USER 'locked'@'%' ACCOUNT UNLOCK;"),
        ] {
            let token = world.token(user);
            let run = DoctorRun { database: None, ..DoctorRun::with(&token) };
            let findings = run.examine(&world).await;
            assert_complete(&findings);
            let login = found(&findings, "login");
            assert_eq!(login.state, LinkState::Failed, "{user}: {findings:#?}");
            // As for `far`: then the server refuses the token of a user that it does not have.
            let as_known = words.contains("no IAM user") && login.found.starts_with("the database refused");
            let remedy = if as_known { "host part that allows this machine" } else { remedy };
            assert!(login.found.starts_with(words) || as_known, "{user}: {login:#?}");
            assert!(login.remedy.as_deref().unwrap().contains(remedy), "{user}: {login:#?}");
        }
    }
}

/// A server's first packet without its header: MySQL 8, with TLS or without.
fn greeting(tls: bool) -> Vec<u8> {
    let flags: u16 = if tls { 0xffff } else { !0x0800 };
    let mut greeting = b"\x0a8.0.39\0\x2a\0\0\0abcdefgh\0".to_vec();
    greeting.extend(flags.to_le_bytes());
    greeting.extend(b"\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0caching_sha2_password\0");
    greeting
}

/// A server that sends one packet and reads on.
async fn says(payload: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let payload = payload.clone();
            tokio::spawn(async move {
                if let Some(payload) = payload {
                    let length = u8::try_from(payload.len()).unwrap();
                    tcp.write_all(&[&[length, 0, 0, 0], &payload[..]].concat()).await?;
                }
                tcp.read_to_end(&mut Vec::new()).await
            });
        }
    });
    addr
}

/// A run against another server than the world's.
async fn at(world: &World, database: &CloudMysql, addr: SocketAddr) -> Vec<Finding> {
    let (token, real) = (world.token("alice"), database.server.addr().to_string());
    let run = DoctorRun::with(&token).changing(|toml| {
        let toml = toml.replace(&real, &addr.to_string());
        toml.replace("[limits]", "[limits]\nserver_connect_timeout = \"1s\"")
    });
    run.examine(world).await
}

async fn connections(world: &World, database: &CloudMysql) -> Vec<String> {
    let mut rows = Vec::new();
    let error =
        |number: u16, text: &str| Some([&[0xff][..], &number.to_le_bytes(), text.as_bytes()].concat());
    for (fault, payload, words) in [
        ("silent server (PostgreSQL's port)", None, "TLS handshake with 127.0.0.1:…: no answer in time"),
        ("MySQL without TLS", Some(greeting(false)), "127.0.0.1:… does not support TLS"),
        (
            "something else than MySQL",
            Some(b"SSH-2.0-x".to_vec()),
            "127.0.0.1:… does not greet as MySQL does",
        ),
        (
            "MySQL full at the connection",
            error(1040, "Too many connections"),
            "TLS handshake with 127.0.0.1:…: the server answers a new connection with 1040 (HY000)",
        ),
        (
            "MySQL has blocked this machine",
            error(1129, "Host 'x' is blocked because of many connection errors"),
            "TLS handshake with 127.0.0.1:…: the server answers a new connection with 1129 (HY000)",
        ),
        (
            "MySQL that greets and leaves TLS out",
            Some(greeting(true)),
            "TLS handshake with 127.0.0.1:…: no answer in time",
        ),
    ] {
        rows.push(row(fault, &at(world, database, says(payload).await).await, "tls", words));
    }
    let token = world.token("alice");
    let other = Ca::new().unwrap().write(&world.folder()).unwrap().display().to_string();
    let run = DoctorRun::with(&token).changing(|toml| {
        let at = toml.find("ca_file").unwrap();
        let own = toml[at..].split('"').nth(1).unwrap().to_owned();
        toml.replace(&own, &other)
    });
    let words = "TLS handshake with …: invalid peer certificate: ";
    rows.push(row("MySQL's certificate of an unknown authority", &run.examine(world).await, "tls", words));
    let run = DoctorRun::with(&token).changing(|toml| {
        toml.replace(names::MYSQL_ENDPOINT, "other.cluster-abc123.eu-central-1.rds.amazonaws.com:3306")
    });
    let words = "TLS handshake with …: invalid peer certificate: certificate not valid for name";
    rows.push(row("MySQL's certificate for another name", &run.examine(world).await, "tls", words));
    rows
}

async fn logins(world: &World, database: &CloudMysql) -> Vec<String> {
    let mut rows = Vec::new();
    let no_user = "the database has no IAM user of the exact name";
    for (fault, user) in [("MySQL user with a password", "carol"), ("MySQL user missing", "nobody")] {
        rows.push(row(fault, &examine(world, &world.token(user)).await, "login", no_user));
    }
    let (alice, wide) = (world.token("alice"), world.token("wide"));
    for (fault, token, words) in [
        ("MySQL database without a privilege, or missing", &alice, "the server refused with 1044 (42000)"),
        ("MySQL database missing", &wide, "the server refused with 1049 (42000)"),
    ] {
        let run = DoctorRun { database: Some("nowhere"), ..DoctorRun::with(token) };
        rows.push(row(fault, &run.examine(world).await, "login", words));
    }
    let off = "IAM database authentication is off for this cluster";
    rows.push(row(
        "IAM authentication off in MySQL",
        &examine(world, &world.token("plugless")).await,
        "login",
        off,
    ));
    let words = "the database refused the IAM token";
    let resource = names::MYSQL_RESOURCE_ID;
    let run = DoctorRun::with(&alice).changing(|toml| toml.replace(resource, "cluster-OTHER"));
    rows.push(row("resource_id of another MySQL cluster", &run.examine(world).await, "login", words));
    let unlucky = world.token("unlucky");
    database.gate.fail_user("unlucky", GateFault::Deny);
    rows.push(row("MySQL denies IAM logins", &examine(world, &unlucky).await, "login", words));
    database.gate.heal_user("unlucky");
    let hold = AnswerHold::new();
    database.gate.fail_user("unlucky", GateFault::Hold(hold.clone()));
    let run = DoctorRun { patience: Duration::from_secs(1), ..DoctorRun::with(&unlucky) };
    let slow = "the server did not finish the login within 1 s";
    rows.push(row("IAM does not answer MySQL", &run.examine(world).await, "login", slow));
    hold.release();
    database.gate.heal_user("unlucky");
    rows
}

async fn sessions(world: &World) -> Vec<String> {
    let mut rows = Vec::new();
    let words = "the user is allowed SELECT in every database";
    rows.push(row(
        "MySQL user with global privileges",
        &examine(world, &world.token("wide")).await,
        "privileges",
        words,
    ));
    let words = "the account uses AWSAuthenticationPlugin and does not require TLS";
    rows.push(row(
        "MySQL user without REQUIRE SSL",
        &examine(world, &world.token("open")).await,
        "rds-iam",
        words,
    ));
    let token = world.token("alice");
    let fast = Clock::from_fn(|| Clock::system().now() + Duration::from_mins(2));
    let findings = DoctorRun { clock: fast, ..DoctorRun::with(&token) }.examine(world).await;
    let clock: Vec<_> = findings.iter().filter(|one| one.link.id() != "peer-clocks").cloned().collect();
    let words = "the server's clock is -120 s from this machine's";
    rows.push(blamed_row("our clock and MySQL's differ", &clock, "clock", words));
    rows
}

/// The table of MySQL's faults in `docs/doctor.md`, from MySQL itself.
#[tokio::test(flavor = "multi_thread")]
async fn every_mysql_fault_blames_its_link_in_the_words_of_the_docs() {
    for database in databases().await.into_iter().filter(|one| one.server.engine() == MysqlEngine::Mysql) {
        let grant = "GRANT ALL ON app.* TO";
        let setup = format!(
            "CREATE USER 'wide'@'%' {IAM} REQUIRE SSL; GRANT SELECT ON *.* TO 'wide'@'%'; \
             CREATE USER 'open'@'%' {IAM}; {grant} 'open'@'%'; \
             CREATE USER 'unlucky'@'%' {IAM} REQUIRE SSL; {grant} 'unlucky'@'%'; \
             CREATE USER 'plugless'@'%' {IAM}; UPDATE mysql.user SET plugin = 'NoPlugin' WHERE User = 'plugless'; \
             FLUSH PRIVILEGES"
        );
        sql(database, setup).await;
        let world = builder(database).start().await;
        let rows =
            [connections(&world, database).await, logins(&world, database).await, sessions(&world).await];
        let head = "| fault | link | state | what is said | remedy |\n| --- | --- | --- | --- | --- |\n";
        written("mysql faults", &format!("{head}{}", rows.concat().concat()));
    }
}
