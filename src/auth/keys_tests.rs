//! Key sets over time: rotation, outage, floods of unknown keys. Time is paused where it matters.

use aws_emulator::{Fault, Issuer, IssuerOptions, KeyChoice, Page};

use super::*;
use crate::auth::verify::tests::settings;
use crate::auth::{Verifier, VerifyError};
use crate::clock::Clock;
use crate::config::SignatureAlgorithm;
use crate::resolver::Resolver;
use crate::secret::Jwt;

fn store(issuer: &Issuer, more: &str) -> KeyStore {
    let settings = settings(issuer, more);
    KeyStore::start(&settings, KeyFetcher::new(&settings, &Resolver::system()).unwrap(), &Handle::current())
}

async fn issuer() -> Issuer {
    tokio::task::spawn_blocking(|| Issuer::start(IssuerOptions::default()).unwrap()).await.unwrap()
}

/// Ten thousand tokens with as many unknown keys, in waves: those of the first wait for the one fetch that they are
/// worth, and those of the others for nothing. Good tokens are accepted all the while.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_flood_of_unknown_keys_is_one_fetch() {
    let issuer = issuer().await;
    let store = Arc::new(store(&issuer, ""));
    assert_eq!(store.usable().await.unwrap().len(), 2);
    assert_eq!(issuer.count(Page::Jwks), 1);
    let verifier = Verifier::new(vec![(settings(&issuer, ""), Arc::clone(&store))], Clock::system());
    let verifier = Arc::new(verifier);
    let good = issuer.token("alice");
    let payload = serde_json::Value::from(issuer.default_claims("alice")).to_string();
    for wave in 0..10 {
        let flood: Vec<_> = (0..1_000)
            .map(|number| {
                let header = format!(r#"{{"alg":"RS256","kid":"nobody-{wave}-{number}"}}"#);
                let forged = issuer.sign(&header, payload.as_bytes(), &KeyChoice::Bytes(vec![7; 256]));
                let verifier = Arc::clone(&verifier);
                tokio::spawn(async move { verifier.verify(&Jwt::new(forged.into_bytes())).await })
            })
            .collect();
        verifier.verify(&Jwt::new(good.clone().into_bytes())).await.unwrap();
        for one in flood {
            let refused = one.await.unwrap().unwrap_err();
            assert!(matches!(refused, VerifyError::KeyUnknown { .. }), "{refused}");
        }
        assert_eq!(issuer.count(Page::Jwks), 2, "wave {wave}");
    }
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
    let keys = store.refetched().await.unwrap();
    assert!(knows(&keys, &new) && !knows(&keys, &old));
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_bad_answer_leaves_the_old_keys() {
    for fault in [
        Fault::status(500),
        Fault::html(200),
        Fault::json("{\"keys\":[]}"),
        Fault::oversize(600_000),
        Fault::Redirect("http://127.0.0.1:1/".into()),
        Fault::Close,
    ] {
        let issuer = issuer().await;
        let store = store(&issuer, "");
        assert_eq!(store.usable().await.unwrap().len(), 2);
        issuer.fail(Page::Jwks, fault.clone());
        assert_eq!(store.refetched().await.unwrap().len(), 2, "{fault:?}");
        assert_eq!(store.status().keys, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_an_issuer_that_is_down_at_start_is_waited_for() {
    let issuer = issuer().await;
    issuer.go_down();
    let store = store(&issuer, "");
    assert!(store.usable().await.is_none());
    assert_eq!(store.status(), KeyStatus { keys: 0, age: None, usable: false });
    issuer.heal();
    assert!(store.refetched().await.is_some(), "a login makes it be asked again");
    assert!(store.status().usable);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_fetches_at_once_and_keeps_the_keys_meanwhile() {
    let issuer = issuer().await;
    let settings = settings(&issuer, "");
    let store = store(&issuer, "");
    assert_eq!(store.usable().await.unwrap().len(), 2);
    store.renew(KeyFetcher::new(&settings, &Resolver::system()).unwrap());
    issuer.reaches(Page::Jwks, 2).await;
    assert!(store.status().usable);
    issuer.go_down();
    store.renew(KeyFetcher::new(&settings, &Resolver::system()).unwrap());
    issuer.reaches(Page::Discovery, 3).await;
    assert_eq!(store.usable().await.unwrap().len(), 2, "an issuer that is down takes no keys away");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_document_of_another_issuer_or_host_is_not_followed() {
    let issuer = issuer().await;
    for document in [
        format!(r#"{{"issuer":"{}/","jwks_uri":"{}"}}"#, issuer.url(), issuer.page_url(Page::Jwks)),
        format!(r#"{{"issuer":"{}","jwks_uri":"http://127.0.0.2:1/jwks"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}","jwks_uri":"http://169.254.169.254/"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}","jwks_uri":"file:///etc/passwd"}}"#, issuer.url()),
        format!(r#"{{"issuer":"{}"}}"#, issuer.url()),
        "[]".to_owned(),
    ] {
        issuer.heal();
        issuer.fail(Page::Discovery, Fault::json(&document));
        let settings = settings(&issuer, "");
        let error = KeyFetcher::new(&settings, &Resolver::system()).unwrap().fetch().await.unwrap_err();
        assert!(matches!(error, FetchError::Discovery(_)), "{document}: {error}");
    }
    assert_eq!(issuer.count(Page::Jwks), 0);
    issuer.heal();
    let configured = settings(&issuer, &format!("jwks_url = \"{}\"", issuer.page_url(Page::Jwks)));
    let before = issuer.count(Page::Discovery);
    assert_eq!(
        KeyFetcher::new(&configured, &Resolver::system()).unwrap().fetch().await.unwrap().keys.len(),
        2
    );
    assert_eq!(issuer.count(Page::Discovery), before, "a configured jwks_url spares discovery");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_private_address_needs_leave() {
    let issuer = issuer().await;
    let mut settings = settings(&issuer, "");
    settings.private_network = false;
    let error = KeyFetcher::new(&settings, &Resolver::system()).unwrap().fetch().await.unwrap_err();
    assert!(error.to_string().contains("private_network"), "{error}");
    assert_eq!(issuer.count(Page::Discovery), 0);
}

#[tokio::test(start_paused = true)]
async fn p8_old_keys_are_used_until_the_stale_limit_and_not_after() {
    let settings = crate::auth::verify::tests::settings_for("http://127.0.0.1:1");
    let shared = Arc::new(Shared {
        issuer: settings.name.clone(),
        fetcher: ArcSwap::from_pointee(KeyFetcher::new(&settings, &Resolver::system()).unwrap()),
        current: ArcSwapOption::empty(),
        wanted: Notify::new(),
        progress: watch::Sender::new(Progress::default()),
        refresh: settings.jwks_refresh,
        max_stale: settings.jwks_max_stale,
    });
    let pause = shared.take(Fetched { keys: KeySet::default(), max_age: None });
    assert_eq!(pause, settings.jwks_refresh);
    tokio::time::advance(settings.jwks_max_stale).await;
    assert!(shared.usable().is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(shared.usable().is_none());
    for (max_age, expected) in [(5, 30), (60, 60), (86_400, 300)] {
        let fetched = Fetched { keys: KeySet::default(), max_age: Some(Duration::from_secs(max_age)) };
        assert_eq!(shared.take(fetched), Duration::from_secs(expected), "max-age {max_age}");
    }
}

#[tokio::test(start_paused = true)]
async fn p7_an_unknown_key_is_worth_a_fetch_every_thirty_seconds() {
    let settings = crate::auth::verify::tests::settings_for("http://127.0.0.1:1");
    let shared = Arc::new(Shared {
        issuer: settings.name.clone(),
        fetcher: ArcSwap::from_pointee(KeyFetcher::new(&settings, &Resolver::system()).unwrap()),
        current: ArcSwapOption::empty(),
        wanted: Notify::new(),
        progress: watch::Sender::new(Progress::default()),
        refresh: settings.jwks_refresh,
        max_stale: settings.jwks_max_stale,
    });
    let store = KeyStore { shared: Arc::clone(&shared), _task: CancellationToken::new().drop_guard() };
    for (pause, fetched) in [(0, true), (29_999, false), (1, true), (30_000, true)] {
        tokio::time::advance(Duration::from_millis(pause)).await;
        let keeper = async {
            shared.wanted.notified().await;
            shared.progress.send_modify(|progress| {
                progress.ended += 1;
                progress.under_way = false;
            });
        };
        tokio::select! {
            biased;
            _ = store.refetched() => assert!(!fetched, "a fetch was due after {pause} ms more"),
            () = keeper => assert!(fetched, "a fetch was not due after {pause} ms more"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_body_of_512_kib_is_read_and_one_byte_more_is_not() {
    let issuer = issuer().await;
    let url = issuer.page_url(Page::Jwks);
    let fetcher =
        KeyFetcher::new(&settings(&issuer, &format!("jwks_url = \"{url}\"")), &Resolver::system()).unwrap();
    let set = issuer.jwks().to_string();
    for (bytes, read) in [(524_288, true), (524_289, false)] {
        issuer.heal();
        issuer.fail(Page::Jwks, Fault::json(format!("{set}{}", " ".repeat(bytes - set.len()))));
        let result = fetcher.fetch().await;
        assert_eq!(result.is_ok(), read, "{bytes}");
        assert!(read || matches!(result.unwrap_err(), FetchError::Http { .. }), "it is not even read whole");
    }
}

#[tokio::test]
async fn r15_an_issuer_that_never_answers_is_given_up_after_five_seconds() {
    let issuer = Issuer::start(IssuerOptions::default()).unwrap();
    issuer.fail(Page::Discovery, Fault::Hang);
    let fetcher = KeyFetcher::new(&settings(&issuer, ""), &Resolver::system()).unwrap();
    let mut fetch = Box::pin(fetcher.fetch());
    tokio::select! {
        biased;
        result = &mut fetch => panic!("{result:?}"),
        () = issuer.reaches(Page::Discovery, 1) => {}
    }
    // It has the question; from here on nothing but time passes.
    tokio::time::pause();
    let begun = Instant::now();
    assert!(matches!(fetch.await, Err(FetchError::TimedOut)));
    // The timer counts whole milliseconds, so it may be one late.
    assert!(begun.elapsed() < Duration::from_millis(5_010), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_whatever_an_issuer_answers_the_old_keys_stay() {
    let issuer = issuer().await;
    let store = store(&issuer, "");
    assert_eq!(store.usable().await.unwrap().len(), 2);
    for page in [Page::Discovery, Page::Jwks] {
        for fault in [
            Fault::oversize(10_000_000),
            Fault::Endless,
            Fault::Redirect(issuer.page_url(Page::Jwks)),
            Fault::json(r#"{"issuer":"https://x","keys":[{"#),
            Fault::json("\u{1f}\u{8b}\u{8}, packed by gzip: it is not unpacked"),
            Fault::status(204),
            Fault::html(503),
            Fault::Close,
        ] {
            issuer.heal();
            issuer.fail(page, fault.clone());
            let settings = settings(&issuer, "");
            let error = KeyFetcher::new(&settings, &Resolver::system()).unwrap().fetch().await.unwrap_err();
            assert!(!matches!(error, FetchError::TimedOut), "{page:?} {fault:?}: {error}");
            store.renew(KeyFetcher::new(&settings, &Resolver::system()).unwrap());
            assert_eq!(store.usable().await.unwrap().len(), 2, "{page:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_certificate_that_is_not_trusted_is_no_answer() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.map(drop)
    });
    let settings = crate::auth::verify::tests::settings_for(&url);
    let error =
        KeyFetcher::new(&settings, &Resolver::system()).unwrap().fetch().await.unwrap_err().to_string();
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
        let asked = issuer.count(Page::Discovery);
        tokio::time::pause();
        tokio::time::advance(Duration::from_mins(1)).await;
        tokio::time::resume();
        if minute >= 5 {
            issuer.reaches(Page::Discovery, asked + 1).await;
        }
        verified(&format!("newcomer{minute}")).await.unwrap();
    }
    let status = store.status();
    assert!(status.usable && status.age.unwrap() >= Duration::from_mins(10), "{status:?}");
}
