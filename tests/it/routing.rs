//! Routing of connections to clusters, access to clusters, and the settings with which sessions begin.

use aws_emulator::names;

use crate::world::raw::startup;
use crate::world::second::{NO_SERVER, second_cluster, second_issuer};
use crate::world::{ErrorFields, World};

/// Refused by policy, before AWS or the database were asked.
async fn refused(world: &World, database: &str, token: &str) -> ErrorFields {
    let before = world.cloud.sts.count();
    let result = world.raw().await.login("alice", Some(database), token).await;
    let refusal = result.err().expect("a refusal");
    world.hear(format!("{refusal:?}").as_bytes());
    assert_eq!(refusal.sqlstate(), "28P01", "{refusal:?}");
    assert!(refusal.detail().starts_with("Stage authorization: "), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), before, "STS was asked");
    refusal
}

fn no_licence_to_look_around(refusal: &ErrorFields, database: &str) {
    let expected = format!("Stage authorization: database \"{database}\" is not served here, or not to you.");
    assert_eq!(refusal.detail(), expected);
    for name in ["app", "other", "reporting", "analysts"] {
        assert!(database == name || !format!("{refusal:?}").contains(name), "it lists {name}: {refusal:?}");
    }
}

async fn database_of(world: &World, asked: &str) -> String {
    let token = world.token("alice");
    let client = world
        .connect_with("alice", &token, |config| {
            config.dbname(asked);
        })
        .await
        .unwrap();
    client.query_one("select current_database()::text", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_name_selects_its_cluster_and_its_alias_is_replaced() {
    let world = World::builder()
        .cluster("databases = [\"app\"]\ndatabase_aliases = { sales = \"app\" }")
        .user(&second_cluster(NO_SERVER, "databases = [\"other_*\"]"))
        .start()
        .await;
    assert_eq!(database_of(&world, "app").await, "app");
    assert_eq!(database_of(&world, "sales").await, "app");
    let refusal = refused(&world, "nowhere", &world.token("alice")).await;
    no_licence_to_look_around(&refusal, "nowhere");
    // The other cluster is not reachable: that it was tried shows where the name led.
    let error = world.raw().await.login("alice", Some("other_1"), &world.token("alice")).await.err().unwrap();
    assert_eq!(error.sqlstate(), "57P03", "{error:?}");
    assert_eq!(world.audit("database", "other_1").await["cluster"], "other");
}

/// The database of a connection that names none is decided once: the name that the list has is the name that is sent.
#[tokio::test(flavor = "multi_thread")]
async fn u1_a_connection_without_a_database_asks_for_a_listed_one() {
    let current = async |world: &World, asked: &str| {
        let sql = "select current_user || ' ' || current_database()";
        world.psql(asked, &world.token("alice"), &["-c", sql]).await
    };
    // Neither by the name that stands in the connection string nor by the person's own.
    let closed =
        World::builder().cluster("databases = [\"app\"]").user("startup_user = \"ignore\"").start().await;
    let before = closed.cloud.sts.count();
    for user in ["alice", "app"] {
        let refusal = closed.raw().await.login(user, None, &closed.token("alice")).await.err().unwrap();
        let expected = "Stage authorization: database \"alice\" is not served here, or not to you.";
        assert_eq!((refusal.sqlstate(), &*refusal.detail()), ("28P01", expected), "{refusal:?}");
        let empty = closed.raw().await.login(user, Some(""), &closed.token("alice")).await.err().unwrap();
        assert_eq!(empty.detail(), refusal.detail());
    }
    assert_eq!(closed.cloud.sts.count(), before, "STS was asked");
    // The configured one, by its name for clients.
    let keys = "database_aliases = { sales = \"app\" }\ndefault_database = \"sales\"";
    let open = World::builder().cluster(keys).start().await;
    for user in ["alice", "token"] {
        let mut client = open.raw().await;
        client.start(user, None).await;
        client.finish_login(&open.token("alice")).await.unwrap();
    }
    // libpq sends the user's name where the database is left out.
    let psql = current(&open, "user=token").await;
    assert_eq!(psql.stdout.trim(), "alice app", "{psql:?}");
    let psql = current(&open, "user=alice").await;
    assert!(psql.stderr.contains("database \"alice\" is not served here, or not to you"), "{psql:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_and_server_name_select_the_cluster() {
    let world = World::builder()
        .listen("name = \"office\"")
        .second_listener("name = \"bi\"")
        .cluster("server_names = [\"localhost\"]\nlisteners = [\"office\"]")
        .user(&second_cluster(NO_SERVER, "listeners = [\"bi\"]"))
        .start()
        .await;
    assert_eq!(database_of(&world, "app").await, "app");
    let by_the_other = format!("user=alice dbname=app port={}", world.ports[1]);
    let psql = world.psql(&by_the_other, &world.token("alice"), &["-c", "select 1"]).await;
    assert!(psql.stderr.contains("cannot connect now"), "the other cluster cannot be reached: {psql:?}");
    assert_eq!(world.audit("listener", "bi").await["cluster"], "other");
    // Without a server name nothing says that the first cluster is meant.
    let psql = world.psql("user=alice dbname=app sslsni=0", &world.token("alice"), &["-c", "select 1"]).await;
    assert!(psql.stderr.contains("is not served here, or not to you"), "{psql:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_claims_that_match_a_rule_are_admitted() {
    let allow =
        "allow = [{ claim = \"groups\", any = [\"analysts\"] }, { claim = \"admin\", any = [\"true\"] }]";
    let world = World::builder().cluster(allow).start().await;
    let with = |name: &str, value: serde_json::Value| world.mint(world.claims("alice").set(name, value));
    for good in [with("groups", serde_json::json!(["x", "analysts"])), with("admin", true.into())] {
        world.connect("alice", &good).await.unwrap();
    }
    for bad in [world.token("alice"), with("groups", "analyst".into()), with("admin", false.into())] {
        let refusal = refused(&world, "app", &bad).await;
        no_licence_to_look_around(&refusal, "app");
    }
    let log = world.log_line("no rule of cluster.allow matches the token").await;
    assert!(log.contains("refused"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_need_the_claims_that_their_issuer_requires() {
    let role = format!("role_arn = {{ idp = \"{}\" }}", names::ROLE_ARN);
    let world = World::builder()
        .role(&role)
        .issuer("require = { claim = \"scope\", all = [\"openid\", \"db\"] }\nuser_claim = \"login\"")
        .start()
        .await;
    let with = |scope: &str| world.mint(world.claims("0017").set("scope", scope).set("login", "alice"));
    world.connect("alice", &with("openid db x")).await.unwrap();
    let refusal = world.refusal("alice", &with("openid dbx")).await;
    assert_eq!(refusal.sqlstate(), "28P01");
    assert!(refusal.detail().contains("claim \"scope\" does not hold what is required: \"openid\", \"db\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_for_the_people_of_its_issuers() {
    let (other, second) = second_issuer().await;
    let one_role = format!("role_arn = {{ idp = \"{}\" }}", names::ROLE_ARN);
    for (builder, why) in [
        (World::builder().cluster("issuers = [\"idp\"]"), "cluster.issuers does not name the token's issuer"),
        (World::builder().role(&one_role), "cluster.role_arn has no role for the token's issuer"),
    ] {
        let world = builder.issuer(&second).start().await;
        world.connect("alice", &world.token("alice")).await.unwrap();
        // A good token of a configured issuer, whose people have no business here.
        let theirs = world.plant(other.token("alice"));
        no_licence_to_look_around(&refused(&world, "app", &theirs).await, "app");
        world.log_line(why).await;
    }
}

/// Every spelling that the server takes for a forbidden setting, in `options` and as a parameter of its own.
#[tokio::test(flavor = "multi_thread")]
async fn u3_forbidden_settings_are_refused_by_every_name() {
    let forbidden = "forbidden_settings = [\"role\", \"Search-Path\", \"work_mem\", \"enable_seqscan\"]";
    let world = World::builder().cluster(forbidden).start().await;
    let token = world.token("alice");
    for options in [
        "-c role=rds_iam",
        "--role=rds_iam",
        "-crole=rds_iam",
        "-e -c search-path=x",
        "-c ROLE=rds_iam",
        "-c session_authorization=rds_iam",
        "--session-authorization=rds_iam",
        "-c sort_mem=64",
        "-cSort_Mem=64",
        "--sort-mem=64",
        "-S 64",
        "-S64",
        "-c geqo=off -eS64",
        "-fs",
        "-f s",
    ] {
        let before = world.cloud.sts.count();
        let psql = world.psql(&format!("user=alice dbname=app options='{options}'"), &token, &[]).await;
        assert!(psql.stderr.contains("password authentication failed for user \"alice\""), "{psql:?}");
        assert!(psql.stderr.contains("which may not be set while connecting"), "{options}: {psql:?}");
        assert_eq!(world.cloud.sts.count(), before, "STS was asked");
    }
    for name in ["role", "Role", "session_authorization", "search_path", "sort_mem", "SORT_MEM", "work_mem"] {
        let mut client = world.raw().await;
        client.send(&startup(&[("user", "alice"), ("database", "app"), (name, "64")])).await;
        let refusal = client.finish_login(&token).await.err().unwrap();
        assert!(refusal.detail().contains("which may not be set while connecting"), "{name}: {refusal:?}");
    }
    let psql = world.psql("user=alice dbname=app options='-c geqo=off'", &token, &["-c", "show geqo"]).await;
    assert_eq!(psql.stdout.trim(), "off", "{psql:?}");
    assert_eq!(world.audit("options", "-c role=rds_iam").await["outcome"], "refused");
    let strict = World::builder().cluster("forbid_options = true").start().await;
    let psql = strict.psql("user=alice dbname=app options='-c geqo=off'", &strict.token("alice"), &[]).await;
    assert!(psql.stderr.contains("the connection sets \"options\""), "{psql:?}");
    assert!(strict.psql("user=alice dbname=app", &strict.token("alice"), &["-c", "select 1"]).await.ok);
}

/// The spellings above are the server's: where nothing is forbidden, each of them sets the setting.
#[tokio::test(flavor = "multi_thread")]
async fn u3_the_server_takes_these_spellings() {
    let world = World::start().await;
    let token = world.token("alice");
    for (options, show, value) in [
        ("-c sort_mem=77MB", "show work_mem", "77MB"),
        ("--Sort-Mem=77MB", "show work_mem", "77MB"),
        ("-S 78848", "show work_mem", "77MB"),
        ("-c vacuum_mem=77MB", "show maintenance_work_mem", "77MB"),
        ("-fs", "show enable_seqscan", "off"),
        ("-f m", "show enable_mergejoin", "off"),
        ("-e", "show datestyle", "ISO, DMY"),
    ] {
        let psql =
            world.psql(&format!("user=alice dbname=app options='{options}'"), &token, &["-c", show]).await;
        assert_eq!(psql.stdout.trim(), value, "{options}: {psql:?}");
    }
}
