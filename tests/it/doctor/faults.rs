//! Every fault of the stand-ins, the link that has to be blamed, and the first words of what is said.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::fs;
use std::time::Duration;

use aws_emulator::sts::StsFault;
use aws_emulator::{
    Ca, Claims, Fault, GateFault, Issuer, IssuerOptions, KeyChoice, Page, Provider, Template, names,
};
use pgpassport::aws::sts::StsTimes;
use pgpassport::clock::Clock;
use pgpassport::commands::doctor::{Finding, State};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::{Run, assert_complete};
use crate::world::fake::{FakeServer, Part, error};
use crate::world::raw::message;
use crate::world::{World, database};

/// Short waits: the stand-ins are near.
pub(super) fn times() -> StsTimes {
    StsTimes {
        connect: Duration::from_secs(1),
        attempt: Duration::from_millis(500),
        operation: Duration::from_secs(1),
        attempts: 2,
        first_pause: Duration::from_millis(10),
    }
}

/// The row of the docs for one run: the first link that is not as it should be is `link`, and says `words` first. No
/// other link is blamed for it.
fn row(fault: &str, findings: &[Finding], link: &str, words: &str) -> String {
    assert_complete(findings);
    let troubled: Vec<_> =
        findings.iter().filter(|one| matches!(one.state, State::Failed | State::Warning)).collect();
    let failed = troubled.iter().filter(|one| one.state == State::Failed).count();
    let Some(blamed) = troubled.iter().find(|one| failed == 0 || one.state == State::Failed) else {
        panic!("{fault}: nothing is blamed: {findings:#?}")
    };
    assert_eq!((blamed.link.id(), failed <= 1), (link, true), "{fault}: {troubled:#?}");
    assert!(blamed.found.starts_with(words), "{fault}: {words}: {blamed:#?}");
    let remedy = blamed.remedy.as_deref().unwrap_or_else(|| panic!("{fault}: no remedy: {blamed:#?}"));
    let state = if blamed.state == State::Failed { "failed" } else { "warning" };
    let cell = |text: &str| text.replace('|', "\\|");
    // The rest of what is said has numbers and paths of the run; the first words are the same each time.
    format!("| {fault} | `{link}` | {state} | {}… | {} |\n", cell(words), cell(&stable(remedy)))
}

/// Without what differs from run to run.
fn stable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let varies = word.contains("127.0.0.1:") || word.starts_with("/tmp/");
        words.push(if varies { "…".to_owned() } else { word.to_owned() });
    }
    words.join(" ")
}

async fn examine(world: &World, token: &str) -> Vec<Finding> {
    Run::with(token).examine(world).await
}

fn certificate(world: &World, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let path = world.folder().join("other.crt");
    fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(world.folder().join("other.key"), key.serialize_pem()).unwrap();
    std::os::unix::fs::chown(world.folder().join("other.key"), None, None).unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    fs::set_permissions(world.folder().join("other.key"), mode).unwrap();
    path.display().to_string()
}

pub(super) async fn setup() -> Vec<String> {
    let world = World::start().await;
    let token = world.token("alice");
    let mut rows = Vec::new();
    let now = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(world.cloud.clock.unix()).unwrap());
    for (fault, change, words) in [
        (
            "listener certificate about to expire",
            Box::new(|params: &mut CertificateParams| {
                params.not_after = (now + Duration::from_hours(100)).into();
            }) as Box<dyn FnOnce(&mut CertificateParams)>,
            "the certificate in ",
        ),
        (
            "listener certificate expired",
            Box::new(|params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            "the certificate in ",
        ),
        (
            "listener certificate without names",
            Box::new(|params: &mut CertificateParams| params.subject_alt_names.clear()),
            "for no name at all",
        ),
    ] {
        let cert = certificate(&world, change);
        let run = Run::with(&token).changing(move |toml| {
            let at = toml.find("tls_cert_file").unwrap();
            let own = toml[at..].split('"').nth(1).unwrap().to_owned();
            toml.replace(&own, &cert).replace(&own.replace(".crt", ".key"), &cert.replace(".crt", ".key"))
        });
        rows.push(row(fault, &run.examine(&world).await, "listener-certificate", words));
    }
    let run = Run::with(&token).changing(|toml| toml.replace("/upstream/ca.pem", "/nowhere.pem"));
    let findings = run.examine(&world).await;
    assert_eq!(findings[0].link.id(), "config");
    assert!(findings[0].found.starts_with("cluster.ca_file: "), "{findings:#?}");
    let run = Run::with(&token).changing(|toml| toml.replace("resource_id", "# resource_id"));
    let findings = run.examine(&world).await;
    rows.push(row("no resource_id", &findings, "config", "cluster app has no resource_id"));
    rows
}

pub(super) async fn issuer() -> Vec<String> {
    let world = World::start().await;
    let token = world.token("alice");
    let issuer = &world.cloud.issuer;
    let url = issuer.url();
    let other_host = json!({ "issuer": url, "jwks_uri": "https://keys.example/jwks" }).to_string();
    let mut rows = Vec::new();
    let at_discovery = "issuer idp: http";
    for (fault, page, shown, link, words) in [
        ("issuer closes connections", Page::Discovery, Fault::Close, "issuer-discovery", at_discovery),
        ("issuer answers 503 with HTML", Page::Discovery, Fault::html(503), "issuer-discovery", at_discovery),
        (
            "issuer answers HTML",
            Page::Discovery,
            Fault::html(200),
            "issuer-discovery",
            "issuer idp: discovery document: ",
        ),
        (
            "issuer never answers",
            Page::Discovery,
            Fault::Hang,
            "issuer-discovery",
            "issuer idp: no answer within 5 s",
        ),
        (
            "issuer redirects",
            Page::Discovery,
            Fault::Redirect("https://elsewhere.example/".to_owned()),
            "issuer-discovery",
            at_discovery,
        ),
        (
            "discovery document of another issuer",
            Page::Discovery,
            Fault::json("{\"issuer\":\"https://other.example\",\"jwks_uri\":\"https://other.example/k\"}"),
            "issuer-discovery",
            "issuer idp: discovery document: its issuer is not",
        ),
        (
            "keys at another host",
            Page::Discovery,
            Fault::json(other_host),
            "issuer-discovery",
            "issuer idp: discovery document: its jwks_uri is at another host",
        ),
        (
            "key set that is no JSON",
            Page::Jwks,
            Fault::html(200),
            "issuer-keys",
            "issuer idp: the key set is ",
        ),
        (
            "key set without keys",
            Page::Jwks,
            Fault::json("{\"keys\":[]}"),
            "issuer-keys",
            "issuer idp: the key set has no usable key",
        ),
        ("key set too large", Page::Jwks, Fault::oversize(600_000), "issuer-keys", at_discovery),
        ("key set that never ends", Page::Jwks, Fault::Endless, "issuer-keys", at_discovery),
        ("key set missing", Page::Jwks, Fault::status(404), "issuer-keys", at_discovery),
    ] {
        issuer.fail(page, shown);
        rows.push(row(fault, &examine(&world, &token).await, link, words));
        issuer.heal();
    }
    issuer.rotate(false).unwrap();
    let words = "issuer idp: no key with the token's kid";
    rows.push(row("key rotated away", &examine(&world, &token).await, "token-signature", words));
    rows
}

pub(super) async fn tokens() -> Vec<String> {
    let rule = "require = { claim = \"scope\", any = [\"db\"] }";
    let world = World::wishes().issuer(rule).start().await;
    let issuer = &world.cloud.issuer;
    let now = world.cloud.clock.unix();
    let claims = || world.claims("alice").set("scope", "db");
    let with = |key: &KeyChoice| world.plant(issuer.mint_with(claims(), key));
    let mint = |claims: Claims| world.mint(claims);
    let pem = issuer.rsa_public_pem().into_bytes();
    let twice = serde_json::Value::from(claims()).to_string().replacen('{', "{\"sub\":\"bob\",", 1);
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, issuer.kid(&KeyChoice::Rs256));
    let logout = header.replace("\"alg\"", "\"typ\":\"logout+jwt\",\"alg\"");
    let payload = serde_json::Value::from(claims()).to_string();
    let sign = |header: &str, payload: &str, key| world.plant(issuer.sign(header, payload.as_bytes(), key));
    let cases = [
        ("no JWT", "hunter2".to_owned(), "token", "the password is not a JWT"),
        ("encrypted token", "a.b.c.d.e".to_owned(), "token", "the token is encrypted"),
        (
            "token over 20000 bytes",
            world.plant(issuer.mint_sized(claims(), 20_400)),
            "token",
            "the token has 204",
        ),
        ("HS256", with(&KeyChoice::Hs256(pem)), "token", "the token's signature algorithm is not accepted"),
        ("alg none", with(&KeyChoice::Unsigned), "token", "the token's signature algorithm is not accepted"),
        ("PS256", with(&KeyChoice::Ps256), "token", "the token's signature algorithm is not accepted"),
        (
            "claim twice",
            sign(&header, &twice, &KeyChoice::Rs256),
            "token",
            "the token is not one that this proxy can",
        ),
        (
            "logout token",
            sign(&logout, &payload, &KeyChoice::Rs256),
            "token",
            "the token's type (typ) is not",
        ),
        (
            "unknown issuer",
            mint(claims().set("iss", "https://evil.example")),
            "token-issuer",
            "the token's iss is",
        ),
        (
            "forged signature",
            sign(&header, &payload, &KeyChoice::Bytes(vec![7; 256])),
            "token-signature",
            "the token's signature does not hold",
        ),
        (
            "wrong aud",
            mint(claims().set("aud", "other")),
            "token-audience",
            "the token's audience is \"other\"",
        ),
        ("no aud", mint(claims().without("aud")), "token-audience", "the token has no claim \"aud\""),
        (
            "expired token",
            mint(claims().set("exp", now - 720).set("iat", now - 1_000).set("nbf", now - 1_000)),
            "token-times",
            "the token expired 12 minutes ago",
        ),
        (
            "token of tomorrow",
            mint(claims().set("nbf", now + 600)),
            "token-times",
            "the token is not valid yet",
        ),
        (
            "iat in the future",
            mint(claims().set("iat", now + 600).without("nbf")),
            "token-times",
            "the token was issued",
        ),
        ("no iat", mint(claims().without("iat")), "token-times", "the token has no claim \"iat\""),
        ("no exp", mint(claims().without("exp")), "token-times", "the token has no claim \"exp\""),
        (
            "token that lives too long",
            mint(claims().set("exp", now + 90_000)),
            "token-times",
            "the token lives for",
        ),
        ("no sub", mint(claims().without("sub")), "token-claims", "the token has no claim \"sub\""),
        (
            "scope missing",
            mint(claims().without("scope")),
            "token-claims",
            "the token's claim \"scope\" does not hold",
        ),
    ];
    let mut rows = Vec::new();
    for (fault, token, link, words) in cases {
        let before = world.cloud.sts.count();
        rows.push(row(fault, &examine(&world, &token).await, link, words));
        assert_eq!(world.cloud.sts.count(), before, "STS was asked for a bad token");
    }
    rows
}

pub(super) async fn access() -> Vec<String> {
    let allow = "allow = [{ claim = \"groups\", any = [\"analysts\"] }]";
    let world = World::wishes().cluster(allow).start().await;
    let claims = |sub: &str| world.claims(sub).set("groups", json!(["analysts"]));
    let regex = |toml: String| {
        toml.replace("[cluster.user]", "[cluster.user]\nclaim = \"email\"\nregex = '(.+)@acme\\.com'")
    };
    let pinned = |toml: String| toml.replace("allow = ", "pin = \"session-tag\"\nallow = ");
    let tagged = world.mint(claims("alice").tag("dbuser", "bob"));
    let (good, denied, outsider) =
        (world.mint(claims("alice")), world.mint(claims("postgres")), world.token("alice"));
    vec![
        row(
            "no rule of allow fits",
            &examine(&world, &outsider).await,
            "cluster",
            "database \"app\" is not served here",
        ),
        row(
            "denied name",
            &examine(&world, &denied).await,
            "database-user",
            "nobody may log in as \"postgres\"",
        ),
        row(
            "regex does not match",
            &Run::with(&good).changing(regex).examine(&world).await,
            "database-user",
            "the token's claim \"email\" is \"alice@example.com\", from which no",
        ),
        row(
            "user claim missing",
            &Run::with(&good)
                .changing(|toml| toml.replace("[cluster.user]", "[cluster.user]\nclaim = \"upn\""))
                .examine(&world)
                .await,
            "database-user",
            "the token has no claim \"upn\"",
        ),
        row(
            "session tag missing",
            &Run::with(&good).changing(pinned).examine(&world).await,
            "session-tag",
            "the token does not carry the session tag",
        ),
        row(
            "session tag of somebody else",
            &Run::with(&tagged).changing(pinned).examine(&world).await,
            "session-tag",
            "the token's session tag \"dbuser\" is \"bob\"",
        ),
    ]
}

pub(super) async fn sts_answers() -> Vec<String> {
    let world = World::start().await;
    let invalid = |text: &str| StsFault::error(400, "InvalidIdentityToken", text);
    let said = |status, code: &str| StsFault::error(status, code, "in AWS's words");
    let cases = [
        (
            "STS: ExpiredTokenException",
            said(400, "ExpiredTokenException"),
            "STS refused with ExpiredTokenException",
        ),
        ("STS: IDPRejectedClaim", said(403, "IDPRejectedClaim"), "STS refused with IDPRejectedClaim"),
        ("STS: AccessDenied", said(403, "AccessDenied"), "STS refused with AccessDenied"),
        (
            "STS: thumbprint",
            invalid("OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"),
            "STS refused with InvalidIdentityToken: OpenIDConnect provider's HTTPS",
        ),
        (
            "STS: discovery document",
            invalid("Please check .well-known/openid-configuration of provider: https://x is valid"),
            "STS refused with InvalidIdentityToken: Please check",
        ),
        (
            "STS: other InvalidIdentityToken",
            said(400, "InvalidIdentityToken"),
            "STS refused with InvalidIdentityToken",
        ),
        ("STS: a new code", said(400, "SomethingNew"), "STS refused with SomethingNew"),
        (
            "STS: ValidationError",
            said(400, "ValidationError"),
            "STS cannot do what is configured, ValidationError",
        ),
        (
            "STS: MalformedPolicyDocument",
            said(400, "MalformedPolicyDocument"),
            "STS cannot do what is configured, MalformedPolicyDocument",
        ),
        (
            "STS: PackedPolicyTooLarge",
            said(400, "PackedPolicyTooLarge"),
            "STS cannot do what is configured, PackedPolicyTooLarge",
        ),
        (
            "STS: RegionDisabledException",
            said(403, "RegionDisabledException"),
            "STS cannot do what is configured, RegionDisabledException",
        ),
        ("STS: Throttling", StsFault::throttling(), "STS is unavailable: Throttling"),
        ("STS: IDPCommunicationError", StsFault::idp_communication(), "STS is unavailable: "),
        ("STS: keys not retrieved", StsFault::key_not_retrieved(), "STS is unavailable: "),
        ("STS: InternalFailure", StsFault::internal_failure(), "STS is unavailable: "),
        ("STS: 503 with HTML", StsFault::unavailable(), "STS is unavailable: "),
        ("STS: HTML with status 200", StsFault::Http(Fault::html(200)), "STS is unavailable: "),
        ("STS: connection closed", StsFault::Http(Fault::Close), "STS is unavailable: "),
        ("STS: black hole", StsFault::Http(Fault::Hang), "STS is unavailable: "),
        ("STS: broken off", StsFault::Truncated, "STS is unavailable: "),
        (
            "STS: 200 without credentials",
            StsFault::WithoutCredentials,
            "STS answered wrongly: no credentials",
        ),
        (
            "STS: another subject",
            StsFault::OtherSubject("mallory".into()),
            "STS answered wrongly: the credentials are",
        ),
        (
            "STS: another provider",
            StsFault::OtherProvider("x".into()),
            "STS answered wrongly: the credentials are",
        ),
        (
            "STS: expired credentials",
            StsFault::AlreadyExpired,
            "STS answered wrongly: credentials that have expired",
        ),
    ];
    let mut rows = Vec::new();
    for (fault, shown, words) in cases {
        world.cloud.sts.fail(shown);
        rows.push(row(fault, &examine(&world, &world.token("alice")).await, "sts", words));
        world.cloud.sts.heal();
    }
    rows
}

pub(super) async fn sts_decisions() -> Vec<String> {
    let world = World::start().await;
    let sts = &world.cloud.sts;
    let mut rows = Vec::new();
    let dead = sts.url();
    let run = world.token("alice");
    let run = Run::with(&run).changing(move |toml| toml.replace(&dead, "http://127.0.0.1:1"));
    rows.push(row("STS: nobody listens", &run.examine(&world).await, "sts-endpoint", "127.0.0.1:1: "));
    let tagged = world.mint(world.claims("alice").tag("dbuser", "alice"));
    let words = "STS refused with AccessDenied: Not authorized to perform sts:TagSession";
    rows.push(row("tags without sts:TagSession", &examine(&world, &tagged).await, "sts", words));
    let elsewhere = world.token("alice");
    let run = Run::with(&elsewhere).changing(|toml| toml.replace(names::ACCOUNT, "999999999999"));
    let words = "STS refused with AccessDenied";
    rows.push(row("role in another account", &run.examine(&world).await, "sts", words));
    let mut role = world.cloud.role(Template::Trust, Template::Permission);
    role.trust_policy = role.trust_policy.replace(&format!("\"{}\"", names::AUDIENCE), "\"somebody-else\"");
    sts.put_role(&role).unwrap();
    rows.push(row(
        "trust policy for another audience",
        &examine(&world, &world.token("alice")).await,
        "sts",
        words,
    ));
    let azp = world.mint(world.claims("alice").set("azp", "client"));
    let findings = examine(&world, &azp).await;
    let words = "STS refused with InvalidIdentityToken: Incorrect token audience";
    rows.push(row("azp that IAM does not know", &findings, "sts", words));
    let audience = findings.iter().find(|finding| finding.link.id() == "sts-audience").unwrap();
    assert!(audience.found.starts_with("STS compares azp, \"client\", and not aud"), "{audience:?}");

    let other =
        tokio::task::spawn_blocking(|| Issuer::start(IssuerOptions::default()).unwrap()).await.unwrap();
    let known = Provider { url: other.url(), audiences: Vec::new(), fetch_url: None };
    let foreign = world.plant(other.mint(other.default_claims("alice")));
    let own = world.cloud.issuer.url();
    let run = Run::with(&foreign).changing(|toml| toml.replace(&own, &known.url));
    let words = "STS refused with InvalidIdentityToken: No OpenIDConnect provider";
    rows.push(row("issuer not registered in IAM", &run.examine(&world).await, "sts", words));
    rows
}

pub(super) async fn upstream() -> Vec<String> {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let host = names::ENDPOINT_HOST;
    let ca_file = ca.write(&world.folder()).unwrap().display().to_string();
    let quiet = Part::AfterStartup(vec![]);
    let good = ca.server(&[host]).unwrap();
    let wrong = ca.server(&["other.example"]).unwrap();
    let expired = ca.expired(&[host]).unwrap();
    let untrusted = Ca::untrusted(&[host]).unwrap();
    let tls = "TLS handshake with ";
    let mut rows = Vec::new();
    for (fault, cert, part, link, words) in [
        ("database resets connections", &good, Part::Reset, "tcp", "127.0.0.1:"),
        ("database never answers", &good, Part::Silence, "tcp", "no answer within"),
        ("database without TLS", &good, Part::Instead(b"N".to_vec()), "tls", "127.0.0.1:"),
        ("something else than PostgreSQL", &good, Part::Instead(b"HTTP".to_vec()), "tls", "127.0.0.1:"),
        ("certificate for another name", &wrong, quiet.clone(), "tls", tls),
        ("expired server certificate", &expired, quiet.clone(), "tls", tls),
        ("server certificate of an unknown authority", &untrusted, quiet.clone(), "tls", tls),
    ] {
        let server = FakeServer::with_cert(cert, part).await;
        rows.push(row(fault, &at(&world, &server, &ca_file).await, link, words));
    }
    let token = world.token("alice");
    let real = database().postgres.addr().to_string();
    let run = Run::with(&token).changing(|toml| toml.replace(&real, "127.0.0.1:1"));
    rows.push(row("database: nobody listens", &run.examine(&world).await, "tcp", "127.0.0.1:1: "));
    let run = Run::with(&token).changing(|toml| {
        let toml = toml.replace(&format!("hostaddr = \"{real}\""), "");
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
async fn at(world: &World, server: &FakeServer, ca_file: &str) -> Vec<Finding> {
    let (token, real) = (world.token("alice"), database().postgres.addr().to_string());
    let run = Run::with(&token).changing(|toml| {
        let at = toml.find("ca_file").unwrap();
        let own = toml[at..].split('"').nth(1).unwrap().to_owned();
        let toml = toml.replace(&real, &server.addr.to_string()).replace(&own, ca_file);
        toml.replace("[limits]", "[limits]\nserver_connect_timeout = \"1s\"")
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
    let run = Run { database: Some("nowhere"), ..Run::with(&alice) };
    let words = "the server refused with 3D000";
    rows.push(row("database missing", &run.examine(&world).await, "login", words));
    let mut role = world.cloud.role(Template::Trust, Template::Permission);
    role.permission_policy = role.permission_policy.replace("rds-db:connect", "rds-db:nothing");
    world.cloud.sts.put_role(&role).unwrap();
    let words = "the database refused the IAM token";
    rows.push(row("permission policy denies", &examine(&world, &world.token("alice")).await, "login", words));
    world.cloud.sts.put_role(&world.cloud.role(Template::Trust, Template::Permission)).unwrap();
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
    let broken = "the database did not follow the protocol";
    for (fault, part, words) in [
        (
            "too many connections",
            Part::AfterPassword(error("53300", "sorry, too many clients already")),
            "the server refused with 53300",
        ),
        (
            "database starting",
            Part::AfterPassword(error("57P03", "the database system is starting up")),
            "the server refused with 57P03",
        ),
        ("login broken off", Part::ThenClose(vec![]), broken),
        ("MD5 asked for", Part::AfterStartup(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])), not_iam),
        ("nothing asked for (trust)", Part::AfterStartup(message(b'R', &[0, 0, 0, 0])), not_iam),
    ] {
        let server = FakeServer::start(&ca, part).await;
        rows.push(row(fault, &at(&world, &server, &ca_file).await, "login", words));
    }
    rows
}

pub(super) async fn session() -> Vec<String> {
    let sql = "CREATE ROLE rds_superuser; CREATE ROLE mighty LOGIN CREATEROLE IN ROLE rds_iam, rds_superuser; \
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
    let findings = Run { clock: fast, ..Run::with(&token) }.examine(&world).await;
    rows.push(row("our clock is wrong", &findings, "clock", "the server's clock is -120 s from ours"));
    rows
}
