//! Faults in answers and decisions of STS.
#![expect(clippy::too_many_lines, reason = "tables")]

use std::time::Duration;

use aws_emulator::sts::StsFault;
use aws_emulator::{Ca, HttpFault, Issuer, IssuerOptions, OidcProvider, PolicyTemplate, names};
use pgpassport::commands::policy::{self, SourceRestriction};
use serde_json::json;

use super::DoctorRun;
use super::faults::{examine, row};
use crate::world::World;
use crate::world::tls_front::TlsFront;

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
            "STS rejected the configured role, policy or Region with ValidationError",
        ),
        (
            "STS: MalformedPolicyDocument",
            said(400, "MalformedPolicyDocument"),
            "STS rejected the configured role, policy or Region with MalformedPolicyDocument",
        ),
        (
            "STS: PackedPolicyTooLarge",
            said(400, "PackedPolicyTooLarge"),
            "STS rejected the configured role, policy or Region with PackedPolicyTooLarge",
        ),
        (
            "STS: RegionDisabledException",
            said(403, "RegionDisabledException"),
            "STS rejected the configured role, policy or Region with RegionDisabledException",
        ),
        ("STS: Throttling", StsFault::throttling(), "STS is unavailable: Throttling"),
        (
            "STS: IDPCommunicationError",
            StsFault::idp_communication(),
            "STS is unavailable: …identity provider could not be reached",
        ),
        ("STS: keys not retrieved", StsFault::key_not_retrieved(), "STS is unavailable: …key"),
        ("STS: InternalFailure", StsFault::internal_failure(), "STS is unavailable: …internal error"),
        ("STS: 503 with HTML", StsFault::unavailable(), "STS is unavailable: not an answer from STS"),
        (
            "STS: HTML with status 200",
            StsFault::Http(HttpFault::html(200)),
            "STS is unavailable: not an answer from STS",
        ),
        ("STS: connection closed", StsFault::Http(HttpFault::Close), "STS is unavailable: "),
        ("STS: black hole", StsFault::Http(HttpFault::Hang), "STS is unavailable: "),
        (
            "STS: endless answer",
            StsFault::Http(HttpFault::Endless),
            "STS is unavailable: the answer is longer than 65536 bytes",
        ),
        (
            "STS: redirect",
            StsFault::Http(HttpFault::Redirect("https://elsewhere.example/".to_owned())),
            "STS is unavailable: not an answer from STS",
        ),
        (
            "STS: broken off",
            StsFault::Truncated,
            "STS is unavailable: not an answer from STS (HTTP 200): it ends too early",
        ),
        (
            "STS: broken off behind the credentials",
            StsFault::TruncatedBehind("</Credentials>"),
            "STS is unavailable: not an answer from STS (HTTP 200): it ends too early",
        ),
        (
            "STS: another role",
            StsFault::OtherRole("arn:aws:sts::123456789012:assumed-role/admin/x".to_owned()),
            "invalid answer from STS: the credentials are for another role",
        ),
        (
            "STS: a secret access key with a space",
            StsFault::Altered("<SecretAccessKey>", "<SecretAccessKey>a b".to_owned()),
            "invalid answer from STS: a malformed secret access key",
        ),
        (
            "STS: 200 without credentials",
            StsFault::WithoutCredentials,
            "invalid answer from STS: no credentials",
        ),
        (
            "STS: another subject",
            StsFault::OtherSubject("mallory".into()),
            "invalid answer from STS: the credentials are",
        ),
        (
            "STS: another provider",
            StsFault::OtherProvider("x".into()),
            "invalid answer from STS: the credentials are",
        ),
        (
            "STS: expired credentials",
            StsFault::AlreadyExpired,
            "invalid answer from STS: credentials that have expired",
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
    let run = DoctorRun::with(&run).changing(move |toml| toml.replace(&dead, "http://127.0.0.1:1"));
    rows.push(row(
        "STS: nobody listens",
        &run.examine(&world).await,
        "sts-endpoint",
        "127.0.0.1:1: …Connection refused",
    ));
    let ca = Ca::new().unwrap();
    let front = TlsFront::start(&Ca::untrusted(&["localhost"]).unwrap(), sts.addr()).await;
    let ca_file = ca.write(&world.folder()).unwrap().display().to_string();
    let (plain, secured) = (sts.url(), format!("{}\"\nsts_ca_file = \"{ca_file}", front.url()));
    let token = world.token("alice");
    let run = DoctorRun::with(&token).changing(move |toml| toml.replace(&plain, &secured));
    let words = "STS is unavailable: …invalid peer certificate";
    rows.push(row("STS: certificate of an unknown authority", &run.examine(&world).await, "sts", words));
    let token = world.token("alice");
    let slow = DoctorRun { sts_slow: Duration::ZERO, ..DoctorRun::with(&token) }.examine(&world).await;
    rows.push(row("STS: slow", &slow, "sts", "role arn:aws:iam::123456789012:role/"));

    let tagged = world.mint(world.claims("alice").tag("dbuser", "alice"));
    let words = "STS refused with AccessDenied: Not authorized to perform sts:TagSession";
    rows.push(row("tags without sts:TagSession", &examine(&world, &tagged).await, "sts", words));
    let spoiled = world.mint(world.claims("alice").flat_tag("team", "a\"b"));
    let words = "STS rejected the configured role, policy or Region with ValidationError: a session tag";
    rows.push(row("session tag that AWS does not take", &examine(&world, &spoiled).await, "sts", words));
    let source = world.mint(world.claims("alice").set("https://aws.amazon.com/source_identity", "alice"));
    let words = "STS refused with AccessDenied: Not authorized to perform sts:SetSourceIdentity";
    rows.push(row(
        "source identity without sts:SetSourceIdentity",
        &examine(&world, &source).await,
        "sts",
        words,
    ));
    let others = json!(["arn:aws:iam::123456789012:role/other"]);
    let others = world.mint(world.claims("alice").set("https://aws.amazon.com/roles", others));
    let words = "STS refused with InvalidIdentityToken";
    rows.push(row("token for other roles", &examine(&world, &others).await, "sts", words));
    let mut short = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    let usual = short.clone();
    short.max_session_duration = 3_600;
    sts.put_role(&short).unwrap();
    let token = world.token("alice");
    let run = DoctorRun::with(&token)
        .changing(|toml| toml.replace("resource_id", "sts_duration = \"2h\"\nresource_id"));
    let words = "STS rejected the configured role, policy or Region with ValidationError: The requested DurationSeconds exceeds";
    rows.push(row("sts_duration longer than the role's", &run.examine(&world).await, "sts", words));
    sts.put_role(&usual).unwrap();
    sts.forget_keys();
    let nowhere = Some("http://127.0.0.1:1".to_owned());
    let known = |audience: &str, fetch_url| OidcProvider {
        url: world.cloud.issuer.url(),
        audiences: vec![audience.to_owned()],
        fetch_url,
    };
    sts.put_provider(known(names::AUDIENCE, nowhere));
    let words = "STS is unavailable: …Couldn't retrieve verification key";
    let token = world.token("alice");
    rows.push(row("issuer that STS cannot reach", &examine(&world, &token).await, "sts", words));
    sts.put_provider(known("another-app", None));
    let words = "STS refused with InvalidIdentityToken: Incorrect token audience";
    rows.push(row("aud that IAM does not know", &examine(&world, &token).await, "sts", words));
    sts.put_provider(known(names::AUDIENCE, None));
    let form = policy::PlanOptions {
        source: SourceRestriction::Ip(vec!["203.0.113.7".to_owned()]),
        ..Default::default()
    };
    let narrow = World::builder().policies(form).start().await;
    let words = "STS refused with AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity";
    let token = narrow.token("alice");
    rows.push(row(
        "call from another address than the trust policy's",
        &examine(&narrow, &token).await,
        "sts",
        words,
    ));
    let token = world.token("alice");
    let run = DoctorRun::with(&token)
        .changing(|toml| toml.replace(names::ROLE_ARN, &format!("{}-x", names::ROLE_ARN)));
    rows.push(row("role that does not exist", &run.examine(&world).await, "sts", words));

    let elsewhere = world.token("alice");
    let run = DoctorRun::with(&elsewhere).changing(|toml| toml.replace(names::ACCOUNT, "999999999999"));
    let words = "STS refused with AccessDenied";
    rows.push(row("role in another account", &run.examine(&world).await, "sts", words));
    let mut role = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
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
    let known = OidcProvider { url: other.url(), audiences: Vec::new(), fetch_url: None };
    let foreign = world.plant(other.mint(other.default_claims("alice")));
    let own = world.cloud.issuer.url();
    let run = DoctorRun::with(&foreign).changing(|toml| toml.replace(&own, &known.url));
    let words = "STS refused with InvalidIdentityToken: No OpenIDConnect provider";
    rows.push(row("issuer not registered in IAM", &run.examine(&world).await, "sts", words));
    rows
}
