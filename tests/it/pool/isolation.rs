//! A connection is for the one it was opened for: nobody else gets it, and nobody at all without a good token and the
//! right to come.

use aws_emulator::{Issuer, IssuerOptions, names};

use super::{HITS, IDLE, PoolGuest};
use crate::world::World;
use crate::world::raw::startup;
use crate::world::second::second_issuer;

/// Somebody who comes by this token, asking for this, gets a connection of their own.
async fn is_apart(world: &World, token: &str, pairs: &[(&str, &str)], pid: &str, what: &str) {
    let mut other = PoolGuest::come(world, token, pairs).await;
    assert_ne!(other.pid().await, pid, "{what}");
    assert!(world.metric(HITS).await < 0.5, "{what}");
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

const USUAL: [(&str, &str); 3] = [("user", "alice"), ("database", "app"), ("application_name", "a")];

/// A kept connection of a usual login.
async fn waiting(world: &World, token: &str) -> String {
    let mut first = PoolGuest::come(world, token, &USUAL).await;
    let pid = first.pid().await;
    first.leave_kept(world).await;
    pid
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_other_startup_parameters_get_another_connection() {
    let world = World::builder().pool("").start().await;
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let pid = waiting(&world, &alice).await;
    let cases: [(&str, &str, Pairs<'_>); 8] = [
        ("user", &bob, &[("user", "bob"), ("database", "app"), ("application_name", "a")]),
        ("database", &alice, &[("user", "alice"), ("database", "postgres"), ("application_name", "a")]),
        ("value", &alice, &[USUAL[0], USUAL[1], USUAL[2], ("DateStyle", "German")]),
        ("a name that the server changes", &alice, &[USUAL[0], USUAL[1], ("application_name", "B\u{fc}ro")]),
        ("none", &alice, &[("user", "alice"), ("database", "app")]),
        ("one more", &alice, &[USUAL[0], USUAL[1], USUAL[2], ("TimeZone", "UTC")]),
        ("options", &alice, &[USUAL[0], USUAL[1], USUAL[2], ("options", "-c work_mem=7MB")]),
        ("case", &alice, &[USUAL[0], USUAL[1], ("Application_Name", "a")]),
    ];
    for (what, token, pairs) in cases {
        is_apart(&world, token, pairs, &pid, what).await;
    }
    // The protocol decides on the server's key.
    let mut packet = startup(&USUAL);
    packet[7] = 2;
    let mut newer = PoolGuest::come_by(world.raw().await, &alice, &packet).await;
    assert_ne!(newer.pid().await, pid);
    // It was there all the time.
    assert_eq!(PoolGuest::come(&world, &alice, &USUAL).await.pid().await, pid);
    world.metric_is(HITS, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_two_people_who_are_one_database_user_share_nothing() {
    let world = World::builder().pool("").user("claim = \"login\"").start().await;
    let token = |subject: &str| world.mint(world.claims(subject).set("login", "alice"));
    let pid = waiting(&world, &token("first")).await;
    is_apart(&world, &token("second"), &USUAL, &pid, "subject").await;
    // Another token of the same person is as good as the first.
    assert_eq!(PoolGuest::come(&world, &token("first"), &USUAL).await.pid().await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_the_same_subject_of_another_issuer_is_somebody_else() {
    let (other, second) = second_issuer().await;
    let world = World::builder().pool("").issuer(&second).start().await;
    world.federate(&other);
    let pid = waiting(&world, &world.token("alice")).await;
    let theirs = world.plant(other.mint(other.default_claims("alice")));
    is_apart(&world, &theirs, &USUAL, &pid, "issuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_a_kept_connection_does_not_replace_the_checks_of_a_login() {
    let allow = "allow = [{ claim = \"groups\", any = [\"crew\"] }]";
    let world = World::builder().pool("").cluster(allow).start().await;
    let claims = || world.claims("alice").set("groups", "crew");
    let pid = waiting(&world, &world.mint(claims())).await;
    let now = world.cloud.clock.unix();
    let stranger = Issuer::start(IssuerOptions::default()).unwrap();
    for (token, why) in [
        (world.mint(claims().set("exp", now - 60).set("iat", now - 600).set("nbf", now - 600)), "expired"),
        (world.mint(claims().set("aud", "somebody-else")), "audience"),
        (world.mint(world.claims("alice").set("groups", "guests")), "not to you"),
        (world.plant(stranger.mint(claims())), "token"),
        (world.plant("hunter2".to_owned()), "token"),
    ] {
        let mut client = world.raw().await;
        client.send(&startup(&USUAL)).await;
        let refusal = client.finish_login(&token).await.err().unwrap_or_else(|| panic!("{why}: let in"));
        assert_eq!(refusal.sqlstate(), "28P01", "{why}: {refusal:?}");
        assert!(refusal.detail().contains(why), "{why}: {refusal:?}");
    }
    let mut client = world.raw().await;
    client.send(&startup(&[("user", "bob"), USUAL[1], USUAL[2]])).await;
    assert!(client.finish_login(&world.mint(claims())).await.is_err(), "not as somebody else either");
    assert!(world.metric(HITS).await < 0.5 && world.metric(IDLE).await > 0.5, "nobody came near it");
    assert_eq!(PoolGuest::come(&world, &world.mint(claims()), &USUAL).await.pid().await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn u4_another_cluster_gets_another_connection_also_on_the_same_server() {
    // The same server by the same endpoint, led to by another listener.
    let world = World::builder().pool("").listen("name = \"one-door\"");
    let again = format!(
        r#"
        [[cluster]]
        name = "again"
        listeners = ["other-door"]
        endpoint = "{}"
        hostaddr = "{}"
        region = "{}"
        role_arn = "{}"
        resource_id = "{}"
        ca_file = "@upstream-ca@"
        sts_endpoint_url = "@sts@"
        "#,
        names::ENDPOINT,
        crate::world::database().postgres.addr(),
        names::REGION,
        names::ROLE_ARN,
        names::RESOURCE_ID,
    );
    let world =
        world.second_listener("name = \"other-door\"").cluster("listeners = [\"one-door\"]").user(&again);
    let world = world.start().await;
    let token = world.token("alice");
    let pid = waiting(&world, &token).await;
    let client = crate::world::RawClient::connect(world.ports[1], world.listener_ca()).await;
    let mut other = PoolGuest::come_by(client, &token, &startup(&USUAL)).await;
    assert_ne!(other.pid().await, pid);
    assert!(world.metric(HITS).await < 0.5);
}
