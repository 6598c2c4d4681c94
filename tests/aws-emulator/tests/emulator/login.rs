//! The whole chain once, without the proxy: issuer, STS, a token signed here, psql, `PostgreSQL`, gate.

use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::support::{login_token, session};
use aws_emulator::files::TempDir;
use aws_emulator::{Cloud, CloudDatabase, DatabaseOptions, names};

static DATABASE: LazyLock<CloudDatabase> =
    LazyLock::new(|| CloudDatabase::start(DatabaseOptions::default()).expect("a database"));

fn psql(user: &str, password: &str, sslmode: &str) -> Output {
    let dir = TempDir::new("emu-login", 0o700).expect("a folder");
    let ca = DATABASE.ca.write(dir.path()).expect("the authority's certificate");
    let target = format!(
        "host={} hostaddr=127.0.0.1 port={} user='{user}' dbname=app sslmode={sslmode} sslrootcert={}",
        names::ENDPOINT_HOST,
        DATABASE.postgres.addr().port(),
        ca.display(),
    );
    let mut command: Command = DATABASE.postgres.psql();
    let command = command.env("PGPASSWORD", password).args([&target, "-c", "select current_user"]);
    command.output().expect("psql runs")
}

#[test]
fn a_token_for_the_user_opens_the_database() {
    let cloud = Cloud::on(&DATABASE).expect("a cloud");
    for user in ["alice", "alice@example.com"] {
        let session = session(&cloud, &cloud.issuer.token(user), &[]);
        let token = login_token(&session, user, cloud.clock.unix());
        let output = psql(user, &token, "verify-full");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{user}\n"), "{output:?}");
        let decisions = DATABASE.gate.decisions();
        let ours = decisions.iter().find(|one| one.access_key_id.as_ref() == Some(&session.access_key_id));
        let ours = ours.expect("the gate was asked");
        assert!(ours.accepted() && ours.user == user && ours.password_length == token.len());
    }
}

#[test]
fn a_token_for_another_user_does_not_and_the_log_says_why() {
    let cloud = Cloud::on(&DATABASE).expect("a cloud");
    let session = session(&cloud, &cloud.issuer.token("bob"), &[]);
    let output = psql("bob", &login_token(&session, "alice", cloud.clock.unix()), "verify-full");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("LDAP authentication failed for user \"bob\""), "{message}");
    // The server tells the client first, and its log comes by a pipe; the limit is for a broken build.
    let told = || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        DATABASE.postgres.log().contains("InvalidToken: for another database user")
    };
    assert!((0..1_000).any(|_| told()), "{}", DATABASE.postgres.log());
}

#[test]
fn iam_users_cannot_come_without_tls_and_password_users_come_by_password() {
    let output = psql("alice", "x", "disable");
    assert!(String::from_utf8_lossy(&output.stderr).contains("pg_hba.conf rejects connection"), "{output:?}");
    let output = psql("carol", "carol-password", "verify-full");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "carol\n", "{output:?}");
}

#[test]
fn the_server_goes_with_its_last_handle() {
    let own = CloudDatabase::start(DatabaseOptions::default()).expect("a second database");
    let (addr, dir) = (own.postgres.addr(), own.postgres.data_dir().to_path_buf());
    assert_eq!(own.postgres.sql("select 1"), "1");
    drop(own);
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert!(!dir.exists() && !dir.parent().expect("a parent").exists());
}
