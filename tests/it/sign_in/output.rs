//! Output of commands, and its secrets.

use super::{Person, files, issuer};

#[tokio::test]
async fn standard_output_is_exactly_the_token_or_nothing() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let signed_out = person.run(&["token"]).await;
    assert_eq!((signed_out.code, signed_out.stdout.as_str()), (Some(1), ""));
    assert!(signed_out.stderr.contains("signed out") && signed_out.stderr.contains("pgpassport login"));
    person.login("alice").await;
    let token = person.run(&["token"]).await;
    assert_eq!((token.code, token.stderr.as_str()), (Some(0), ""));
    assert!(
        token.stdout.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
        "{token:?}"
    );
    assert_eq!(token.stdout.split('.').count(), 3);
}

#[tokio::test]
async fn a_token_comes_in_the_shape_that_a_tool_reads() {
    let issuer = issuer();
    let person =
        Person::at(&issuer, "databases = [\"orders\"]\nca_file = \"/etc/a ca.pem\"\nuser_claim = \"sub\"");
    person.login("al:ice").await;
    let token = person.run(&["token"]).await.stdout;
    for (format, text) in [
        (
            "conninfo",
            format!(
                "host=localhost port=1 user=al:ice password={token} sslmode=verify-full sslrootcert='/etc/a ca.pem' gssencmode=disable dbname=orders"
            ),
        ),
        (
            "url",
            format!(
                "postgresql://al%3Aice:{token}@localhost:1/orders?sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20ca.pem&gssencmode=disable"
            ),
        ),
        (
            "jdbc",
            format!(
                "jdbc:postgresql://localhost:1/orders?user=al%3Aice&password={token}&sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20ca.pem"
            ),
        ),
        ("pgpass", format!("localhost:1:*:al\\:ice:{token}\n")),
    ] {
        let ended = person.run(&["token", "--format", format]).await;
        assert_eq!(ended.stdout, text, "{format}");
        assert_eq!(
            ended.stderr.contains("every user of the machine can read it"),
            format != "pgpass",
            "{format}"
        );
    }
    let env = person.run(&["token", "--format", "env", "--database", "it's"]).await.stdout;
    assert!(env.contains(&format!("export PGPASSWORD='{token}'\n")), "{env}");
    assert!(
        env.contains("export PGDATABASE='it'\\''s'\n") && env.contains("export PGSSLMODE='verify-full'\n"),
        "{env}"
    );
}

#[tokio::test]
async fn a_program_gets_the_token_in_its_environment_and_not_as_an_argument() {
    let issuer = issuer();
    let person = Person::at(&issuer, "databases = [\"orders\"]");
    person.login("alice").await;
    let token = person.run(&["token"]).await.stdout;
    let shell = "echo $PGUSER $PGDATABASE $PGSSLMODE $PGPASSWORD \"[$PGHOSTADDR$PGSERVICE]\"; tr '\\0' ' ' < /proc/$$/cmdline; exit 7";
    let mut command = person.command(&["exec", "--", "sh", "-c", shell]);
    command.env("PGHOSTADDR", "203.0.113.1").env("PGSERVICE", "other");
    let ended = super::ended(command).await;
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().next(), Some(&*format!("token orders verify-full {token} []")));
    assert_eq!(ended.stdout.matches(&token).count(), 1, "the token is an argument");
    let missing = person.run(&["exec", "--", "no-such-program"]).await;
    assert!(
        missing.code == Some(1) && missing.stderr.contains("no-such-program is not installed"),
        "{missing:?}"
    );
}

#[tokio::test]
async fn whoami_and_profiles_tell_without_asking_the_issuer() {
    let issuer = issuer();
    let person = Person::at(&issuer, "databases = [\"orders\", \"billing\"]\nuser_claim = \"sub\"");
    assert_eq!(person.run(&["whoami"]).await.code, Some(1));
    assert!(person.run(&["profiles"]).await.stdout.contains("signed out"));
    person.login("alice").await;
    issuer.go_down();
    let who = person.run(&["whoami"]).await;
    assert_eq!(who.code, Some(0), "{}", who.stderr);
    for text in
        ["alice@example.com", "database user alice", "orders, billing", "is renewed when needed", "good for"]
    {
        assert!(who.stdout.contains(text), "{text}: {}", who.stdout);
    }
    let profiles = person.run(&["profiles"]).await.stdout;
    assert!(profiles.starts_with("test\tlocalhost:1\t") && profiles.ends_with("\tsigned in\n"), "{profiles}");
}

#[tokio::test]
async fn a_profile_that_is_wrong_is_told_with_its_line() {
    let person = Person::with_profile("[[profile]]\nname = \"a\"\nissuer = \"http://x\"\n");
    let ended = person.run(&["token"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("client.toml:3:10: profile[0].issuer: write an address"),
        "{}",
        ended.stderr
    );
    let nobody = Person::with_profile("");
    assert!(nobody.run(&["token"]).await.stderr.contains("there is no profile"));
}

/// The canaries are the tokens themselves: they are in the cache and nowhere else.
#[tokio::test]
async fn no_token_is_in_any_file_but_the_cache_or_in_what_is_said() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    let mut said = person.login("alice").await.stderr;
    let first = std::fs::read_to_string(person.record()).unwrap();
    let mut tokens = vec![person.run(&["token"]).await.stdout];
    for command in
        [&["whoami"][..], &["profiles"], &["token", "--min-lifetime", "1h"], &["exec", "--", "true"]]
    {
        let ended = person.run(command).await;
        said += &(ended.stdout + &ended.stderr);
    }
    let last = std::fs::read_to_string(person.record()).unwrap();
    for record in [&first, &last] {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        tokens.extend(["current", "refresh"].map(|name| record[name].as_str().unwrap().to_owned()));
    }
    assert!(tokens.len() == 5 && tokens[2] != tokens[4], "the refresh token did not rotate");
    for token in &tokens {
        let secret = token.rsplit('.').next().unwrap();
        assert!(!said.contains(secret), "{said}");
        for (path, text) in files(person.home.path()) {
            assert!(path == person.record() || !text.contains(secret), "{} holds a token", path.display());
        }
    }
}
