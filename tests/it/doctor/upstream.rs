//! Faults of the database: its address, its certificate, its login, its session.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::time::Duration;

use aws_emulator::certs::ServerCert;
use aws_emulator::{AnswerHold, Ca, GateFault, PolicyTemplate, names};
use pgpassport::clock::Clock;
use pgpassport::commands::doctor::Finding;

use super::DoctorRun;
use super::faults::{blamed_row, examine, row};
use crate::world::raw::message;
use crate::world::scripted_server::{Script, ScriptedServer, error};
use crate::world::{World, database};

pub(super) async fn upstream() -> Vec<String> {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let host = names::ENDPOINT_HOST;
    let ca_file = ca.write(&world.folder()).unwrap().display().to_string();
    let quiet = Script::AfterStartup(vec![]);
    let good = ca.server(&[host]).unwrap();
    let wrong = ca.server(&["other.example"]).unwrap();
    let expired = ca.expired(&[host]).unwrap();
    let untrusted = Ca::untrusted(&[host]).unwrap();
    let authority = ca.authority(&[host]).unwrap();
    let old = ServerCert::version_1().unwrap();
    let mut rows = Vec::new();
    for (fault, cert, part, link, words) in [
        (
            "database resets connections",
            &good,
            Script::Reset,
            "tls",
            "TLS handshake with 127.0.0.1:…: Connection reset",
        ),
        (
            "database never answers",
            &good,
            Script::Silence,
            "tls",
            "TLS handshake with 127.0.0.1:…: no answer in time",
        ),
        (
            "database without TLS",
            &good,
            Script::Instead(b"N".to_vec()),
            "tls",
            "127.0.0.1:… does not support TLS",
        ),
        (
            "something else than PostgreSQL",
            &good,
            Script::Instead(b"HTTP".to_vec()),
            "tls",
            "127.0.0.1:… does not answer an SSLRequest",
        ),
        (
            "certificate for another name",
            &wrong,
            quiet.clone(),
            "tls",
            "TLS handshake with …: invalid peer certificate: certificate not valid for name",
        ),
        (
            "expired server certificate",
            &expired,
            quiet.clone(),
            "tls",
            "TLS handshake with …: invalid peer certificate: certificate expired",
        ),
        (
            "server certificate of an unknown authority",
            &untrusted,
            quiet.clone(),
            "tls",
            "TLS handshake with …: invalid peer certificate: ",
        ),
        (
            "server certificate that is an authority's",
            &authority,
            quiet.clone(),
            "tls",
            "TLS handshake with …: invalid peer certificate: it is that of an authority (CA:TRUE)",
        ),
        (
            "server certificate of X.509 version 1",
            &old,
            quiet.clone(),
            "tls",
            "TLS handshake with …: invalid peer certificate: it is of X.509 version 1 or 2",
        ),
    ] {
        let server = ScriptedServer::with_cert(cert, part).await;
        rows.push(row(fault, &at(&world, &server, &ca_file).await, link, words));
    }
    let server = ScriptedServer::start(&ca, Script::Direct { alpn: false }).await;
    let direct = |toml: String| toml.replace("resource_id", "direct_tls = true\nresource_id");
    let words = "TLS handshake with …: the server does not support direct TLS";
    rows.push(row(
        "server without direct TLS",
        &changed(&world, &server, &ca_file, direct).await,
        "tls",
        words,
    ));
    let token = world.token("alice");
    let real = database().postgres.addr().to_string();
    let run = DoctorRun::with(&token).changing(|toml| toml.replace(&real, "127.0.0.1:1"));
    rows.push(row(
        "database: nobody listens",
        &run.examine(&world).await,
        "tcp",
        "127.0.0.1:1: Connection refused",
    ));
    let run = DoctorRun::with(&token).changing(|toml| {
        let named = |line: &&str| !line.trim_start().starts_with("hostaddr");
        let toml = toml.lines().filter(named).collect::<Vec<_>>().join("\n");
        toml.replace(host, "app.cluster-x.invalid")
    });
    rows.push(row(
        "name that does not resolve",
        &run.examine(&world).await,
        "dns",
        "app.cluster-x.invalid cannot",
    ));
    rows
}

/// A run against a server that plays a part.
async fn at(world: &World, server: &ScriptedServer, ca_file: &str) -> Vec<Finding> {
    changed(world, server, ca_file, |toml| toml).await
}

async fn changed(
    world: &World,
    server: &ScriptedServer,
    ca_file: &str,
    change: impl Fn(String) -> String + Send + Sync,
) -> Vec<Finding> {
    let (token, real) = (world.token("alice"), database().postgres.addr().to_string());
    let run = DoctorRun::with(&token).changing(|toml| {
        let at = toml.find("ca_file").unwrap();
        let own = toml[at..].split('"').nth(1).unwrap().to_owned();
        let toml = toml.replace(&real, &server.addr.to_string()).replace(&own, ca_file);
        change(toml.replace("[limits]", "[limits]\nserver_connect_timeout = \"1s\""))
    });
    run.examine(world).await
}

pub(super) async fn login() -> Vec<String> {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let ca_file = ca.write(&world.folder()).unwrap().display().to_string();
    let mut rows = Vec::new();
    let not_iam = "the database does not take IAM tokens for user";
    for (fault, user) in [("role without rds_iam (SCRAM)", "carol"), ("role missing", "nobody")] {
        rows.push(row(fault, &examine(&world, &world.token(user)).await, "login", not_iam));
    }
    let alice = world.token("alice");
    let run = DoctorRun { database: Some("nowhere"), ..DoctorRun::with(&alice) };
    let words = "the server refused with 3D000";
    rows.push(row("database missing", &run.examine(&world).await, "login", words));
    let mut role = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    role.permission_policy = role.permission_policy.replace("rds-db:connect", "rds-db:nothing");
    world.cloud.sts.put_role(&role).unwrap();
    let words = "the database refused the IAM token";
    rows.push(row("permission policy denies", &examine(&world, &world.token("alice")).await, "login", words));
    world.cloud.sts.put_role(&world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission)).unwrap();
    tokio::task::spawn_blocking(|| database().postgres.sql("CREATE ROLE unlucky LOGIN IN ROLE rds_iam"))
        .await
        .unwrap();
    database().gate.fail_user("unlucky", GateFault::Deny);
    rows.push(row(
        "database denies IAM logins",
        &examine(&world, &world.token("unlucky")).await,
        "login",
        words,
    ));
    database().gate.heal_user("unlucky");
    database().gate.fail_user("unlucky", GateFault::Close);
    rows.push(row("IAM breaks off", &examine(&world, &world.token("unlucky")).await, "login", words));
    database().gate.heal_user("unlucky");
    let (hold, token) = (AnswerHold::new(), world.token("unlucky"));
    database().gate.fail_user("unlucky", GateFault::Hold(hold.clone()));
    let run = DoctorRun { patience: Duration::from_secs(1), ..DoctorRun::with(&token) };
    let slow = "the server did not finish the login within 1 s";
    rows.push(row("IAM does not answer", &run.examine(&world).await, "login", slow));
    hold.release();
    let token = world.token("alice");
    let run = DoctorRun::with(&token).changing(|toml| toml.replace(names::RESOURCE_ID, "cluster-OTHER"));
    rows.push(row("resource_id of another cluster", &run.examine(&world).await, "login", words));
    let endpoint = format!("endpoint = \"{}\"", names::ENDPOINT);
    let other_port = format!("endpoint = \"{}:5433\"", names::ENDPOINT_HOST);
    let run = DoctorRun::with(&token).changing(|toml| toml.replace(&endpoint, &other_port));
    rows.push(row(
        "endpoint with another port than the server's",
        &run.examine(&world).await,
        "login",
        words,
    ));
    let broken = "the database did not follow the protocol";
    for (fault, part, words) in [
        (
            "too many connections",
            Script::AfterPassword(error("53300", "sorry, too many clients already")),
            "the server refused with 53300",
        ),
        (
            "database starting",
            Script::AfterPassword(error("57P03", "the database system is starting up")),
            "the server refused with 57P03",
        ),
        ("login broken off", Script::ThenClose(vec![]), broken),
        ("MD5 asked for", Script::AfterStartup(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])), not_iam),
        ("nothing asked for (trust)", Script::AfterStartup(message(b'R', &[0, 0, 0, 0])), not_iam),
    ] {
        let server = ScriptedServer::start(&ca, part).await;
        rows.push(row(fault, &at(&world, &server, &ca_file).await, "login", words));
    }
    rows
}

pub(super) async fn session() -> Vec<String> {
    let sql = "CREATE ROLE rds_superuser; CREATE ROLE mighty LOGIN CREATEROLE IN ROLE rds_iam, rds_superuser; \
               CREATE ROLE almighty LOGIN SUPERUSER IN ROLE rds_iam; \
               CREATE ROLE disguised LOGIN IN ROLE rds_iam; GRANT bob TO disguised; ALTER ROLE disguised SET role = bob";
    tokio::task::spawn_blocking(move || database().postgres.sql(sql)).await.unwrap();
    let world = World::start().await;
    let mut rows = Vec::new();
    let words = "the user is rds_superuser, CREATEROLE";
    rows.push(row(
        "user with administrator's rights",
        &examine(&world, &world.token("mighty")).await,
        "privileges",
        words,
    ));
    let words = "the user is superuser";
    rows.push(row("superuser", &examine(&world, &world.token("almighty")).await, "privileges", words));
    let words = "current_user is \"bob\", session_user \"disguised\"";
    rows.push(row(
        "session under another role",
        &examine(&world, &world.token("disguised")).await,
        "current-user",
        words,
    ));
    let token = world.token("alice");
    let fast = Clock::from_fn(|| {
        let system = Clock::system();
        system.now() + Duration::from_mins(2)
    });
    let findings = DoctorRun { clock: fast, ..DoctorRun::with(&token) }.examine(&world).await;
    rows.push(row("our clock is wrong", &findings, "peer-clocks", "this machine's clock is 1"));
    let words = "the server's clock is -120 s from this machine's";
    let clock: Vec<_> = findings.iter().filter(|one| one.link.id() != "peer-clocks").cloned().collect();
    rows.push(blamed_row("our clock and the server's differ", &clock, "clock", words));
    rows
}
