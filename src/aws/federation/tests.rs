//! The cache in front of STS: whom it answers, for how long, and how often STS is asked.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicI64;
use std::time::UNIX_EPOCH;

use aws_emulator::{AnswerHold, Cloud, CloudOptions, HttpFault};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::aws::retry::StsTimes;
use crate::aws::sts_endpoints;
use crate::aws::sts_status::AttemptOutcome;
use crate::config::test_fixture::config;
use crate::identity::{AccessPolicy, KeyFetcher, KeyStore, LoginRequest, Verifier};
use crate::net::outgoing::Outgoing;
use crate::supervisor::{TaskRules, TaskSupervisor};

mod faults;

const SECOND_ROLE: &str = "arn:aws:iam::123456789012:role/other";

pub(super) struct World {
    pub(super) cloud: Cloud,
    verifier: Verifier,
    /// Two configurations of the same clusters, as before and after a change.
    policies: [AccessPolicy; 2],
    /// One for each cluster.
    pub(super) endpoints: Vec<Arc<StsEndpoint>>,
    pub(super) federation: Federation,
    moved: Arc<AtomicI64>,
}

/// Waits short enough for tests; nothing here is asserted to take any time.
pub(super) fn times() -> StsTimes {
    StsTimes {
        connect: Duration::from_secs(30),
        attempt: Duration::from_secs(30),
        operation: Duration::from_mins(1),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        ..StsTimes::of(Duration::from_mins(1))
    }
}

pub(super) fn endpoints(
    clusters: &[Arc<ClusterSettings>],
    before: &[&Arc<StsEndpoint>],
    clock: &Clock,
) -> Vec<Arc<StsEndpoint>> {
    sts_endpoints::of_clusters(clusters, before, times(), (clock, &Outgoing::system())).unwrap()
}

/// Clusters `app` and `other`, with a role each, and users of any name.
pub(super) async fn world() -> World {
    let cloud = tokio::task::spawn_blocking(|| Cloud::start(CloudOptions::default()).unwrap());
    let cloud = cloud.await.unwrap();
    let mut role = cloud.role(aws_emulator::PolicyTemplate::Trust, aws_emulator::PolicyTemplate::Permission);
    SECOND_ROLE.clone_into(&mut role.arn);
    cloud.sts.put_role(&role).unwrap();
    let more = format!(
        r#"
        databases = ["app"]
        user = {{ claim = "db_user", startup_user = "ignore" }}
        [[cluster]]
        name = "other"
        databases = ["other"]
        endpoint = "other.cluster-abc123.eu-central-1.rds.amazonaws.com:5432"
        region = "eu-central-1"
        role_arn = "{SECOND_ROLE}"
        ca_file = "ca"
        sts_endpoint_url = "{}"
        user = {{ claim = "db_user", startup_user = "ignore" }}
        "#,
        cloud.sts.url()
    );
    let mut config = config(&cloud.sts.url(), &cloud.issuer.url(), &more);
    let moved = Arc::new(AtomicI64::new(0));
    let by = Arc::clone(&moved);
    let clock = Clock::from_fn(move || {
        let now = Clock::system().now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        UNIX_EPOCH + Duration::from_secs(now.checked_add_signed(by.load(Ordering::Relaxed)).unwrap())
    });
    let issuer = config.issuers.remove(0);
    let supervisor = TaskSupervisor::new(Handle::current(), TaskRules::default());
    let keys = KeyStore::start(&issuer, KeyFetcher::new(&issuer, &Outgoing::system()).unwrap(), &supervisor);
    let clusters: Vec<_> = config.clusters.into_iter().map(Arc::new).collect();
    let more = more.replace("\"db_user\"", "\"nickname\"");
    let changed = self::config(&cloud.sts.url(), &cloud.issuer.url(), &more).clusters;
    let changed = changed.into_iter().map(Arc::new).collect();
    World {
        endpoints: endpoints(&clusters, &[], &clock),
        federation: Federation::new(clock.clone(), Handle::current()),
        verifier: Verifier::new(vec![(issuer, Arc::new(keys))], clock),
        policies: [AccessPolicy::new(clusters), AccessPolicy::new(changed)],
        cloud,
        moved,
    }
}

impl World {
    pub(super) fn token(&self, subject: &str, db_user: &str, more: &str) -> String {
        let claims = self.cloud.issuer.default_claims(subject).set("db_user", db_user).set("more", more);
        let claims = claims.set("nickname", format!("nick_{db_user}"));
        self.cloud.issuer.mint(claims.set("exp", self.cloud.clock.unix() + 3_600))
    }

    /// Moves everybody's clock.
    fn advance(&self, seconds: i64) {
        self.moved.fetch_add(seconds, Ordering::Relaxed);
        self.cloud.clock.advance(seconds);
    }

    async fn grant(&self, token: &str, database: &str, policy: &AccessPolicy) -> Option<Grant> {
        let claims = self.verifier.verify(&Jwt::new(token.as_bytes().to_vec())).await.ok()?;
        let asked = LoginRequest {
            user: "whoever",
            database: Some(database),
            listener: "",
            server_name: None,
            options: false,
            settings: vec![],
        };
        Some(policy.authorise(claims, &asked).unwrap().0)
    }

    /// A whole login as far as AWS is concerned. `None` when the token is not accepted any more.
    pub(super) async fn login(
        &self,
        token: &str,
        database: &str,
    ) -> Option<Result<Arc<RoleCredentials>, StsError>> {
        self.login_by(token, database, &self.policies[0]).await
    }

    async fn login_by(
        &self,
        token: &str,
        database: &str,
        policy: &AccessPolicy,
    ) -> Option<Result<Arc<RoleCredentials>, StsError>> {
        let grant = self.grant(token, database, policy).await?;
        let sts = &self.endpoints[usize::from(grant.cluster().name == "other")];
        Some(self.federation.federate(sts, Jwt::new(token.as_bytes().to_vec()), &grant).await)
    }

    fn count_of(&self, outcome: AttemptOutcome) -> u64 {
        let status = sts_endpoints::status(self.endpoints.iter()).remove(0);
        status.tries.iter().find(|(other, _)| *other == outcome).unwrap().1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j13_r24_one_call_for_a_thousand_with_one_token_and_one_each_for_a_thousand_users() {
    let world = Arc::new(world().await);
    let crowd = |tokens: Vec<String>| {
        let logins: Vec<_> = tokens
            .into_iter()
            .map(|token| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.login(&token, "app").await.unwrap().unwrap() })
            })
            .collect();
        async move {
            for login in logins {
                login.await.unwrap();
            }
        }
    };
    crowd(vec![world.token("alice", "alice", ""); 1_000]).await;
    assert_eq!(world.cloud.sts.count(), 1);
    crowd((0..1_000).map(|n| world.token(&format!("user{n}"), &format!("user{n}"), "")).collect()).await;
    assert_eq!(world.cloud.sts.count(), 1_001);
    assert_eq!(
        sts_endpoints::status(world.endpoints.iter()).len(),
        1,
        "clusters with the same endpoint share it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_neither_the_call_nor_its_answer_with_it() {
    let world = world().await;
    let (hold, token) = (AnswerHold::new(), world.token("alice", "alice", ""));
    world.cloud.sts.fail(HttpFault::Hold(hold.clone()));
    tokio::select! {
        _ = world.login(&token, "app") => panic!("nobody answers yet"),
        () = hold.arrived(1) => {}
    }
    let (login, ()) = tokio::join!(world.login(&token, "app"), async { hold.release() });
    login.unwrap().unwrap();
    assert_eq!(world.cloud.sts.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_refusal_is_remembered_and_a_trouble_is_not() {
    let world = world().await;
    let token = world.token("alice", "alice", "");
    world.cloud.sts.fail_times(1, aws_emulator::StsFault::error(403, "AccessDenied", "no"));
    for _ in 0..3 {
        let refused = world.login(&token, "app").await.unwrap().unwrap_err();
        assert!(matches!(refused, StsError::Refused { .. }), "{refused}");
    }
    assert_eq!(world.cloud.sts.count(), 1);
    world.cloud.sts.fail_times(3, aws_emulator::StsFault::internal_failure());
    let other = world.token("alice", "alice", "another token");
    world.login(&other, "app").await.unwrap().unwrap_err();
    world.login(&other, "app").await.unwrap().unwrap();
    assert_eq!(world.cloud.sts.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_credentials_outlive_a_partition_until_their_own_last_minute() {
    let world = world().await;
    let known = world.token("alice", "alice", "");
    world.login(&known, "app").await.unwrap().unwrap();
    world.cloud.sts.fail(HttpFault::Close);
    world.advance(14 * 60 - 5);
    world.login(&known, "app").await.unwrap().unwrap();
    let new = world.token("alice", "alice", "another token");
    let away = world.login(&new, "app").await.unwrap().unwrap_err();
    assert!(matches!(away, StsError::Unavailable(_)), "{away}");
    world.advance(10);
    world.login(&known, "app").await.unwrap().unwrap_err();
    assert_eq!((world.federation.cache_hits(), world.count_of(AttemptOutcome::Granted)), (1, 1));
    assert_eq!(world.count_of(AttemptOutcome::Failing), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_a_clock_that_jumps_extends_no_life() {
    let world = world().await;
    let token = world.token("alice", "alice", "");
    let first = world.login(&token, "app").await.unwrap().unwrap();
    world.advance(1_800); // half of the token's life
    let second = world.login(&token, "app").await.unwrap().unwrap();
    assert!(second.expires_at() > first.expires_at(), "the old ones had ended by the clock");
    world.advance(-1_800);
    // Back again: what is remembered is from the future, and still good by every clock.
    world.login(&token, "app").await.unwrap().unwrap();
    world.advance(3_700);
    assert!(world.login(&token, "app").await.is_none(), "the token has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_a_reload_does_not_close_the_breaker() {
    let world = world().await;
    world.cloud.sts.fail(HttpFault::Close);
    for number in 0..7 {
        world.login(&world.token("alice", "alice", &number.to_string()), "app").await.unwrap().unwrap_err();
    }
    let clusters = world.policies[0].clusters();
    let before: Vec<_> = world.endpoints.iter().collect();
    let next = endpoints(clusters, &before, &Clock::system());
    assert!(!Arc::ptr_eq(&next[0], before[0]), "the certificate authorities are not read again");
    let (next, before) = (next[0].status(), before[0].status());
    assert_eq!(next.breaker, crate::aws::breaker::BreakerState::Open);
    assert_eq!(next.tries, before.tries);
}

#[derive(Clone, Debug)]
enum Step {
    /// Token, cluster, whether the other configuration counts.
    Login(usize, usize, usize),
    Advance(i64),
}

/// Tokens of three people, two of each of two database users.
const PEOPLE: [(&str, &str, &str); 6] = [
    ("alice", "alice", "1"),
    ("alice", "alice", "2"),
    ("alice", "admin_alice", "1"),
    ("bob", "alice", "1"),
    ("bob", "bob", "1"),
    ("carol", "bob", "1"),
];

#[test]
fn j13_an_answer_is_never_for_another_token_user_role_or_issuer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let steps = prop::collection::vec(
        prop_oneof![
            6 => (0..PEOPLE.len(), 0..2_usize, 0..2_usize).prop_map(|(t, c, p)| Step::Login(t, c, p)),
            1 => (1..2_000_i64).prop_map(Step::Advance),
        ],
        1..60,
    );
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    runner.run(&steps, |steps| runtime.block_on(walk(steps))).unwrap();
}

async fn walk(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let world = world().await;
    let tokens = PEOPLE.map(|(subject, user, more)| world.token(subject, user, more));
    let mut known: Vec<(String, (usize, usize, usize))> = vec![];
    let mut now = 0;
    for step in steps {
        match step {
            Step::Advance(seconds) => {
                world.advance(seconds);
                now += seconds;
            }
            Step::Login(token, cluster, policy) => {
                let (subject, user, _) = PEOPLE[token];
                let user = format!("{}{user}", ["", "nick_"][policy]);
                let database = ["app", "other"][cluster];
                let Some(login) = world.login_by(&tokens[token], database, &world.policies[policy]).await
                else {
                    prop_assert!(now >= 3_590, "refused {now} s after it was made");
                    continue;
                };
                let Ok(credentials) = login else {
                    // STS forgives no second, and our leeway is 30.
                    prop_assert!(now >= 3_590, "{login:?}");
                    continue;
                };
                let session = world.cloud.sts.store().get(credentials.expose().0).unwrap();
                prop_assert_eq!(&session.subject, subject);
                let role = [aws_emulator::names::ROLE_ARN, SECOND_ROLE][cluster];
                prop_assert_eq!(&session.role_arn, role);
                let mut calls = world.cloud.sts.calls().into_iter();
                let call = calls.find(|call| call.access_key_id.as_ref() == Some(&session.access_key_id));
                let pinned = call.unwrap().policy.unwrap();
                prop_assert!(pinned.contains(&format!("/{user}\"")), "{} for {}", pinned, user);
                // Whether the answer is one given before, it was given to this very token and cluster.
                let key = session.access_key_id.clone();
                let owner = known.iter().find(|(other, ..)| *other == key);
                prop_assert!(
                    owner.is_none_or(|(_, whose)| *whose == (token, cluster, policy)),
                    "shared {key}"
                );
                if owner.is_none() {
                    known.push((key, (token, cluster, policy)));
                }
                let left = credentials.expires_at().duration_since(world.federation.clock.now());
                prop_assert!(left.is_ok_and(|left| left >= MARGIN), "in its last minute");
            }
        }
    }
    let keys: BTreeSet<_> = known.iter().map(|(key, _)| key).collect();
    prop_assert_eq!(keys.len(), known.len());
    Ok(())
}

#[test]
fn j13_the_issuer_is_part_of_what_an_answer_is_remembered_under() {
    let cluster = Arc::new(crate::config::test_fixture::cluster("http://127.0.0.1:1"));
    let key = |issuer: &str| CacheKey {
        token: Jwt::new(b"x".to_vec()).digest(),
        issuer: Issuer::new(issuer),
        cluster: SameSettings(Arc::clone(&cluster)),
        role: RoleArn::parse(SECOND_ROLE).unwrap(),
        user: DbUser::parse("alice").unwrap(),
    };
    assert_ne!(key("https://one.example"), key("https://other.example"));
}

#[test]
fn j13_credentials_serve_until_their_last_minute_and_never_past_the_token() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for (credentials, token, now, expected) in [
        (900, 3_600, 0, 840),
        (900, 3_600, 839, 1),
        (900, 3_600, 840, 0),
        (900, 3_600, 901, 0),
        (900, 300, 0, 300),
        (900, 300, 299, 1),
        (900, 300, 300, 0),
    ] {
        let life = cache_ttl(at(credentials), at(token), at(now));
        assert_eq!(life, Duration::from_secs(expected), "{credentials} {token} {now}");
    }
}
