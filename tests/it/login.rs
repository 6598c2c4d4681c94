//! The main job, end to end.

use aws_emulator::names;
use serde_json::{Value, json};

use crate::world::{World, database};

#[tokio::test(flavor = "multi_thread")]
async fn alice_logs_in_with_psql_and_her_token() {
    let world = World::start().await;
    let token = world.mint(world.claims("alice").set("jti", "chain-1"));
    let sql = "select current_user, session_user, current_database(), ssl, version \
               from pg_stat_ssl where pid = pg_backend_pid()";
    let psql = world.psql("user=alice dbname=app application_name=first-light", &token, &["-c", sql]).await;
    assert_eq!(psql.stdout.trim(), "alice|alice|app|t|TLSv1.3", "{psql:?}");

    let calls = world.cloud.sts.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].granted() && !calls[0].signed);
    assert!(calls[0].session_name.starts_with("alice-"), "{}", calls[0].session_name);

    let record = world.audit("token_id", "chain-1").await;
    assert_eq!(record["outcome"], "session");
    assert_eq!(record["db_user"], "alice");
    assert_eq!(record["subject"], "alice");
    assert_eq!(record["issuer"], world.cloud.issuer.url());
    assert_eq!(record["database"], "app");
    assert_eq!(record["cluster"], "app");
    assert_eq!(record["application_name"], "first-light");
    assert_eq!(record["role_session_name"], calls[0].session_name);
    assert_eq!(record["tls"], "TLSv1.3");
    assert_eq!(record["session"].as_str().unwrap().len(), 16);
    assert!(record["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    for number in ["upstream_pid", "bytes_to_server", "bytes_to_client"] {
        assert!(record[number].as_u64().unwrap() > 0, "{number}: {record}");
    }
    assert!(record["duration_ms"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_logs_in_with_tokens_of_every_usual_size() {
    let world = World::start().await;
    for size in [800, 3_000, 16_000, 20_000] {
        let token = world.plant(world.cloud.issuer.mint_sized(world.claims("alice"), size));
        assert!(token.len().abs_diff(size) <= 8, "{} instead of {size}", token.len());
        let client = world.connect("alice", &token).await.unwrap();
        let row = client.query_one("select current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "alice", "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn es256_tokens_are_as_good() {
    let world = World::start().await;
    let token = world.cloud.issuer.mint_with(world.claims("bob"), &aws_emulator::KeyChoice::Es256);
    let client = world.connect("bob", &world.plant(token)).await.unwrap();
    let row = client.query_one("select current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_credentials_are_worthless_for_anyone_else() {
    let world = World::start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    let call = world.cloud.sts.calls().remove(0);
    let policy: Value = serde_json::from_str(call.policy.as_deref().unwrap()).unwrap();
    assert_eq!(
        policy["Statement"][0]["Resource"],
        format!("arn:aws:rds-db:{}:{}:dbuser:{}/alice", names::REGION, names::ACCOUNT, names::RESOURCE_ID)
    );
    // A token for bob signed with alice's credentials: the role's policy allows it, the session's does not.
    let gate = &database().gate;
    gate.judge("alice", &world.sign_for("alice")).unwrap();
    let refusal = gate.judge("bob", &world.sign_for("bob")).unwrap_err();
    assert!(refusal.to_string().contains("session policy"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pin_no_session_policy_is_sent() {
    let world = World::builder().cluster("pin = \"none\"").start().await;
    world.connect("alice", &world.token("alice")).await.unwrap();
    assert_eq!(world.cloud.sts.calls()[0].policy, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tag_pins_as_well() {
    let world = World::builder().cluster("pin = \"session-tag\"").start().await;
    let nested = world.mint(world.claims("alice").tag("dbuser", "alice"));
    world.connect("alice", &nested).await.unwrap();
    let flat = world.mint(world.claims("alice").flat_tag("dbuser", "alice"));
    world.connect("alice", &flat).await.unwrap();

    let before = world.cloud.sts.count();
    let other = world.mint(world.claims("alice").tag("dbuser", "bob"));
    let refusal = world.refusal("alice", &other).await;
    assert_eq!(refusal.sqlstate(), "28P01");
    assert!(refusal.detail().contains("\"bob\"") && refusal.detail().contains("\"alice\""), "{refusal:?}");
    let refusal = world.refusal("alice", &world.token("alice")).await;
    assert!(refusal.hint().contains("https://aws.amazon.com/tags"), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), before, "STS was asked in spite of a wrong tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_the_session_tag_is_read_and_everything_else_refused() {
    let world = World::builder().cluster("pin = \"session-tag\"").start().await;
    let (nested, flat) = ("https://aws.amazon.com/tags", "https://aws.amazon.com/tags/principal_tags/dbuser");
    let tags = |value: Value| json!({ "principal_tags": { "dbuser": value } });
    for claims in [
        world.claims("alice").set(nested, tags(json!(["alice"]))),
        world.claims("alice").set(nested, tags(json!("alice"))),
        world.claims("alice").set(flat, "alice"),
        world.claims("alice").set(flat, json!(["alice"])),
    ] {
        // What STS makes of the form is its own decision; ours is that it is the tag.
        if let Err(error) = world.connect("alice", &world.mint(claims.clone())).await {
            let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
            assert!(detail.contains("Stage sts"), "{claims:?}: {detail}");
        }
    }
    let before = world.cloud.sts.count();
    for claims in [
        world.claims("alice").set(nested, tags(json!(["alice", "alice"]))),
        world.claims("alice").set(nested, tags(json!([]))),
        world.claims("alice").set(nested, tags(json!(7))),
        world.claims("alice").set(nested, tags(json!("Alice"))),
        world.claims("alice").set(flat, json!({ "dbuser": "alice" })),
        world.claims("alice").tag("dbuser", "alice").flat_tag("dbuser", "alice"),
    ] {
        let refusal = world.refusal("alice", &world.mint(claims.clone())).await;
        assert!(refusal.detail().contains("session tag \"dbuser\""), "{claims:?}: {refusal:?}");
    }
    assert_eq!(world.cloud.sts.count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn j13_a_crowd_with_one_token_makes_one_sts_call() {
    let world = World::start().await;
    let token = world.token("alice");
    let logins = (0..200).map(|_| world.connect("alice", &token));
    let clients = futures_util::future::join_all(logins).await;
    for client in &clients {
        let client = client.as_ref().unwrap();
        assert_eq!(client.query_one("select 1 + 1", &[]).await.unwrap().get::<_, i32>(0), 2);
    }
    assert_eq!(world.cloud.sts.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn j13_the_cache_never_answers_for_another_person_or_token() {
    let world = World::builder().user("startup_user = \"ignore\"").start().await;
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    for (token, expected) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        let client = world.connect("anyone", token).await.unwrap();
        let row = client.query_one("select current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected);
    }
    assert_eq!(world.cloud.sts.count(), 2);
    // The same person with another token is asked for again: the new one may have been revoked.
    world.connect("anyone", &world.token("alice")).await.unwrap();
    assert_eq!(world.cloud.sts.count(), 3);
    // A warm cache does not spare the signature: the same claims, another signature.
    let other_end = if alice.ends_with("AA") { "AQ" } else { "AA" }; // a last byte of 1 or 0
    let forged = format!("{}{other_end}", &alice[..alice.len() - 2]);
    assert_eq!(world.refusal("alice", &world.plant(forged)).await.sqlstate(), "28P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_reads_the_reused_token_as_good() {
    let world = World::start().await;
    let token = world.token("alice");
    for _ in 0..3 {
        world.connect("alice", &token).await.unwrap();
    }
    assert_eq!(world.cloud.sts.count(), 1);
}
