//! The call, against an STS that checks what it is asked and fails in every way that AWS documents.

use std::time::Duration;

use crate::names::{RoleArn, Subject};
use crate::secret::Jwt;
use std::time::SystemTime;

use aws_emulator::sts::StsFault;
use aws_emulator::{Cloud, CloudOptions, HttpFault, names};

use super::*;
use crate::aws::breaker::BreakerState;
use crate::config::test_fixture::cluster;

/// Waits short enough for tests; nothing here is asserted to take any time.
pub(super) const TIMES: StsTimes = StsTimes {
    connect: Duration::from_secs(20),
    attempt: Duration::from_secs(20),
    operation: Duration::from_secs(30),
    patience: Duration::from_mins(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(5),
};

pub(super) struct World {
    pub(super) cloud: Cloud,
    pub(super) sts: StsEndpoint,
}

fn world_with(times: StsTimes) -> World {
    let cloud = Cloud::start(CloudOptions::default()).unwrap();
    let cluster = cluster(&cloud.sts.url());
    let sts = StsEndpoint::new(&cluster, times, Clock::system(), &Outgoing::system(), None).unwrap();
    World { cloud, sts }
}

pub(super) fn world() -> World {
    world_with(TIMES)
}

impl World {
    pub(super) fn assume_as(&self, token: String) -> AssumeRoleRequest {
        AssumeRoleRequest {
            role: RoleArn::parse(names::ROLE_ARN).unwrap(),
            jwt: Jwt::new(token.into_bytes()),
            issuer: Issuer::new(self.cloud.issuer.url()),
            subject: Subject::new("alice"),
            session_name: "alice-12345678".into(),
            policy: None,
            duration: Duration::from_mins(15),
        }
    }

    async fn call(&self) -> Result<RoleCredentials, StsError> {
        self.sts.assume(self.assume_as(self.cloud.issuer.token("alice"))).await
    }

    pub(super) async fn failure(&self, fault: impl Into<StsFault>) -> StsError {
        self.cloud.sts.fail(fault);
        let error = self.call().await.unwrap_err();
        self.cloud.sts.heal();
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_becomes_credentials_without_any_of_ours() {
    let world = world();
    let credentials = world.call().await.unwrap();
    assert_eq!(credentials.session_name(), "alice-12345678");
    let call = world.cloud.sts.calls().remove(0);
    assert!(!call.signed);
    assert_eq!(call.duration.as_deref(), Some("900"));
    assert_eq!(call.role_arn, names::ROLE_ARN);
    let session = world.cloud.sts.store().get(credentials.expose().0).unwrap();
    assert_eq!(credentials.expose().1, session.secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_refusals_are_the_persons_and_are_not_tried_again() {
    let world = world();
    for (status, code) in [
        (400, "ExpiredTokenException"),
        (400, "InvalidIdentityToken"),
        (403, "IDPRejectedClaim"),
        (403, "AccessDenied"),
    ] {
        let before = world.cloud.sts.count();
        let error = world.failure(StsFault::error(status, code, "no")).await;
        assert!(matches!(&error, StsError::Refused { code: c, .. } if c == code), "{code}: {error}");
        assert_eq!(world.cloud.sts.count(), before + 1, "{code}");
    }
    for (status, code) in [
        (400, "ValidationError"),
        (400, "MalformedPolicyDocument"),
        (400, "PackedPolicyTooLarge"),
        (403, "RegionDisabledException"),
    ] {
        let error = world.failure(StsFault::error(status, code, "no")).await;
        assert!(matches!(&error, StsError::Misconfigured { code: c, .. } if c == code), "{code}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_troubles_of_sts_are_tried_three_times_and_are_nobodys_fault() {
    for fault in [
        StsFault::idp_communication(),
        StsFault::internal_failure(),
        StsFault::unavailable(),
        StsFault::Http(HttpFault::Close),
    ] {
        let world = world();
        let error = world.failure(fault.clone()).await;
        assert!(matches!(error, StsError::Unavailable(_)), "{fault:?}: {error}");
        assert_eq!(world.cloud.sts.count(), 3, "{fault:?}");
        // Twice is not enough to fail.
        world.cloud.sts.fail_times(2, fault);
        world.call().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_a_throttled_call_is_tried_until_the_deadline() {
    for fault in [
        StsFault::throttling(),
        StsFault::error(400, "ThrottlingException", "slow down"),
        StsFault::error(429, "TooManyRequestsException", "slow down"),
    ] {
        let world = world();
        world.cloud.sts.fail_times(19, fault); // one more opens the breaker
        world.call().await.unwrap();
        assert_eq!(world.cloud.sts.count(), 20);
    }
    let short = StsTimes { patience: Duration::from_millis(20), ..TIMES };
    let world = world_with(short);
    let error = world.failure(StsFault::throttling()).await;
    assert!(matches!(&error, StsError::Unavailable(why) if why.contains("Throttling")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_key_that_sts_could_not_fetch_is_worth_one_more_try() {
    let world = world();
    world.cloud.sts.fail_times(1, StsFault::key_not_retrieved());
    world.call().await.unwrap();
    let before = world.cloud.sts.count();
    let error = world.failure(StsFault::key_not_retrieved()).await;
    assert!(matches!(error, StsError::Unavailable(_)), "{error}");
    assert_eq!(world.cloud.sts.count(), before + 2);
}

async fn crowd(world: &Arc<World>, size: usize) -> usize {
    let token = world.cloud.issuer.token("alice");
    let calls: Vec<_> = (0..size)
        .map(|_| {
            let (world, token) = (Arc::clone(world), token.clone());
            tokio::spawn(async move { world.sts.assume(world.assume_as(token)).await.is_ok() })
        })
        .collect();
    let mut good = 0;
    for call in calls {
        good += usize::from(call.await.unwrap());
    }
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_an_outage_costs_few_calls_however_many_logins_there_are() {
    for fault in [
        StsFault::throttling(),
        StsFault::internal_failure(),
        StsFault::unavailable(),
        StsFault::WithoutCredentials,
        StsFault::Http(HttpFault::Close),
    ] {
        let world = Arc::new(world());
        world.cloud.sts.fail(fault.clone());
        assert_eq!(crowd(&world, 1_000).await, 0);
        let calls = world.cloud.sts.count();
        assert!(calls <= 300, "{fault:?}: {calls} calls");
        let status = world.sts.status();
        assert_eq!(status.breaker, BreakerState::Open);
        let turned_away =
            status.tries.iter().find(|(outcome, _)| *outcome == AttemptOutcome::TurnedAway).unwrap().1;
        assert!(turned_away >= 700, "{fault:?}: {:?}", status.tries);
    }
}

#[tokio::test]
async fn r14_the_breaker_lets_one_call_through_and_heals_by_itself() {
    let world = Arc::new(world());
    world.cloud.sts.fail(StsFault::internal_failure());
    assert_eq!(crowd(&world, 100).await, 0);
    let while_open = world.cloud.sts.count();
    assert_eq!(crowd(&world, 100).await, 0);
    assert_eq!(world.cloud.sts.count(), while_open, "an open breaker makes no call");
    let later = || async {
        tokio::time::pause();
        tokio::time::advance(crate::aws::breaker::OPEN_FOR).await;
        tokio::time::resume();
    };
    later().await;
    assert_eq!(crowd(&world, 100).await, 0);
    assert_eq!(world.cloud.sts.count(), while_open + 1, "half-open is one call");
    world.cloud.sts.heal();
    later().await;
    world.call().await.unwrap();
    assert_eq!(world.sts.status().breaker, BreakerState::Closed);
    assert_eq!(crowd(&world, 100).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_an_issuer_that_sts_cannot_reach_costs_its_own_people_only() {
    let world = Arc::new(world());
    world.cloud.sts.fail(StsFault::key_not_retrieved());
    assert_eq!(crowd(&world, 1_000).await, 0);
    assert!(world.cloud.sts.count() <= 300, "{} calls", world.cloud.sts.count());
    assert_eq!(world.sts.status().breaker, BreakerState::Closed);
    world.cloud.sts.heal();
    let token = world.cloud.issuer.token("alice");
    let own = world.sts.assume(world.assume_as(token.clone())).await.unwrap_err();
    assert!(own.to_string().contains("calls are paused"), "{own}");
    let before = world.cloud.sts.count();
    let other = AssumeRoleRequest { issuer: Issuer::new("https://other.example"), ..world.assume_as(token) };
    // STS is asked, and answers for the issuer that the token is from.
    let other = world.sts.assume(other).await.unwrap_err();
    assert!(matches!(other, StsError::BadResponse(_)), "{other}");
    assert_eq!(world.cloud.sts.count(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_half_of_all_calls_throttled_costs_nobody_a_login() {
    let world = Arc::new(world());
    world.cloud.sts.fail_half(StsFault::throttling());
    let good = crowd(&world, 1_000).await;
    let tries = world.sts.status().tries;
    assert_eq!(good, 1_000, "{tries:?}");
    let throttled = tries.iter().find(|(outcome, _)| *outcome == AttemptOutcome::Throttled).unwrap().1;
    assert!(throttled > 500, "{throttled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_up_to_a_number_and_one_more_is_turned_away() {
    let world = world();
    let most = u32::try_from(MAX_WAITING).unwrap();
    let others = world.sts.state.waiting.acquire_many(most - 1).await.unwrap();
    world.call().await.unwrap();
    let last = world.sts.state.waiting.acquire().await.unwrap();
    let error = world.call().await.unwrap_err();
    assert!(error.to_string().contains("waiting already"), "{error}");
    drop((others, last));
    world.call().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_the_date_of_an_answer_is_compared_with_our_clock() {
    let world = world();
    let fast = Clock::from_fn(|| Clock::system().now() + Duration::from_mins(10));
    let outgoing = Outgoing::system().with_clocks(PeerClocks::new(fast.clone()));
    let sts = StsEndpoint::new(&cluster(&world.cloud.sts.url()), TIMES, fast, &outgoing, None).unwrap();
    sts.assume(world.assume_as(world.cloud.issuer.token("alice"))).await.unwrap();
    let ahead = sts.status().clock_ahead;
    assert!((595..=660).contains(&ahead), "{ahead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_credentials_that_outlive_every_session_are_refused() {
    let world = world();
    let cluster = cluster(&world.cloud.sts.url());
    let late = Clock::from_fn(|| SystemTime::UNIX_EPOCH);
    let sts = StsEndpoint::new(&cluster, TIMES, late, &Outgoing::system(), None).unwrap();
    let error = sts.assume(world.assume_as(world.cloud.issuer.token("alice"))).await.unwrap_err();
    assert!(matches!(error, StsError::BadResponse(fact) if fact.contains("live longer")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_an_sts_that_is_away_or_silent_is_given_up() {
    let quick =
        StsTimes { attempt: Duration::from_millis(50), operation: Duration::from_millis(200), ..TIMES };
    let world = world_with(quick);
    for fault in [HttpFault::Hang, HttpFault::Close] {
        let error = world.failure(fault.clone()).await;
        assert!(matches!(error, StsError::Unavailable(_)), "{fault:?}: {error}");
    }
    // A port that nobody listens on.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = StsEndpoint::new(
        &cluster(&format!("http://{addr}")),
        quick,
        Clock::system(),
        &Outgoing::system(),
        None,
    )
    .unwrap();
    let error = away.assume(world.assume_as(world.cloud.issuer.token("alice"))).await.unwrap_err();
    assert!(matches!(error, StsError::Unavailable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_an_error_never_holds_the_token() {
    let world = world();
    let token = world.cloud.issuer.token("alice");
    let signature = token.rsplit('.').next().unwrap().to_owned();
    for fault in [
        StsFault::error(403, "AccessDenied", "no"),
        StsFault::throttling(),
        StsFault::Http(HttpFault::Close),
        StsFault::Http(HttpFault::html(503)),
    ] {
        world.cloud.sts.heal();
        world.cloud.sts.fail(fault);
        let error = world.sts.assume(world.assume_as(token.clone())).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&signature));
    }
    assert!(!format!("{:?}", world.assume_as(token)).contains(&signature));
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_the_65th_call_waits_its_turn() {
    let world = Arc::new(world());
    let hold = aws_emulator::AnswerHold::new();
    world.cloud.sts.fail(HttpFault::Hold(hold.clone()));
    let call = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.call().await.map(drop) })
    };
    let mut calls: Vec<_> = (0..63).map(|_| call()).collect();
    hold.arrived(63).await;
    assert_eq!(world.sts.state.in_flight.available_permits(), 1);
    calls.push(call());
    hold.arrived(64).await;
    assert_eq!(world.sts.state.in_flight.available_permits(), 0);
    calls.push(call());
    hold.release();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.cloud.sts.count(), 65);
}
