//! The faults of STS that a client has to live with.

use aws_emulator::{AnswerHold, Cloud, CloudOptions, HttpFault, StsFault};

use crate::support::{StsReply, assume, http};

fn cloud() -> Cloud {
    Cloud::start(CloudOptions::default()).unwrap()
}

fn once(cloud: &Cloud, fault: impl Into<StsFault>) -> StsReply {
    cloud.sts.fail_times(1, fault);
    assume(cloud, &cloud.issuer.token("alice"), &[])
}

#[test]
fn errors_on_command_have_awss_status_and_code() {
    let cloud = cloud();
    assert_eq!(once(&cloud, StsFault::throttling()).error(), (400, "Throttling"));
    assert_eq!(once(&cloud, StsFault::idp_communication()).error(), (400, "IDPCommunicationError"));
    assert_eq!(once(&cloud, StsFault::internal_failure()).error(), (500, "InternalFailure"));
    assert_eq!(once(&cloud, StsFault::error(429, "TooManyRequestsException", "x")).error().0, 429);
    let keys = once(&cloud, StsFault::key_not_retrieved());
    assert_eq!(keys.error(), (400, "InvalidIdentityToken"));
    assert!(keys.element("Message").unwrap().starts_with("Couldn't retrieve verification key"));
    assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
    let codes: Vec<_> = cloud.sts.calls().into_iter().map(|call| call.code).collect();
    assert_eq!(codes[0], "Throttling");
    assert_eq!((codes.len(), codes[5].as_str()), (6, "OK"));
}

#[test]
fn wrong_answers_are_wrong_in_one_thing_each() {
    let cloud = cloud();
    let html = once(&cloud, StsFault::unavailable());
    assert!(html.status == 503 && html.head.contains("text/html"));
    let html = once(&cloud, HttpFault::html(200));
    assert!(html.status == 200 && html.element("Credentials").is_none());
    let without = once(&cloud, StsFault::WithoutCredentials);
    assert!(without.status == 200 && without.element("AccessKeyId").is_none());
    assert_eq!(without.element("SubjectFromWebIdentityToken"), Some("alice"));
    let other = once(&cloud, StsFault::OtherSubject("bob".to_owned()));
    assert_eq!(other.element("SubjectFromWebIdentityToken"), Some("bob"));
    let other = once(&cloud, StsFault::OtherProvider("http://other".to_owned()));
    assert_eq!(other.element("Provider"), Some("http://other"));
    let truncated = once(&cloud, StsFault::Truncated);
    assert!(truncated.element("SecretAccessKey").is_some() && !truncated.body.contains("</SessionToken>"));
    let expired = once(&cloud, StsFault::AlreadyExpired);
    let session = cloud.sts.store().get(expired.element("AccessKeyId").unwrap()).unwrap();
    assert!(session.expiration < cloud.clock.unix());
}

#[test]
fn a_fault_without_a_count_stays_until_it_is_taken_away() {
    let cloud = cloud();
    cloud.sts.fail(StsFault::throttling());
    for _ in 0..3 {
        assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).error().1, "Throttling");
    }
    cloud.sts.heal();
    assert_eq!(assume(&cloud, &cloud.issuer.token("alice"), &[]).status, 200);
}

#[test]
fn a_closed_connection_is_logged_as_a_fault() {
    let cloud = cloud();
    cloud.sts.fail_times(1, HttpFault::Close);
    let head = "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    assert!(http(cloud.sts.addr(), head, "Action=x").is_none());
    assert_eq!(cloud.sts.calls()[0].code, "fault");
}

#[tokio::test]
async fn a_held_request_is_judged_when_the_test_lets_it() {
    let cloud = cloud();
    let hold = AnswerHold::new();
    cloud.sts.fail_times(1, HttpFault::Hold(hold.clone()));
    let asking = cloud.clone();
    let waiting = tokio::task::spawn_blocking(move || assume(&asking, &asking.issuer.token("alice"), &[]));
    hold.arrived(1).await;
    assert!(cloud.sts.count() == 1 && cloud.sts.calls().is_empty());
    hold.release();
    assert_eq!(waiting.await.unwrap().status, 200);
    cloud.sts.answered(1).await;
    assert!(cloud.sts.calls()[0].granted());
}

#[test]
fn the_log_of_calls_has_no_token_in_it() {
    let cloud = cloud();
    let token = cloud.issuer.token("alice");
    assume(&cloud, &token, &[]);
    let shown = format!("{:?}", cloud.sts.calls());
    assert!(shown.contains("alice") && !shown.contains(&token[..20]));
}
