//! Derivation of the database user from a token.

use serde_json::json;

use crate::world::second::second_issuer;
use crate::world::{ErrorFields, World};

async fn refused(world: &World, asked: &str, token: &str) -> ErrorFields {
    let before = world.cloud.sts.count();
    let refusal = world.refusal(asked, token).await;
    assert_eq!(refusal.sqlstate(), "28P01", "{refusal:?}");
    assert!(refusal.detail().starts_with("Stage authorization: "), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), before, "STS was asked");
    refusal
}

async fn current_user(world: &World, asked: &str, token: &str) -> String {
    let client = world.connect(asked, token).await.unwrap();
    client.query_one("select current_user::text", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn j11_another_startup_user_is_refused_with_both_names() {
    let world = World::start().await;
    let refusal = refused(&world, "alice", &world.token("mallory")).await;
    assert_eq!(refusal.message(), "password authentication failed for user \"alice\"");
    assert!(refusal.detail().contains("\"alice\"") && refusal.detail().contains("\"mallory\""));
    assert!(refusal.hint().contains("user=mallory"), "{refusal:?}");
    refused(&world, "Alice", &world.token("alice")).await;
    assert_eq!(current_user(&world, "token", &world.token("alice")).await, "alice");
    let free = World::builder().user("startup_user = \"ignore\"").start().await;
    assert_eq!(current_user(&free, "whoever", &free.token("bob")).await, "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn j9_the_regex_takes_its_part_of_the_claim() {
    let keys = "claim = \"email\"\nregex = '([^@]+)@acme\\.com'\nlowercase = true";
    let world = World::builder().user(keys).start().await;
    let with = |email: &str| world.mint(world.claims("x").set("email", email));
    assert_eq!(current_user(&world, "alice", &with("Alice@acme.com")).await, "alice");
    for email in ["alice@evil.com", "alice@acme.com.evil.com", "alice@evil.com\n@acme.com", "@acme.com"] {
        refused(&world, "alice", &with(email)).await;
    }
    let refusal = refused(&world, "alice", &with("alice@evil.com")).await;
    assert!(refusal.detail().contains("alice@evil.com"), "{refusal:?}");
    let missing = world.mint(world.claims("x").without("email"));
    assert!(refused(&world, "alice", &missing).await.detail().contains("\"email\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn j10_lower_casing_never_makes_two_people_one() {
    let world = World::builder().user("lowercase = true").start().await;
    assert_eq!(current_user(&world, "alice", &world.token("ALICE")).await, "alice");
    for name in ["\u{212a}arl", "İbo", "straße", "ＡＬＩＣＥ"] {
        refused(&world, "karl", &world.token(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j8_names_that_cannot_be_users() {
    let world = World::builder().user("startup_user = \"ignore\"").start().await;
    let long = "x".repeat(64);
    for name in ["a\0b", "a\nb", "a\u{202e}b", "a\u{200b}b", "a*", "a?", "   ", "e\u{301}", long.as_str()] {
        refused(&world, "x", &world.token(name)).await;
    }
    for odd in [serde_json::json!(7), serde_json::json!(["alice"]), serde_json::json!(null)] {
        let world = World::builder().user("claim = \"db\"").start().await;
        refused(&world, "alice", &world.mint(world.claims("x").set("db", odd))).await;
    }
    let longest = "y".repeat(63);
    let refusal = world.refusal("x", &world.token(&longest)).await;
    assert!(
        refusal.detail().starts_with("Stage upstream_login: "),
        "63 bytes pass to the server: {refusal:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j12_nobody_becomes_an_administrator() {
    let world =
        World::builder().user("startup_user = \"ignore\"\ndenied = [\"master\", \"svc_*\"]").start().await;
    for name in [
        "postgres",
        "rdsadmin",
        "rds_superuser",
        "RDSproxyadmin",
        "pg_monitor",
        "root",
        "Admin",
        "master",
        "svc_x",
    ] {
        let refusal = refused(&world, "x", &world.token(name)).await;
        assert!(refusal.detail().contains("nobody may log in"), "{refusal:?}");
    }
}

/// People have such names. The database has no role for them here, and it is the database that says so.
#[tokio::test(flavor = "multi_thread")]
async fn j12_a_name_that_only_begins_like_an_administrators_reaches_the_database() {
    let world = World::start().await;
    for name in ["rdsouza", "rdsmith", "rds_jones", "aurora.smith", "pgarcia", "admins"] {
        let refusal = world.refusal(name, &world.token(name)).await;
        assert!(refusal.detail().starts_with("Stage upstream_login: "), "{name}: {refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_names_reach_the_database_unchanged() {
    let world = World::start().await;
    assert_eq!(
        current_user(&world, "alice@example.com", &world.token("alice@example.com")).await,
        "alice@example.com"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_name_the_users_name_is_used() {
    let world = World::start().await;
    let error = world.raw().await.login("alice", None, &world.token("alice")).await.err().unwrap();
    assert_eq!(error.message(), "database \"alice\" does not exist");
}

/// `alice` of one issuer is not `alice` of another: each has a rule of its own, and a name that begins with the prefix of one
/// issuer's people is theirs alone.
#[tokio::test(flavor = "multi_thread")]
async fn two_issuers_with_one_subject_are_two_users() {
    let (other, second) = second_issuer().await;
    let rules = |theirs: &str| {
        format!("[[cluster.user]]\nissuer = \"idp\"\nprefix = \"al\"\nstartup_user = \"ignore\"\n{theirs}")
    };
    let world = World::builder()
        .issuer(&second)
        .user(&rules("[[cluster.user]]\nissuer = \"other\"\nstartup_user = \"ignore\""))
        .start()
        .await;
    assert_eq!(current_user(&world, "x", &world.token("ice")).await, "alice");
    let refusal = refused(&world, "x", &world.plant(other.token("alice"))).await;
    assert!(refusal.detail().contains("\"alice\" begins with \"al\""), "{refusal:?}");
    // An issuer for whose people there is no rule.
    let world = World::builder().issuer(&second).user(&rules("")).start().await;
    let refusal = refused(&world, "x", &world.plant(other.token("bob"))).await;
    assert!(refusal.detail().contains("are no database users here"), "{refusal:?}");
    assert!(refusal.hint().contains("[[cluster.user]]"), "{refusal:?}");
}

/// A list of exactly one text is a text where the rule says so, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn j8_a_list_of_one_text_is_a_user_where_the_rule_says_so() {
    let world = World::builder().user("claim = \"uid\"\nlist_of_one = true").start().await;
    let with = |value: serde_json::Value| world.mint(world.claims("x").set("uid", value));
    for good in [json!(["alice"]), json!("alice")] {
        assert_eq!(current_user(&world, "alice", &with(good)).await, "alice");
    }
    for bad in [
        json!([]),
        json!(["alice", "bob"]),
        json!(["alice", 1]),
        json!([["alice"]]),
        json!([7]),
        json!({"alice": 1}),
    ] {
        let refusal = refused(&world, "alice", &with(bad)).await;
        assert!(refusal.detail().contains("is not a text"), "{refusal:?}");
    }
}
