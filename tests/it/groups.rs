//! Groups: their grants, and restrictions that stay without the claim that they depend on.

use serde_json::json;

use crate::world::{ErrorFields, World};

const ANALYSTS: &str = r#"
    [[cluster.group]]
    name = "analysts"
    when = { claim = "groups", any = ["analysts"] }
    databases = ["app"]
    read_only = true
    statement_timeout = "5m"
"#;

const OTHERS: &str = "[[cluster.group]]\nname = \"others\"\neveryone = true\n";

/// Refused by policy, before AWS or the database were asked; gives the reason in the log as well.
async fn refused(world: &World, database: &str, token: &str) -> (ErrorFields, String) {
    let before = world.cloud.sts.count();
    let refusal = world.raw().await.login("alice", Some(database), token).await.err().expect("a refusal");
    world.hear(format!("{refusal:?}").as_bytes());
    assert_eq!(refusal.sqlstate(), "28P01", "{refusal:?}");
    let expected = format!("Stage authorization: database \"{database}\" is not served here, or not to you");
    assert!(refusal.detail().starts_with(&expected), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), before, "STS was asked");
    let record = world.audit("session", &refusal.session()).await;
    (refusal, record["reason"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_its_settings_whatever_the_client_asks_for() {
    let world = World::builder().user(&format!("{ANALYSTS}{OTHERS}")).start().await;
    let with = |groups| world.mint(world.claims("alice").set("groups", groups));
    let (analyst, engineer) = (with(json!(["analysts"])), with(json!(["engineers"])));
    let show = "select current_setting('default_transaction_read_only') || ' ' || current_setting('statement_timeout') \
                || ' ' || current_setting('geqo')";
    let asked = "user=alice dbname=app options='-c default_transaction_read_only=off -c statement_timeout=1 -c geqo=off'";
    let psql = world.psql(asked, &analyst, &["-c", show]).await;
    assert_eq!(psql.stdout.trim(), "on 5min off", "{psql:?}");
    let psql = world.psql(asked, &engineer, &["-c", "show default_transaction_read_only"]).await;
    assert_eq!(psql.stdout.trim(), "off", "others have what they ask for: {psql:?}");
    let (_, why) = refused(&world, "postgres", &analyst).await;
    assert!(why.contains("the group's databases do not include it"), "{why}");
    // Not a wall, and the documentation says so.
    let psql = world
        .psql(asked, &analyst, &["-c", "set default_transaction_read_only = off; set statement_timeout = 0"])
        .await;
    assert!(psql.ok, "{psql:?}");
}

/// A token without the claim, or with one that cannot be read, is in no group: neither in the analysts' nor, as it
/// might belong to them, in one that allows more.
#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_does_not_fall_away_with_its_claim() {
    let unreadable = [
        (json!(null), "is null"),
        (json!(7.5), "is not an unsigned integer"),
        (json!({"analysts": true}), "is an object"),
        (json!("analysts engineers"), "may encode several values"),
        (json!([["analysts"]]), "is a list with elements other than strings"),
    ];
    for (groups, empty_list) in [(ANALYSTS.to_owned(), false), (format!("{ANALYSTS}{OTHERS}"), true)] {
        let world = World::builder().user(&groups).start().await;
        let with = |value: &serde_json::Value| world.mint(world.claims("alice").set("groups", value.clone()));
        for (value, words) in &unreadable {
            let (_, why) = refused(&world, "app", &with(value)).await;
            assert!(why.contains("claim \"groups\"") && why.contains(words), "{value}: {why}");
        }
        let (_, why) = refused(&world, "app", &world.token("alice")).await;
        assert!(why.contains("claim \"groups\" is absent"), "{why}");
        let other_case = world.mint(world.claims("alice").set("Groups", json!(["analysts"])));
        let (_, why) = refused(&world, "app", &other_case).await;
        assert!(why.contains("\"Groups\" is another claim"), "{why}");
        // A list that can be read and does not hold the value is an answer.
        match world.raw().await.login("alice", Some("app"), &with(&json!([]))).await {
            Ok(_) => assert!(empty_list, "nobody but analysts may come in"),
            Err(refusal) => assert!(!empty_list, "{refusal:?}"),
        }
    }
}

/// Entra ID leaves the groups of people out who are in more than 200. They are told so, and what to ask for.
#[tokio::test(flavor = "multi_thread")]
async fn the_groups_overage_of_entra_is_called_by_its_name() {
    let allow = "allow = [{ claim = \"groups\", any = [\"analysts\"] }]";
    for builder in [World::builder().cluster(allow), World::builder().user(ANALYSTS)] {
        let world = builder.start().await;
        let sources =
            json!({"src1": {"endpoint": "https://graph.microsoft.com/v1.0/users/7/getMemberObjects"}});
        let distributed = world.claims("alice").set("_claim_names", json!({"groups": "src1"}));
        let implicit = world.claims("alice").set("hasgroups", true);
        for claims in [distributed.set("_claim_sources", sources), implicit] {
            let (refusal, why) = refused(&world, "app", &world.mint(claims)).await;
            assert!(refusal.detail().contains("(groups overage)"), "{refusal:?}");
            assert!(refusal.hint().contains("app role") && refusal.hint().contains("200"), "{refusal:?}");
            assert!(why.contains("_claim_names") && why.contains("claim \"groups\""), "{why}");
        }
    }
    let require = "require = { claim = \"groups\", any = [\"analysts\"] }";
    let world = World::builder().issuer(require).start().await;
    let token = world.mint(world.claims("alice").set("hasgroups", true));
    let refusal = world.refusal("alice", &token).await;
    assert!(
        refusal.detail().contains("groups overage") && refusal.hint().contains("app role"),
        "{refusal:?}"
    );
}

/// Roles as Zitadel writes them: an object whose keys they are.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_object_are_roles_where_the_rule_says_so() {
    let roles = "urn:zitadel:iam:org:project:roles";
    let allow = format!("allow = [{{ claim = \"{roles}\", keys = true, any = [\"analyst\"] }}]");
    let world = World::builder().cluster(&allow).start().await;
    let with = |value: serde_json::Value| world.mint(world.claims("alice").set(roles, value));
    world.connect("alice", &with(json!({"analyst": {"2219": "acme.zitadel.cloud"}}))).await.unwrap();
    for other in [json!({"viewer": {"analyst": "x"}}), json!(["analyst"]), json!("analyst"), json!({})] {
        refused(&world, "app", &with(other)).await;
    }
}
