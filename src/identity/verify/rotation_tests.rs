//! Tokens and keys that do not fit each other at once: new keys, keys under one name, floods of made-up ones, an issuer
//! that cannot be reached, and the curve that the token library lacks.

use std::sync::Arc;
use std::time::Duration;

use aws_emulator::{AnswerHold, HttpFault, Issuer, IssuerOptions, IssuerPage, KeyChoice};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::tests::settings;
use super::*;
use crate::config::SignatureAlgorithm;
use crate::identity::jwks_fetch::KeyFetcher;
use crate::net::outgoing::Outgoing;
use crate::supervisor::{TaskRules, TaskSupervisor};

async fn issuer() -> Issuer {
    tokio::task::spawn_blocking(|| Issuer::start(IssuerOptions::default()).unwrap()).await.unwrap()
}

/// A verifier and its keys, with this long between two fetches that tokens ask for.
fn verifier(issuer: &Issuer, interval: Duration) -> (Arc<Verifier>, Arc<KeyStore>) {
    let mut settings = settings(issuer, "");
    settings.jwks_refetch_interval = interval;
    let keys = KeyStore::start(
        &settings,
        KeyFetcher::new(&settings, &Outgoing::system()).unwrap(),
        &TaskSupervisor::new(Handle::current(), TaskRules::default()),
    );
    let keys = Arc::new(keys);
    (Arc::new(Verifier::new(vec![(settings, Arc::clone(&keys))], Clock::system())), keys)
}

async fn verify(verifier: &Verifier, token: &str) -> Result<VerifiedClaims, VerifyError> {
    verifier.verify(&Jwt::new(token.as_bytes().to_vec())).await
}

/// A token for alice under this `kid`, signed by `signer`'s RSA key or with `key`.
fn token(issuer: &Issuer, kid: &str, signer: &Issuer, key: &KeyChoice) -> String {
    let header = json!({ "alg": "RS256", "kid": kid }).to_string();
    signer.sign(&header, Value::from(issuer.default_claims("alice")).to_string().as_bytes(), key)
}

fn made_up(issuer: &Issuer, kid: &str) -> String {
    token(issuer, kid, issuer, &KeyChoice::Bytes(crate::names::random_bytes::<256>().to_vec()))
}

/// The RSA key of `other` under the key id of `issuer`'s.
fn rekeyed(issuer: &Issuer, other: &Issuer) -> Value {
    let mut key = other.jwks()["keys"][0].clone();
    key["kid"] = issuer.kid(&KeyChoice::Rs256).into();
    key
}

fn publish(issuer: &Issuer, keys: &[Value]) {
    issuer.heal();
    issuer.fail(IssuerPage::Jwks, HttpFault::json(json!({ "keys": keys }).to_string()));
}

const NO_WAIT: Duration = Duration::ZERO;

/// For those who must not get a second fetch while the test runs.
const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_under_the_old_name_is_fetched_when_a_signature_does_not_hold() {
    let (issuer, other) = (issuer().await, issuer().await);
    let (verifier, keys) = verifier(&issuer, LONG);
    verify(&verifier, &issuer.token("alice")).await.unwrap();
    publish(&issuer, &[rekeyed(&issuer, &other)]);
    let kid = issuer.kid(&KeyChoice::Rs256);
    verify(&verifier, &token(&issuer, &kid, &other, &KeyChoice::Rs256)).await.unwrap();
    assert_eq!((keys.status().fetches.for_bad_signature, keys.status().fetches.good), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_differ_under_one_name_and_keys_without_a_name_are_all_tried() {
    let (issuer, other) = (issuer().await, issuer().await);
    let (kid, own) = (issuer.kid(&KeyChoice::Rs256), issuer.jwks()["keys"][0].clone());
    let mut nameless = other.jwks()["keys"][0].clone();
    nameless.as_object_mut().unwrap().remove("kid");
    for set in [vec![own.clone(), rekeyed(&issuer, &other)], vec![own, nameless]] {
        publish(&issuer, &set);
        let (verifier, keys) = verifier(&issuer, LONG);
        for signer in [&issuer, &other] {
            verify(&verifier, &token(&issuer, &kid, signer, &KeyChoice::Rs256)).await.unwrap();
            // A token without a name may mean either.
            let claims = Value::from(issuer.default_claims("alice")).to_string();
            let without = signer.sign(r#"{"alg":"RS256"}"#, claims.as_bytes(), &KeyChoice::Rs256);
            verify(&verifier, &without).await.unwrap();
        }
        assert_eq!(keys.status().fetches.good, 1, "no second fetch");
    }
}

/// Made-up tokens come all the time, the last of them just before the issuer gets a new key. Its bearer waits for a turn,
/// and is not refused because of them.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_keep_the_bearer_of_a_new_key_out() {
    let issuer = issuer().await;
    let (verifier, keys) = verifier(&issuer, Duration::from_millis(300));
    verify(&verifier, &issuer.token("alice")).await.unwrap();
    for kid in ["nobody", &issuer.kid(&KeyChoice::Rs256)] {
        let refused = verify(&verifier, &made_up(&issuer, kid)).await.unwrap_err();
        assert!(
            matches!(
                refused,
                VerifyError::Unverified(TokenFault::KeyUnknown { .. } | TokenFault::BadSignature)
            ),
            "{refused}"
        );
        tokio::task::block_in_place(|| issuer.rotate(false).unwrap());
        verify(&verifier, &issuer.token("alice")).await.unwrap();
    }
    assert_eq!(keys.status().fetches.good, 5, "each time one for the stranger and one for the new key");
}

/// Thousands of tokens with as many unknown keys or bad signatures: the fetches for all of them begin an interval apart, and
/// good tokens wait for none.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_flood_of_made_up_tokens_is_few_fetches() {
    let issuer = issuer().await;
    let interval = Duration::from_millis(300);
    let (verifier, keys) = verifier(&issuer, interval);
    let good = issuer.token("alice");
    verify(&verifier, &good).await.unwrap();
    let (begun, kid) = (Instant::now(), issuer.kid(&KeyChoice::Rs256));
    for wave in 0..4 {
        let flood: Vec<_> = (0..500)
            .map(|number| {
                let kid = if number % 2 == 0 { kid.clone() } else { format!("nobody-{wave}-{number}") };
                let (verifier, forged) = (Arc::clone(&verifier), made_up(&issuer, &kid));
                tokio::spawn(async move { verify(&verifier, &forged).await })
            })
            .collect();
        verify(&verifier, &good).await.unwrap();
        for one in flood {
            let refused = one.await.unwrap().unwrap_err();
            assert!(
                matches!(
                    refused,
                    VerifyError::Unverified(TokenFault::KeyUnknown { .. } | TokenFault::BadSignature)
                ),
                "{refused}"
            );
        }
    }
    let fetches = keys.status().fetches.good - 1;
    let most = begun.elapsed().as_millis() / interval.as_millis() + 1;
    assert!((1..=most).contains(&u128::from(fetches)), "{fetches} fetches, {most} intervals");
}

/// A pool that tries the same bad token for ever is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_worth_one_fetch() {
    let issuer = issuer().await;
    let (verifier, keys) = verifier(&issuer, NO_WAIT);
    for forged in [made_up(&issuer, "nobody"), made_up(&issuer, &issuer.kid(&KeyChoice::Rs256))] {
        let before = keys.status().fetches.good;
        for _ in 0..50 {
            verify(&verifier, &forged).await.unwrap_err();
        }
        assert_eq!(keys.status().fetches.good, before.max(1) + 1);
    }
}

/// The key may be in what is being fetched already: that is waited for, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_under_way_is_waited_for_first() {
    let issuer = issuer().await;
    let (verifier, keys) = verifier(&issuer, NO_WAIT);
    verify(&verifier, &issuer.token("alice")).await.unwrap();
    tokio::task::block_in_place(|| issuer.rotate(false).unwrap());
    let hold = AnswerHold::new();
    issuer.fail_times(IssuerPage::Jwks, 1, HttpFault::Hold(hold.clone()));
    keys.renew(KeyFetcher::new(&settings(&issuer, ""), &Outgoing::system()).unwrap());
    hold.arrived(1).await;
    let new = issuer.token("alice");
    let (verified, ()) = tokio::join!(verify(&verifier, &new), async {
        tokio::task::yield_now().await;
        hold.release();
    });
    verified.unwrap();
    assert_eq!((keys.status().fetches.good, keys.status().fetches.for_unknown_key), (2, 0));
}

/// The issuer may have the key, so the client is not at fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_while_the_issuer_is_away_is_not_the_clients_fault() {
    let (issuer, other) = (issuer().await, issuer().await);
    let (verifier, keys) = verifier(&issuer, NO_WAIT);
    let old = issuer.token("alice");
    verify(&verifier, &old).await.unwrap();
    issuer.go_down();
    let kid = issuer.kid(&KeyChoice::Rs256);
    let under_old_name = token(&issuer, &kid, &other, &KeyChoice::Rs256);
    tokio::task::block_in_place(|| issuer.rotate(false).unwrap());
    for new in [issuer.token("alice"), under_old_name] {
        let refused = verify(&verifier, &new).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Unverified(TokenFault::KeysUnavailable { .. })), "{refused}");
    }
    verify(&verifier, &old).await.unwrap();
    assert!(keys.status().fetches.failed >= 2);
    issuer.heal();
    verify(&verifier, &issuer.token("alice")).await.unwrap();
}

/// All algorithms that STS accepts (API reference, `AssumeRoleWithWebIdentity`, `WebIdentityToken`), ES512 among them.
#[tokio::test(flavor = "multi_thread")]
async fn every_elliptic_curve_that_sts_accepts_is_verified() {
    let issuer = issuer().await;
    let curves: [(_, _, &'static EcdsaSigningAlgorithm, usize); 3] = [
        (SignatureAlgorithm::Es256, "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING, 32),
        (SignatureAlgorithm::Es384, "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING, 48),
        (SignatureAlgorithm::Es512, "P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING, 66),
    ];
    let claims = URL_SAFE_NO_PAD.encode(Value::from(issuer.default_claims("alice")).to_string());
    let (mut set, mut signers) = (Vec::new(), Vec::new());
    for (alg, curve, signing, length) in curves {
        let key = EcdsaKeyPair::generate(signing).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(length);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        set.push(json!({ "kty": "EC", "crv": curve, "kid": "k", "x": x, "y": y }));
        signers.push((alg, key));
    }
    publish(&issuer, &set);
    let (verifier, _) = verifier(&issuer, NO_WAIT);
    for (alg, key) in &signers {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg.name(), "kid": "k" }).to_string());
        let content = format!("{header}.{claims}");
        let signature = key.sign(&SystemRandom::new(), content.as_bytes()).unwrap().as_ref().to_vec();
        let with = |signature: &[u8]| format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
        verify(&verifier, &with(&signature)).await.unwrap_or_else(|error| panic!("{alg}: {error}"));
        let mut flipped = signature.clone();
        flipped[7] ^= 1;
        let half = signature.len() / 2;
        for bad in [
            flipped,
            vec![],
            vec![0; signature.len()],
            vec![1; signature.len() - 1],
            [signature.clone(), vec![0]].concat(),
            [&signature[half..], &signature[..half]].concat(),
        ] {
            let refused = verify(&verifier, &with(&bad)).await.unwrap_err();
            assert!(matches!(refused, VerifyError::Unverified(TokenFault::BadSignature)), "{alg}: {refused}");
        }
    }
    // The signature of one curve is none of another.
    let [first, .., last] = &signers[..] else { panic!("three curves") };
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": last.0.name(), "kid": "k" }).to_string());
    let content = format!("{header}.{claims}");
    let signature = first.1.sign(&SystemRandom::new(), content.as_bytes()).unwrap();
    let crossed = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert!(matches!(
        verify(&verifier, &crossed).await,
        Err(VerifyError::Unverified(TokenFault::BadSignature))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_issuers_are_told_apart() {
    let (one, other) = (issuer().await, issuer().await);
    let issuers = [&one, &other].map(|issuer| {
        let settings = settings(issuer, "");
        let keys = KeyStore::start(
            &settings,
            KeyFetcher::new(&settings, &Outgoing::system()).unwrap(),
            &TaskSupervisor::new(Handle::current(), TaskRules::default()),
        );
        (settings, Arc::new(keys))
    });
    let verifier = Verifier::new(issuers.into(), Clock::system());
    assert_eq!(verifier.issuers().count(), 2);
    assert_eq!(verify(&verifier, &other.token("alice")).await.unwrap().issuer().as_str(), other.url());
    // The other's key does not make it the first one's token.
    let crossed = other.mint(other.default_claims("alice").set("iss", one.url()));
    assert!(matches!(
        verify(&verifier, &crossed).await,
        Err(VerifyError::Unverified(TokenFault::KeyUnknown { .. }))
    ));
}
