//! The commands of a person whose profile is for a MySQL listener.

use std::path::Path;

use aws_emulator::MysqlEngine;

use super::session::person_of;
use super::{Person, ended, issuer};
use crate::mysql::{builder, databases};

const PROFILE: &str =
    "protocol = \"mysql\"\ndatabases = [\"orders\"]\nca_file = \"/etc/a ca.pem\"\nuser_claim = \"sub\"";

#[tokio::test]
async fn a_mysql_connection_comes_in_the_shape_that_a_tool_reads() {
    let issuer = issuer();
    let person = Person::at(&issuer, PROFILE);
    let signed_in = person.login("al:ice").await;
    assert!(signed_in.stderr.contains("Connect: pgpassport mysql orders"), "{}", signed_in.stderr);
    let token = person.run(&["token"]).await.stdout;
    let login = format!("orders?user=al%3Aice&password={token}");
    let ca = "%2Fetc%2Fa%20ca.pem";
    for (format, text) in [
        ("url", format!("mysql://al%3Aice:{token}@localhost:1/orders?ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}")),
        ("jdbc", format!("jdbc:mysql://localhost:1/{login}&sslMode=VERIFY_IDENTITY")),
        (
            "jdbc-mariadb",
            format!("jdbc:mariadb://localhost:1/{login}&sslMode=verify-full&serverSslCert={ca}"),
        ),
    ] {
        let ended = person.run(&["token", "--format", format]).await;
        assert_eq!(ended.stdout, text, "{format}");
        assert!(ended.stderr.contains("every user of the machine can read it"), "{format}");
    }
    let env = person.run(&["token", "--format", "env", "--database", "it's"]).await.stdout;
    for line in [
        "export MYSQL_HOST='localhost'\n",
        "export MYSQL_TCP_PORT='1'\n",
        "export MYSQL_USER='al:ice'\n",
        &format!("export MYSQL_PWD='{token}'\n"),
        "export LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN='1'\n",
        "export MYSQL_SSL_CA='/etc/a ca.pem'\n",
        "export MYSQL_DATABASE='it'\\''s'\n",
    ] {
        assert!(env.contains(line), "{line}: {env}");
    }
    for (args, told) in [
        (&["token", "--format", "pgpass"][..], "use --format url, jdbc, jdbc-mariadb, or env"),
        (&["token", "--format", "conninfo"], "use --format url, jdbc, jdbc-mariadb, or env"),
        (&["psql"], "use `pgpassport mysql`, or another --profile"),
    ] {
        let ended = person.run(args).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(ended.stderr.contains(told), "{args:?}: {}", ended.stderr);
    }
    let other = Person::at(&issuer, "");
    for (args, told) in
        [(&["mysql"][..], "use `pgpassport psql`"), (&["token", "--format", "jdbc-mariadb"], "--format jdbc")]
    {
        let ended = other.run(args).await;
        assert!(ended.code == Some(1) && ended.stderr.contains(told), "{args:?}: {}", ended.stderr);
    }
}

/// A published profile has its protocol; one for PostgreSQL has none, as older versions of the program expect.
#[tokio::test]
async fn a_published_profile_has_its_protocol() {
    let issuer = issuer();
    for (more, expected) in [("protocol = \"mysql\"", Some("mysql")), ("", None)] {
        let administrator = Person::at(&issuer, more);
        let file = administrator.path(".config/pgpassport/client.toml");
        let printed = administrator.run(&["profiles", "--publish", file.to_str().unwrap()]).await;
        let document: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
        let profile = &document["profiles"][0];
        assert_eq!(profile.get("protocol").and_then(|protocol| protocol.as_str()), expected, "{document}");
        assert_eq!(profile["proxy"], "localhost:1");
    }
}

/// The folders of an engine's client, and of no other one.
pub(super) fn path_of(engine: MysqlEngine) -> String {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/mysql/bin");
    match engine {
        MysqlEngine::Mysql => format!("{}:/usr/bin:/bin", tools.display()),
        MysqlEngine::MariaDb => "/usr/bin:/bin".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_once_and_the_mysql_client_is_logged_in() {
    for database in databases().await {
        let world = builder(database).start().await;
        let person = person_of(&world, "protocol = \"mysql\"").await;
        // A password of an option file would be sent in place of the token.
        std::fs::write(person.path(".my.cnf"), "[client]\npassword=wrong\nuser=nobody\n").unwrap();
        let options = person.path("options.cnf");
        std::fs::write(&options, "[client]\nskip-column-names\n").unwrap();
        let file = format!("--defaults-file={}", options.display());
        let sql = "select current_user(), database()";
        for args in [
            &["mysql", "--", "-N", "-B", "-e", sql][..],
            &["mysql", "app", "--", "-NBe", sql],
            &["mysql", "app", "--", &file, "-B", "-e", sql],
        ] {
            let mut command = person.command(args);
            command.env("PATH", path_of(database.server.engine())).env("MYSQL_UNIX_PORT", "/nowhere.sock");
            let ended = ended(command).await;
            world.hear(ended.stderr.as_bytes());
            assert_eq!(ended.stdout, "alice@%\tapp\n", "{args:?}: {}", ended.stderr);
        }
        let shell = "tr '\\0' ' ' < /proc/$$/cmdline; echo $MYSQL_USER [$MYSQL_UNIX_PORT]";
        let mut command = person.command(&["exec", "--", "sh", "-c", shell]);
        command.env("MYSQL_UNIX_PORT", "/nowhere.sock");
        let ended = ended(command).await;
        assert!(ended.stdout.ends_with("token []\n") && !ended.stdout.contains("eyJ"), "{}", ended.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mysql_client_does_not_talk_to_a_proxy_with_another_certificate() {
    for database in databases().await {
        let world = builder(database).start().await;
        let person = person_of(&world, "protocol = \"mysql\"").await;
        let other = aws_emulator::Ca::new().unwrap().write(&person.path(".config")).unwrap();
        let file = person.path(".config/pgpassport/client.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let ca = world.listener_ca().write(&world.folder()).unwrap();
        std::fs::write(&file, text.replace(&ca.display().to_string(), &other.display().to_string())).unwrap();
        let mut command = person.command(&["mysql", "--", "-e", "select 1"]);
        command.env("PATH", path_of(database.server.engine()));
        let ended = ended(command).await;
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
        assert_eq!(world.cloud.sts.count(), 0);
    }
}
