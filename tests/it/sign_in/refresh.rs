//! Tokens that are renewed: once for many processes, and never by falling back to an older one.

use aws_emulator::{AnswerHold, HttpFault, IssuerPage};
use futures_util::future::join_all;

use super::{Person, asked, ended, issuer};

#[tokio::test]
async fn many_processes_refresh_once_and_all_get_the_new_token() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    issuer.set_token_life(900);
    let before = asked(&issuer);
    let hold = AnswerHold::new();
    issuer.fail_times(IssuerPage::Token, 1, HttpFault::Hold(hold.clone()));
    let running = join_all((0..6).map(|_| ended(person.command(&["token"]))));
    let release = async {
        hold.arrived(1).await;
        hold.release();
    };
    let (all, ()) = tokio::join!(running, release);
    for one in &all {
        assert_eq!((one.code, &one.stdout), (Some(0), &all[0].stdout), "{}", one.stderr);
    }
    assert_eq!(asked(&issuer) - before, 1, "refreshes");
    assert_eq!(issuer.open_sign_ins(), 1, "the issuer saw a refresh token twice");
}

#[tokio::test]
async fn a_token_is_renewed_a_minute_early_or_as_early_as_is_asked() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    for (life, args, refreshes) in [
        (900, &["token"][..], 0),
        (900, &["token", "--min-lifetime", "5m"], 0),
        (900, &["token", "--min-lifetime", "15m"], 1),
        (70, &["token"], 0),
        (59, &["token"], 1),
    ] {
        issuer.set_token_life(life);
        person.login("alice").await;
        let before = asked(&issuer);
        let ended = person.run(args).await;
        assert_eq!(
            (ended.code, asked(&issuer) - before),
            (Some(0), refreshes),
            "{life} {args:?}: {}",
            ended.stderr
        );
    }
    let ended = person.run(&["token", "--min-lifetime", "1h"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("are good for 59 s, and 3600 s are asked for"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_revoked_sign_in_says_to_log_in_again_and_the_issuer_is_not_asked_twice() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    issuer.revoke_user("alice");
    for refreshes in [1, 0] {
        let before = asked(&issuer);
        let ended = person.run(&["token"]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains("`pgpassport login --profile test`"), "{}", ended.stderr);
        assert_eq!(asked(&issuer) - before, refreshes);
    }
    person.login("alice").await;
    assert_eq!(person.run(&["token"]).await.code, Some(0));
}

#[tokio::test]
async fn an_issuer_that_is_down_costs_no_sign_in_and_gives_no_older_token() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    for fault in [HttpFault::Close, HttpFault::html(503), HttpFault::status(429), HttpFault::html(200)] {
        issuer.fail_times(IssuerPage::Token, 1, fault.clone());
        let ended = person.run(&["token"]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{fault:?}");
    }
    assert_eq!(person.run(&["token"]).await.code, Some(0), "the sign-in is kept");
}

#[tokio::test]
async fn a_process_that_dies_before_the_issuer_rotates_leaves_a_cache_that_works() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    let hold = AnswerHold::new();
    issuer.fail_times(IssuerPage::Token, 1, HttpFault::Hold(hold.clone()));
    let mut dying = super::LoginInProgress::start(person.command(&["token"]));
    hold.arrived(1).await;
    dying.kill();
    assert_eq!(dying.end().await.code, None);
    let ended = person.run(&["token"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn a_rotation_whose_answer_is_lost_says_to_log_in_again() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    issuer.lose_answers(1);
    let lost = person.run(&["token"]).await;
    assert_eq!((lost.code, lost.stdout.as_str()), (Some(1), ""));
    assert!(lost.stderr.contains("cannot be asked"), "{}", lost.stderr);
    let ended = person.run(&["token"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("invalid_grant") && ended.stderr.contains("pgpassport login"),
        "{}",
        ended.stderr
    );
    person.login("alice").await;
    assert_eq!(person.run(&["token"]).await.code, Some(0));
}

#[tokio::test]
async fn a_refresh_token_that_does_not_rotate_is_kept() {
    let issuer = issuer();
    issuer.stop_rotation();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "");
    person.login("alice").await;
    for _ in 0..3 {
        assert_eq!(person.run(&["token"]).await.code, Some(0));
    }
}

#[tokio::test]
async fn without_a_refresh_token_the_sign_in_ends_with_the_token() {
    let issuer = issuer();
    issuer.set_token_life(30);
    let person = Person::at(&issuer, "scopes = [\"openid\"]");
    person.login("alice").await;
    let ended = person.run(&["token"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("offline_access") && ended.stderr.contains("pgpassport login"),
        "{}",
        ended.stderr
    );
}
