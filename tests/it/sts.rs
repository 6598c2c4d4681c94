//! STS says no, is slow, or is away: what the client is told.

use aws_emulator::sts::StsFault;
use aws_emulator::{HttpFault, PolicyTemplate};

use crate::world::admin::until;
use crate::world::{ErrorFields, World};

async fn refusal(world: &World, fault: impl Into<StsFault>) -> ErrorFields {
    world.cloud.sts.fail(fault);
    let refusal = world.refusal("alice", &world.token("alice")).await;
    world.cloud.sts.heal();
    assert!(refusal.detail().starts_with("Stage sts: "), "{refusal:?}");
    refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_the_client_gets_the_class_of_the_fault_and_not_the_text_of_aws() {
    let world = World::start().await;
    for (status, code, hint) in [
        (400, "ExpiredTokenException", "fresh token"),
        (403, "IDPRejectedClaim", "fresh token"),
        (403, "AccessDenied", "trust policy"),
        (400, "InvalidIdentityToken", "OIDC provider"),
        (400, "ValidationError", "the operator of the proxy"),
        (400, "MalformedPolicyDocument", "the operator of the proxy"),
        (400, "PackedPolicyTooLarge", "the operator of the proxy"),
        (403, "RegionDisabledException", "the operator of the proxy"),
        (400, "SomethingNew", "the operator of the proxy"),
    ] {
        let secret = "arn:aws:iam::123456789012:role/inner";
        let told = refusal(&world, StsFault::error(status, code, secret)).await;
        assert_eq!(told.sqlstate(), "28P01", "{code}");
        assert_eq!(told.message(), "password authentication failed for user \"alice\"");
        assert!(told.hint().contains(hint), "{code}: {told:?}");
        assert!(!format!("{told:?}").contains("123456789012"), "{told:?}");
        world.log_line(&format!("{code}: {secret}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_faults_of_sts_are_not_blamed_on_the_person() {
    let world = World::start().await;
    for fault in [
        StsFault::idp_communication(),
        StsFault::key_not_retrieved(),
        StsFault::internal_failure(),
        StsFault::unavailable(),
        StsFault::Http(HttpFault::html(200)),
        // STS is alive: what failed before this one does not count for the breaker any more.
        StsFault::OtherSubject("mallory".into()),
        StsFault::Http(HttpFault::Close),
        StsFault::WithoutCredentials,
        StsFault::AlreadyExpired,
        StsFault::Truncated,
    ] {
        let told = refusal(&world, fault.clone()).await;
        assert_eq!(told.sqlstate(), "57P03", "{fault:?}");
        assert_eq!(told.message(), "cannot connect now: AWS STS unavailable", "{fault:?}");
    }
    world.connect("alice", &world.token("alice")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_an_sts_that_asks_to_come_back_later_is_asked_again_until_the_login_ends() {
    let world = World::builder()
        .limits("login_timeout = \"2s\"\nclient_login_timeout = \"2s\"\nserver_connect_timeout = \"2s\"")
        .start()
        .await;
    let told = refusal(&world, StsFault::throttling()).await;
    assert_eq!(told.sqlstate(), "57P03");
    assert!(told.message().starts_with("cannot connect now: "), "{told:?}");
    assert!(world.cloud.sts.count() > 3, "{} calls", world.cloud.sts.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sts_is_waited_for_inside_the_deadline() {
    let world = World::start().await;
    let hold = aws_emulator::AnswerHold::new();
    world.cloud.sts.fail(HttpFault::Hold(hold.clone()));
    let token = world.token("alice");
    let (client, ()) = tokio::join!(world.connect("alice", &token), async {
        hold.arrived(1).await;
        hold.release();
    });
    client.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_never_answers_is_given_up_at_the_deadline() {
    let world = World::builder()
        .limits("login_timeout = \"2s\"\nclient_login_timeout = \"2s\"\nserver_connect_timeout = \"2s\"")
        .start()
        .await;
    let told = refusal(&world, HttpFault::Hang).await;
    assert_eq!(told.sqlstate(), "57P03");
    assert_eq!(told.message(), "cannot connect now: the login took too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_refusal_is_remembered_for_a_crowd() {
    let world = World::start().await;
    let role = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    let mut closed = role.clone();
    closed.trust_policy = closed.trust_policy.replace("AssumeRoleWithWebIdentity", "AssumeRole");
    world.cloud.sts.put_role(&closed).unwrap();
    let token = world.token("alice");
    for _ in 0..20 {
        let told = world.refusal("alice", &token).await;
        assert!(told.hint().contains("trust policy"), "{told:?}");
    }
    assert_eq!(world.cloud.sts.count(), 1);
    world.cloud.sts.put_role(&role).unwrap();
    world.connect("alice", &world.token("alice")).await.unwrap();
}

/// A mended trust policy works after a few seconds and with the same token.
#[tokio::test(flavor = "multi_thread")]
async fn r13_a_refusal_is_forgotten_after_a_few_seconds() {
    let world = World::start().await;
    let token = world.token("alice");
    world.cloud.sts.fail_times(1, StsFault::error(403, "AccessDenied", "not yet"));
    world.refusal("alice", &token).await;
    until("the refusal is forgotten", async || world.connect("alice", &token).await.is_ok()).await;
    assert_eq!(world.cloud.sts.count(), 2, "asked once more, and not in the meantime");
}

/// The role's sessions are revoked in IAM: the credentials that are remembered are worth nothing any more. The server says so
/// once, and the next login gets new ones.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_server_no_longer_accepts_are_forgotten() {
    let world = World::start().await;
    let token = world.token("alice");
    for _ in 0..2 {
        world.connect("alice", &token).await.unwrap();
    }
    assert_eq!(world.cloud.sts.count(), 1);
    let key = world.cloud.sts.calls().remove(0).access_key_id.unwrap();
    world.cloud.sts.store().revoke(&key);
    assert_eq!(world.refusal("alice", &token).await.sqlstate(), "28P01");
    world.connect("alice", &token).await.unwrap();
    assert_eq!(world.cloud.sts.count(), 2);
    world.metric_is("pgpassport_sts_credentials_forgotten_total", 1.0).await;
}

/// A person that the server always refuses does not cause a call to STS with every attempt.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_never_worked_are_kept_for_a_while() {
    let world = World::start().await;
    let role = world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    let mut closed = role.clone();
    closed.permission_policy = closed.permission_policy.replace("rds-db:connect", "rds-db:nothing");
    world.cloud.sts.put_role(&closed).unwrap();
    let token = world.token("alice");
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(world.refusal("alice", &token).await.sqlstate(), "28P01");
    }
    let most = 1 + usize::try_from(begun.elapsed().as_secs() / 5).unwrap();
    assert!(world.cloud.sts.count() <= most, "{} calls", world.cloud.sts.count());
    // What the role may do is looked up at the login: these very credentials work now.
    world.cloud.sts.put_role(&role).unwrap();
    world.connect("alice", &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_need_the_right_to_tag() {
    let world = World::start().await; // its trust policy does not allow sts:TagSession
    let tagged = world.mint(world.claims("alice").tag("dbuser", "alice"));
    let told = world.refusal("alice", &tagged).await;
    assert!(told.hint().contains("sts:TagSession"), "{told:?}");
}
