//! MySQL and MariaDB with the plugin and the gate: real servers, each with its own command-line client. An engine that is
//! not installed is left out, and the test says so.

use std::process::{Command, Output};
use std::sync::LazyLock;

use aws_emulator::files::TempDir;
use aws_emulator::{Cloud, CloudMysql, GateFault, GateRefusal, MysqlEngine, names};

use crate::support::{login_token, session, token_for};

fn started(engine: MysqlEngine) -> Option<CloudMysql> {
    engine.at_hand().then(|| CloudMysql::start(engine, |_| {}).expect("a server"))
}

static MYSQL: LazyLock<Option<CloudMysql>> = LazyLock::new(|| started(MysqlEngine::Mysql));
static MARIADB: LazyLock<Option<CloudMysql>> = LazyLock::new(|| started(MysqlEngine::MariaDb));

/// The servers that this machine has.
fn databases() -> impl Iterator<Item = &'static CloudMysql> {
    [&*MYSQL, &*MARIADB].into_iter().flatten()
}

/// Runs the engine's client with `sql` after `change`.
fn run(database: &CloudMysql, user: &str, password: &str, change: impl Fn(&mut Command)) -> Output {
    let dir = TempDir::new("emu-login", 0o700).unwrap();
    let ca = database.ca.write(dir.path()).unwrap();
    let port = database.server.addr().port();
    let mut client = database.server.client_to("localhost", port, &ca, user);
    client.env("MYSQL_PWD", password).args([names::DATABASE, "-e", "select current_user()"]);
    change(&mut client);
    client.output().expect("the client runs")
}

fn log_in(database: &CloudMysql, user: &str, password: &str) -> Output {
    run(database, user, password, |_| {})
}

fn message(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a line of the server's log: the server answers first. The limit is for a broken build.
fn logged(database: &CloudMysql, line: &str) {
    let found = || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        database.server.log().contains(line)
    };
    assert!((0..1_000).any(|_| found()), "{line} is not in:\n{}", database.server.log());
}

#[test]
fn a_token_for_the_user_opens_mysql_and_mariadb() {
    for database in databases() {
        let cloud = Cloud::on_mysql(database).unwrap();
        for user in ["alice", "alice@example.com"] {
            let session = session(&cloud, &cloud.issuer.token(user), &[]);
            let token = token_for(names::MYSQL_ENDPOINT, &session, user, cloud.clock.unix());
            let output = log_in(database, user, &token);
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{user}@%\n"), "{output:?}");
            let decisions = database.gate.decisions_for(user);
            let ours =
                decisions.iter().find(|one| one.access_key_id.as_ref() == Some(&session.access_key_id));
            let ours = ours.expect("the gate was asked");
            assert!(ours.accepted() && ours.password_length == token.len(), "{ours:?}");
        }
    }
}

#[test]
fn other_tokens_are_refused_and_the_log_says_why() {
    for database in databases() {
        let cloud = Cloud::on_mysql(database).unwrap();
        let session = session(&cloud, &cloud.issuer.token("bob"), &[]);
        let now = cloud.clock.unix();
        let token = |endpoint: &str, user: &str, at: i64| token_for(endpoint, &session, user, at);
        let good = token(names::MYSQL_ENDPOINT, "bob", now);
        let changed = format!("{}0", &good[..good.len() - 1]);
        let changed = if changed == good { format!("{}1", &good[..good.len() - 1]) } else { changed };
        let cases = [
            (token(names::MYSQL_ENDPOINT, "alice", now), "InvalidToken: for another database user"),
            (token(names::MYSQL_ENDPOINT, "bob", now - 901), "ExpiredToken: the token is too old"),
            (login_token(&session, "bob", now), "InvalidToken: for another endpoint"),
            (changed, "SignatureDoesNotMatch"),
            ("secret".to_owned(), "InvalidToken: no query"),
            ("x".repeat(20_000), "InvalidToken: no query"),
        ];
        for (token, reason) in cases {
            let said = message(&log_in(database, "bob", &token));
            assert!(
                said.contains("ERROR 1045 (28000)") && said.contains("Access denied for user 'bob'@"),
                "{said}"
            );
            logged(database, &format!("[AWSAuthenticationPlugin] refused 'bob': {reason}"));
        }
        let lengths: Vec<_> =
            database.gate.decisions_for("bob").iter().map(|one| one.password_length).collect();
        assert!(lengths.contains(&20_000), "a long password arrives whole: {lengths:?}");
    }
}

#[test]
fn the_role_of_postgresql_is_not_good_for_mysql() {
    for database in databases() {
        let store = database.gate.store().clone();
        let options = aws_emulator::CloudOptions { store, ..aws_emulator::CloudOptions::default() };
        let cloud = Cloud::start(options).unwrap();
        let session = session(&cloud, &cloud.issuer.token("alice"), &[]);
        let token = token_for(names::MYSQL_ENDPOINT, &session, "alice", cloud.clock.unix());
        message(&log_in(database, "alice", &token));
        let decisions = database.gate.decisions_for("alice");
        let ours = decisions.iter().find(|one| one.access_key_id.as_ref() == Some(&session.access_key_id));
        assert_eq!(ours.expect("the gate was asked").outcome, Err(GateRefusal::RolePolicy));
    }
}

#[test]
fn only_a_cleartext_answer_inside_tls_reaches_the_gate() {
    for database in databases() {
        let mysql = database.server.engine() == MysqlEngine::Mysql;
        let in_clear = ["--skip-ssl", "--ssl-mode=DISABLED"][usize::from(mysql)];
        let user = "alice@example.com";
        let mut client = database.server.client();
        let port = format!("--port={}", database.server.addr().port());
        client.args(["--protocol=tcp", "--host=127.0.0.1", &port, in_clear, "--user", user]);
        let said = message(&client.env("MYSQL_PWD", "in-the-clear").output().unwrap());
        assert!(said.contains("ERROR 1045 (28000)"), "{said}");
        if mysql {
            let said = message(&run(database, user, "in-the-clear", |client| {
                client.arg("--disable-enable-cleartext-plugin");
            }));
            assert!(said.contains("mysql_clear_password"), "the server asks for it: {said}");
            let seen = database.gate.decisions_for(user);
            let length = "in-the-clear".len();
            assert!(seen.iter().all(|one| one.password_length != length), "the gate was asked: {seen:?}");
        }
    }
}

#[test]
fn other_users_come_by_password_and_never_by_the_gate() {
    for database in databases() {
        let output = log_in(database, "carol", "carol-password");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "carol@%\n", "{output:?}");
        for user in ["carol", "Alice", "nobody"] {
            message(&log_in(database, user, "secret"));
            assert!(database.gate.decisions_for(user).is_empty(), "{user}");
        }
    }
}

#[test]
fn accounts_are_made_by_the_statement_of_aurora_only() {
    for database in databases() {
        let mut client = database.server.client();
        client.arg("--socket").arg(database.server.dir().join("mysqld.sock")).arg("--user=root");
        let statement = "create user dave identified with AWSAuthenticationPlugin by 'secret'";
        let said = message(&client.args(["-e", statement]).output().unwrap());
        assert!(said.contains("ERROR"), "{said}");
        let plugin = "select plugin, authentication_string from mysql.user where user = 'alice'";
        assert_eq!(database.server.sql(plugin), "AWSAuthenticationPlugin\tRDS");
    }
}

#[test]
fn a_gate_that_closes_or_denies_refuses() {
    for database in databases() {
        let cloud = Cloud::on_mysql(database).unwrap();
        let user = "create user erin identified with AWSAuthenticationPlugin as 'RDS'";
        database.server.sql(&format!("{user}; grant select on {}.* to erin", names::DATABASE));
        let session = session(&cloud, &cloud.issuer.token("erin"), &[]);
        let token = token_for(names::MYSQL_ENDPOINT, &session, "erin", cloud.clock.unix());
        for (fault, reason) in
            [(GateFault::Close, "the login gate does not answer"), (GateFault::Deny, "denied on purpose")]
        {
            database.gate.fail_user("erin", fault);
            message(&log_in(database, "erin", &token));
            logged(database, &format!("refused 'erin': {reason}"));
            database.gate.heal_user("erin");
        }
        let output = log_in(database, "erin", &token);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "erin@%\n", "{output:?}");
    }
}

#[test]
fn the_server_of_mysql_goes_with_its_last_handle() {
    for engine in MysqlEngine::ALL {
        let Some(own) = started(engine) else { continue };
        let (addr, dir) = (own.server.addr(), own.server.dir().to_path_buf());
        assert_eq!(own.server.sql("select 1"), "1");
        drop(own);
        assert!(std::net::TcpStream::connect(addr).is_err());
        assert!(!dir.exists());
    }
}
