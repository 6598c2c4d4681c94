//! The output of `pgpassport policy` in use: the role has the printed policies, the people the printed SQL
//! makes log in, and everybody else does not. (Every other test of this binary logs in with printed policies too.)

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use aws_emulator::{IssuerPage, OidcProvider, PolicyTemplate, SourceIp, names};
use pgpassport::commands::policy::{PlanFormat, PlanOptions, PolicyPlan, SourceRestriction, render};
use pgpassport::config::Config;

use crate::world::second::second_issuer;
use crate::world::{World, database};

const BINARY: &str = env!("CARGO_BIN_EXE_pgpassport");

fn from(source: SourceRestriction) -> PlanOptions {
    PlanOptions { source, ..PlanOptions::default() }
}

async fn is_let_in(world: &World) {
    world.connect("alice", &world.token("alice")).await.unwrap();
}

/// Refused by the trust policy, and by nothing before it.
async fn is_not_trusted(world: &World, token: &str) {
    let before = world.cloud.sts.count();
    let refusal = world.refusal("alice", token).await;
    assert!(refusal.hint().contains("trust policy"), "{refusal:?}");
    assert_eq!(world.cloud.sts.count(), before + 1);
    assert_eq!(world.cloud.sts.calls().last().unwrap().code, "AccessDenied");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissive_form_admits_any_token_for_the_audience() {
    let world = World::start().await;
    is_let_in(&world).await;
    let url = world.cloud.issuer.url();
    let audiences = [names::AUDIENCE, "another-app"].map(str::to_owned).to_vec();
    world.cloud.sts.put_provider(OidcProvider { url, audiences, fetch_url: None });
    let theirs = world.mint(world.claims("alice").set("azp", "another-app"));
    is_not_trusted(&world, &theirs).await;
    // The very client whose id is given with --audience, and no other.
    let form = PlanOptions { audiences: vec!["another-app".to_owned()], ..PlanOptions::default() };
    let by_azp = World::builder().policies(form).start().await;
    let url = by_azp.cloud.issuer.url();
    let audiences = vec!["another-app".to_owned()];
    by_azp.cloud.sts.put_provider(OidcProvider { url, audiences, fetch_url: None });
    let token = by_azp.mint(by_azp.claims("alice").set("azp", "another-app"));
    by_azp.connect("alice", &token).await.unwrap();
    let refusal = by_azp.refusal("alice", &by_azp.token("alice")).await;
    assert!(refusal.hint().contains("audience"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_ip_form_lets_in_from_the_named_addresses_only() {
    let networks = ["198.51.100.7", "203.0.113.0/24"].map(str::to_owned).to_vec();
    let world = World::builder().policies(from(SourceRestriction::Ip(networks))).start().await;
    let come_from = |source| world.cloud.sts.set_source_ip(source);
    for address in [[198, 51, 100, 7], [203, 0, 113, 1], [203, 0, 113, 255]] {
        come_from(SourceIp::Fixed(IpAddr::from(address)));
        is_let_in(&world).await;
    }
    for source in [
        SourceIp::Peer,
        SourceIp::Fixed(IpAddr::from([198, 51, 100, 8])),
        SourceIp::Fixed(IpAddr::from([203, 0, 114, 0])),
        SourceIp::Vpce("vpce-0123456789abcdef0"),
        SourceIp::Absent,
    ] {
        come_from(source);
        is_not_trusted(&world, &world.token("alice")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_vpce_form_lets_in_through_the_named_endpoint_only() {
    let form = from(SourceRestriction::Vpce(vec!["vpce-0123456789abcdef0".to_owned()]));
    let world = World::builder().policies(form).start().await;
    world.cloud.sts.set_source_ip(SourceIp::Vpce("vpce-0123456789abcdef0"));
    is_let_in(&world).await;
    for source in [SourceIp::Vpce("vpce-0123456789abcdef1"), SourceIp::Peer, SourceIp::Absent] {
        world.cloud.sts.set_source_ip(source);
        is_not_trusted(&world, &world.token("alice")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_tag_form_ties_the_role_to_the_one_user() {
    for form in [PlanOptions::default(), from(SourceRestriction::Ip(vec!["127.0.0.0/8".to_owned()]))] {
        let world = World::builder().cluster("pin = \"session-tag\"").policies(form).start().await;
        let tagged = world.mint(world.claims("alice").tag("dbuser", "alice"));
        world.connect("alice", &tagged).await.unwrap();
        let call = world.cloud.sts.calls().remove(0);
        assert_eq!(call.policy, None, "the role's own policy alone");
        database().gate.judge("alice", &world.sign_for("alice")).unwrap();
        let refusal = database().gate.judge("bob", &world.sign_for("bob")).unwrap_err();
        assert_eq!(refusal, aws_emulator::GateRefusal::RolePolicy);
        // Around the proxy, which would not send such tokens: none of them gives anybody the role.
        for token in [
            world.token("alice"),
            world.mint(world.claims("alice").tag("team", "x")),
            world.mint(world.claims("alice").tag("dbuser", "")),
            world.mint(world.claims("alice").tag("dbuser", "alice").tag("team", "x")),
        ] {
            assert_eq!(assume(&world, &token).await, 403);
        }
        assert_eq!(assume(&world, &tagged).await, 200);
    }
}

/// Asks STS without the proxy.
async fn assume(world: &World, token: &str) -> u16 {
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", names::ROLE_ARN),
        ("RoleSessionName", "around"),
        ("WebIdentityToken", token),
    ];
    aws_emulator::http::post_form(&format!("{}/", world.cloud.sts.url()), &fields).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn session_tags_for_one_cluster_do_not_lock_out_of_another() {
    // Two clusters of one issuer: the tokens carry tags because of the second, so the first has to allow them.
    let second = r#"
        [[cluster]]
        name = "pinned"
        endpoint = "pinned.cluster-abc123.eu-central-1.rds.amazonaws.com"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/pinned"
        ca_file = "@upstream-ca@"
        pin = "session-tag"
        databases = ["pinned"]
    "#;
    let world = World::builder().cluster("databases = [\"app\"]").user(second).start().await;
    is_let_in(&world).await;
    let tagged = world.mint(world.claims("alice").tag("dbuser", "alice"));
    world.connect("alice", &tagged).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_sql_makes_users_who_can_log_in() {
    let world = World::builder().cluster("databases = [\"app\"]").start().await;
    for name in ["dora", "We\"ird, user", "o'neil"] {
        let output = Command::new(BINARY)
            .args(["policy", "--only", "sql", "--user", name, "--config"])
            .arg(world.config_file())
            .output()
            .unwrap();
        let sql = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && sql.contains("GRANT CONNECT ON DATABASE \"app\""), "{sql}");
        tokio::task::spawn_blocking(move || database().postgres.sql(&sql)).await.unwrap();
        let client = world.connect(name, &world.token(name)).await.unwrap();
        let row = client.query_one("select current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_issuer_is_trusted_by_its_own_role() {
    let (other, more) = second_issuer().await;
    let role = format!(
        "role_arn = {{ idp = \"{}\", other = \"arn:aws:iam::{}:role/pgpassport-other\" }}",
        names::ROLE_ARN,
        names::ACCOUNT
    );
    let world = World::builder().role(&role).issuer(&more).start().await;
    let text = fs::read_to_string(world.config_file()).unwrap();
    let config = Config::from_toml(&text, "proxy.toml").unwrap();
    let plan = PolicyPlan::new(&config, &PlanOptions::default()).unwrap();
    let roles: Vec<_> = plan.roles.iter().map(|role| role.arn.as_str().to_owned()).collect();
    assert_eq!(roles, [names::ROLE_ARN, "arn:aws:iam::123456789012:role/pgpassport-other"]);
    let theirs = plan.roles[1].trust.json();
    let name = other.url().replace("http://", "");
    assert!(theirs.contains(&name) && !theirs.contains(&world.cloud.issuer.url()[7..]), "{theirs}");

    let mut second = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    second.arn.clone_from(&roles[1]);
    (second.trust_policy, second.permission_policy) = (theirs, plan.roles[1].permission.json());
    world.cloud.sts.put_role(&second).unwrap();
    world.federate(&other);
    is_let_in(&world).await;
    let token = world.plant(other.mint(other.default_claims("bob")));
    world.connect("bob", &token).await.unwrap();
    let calls = world.cloud.sts.calls();
    assert_eq!([calls[0].role_arn.as_str(), calls[1].role_arn.as_str()], [roles[0].as_str(), &roles[1]]);
    assert!(other.count(IssuerPage::Jwks) > 0);
}

/// The example's plan in some form.
fn example(form: &PlanOptions) -> PolicyPlan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/printed_policies.toml");
    let text = fs::read_to_string(&path).unwrap();
    PolicyPlan::new(&Config::from_toml(&text, &path).unwrap(), form).unwrap()
}

#[test]
fn the_stand_ins_own_policies_are_the_printed_ones() {
    let tagged = PlanOptions { session_tag: true, ..PlanOptions::default() };
    let ip = from(SourceRestriction::Ip(vec!["203.0.113.7".to_owned()]));
    let vpce = from(SourceRestriction::Vpce(vec!["vpce-0123456789abcdef0".to_owned()]));
    for (name, form, trust) in [
        ("trust-policy", PlanOptions::default(), true),
        ("permission-policy", PlanOptions::default(), false),
        ("trust-policy-source-ip", ip, true),
        ("trust-policy-source-vpce", vpce, true),
        ("trust-policy-session-tag", tagged.clone(), true),
        ("permission-policy-session-tag", tagged, false),
    ] {
        let role = example(&form).roles.remove(0);
        let printed = if trust { role.trust.json() } else { role.permission.json() };
        let file = format!("tests/aws-emulator/policies/{name}.json");
        let kept = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
        assert_eq!(kept.trim(), printed, "{file} is not what is printed: write it anew");
    }
}

#[test]
fn the_shell_commands_pass_the_same_documents_to_aws() {
    let folder = tempfile::tempdir().unwrap();
    // Stand-ins for both programs write down what they are given, a line of hex an argument.
    // AWS has what was created, and creates nothing twice.
    let program = "#!/bin/sh\nfor a in \"$(basename \"$0\")\" \"$@\"; do printf %s \"$a\" | od -An -v -tx1 | tr -d ' \\n'; \
                   echo; done >> \"$SEEN\"\n[ \"$(basename \"$0\")\" = psql ] && cat >> \"$SEEN.sql\"\n\
                   case $2 in get-*) test -e \"$SEEN.$2\"; exit;; create-*) set -C; : > \"$SEEN.get${2#create}\" || exit 254;; \
                   esac\ntrue\n";
    for name in ["aws", "psql"] {
        let path = folder.path().join(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let form = PlanOptions {
        session_tag: true,
        audiences: vec!["it's $HOME `id` \\".to_owned()],
        users: vec![pgpassport::names::DbUser::parse("a\"b$HOME'").unwrap()],
        ..PlanOptions::default()
    };
    let plan = example(&form);
    let seen = folder.path().join("seen");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let script = render(&plan, Path::new("proxy.toml"), PlanFormat::Cli, None).unwrap();
    let run = |administrator: Option<&str>| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("PATH", &path).env("SEEN", &seen).env_remove("ADMINISTRATOR");
        shell.envs(administrator.map(|name| ("ADMINISTRATOR", name))).output().unwrap()
    };
    let insists = run(None);
    assert!(!insists.status.success() && String::from_utf8_lossy(&insists.stderr).contains("ADMINISTRATOR"));
    assert!(!seen.exists(), "nothing is done before all values are known");
    let first = run(Some("master"));
    assert!(first.status.success(), "{first:?}");
    let hex = fs::read_to_string(&seen).unwrap();
    let given: Vec<String> = hex.lines().map(unhex).collect();
    for wanted in [
        "create-open-id-connect-provider",
        "https://idp.example.com/oauth2/default",
        "it's $HOME `id` \\",
        "pgpassport-app",
        &plan.roles[0].trust.json(),
        &plan.roles[0].permission.json(),
    ] {
        assert!(given.iter().any(|argument| argument == wanted), "{wanted}: {given:?}");
    }
    let sql = fs::read_to_string(folder.path().join("seen.sql")).unwrap();
    assert_eq!(
        sql,
        "\\set ON_ERROR_STOP on\nSELECT 'CREATE USER \"a\"\"b$HOME''\"' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles \
         WHERE rolname = 'a\"b$HOME''') \\gexec\nGRANT rds_iam TO \"a\"\"b$HOME'\";\n"
    );
    let again = run(Some("master"));
    assert!(again.status.success(), "{again:?}");
    let hex = fs::read_to_string(&seen).unwrap();
    let given: Vec<String> = hex.lines().map(unhex).collect();
    for wanted in ["add-client-id-to-open-id-connect-provider", "update-assume-role-policy"] {
        assert!(given.iter().any(|argument| argument == wanted), "{wanted}: {given:?}");
    }
    assert_eq!(given.iter().filter(|argument| *argument == "create-role").count(), 1);
}

fn unhex(line: &str) -> String {
    let bytes = line
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}
