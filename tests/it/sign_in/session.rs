//! From a sign-in to a query: the binary, the issuer, the proxy and psql.

use super::{LoginInProgress, Person, profile};
use crate::world::World;

/// A person who has not signed in yet.
pub(crate) fn signed_out(world: &World, more: &str) -> Person {
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let more = format!("ca_file = \"{}\"\ndatabases = [\"app\"]\n{more}", ca.display());
    Person::with_profile(&profile(&world.cloud.issuer, &format!("localhost:{}", world.port), &more))
}

pub(crate) async fn person_of(world: &World, more: &str) -> Person {
    let person = signed_out(world, more);
    person.login("alice").await;
    world.plant(person.run(&["token"]).await.stdout);
    person
}

/// A person whose sign-in waits for a browser, and the page to open.
pub(super) async fn person_in_browser(world: &World) -> (Person, LoginInProgress, String) {
    let person =
        Person::with_profile(&profile(&world.cloud.issuer, &format!("localhost:{}", world.port), ""));
    let (login, page) = person.begin_login().await;
    (person, login, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_once_and_psql_is_logged_in() {
    let world = World::start().await;
    for more in ["", "user_claim = \"sub\"", "user = \"alice\""] {
        let person = person_of(&world, more).await;
        for args in [
            &["psql", "--", "-XAtc", "select current_user, current_database()"][..],
            &["psql", "app", "--", "-XAt", "-c", "select current_user, current_database()"],
            &["exec", "--database", "app", "--", "psql", "-XAtc", "select current_user, current_database()"],
        ] {
            let ended = person.run(args).await;
            world.hear(ended.stderr.as_bytes());
            assert_eq!(ended.stdout, "alice|app\n", "{more} {args:?}: {}", ended.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_does_not_talk_to_a_proxy_with_another_certificate() {
    let world = World::start().await;
    let person = person_of(&world, "").await;
    let other = aws_emulator::Ca::new().unwrap().write(&person.path(".config")).unwrap();
    let file = person.path(".config/pgpassport/client.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    std::fs::write(&file, text.replace(&ca.display().to_string(), &other.display().to_string())).unwrap();
    let ended = person.run(&["psql", "--", "-c", "select 1"]).await;
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("certificate verify failed"), "{}", ended.stderr);
}
