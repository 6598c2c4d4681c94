//! Key sets over time: rotation, outage, slow and wrong answers. Time is paused where it matters.

use aws_emulator::{AnswerHold, HttpFault, Issuer, IssuerOptions, IssuerPage, KeyChoice};

use tokio::runtime::Handle;

use super::*;
use crate::clock::Clock;
use crate::config::SignatureAlgorithm;
use crate::identity::Verifier;
use crate::identity::verify::tests::settings;
use crate::net::https::HttpsError;
use crate::net::outgoing::Outgoing;
use crate::net::test_tls::TestTls;
use crate::secret::Jwt;
use crate::supervisor::TaskRules;

fn store(issuer: &Issuer, more: &str) -> KeyStore {
    let settings = settings(issuer, more);
    let supervisor = TaskSupervisor::new(Handle::current(), TaskRules::default());
    KeyStore::start(&settings, KeyFetcher::new(&settings, &Outgoing::system()).unwrap(), &supervisor)
}

/// The result of a refetch for a token of its own.
async fn refetched(store: &KeyStore) -> Option<Arc<KeySet>> {
    let token = Jwt::new(crate::names::random_bytes::<8>().to_vec()).digest();
    match store.refetched(token, RefetchCause::UnknownKey).await {
        RefetchAnswer::Keys(keys) => Some(keys),
        RefetchAnswer::Failed => None,
        RefetchAnswer::InVain => panic!("no token asks twice"),
    }
}

async fn issuer() -> Issuer {
    tokio::task::spawn_blocking(|| Issuer::start(IssuerOptions::default()).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_rotated_key_is_known_after_one_fetch_and_the_old_one_gone() {
    let issuer = issuer().await;
    let store = store(&issuer, "");
    let old = issuer.kid(&KeyChoice::Rs256);
    let knows =
        |keys: &KeySet, kid: &str| !keys.candidates(Some(kid), SignatureAlgorithm::Rs256).unwrap().is_empty();
    assert!(knows(&store.usable().await.unwrap(), &old));
    tokio::task::block_in_place(|| issuer.rotate(false).unwrap());
    let new = issuer.kid(&KeyChoice::Rs256);
    assert!(!knows(&store.usable().await.unwrap(), &new));
    let keys = refetched(&store).await.unwrap();
    assert!(knows(&keys, &new) && !knows(&keys, &old));
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_bad_answer_leaves_the_old_keys() {
    for fault in [
        HttpFault::status(500),
        HttpFault::html(200),
        HttpFault::json("{\"keys\":[]}"),
        HttpFault::oversize(600_000),
        HttpFault::Redirect("http://127.0.0.1:1/".into()),
        HttpFault::Close,
    ] {
        let issuer = issuer().await;
        let store = store(&issuer, "");
        assert_eq!(store.usable().await.unwrap().len(), 2);
        issuer.fail(IssuerPage::Jwks, fault.clone());
        assert!(refetched(&store).await.is_none(), "{fault:?}");
        assert_eq!(store.usable().await.unwrap().len(), 2, "{fault:?}");
        assert_eq!(store.status().keys, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_an_issuer_that_is_down_at_start_is_waited_for() {
    let issuer = issuer().await;
    issuer.go_down();
    let store = store(&issuer, "");
    assert!(store.usable().await.is_none());
    let status = store.status();
    assert_eq!((status.keys, status.usable), (0, false));
    issuer.heal();
    assert!(refetched(&store).await.is_some(), "a token makes it be asked again");
    assert!(store.status().usable);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_fetches_at_once_and_keeps_the_keys_meanwhile() {
    let issuer = issuer().await;
    let settings = settings(&issuer, "");
    let store = store(&issuer, "");
    assert_eq!(store.usable().await.unwrap().len(), 2);
    store.renew(KeyFetcher::new(&settings, &Outgoing::system()).unwrap());
    issuer.reaches(IssuerPage::Jwks, 2).await;
    assert!(store.status().usable);
    issuer.go_down();
    store.renew(KeyFetcher::new(&settings, &Outgoing::system()).unwrap());
    issuer.reaches(IssuerPage::Discovery, 3).await;
    assert_eq!(store.usable().await.unwrap().len(), 2, "an issuer that is down takes no keys away");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_document_of_another_issuer_or_host_is_not_followed() {
    let issuer = issuer().await;
    for document in [
        format!(r#"{{"issuer":"{}/","jwks_uri":"{}"}}"#, issuer.url(), issuer.page_url(IssuerPage::Jwks)),
        format!(r#"{{"issuer":"{}","jwks_uri":"http://127.0.0.2:1/jwks"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}","jwks_uri":"http://169.254.169.254/"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}","jwks_uri":"file:///etc/passwd"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}"}}"#, issuer.url()),
        "[]".to_owned(),
    ] {
        issuer.heal();
        issuer.fail(IssuerPage::Discovery, HttpFault::json(&document));
        let settings = settings(&issuer, "");
        let error = KeyFetcher::new(&settings, &Outgoing::system()).unwrap().fetch(None).await.unwrap_err();
        assert!(matches!(error, FetchError::Discovery(_)), "{document}: {error}");
    }
    assert_eq!(issuer.count(IssuerPage::Jwks), 0);
    issuer.heal();
    let configured = settings(&issuer, &format!("jwks_url = \"{}\"", issuer.page_url(IssuerPage::Jwks)));
    let before = issuer.count(IssuerPage::Discovery);
    assert_eq!(
        KeyFetcher::new(&configured, &Outgoing::system()).unwrap().fetch(None).await.unwrap().keys.len(),
        2
    );
    assert_eq!(issuer.count(IssuerPage::Discovery), before, "a configured jwks_url spares discovery");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_private_address_needs_its_setting() {
    let issuer = issuer().await;
    let mut settings = settings(&issuer, "");
    settings.private_network = false;
    let error = KeyFetcher::new(&settings, &Outgoing::system()).unwrap().fetch(None).await.unwrap_err();
    assert!(error.to_string().contains("private_network"), "{error}");
    assert_eq!(issuer.count(IssuerPage::Discovery), 0);
}

#[tokio::test(start_paused = true)]
async fn p8_old_keys_are_used_until_the_stale_limit_and_not_after() {
    let settings = crate::identity::verify::tests::settings_for("http://127.0.0.1:1");
    let shared = StoreState::new(&settings, KeyFetcher::new(&settings, &Outgoing::system()).unwrap());
    let pause = shared.take(FetchedKeys { keys: KeySet::default(), max_age: None });
    assert_eq!(pause, settings.jwks_refresh);
    tokio::time::advance(settings.jwks_max_stale).await;
    assert!(shared.usable().is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(shared.usable().is_none());
    for (max_age, expected) in [(5, 30), (60, 60), (86_400, 300)] {
        let fetched = FetchedKeys { keys: KeySet::default(), max_age: Some(Duration::from_secs(max_age)) };
        assert_eq!(shared.take(fetched), Duration::from_secs(expected), "max-age {max_age}");
    }
}

/// Each token gets a fetch within an interval, and many tokens get no more than one an interval.
#[test]
fn p7_fetches_that_tokens_ask_for_begin_an_interval_apart() {
    let now = Instant::now();
    let at = |seconds: u64| now + Duration::from_secs(seconds);
    let interval = Duration::from_secs(5);
    let mut progress = FetchProgress::default();
    let due = |progress: &FetchProgress, now| progress.next_fetch(at(300), now, interval);
    assert_eq!(due(&progress, at(0)), at(300), "the regular refresh");
    progress.asked = Some(RefetchCause::UnknownKey);
    assert_eq!(due(&progress, at(0)), at(0), "the first who asks");
    progress.last_asked = Some(at(0));
    assert_eq!(due(&progress, at(1)), at(5), "the next waits for its turn");
    assert_eq!(due(&progress, at(7)), at(7));
    assert_eq!(due(&progress, at(299)), at(299));
    progress.last_asked = Some(at(298));
    assert_eq!(due(&progress, at(299)), at(300), "the regular refresh is not put off");
    progress.at_once = true;
    assert_eq!(due(&progress, at(299)), at(299), "a reload waits for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_body_of_512_kib_is_read_and_one_byte_more_is_not() {
    let issuer = issuer().await;
    let url = issuer.page_url(IssuerPage::Jwks);
    let fetcher =
        KeyFetcher::new(&settings(&issuer, &format!("jwks_url = \"{url}\"")), &Outgoing::system()).unwrap();
    let set = issuer.jwks().to_string();
    for (bytes, read) in [(524_288, true), (524_289, false)] {
        issuer.heal();
        issuer.fail(IssuerPage::Jwks, HttpFault::json(format!("{set}{}", " ".repeat(bytes - set.len()))));
        let result = fetcher.fetch(None).await;
        assert_eq!(result.is_ok(), read, "{bytes}");
        assert!(read || matches!(result.unwrap_err(), FetchError::Http { .. }), "it is not even read whole");
    }
}

#[tokio::test]
async fn r15_an_issuer_that_never_answers_is_given_up_after_its_own_limit() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    issuer.fail(IssuerPage::Discovery, HttpFault::Hang);
    let fetcher = KeyFetcher::new(&settings(&issuer, "jwks_timeout = \"7s\""), &Outgoing::system()).unwrap();
    let mut fetch = Box::pin(fetcher.fetch(None));
    tokio::select! {
        biased;
        result = &mut fetch => panic!("{result:?}"),
        () = issuer.reaches(IssuerPage::Discovery, 1) => {}
    }
    // It has the question; from here on nothing but time passes.
    tokio::time::pause();
    let begun = Instant::now();
    assert!(
        matches!(fetch.await, Err(FetchError::Http { error: HttpsError::TimedOut(limit), .. }) if limit == Duration::from_secs(7))
    );
    // The timer counts whole milliseconds, so it may be one late.
    assert!(begun.elapsed() < Duration::from_millis(7_010), "{:?}", begun.elapsed());
}

/// Discovery and key set have a limit each: an issuer that takes most of it for every page gets its keys read.
#[tokio::test]
async fn an_issuer_may_take_the_limit_for_each_page() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    let holds = [(IssuerPage::Discovery, AnswerHold::new()), (IssuerPage::Jwks, AnswerHold::new())];
    for (page, hold) in &holds {
        issuer.fail(*page, HttpFault::Hold(hold.clone()));
    }
    let fetcher = KeyFetcher::new(&settings(&issuer, "jwks_timeout = \"5s\""), &Outgoing::system()).unwrap();
    let mut fetch = Box::pin(fetcher.fetch(None));
    for (_, hold) in &holds {
        tokio::select! {
            biased;
            result = &mut fetch => panic!("{result:?}"),
            () = hold.arrived(1) => {}
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(4)).await;
        tokio::time::resume();
        hold.release();
    }
    assert_eq!(fetch.await.unwrap().keys.len(), 2);
}

/// The place of the keys is remembered: a later fetch is one request, and needs no discovery page.
#[tokio::test(flavor = "multi_thread")]
async fn the_discovered_place_is_remembered_until_it_is_no_good() {
    let issuer = issuer().await;
    let fetcher = KeyFetcher::new(&settings(&issuer, ""), &Outgoing::system()).unwrap();
    let first = fetcher.fetch(None).await.unwrap().keys;
    issuer.fail(IssuerPage::Discovery, HttpFault::status(500));
    assert_eq!(fetcher.fetch(None).await.unwrap().keys.len(), 2);
    assert_eq!((issuer.count(IssuerPage::Discovery), issuer.count(IssuerPage::Jwks)), (1, 2));
    // A token has missed its key in these, and they are the same as before: are they elsewhere now?
    assert!(fetcher.fetch(Some(&first)).await.unwrap().keys.same_keys(&first));
    assert_eq!((issuer.count(IssuerPage::Discovery), issuer.count(IssuerPage::Jwks)), (2, 3));
    // So it is, and where it was there is nothing any more.
    let elsewhere = self::issuer().await;
    issuer.heal();
    issuer.fail(IssuerPage::Jwks, HttpFault::status(404));
    let document =
        serde_json::json!({ "issuer": issuer.url(), "jwks_uri": elsewhere.page_url(IssuerPage::Jwks) });
    issuer.fail(IssuerPage::Discovery, HttpFault::json(document.to_string()));
    assert!(!fetcher.fetch(None).await.unwrap().keys.same_keys(&first));
    assert_eq!(elsewhere.count(IssuerPage::Jwks), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_whatever_an_issuer_answers_the_old_keys_stay() {
    let issuer = issuer().await;
    let store = store(&issuer, "");
    assert_eq!(store.usable().await.unwrap().len(), 2);
    for page in [IssuerPage::Discovery, IssuerPage::Jwks] {
        for fault in [
            HttpFault::oversize(10_000_000),
            HttpFault::Endless,
            HttpFault::Redirect(issuer.page_url(IssuerPage::Jwks)),
            HttpFault::json(r#"{"issuer":"https://x","keys":[{"#),
            HttpFault::json("\u{1f}\u{8b}\u{8}, packed by gzip: it is not unpacked"),
            HttpFault::status(204),
            HttpFault::html(503),
            HttpFault::Close,
        ] {
            issuer.heal();
            issuer.fail(page, fault.clone());
            let settings = settings(&issuer, "");
            let error =
                KeyFetcher::new(&settings, &Outgoing::system()).unwrap().fetch(None).await.unwrap_err();
            assert!(!error.to_string().contains("within"), "{page:?} {fault:?}: {error}");
            store.renew(KeyFetcher::new(&settings, &Outgoing::system()).unwrap());
            assert_eq!(store.usable().await.unwrap().len(), 2, "{page:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_certificate_that_is_not_trusted_is_no_answer() {
    let acceptor = TestTls::new("localhost").acceptor();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.map(drop)
    });
    let settings = crate::identity::verify::tests::settings_for(&url);
    let error =
        KeyFetcher::new(&settings, &Outgoing::system()).unwrap().fetch(None).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(server.await.unwrap().is_err());
}

/// Ten minutes of the steady clock, in each of which the issuer is asked in vain and a token verified.
#[tokio::test]
async fn r16_an_issuer_that_is_down_for_ten_minutes_leaves_its_keys_in_use() {
    let issuer = issuer().await;
    let store = Arc::new(store(&issuer, ""));
    let verifier = Verifier::new(vec![(settings(&issuer, ""), Arc::clone(&store))], Clock::system());
    let verified = async |name: &str| verifier.verify(&Jwt::new(issuer.token(name).into_bytes())).await;
    verified("alice").await.unwrap();
    issuer.go_down();
    // The first attempt is due after the usual refresh, the others when the one before has failed.
    for minute in 0..10 {
        let asked = issuer.count(IssuerPage::Discovery);
        tokio::time::pause();
        tokio::time::advance(Duration::from_mins(1)).await;
        tokio::time::resume();
        if minute >= 5 {
            issuer.reaches(IssuerPage::Discovery, asked + 1).await;
        }
        verified(&format!("newcomer{minute}")).await.unwrap();
    }
    let status = store.status();
    assert!(status.usable && status.age >= Duration::from_mins(10), "{status:?}");
}
