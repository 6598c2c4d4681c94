//! Output of commands, and its secrets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Person, browse, files, issuer, redirect_of, script};
use crate::world::admin::until;

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

/// Tools run the command for their password, some of them with nobody there to answer a browser.
#[tokio::test]
async fn a_browser_opens_from_a_terminal_only_and_a_terminal_gets_a_line_end() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let browser = script(&person, "browser", "echo \"$1\" >> \"$HOME/opened\"");
    for args in [&["token"][..], &["psql"], &["exec", "--", "true"]] {
        let mut command = person.command(args);
        command.env("BROWSER", &browser);
        let ended = super::ended(command).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}");
    }
    assert!(!person.path("opened").exists(), "a browser opened although nobody sits at a terminal");
    // `script` gives the command a terminal.
    let program = person.command(&["token"]);
    let line = format!("{} token", program.as_std().get_program().display());
    let mut command = tokio::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("BROWSER", &browser).kill_on_drop(true);
    for (name, value) in program.as_std().get_envs().filter(|(name, _)| *name != "BROWSER") {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::null());
    let token = tokio::spawn(super::ended(command));
    let opened = || std::fs::read_to_string(person.path("opened")).unwrap_or_default();
    until("a browser opens a page", async || opened().ends_with('\n')).await;
    let page = opened();
    browse("GET", &redirect_of(page.trim_end(), "alice").await, None, "").await;
    let token = token.await.unwrap();
    let line = token.stdout.lines().last().unwrap();
    assert!(token.code == Some(0) && token.stdout.ends_with("\r\n"), "{token:?}");
    assert_eq!(line, person.run(&["token"]).await.stdout);
}

#[tokio::test]
async fn the_profile_says_which_token_is_the_password() {
    let issuer = issuer();
    for token in ["access", "id"] {
        let person = Person::at(&issuer, &format!("token = \"{token}\""));
        person.login("alice").await;
        let printed = person.run(&["token"]).await.stdout;
        let payload = URL_SAFE_NO_PAD.decode(printed.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        // Only an ID token answers to the nonce of the sign-in.
        assert_eq!(claims["nonce"].is_string(), token == "id", "{claims}");
    }
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
