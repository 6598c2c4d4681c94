//! The places of tokens between two commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{LoginInProgress, Person, browse, files, issuer, redirect_of, script};

#[tokio::test]
async fn a_cache_that_others_can_read_is_refused_by_every_command() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    for (path, wide, right) in [
        (person.record(), 0o640, 0o600),
        (person.record(), 0o604, 0o600),
        (person.path(".cache/pgpassport"), 0o755, 0o700),
    ] {
        fs::set_permissions(&path, PermissionsExt::from_mode(wide)).unwrap();
        for command in [&["token"][..], &["whoami"], &["exec", "--", "true"], &["psql"]] {
            let ended = person.run(command).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{command:?} {wide:o}");
            assert!(
                ended.stderr.contains("chmod") && ended.stderr.contains("others can use it"),
                "{}",
                ended.stderr
            );
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, wide, "it was repaired");
        fs::set_permissions(&path, PermissionsExt::from_mode(right)).unwrap();
    }
    assert_eq!(person.run(&["token"]).await.code, Some(0));
}

/// A helper that keeps one entry in a file of its own, as the protocol says.
const HELPER: &str = r#"
case "$1" in
  store) cat > "$HOME/kept" ;;
  get) read -r key; [ -f "$HOME/kept" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$HOME/kept" ;;
  erase) read -r key; rm -f "$HOME/kept" ;;
  *) exit 2 ;;
esac
echo "$@" >> "$HOME/words""#;

#[tokio::test]
async fn a_credential_helper_keeps_the_tokens() {
    let issuer = issuer();
    let person = Person::at(&issuer, "cache = \"helper:test\"");
    script(&person, "docker-credential-test", HELPER);
    let path = format!("{}:{}", person.path("bin").display(), std::env::var("PATH").unwrap());
    let command = |args: &[&str]| {
        let mut command = person.command(args);
        command.env("PATH", &path);
        command
    };
    let signed_out = super::ended(command(&["token"])).await;
    assert!(signed_out.stderr.contains("is signed out"), "{}", signed_out.stderr);
    let mut login = LoginInProgress::start(command(&["login", "--no-browser"]));
    let page = login.line_with("http").await;
    browse("GET", &redirect_of(&page, "alice").await, None, "").await;
    let ended = login.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!person.record().exists(), "the tokens are in a file, too");
    let token = super::ended(command(&["token"])).await;
    assert!(token.code == Some(0) && token.stdout.split('.').count() == 3, "{}", token.stderr);
    assert_eq!(super::ended(command(&["logout"])).await.code, Some(0));
    assert!(!person.path("kept").exists() && issuer.open_sign_ins() == 0);
    let words = fs::read_to_string(person.path("words")).unwrap();
    assert!(words.lines().all(|line| ["get", "store", "erase"].contains(&line)), "{words}");
    // One that is not installed is found before anybody signs in.
    let missing = person.run(&["token"]).await;
    assert!(missing.stderr.contains("docker-credential-test"), "{}", missing.stderr);
    assert!(missing.stderr.contains("cache = \"file\""), "{}", missing.stderr);
}

#[tokio::test]
async fn without_a_cache_every_command_signs_in() {
    let issuer = issuer();
    let person = Person::at(&issuer, "cache = \"none\"");
    let browser = script(&person, "browser", "true");
    let mut command = person.command(&["token", "--interactive"]);
    command.env("BROWSER", &browser);
    let mut token = LoginInProgress::start(command);
    let page = token.line_with("http").await;
    browse("GET", &redirect_of(&page, "alice").await, None, "").await;
    let ended = token.end().await;
    assert!(ended.code == Some(0) && ended.stdout.split('.').count() == 3, "{}", ended.stderr);
    let again = person.run(&["token"]).await;
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""), "it kept the tokens");
    let secret = ended.stdout.split('.').nth(1).unwrap();
    assert!(files(person.home.path()).iter().all(|(_, text)| !text.contains(secret)));
}

#[tokio::test]
async fn logout_revokes_and_deletes_whatever_the_issuer_says() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    let ended = person.run(&["logout"]).await;
    assert_eq!((ended.code, issuer.open_sign_ins()), (Some(0), 0), "{}", ended.stderr);
    assert!(!person.record().exists());
    assert!(person.run(&["logout"]).await.stderr.contains("signed out already"));
    person.login("alice").await;
    issuer.go_down();
    let ended = person.run(&["logout"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("are deleted on this machine"), "{}", ended.stderr);
    assert!(!person.record().exists());
}
