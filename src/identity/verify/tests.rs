//! Tokens of every kind against a real issuer over HTTP, and each limit at the limit and one past it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use aws_emulator::{Issuer, IssuerOptions, IssuerPage, KeyChoice, TokenClaims};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use VerifyError::{Claims, Unverified};

use super::*;
use crate::config::test_fixture::parse;
use crate::identity::jwks_fetch::KeyFetcher;
use crate::identity::jws::MAX_TOKEN_BYTES;
use crate::identity::pasted::PastedText;
use crate::identity::strict_json::JsonFault;
use crate::identity::verify_error::{ClaimFault, HeaderFault};
use crate::net::outgoing::Outgoing;
use crate::supervisor::{TaskRules, TaskSupervisor};

/// Seconds since 1970 for everyone in these tests.
const NOW: u64 = 1_800_000_000;

pub(crate) fn settings(issuer: &Issuer, more: &str) -> IssuerSettings {
    settings_at(&issuer.url(), more)
}

pub(crate) fn settings_for(url: &str) -> IssuerSettings {
    settings_at(url, "")
}

pub(crate) fn settings_at(url: &str, more: &str) -> IssuerSettings {
    let issuer =
        format!("url = \"{url}\"\naudience = [\"a\", \"pgpassport\"]\nprivate_network = true\n{more}");
    let cluster = r#"
        endpoint = "app.cluster-abc123.eu-central-1.rds.amazonaws.com"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/app"
        ca_file = "ca"
        "#;
    parse(&issuer, cluster).unwrap().issuers.remove(0)
}

/// RSA keys are slow to make, so all tests share an issuer that none of them changes.
fn shared() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| Issuer::start(IssuerOptions::default()).unwrap())
}

fn verifier_with(more: &str) -> Verifier {
    let mut settings = settings(shared(), more);
    settings.jwks_refetch_interval = Duration::ZERO; // these tests send many bad tokens
    let fetcher = KeyFetcher::new(&settings, &Outgoing::system()).unwrap();
    let supervisor = TaskSupervisor::new(Handle::current(), TaskRules::default());
    let keys = KeyStore::start(&settings, fetcher, &supervisor);
    let clock = Clock::from_fn(|| UNIX_EPOCH + Duration::from_secs(NOW));
    Verifier::new(vec![(settings, Arc::new(keys))], clock)
}

fn claims() -> TokenClaims {
    shared().default_claims("alice").set("iat", NOW - 60).set("nbf", NOW - 60).set("exp", NOW + 600)
}

async fn verify(verifier: &Verifier, token: &str) -> Result<VerifiedClaims, VerifyError> {
    verifier.verify(&Jwt::new(token.as_bytes().to_vec())).await
}

async fn fault(verifier: &Verifier, token: &str) -> VerifyError {
    verify(verifier, token).await.expect_err(token)
}

/// A token with exactly this header and payload, signed with the issuer's RSA key.
fn signed(header: &str, payload: &str) -> String {
    shared().sign(header, payload.as_bytes(), &KeyChoice::Rs256)
}

fn header(more: &str) -> String {
    format!(r#"{{"alg":"RS256","kid":"{}"{more}}}"#, shared().kid(&KeyChoice::Rs256))
}

fn payload() -> String {
    Value::from(claims()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_says_what_it_says() {
    let verifier = verifier_with("");
    for key in [KeyChoice::Rs256, KeyChoice::Es256] {
        let token = shared().mint_with(claims().set("jti", "7").set("azp", "app"), &key);
        let verified = verify(&verifier, &token).await.unwrap();
        assert_eq!(verified.issuer().as_str(), shared().url());
        assert_eq!((verified.subject().as_str(), verified.issuer_name()), ("alice", "idp"));
        assert_eq!((verified.token_id(), verified.azp()), (Some("7"), Some("app")));
        assert_eq!(verified.audience(), ["pgpassport"]);
        assert_eq!(verified.expires_at(), UNIX_EPOCH + Duration::from_secs(NOW + 600));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_the_shape_comes_first() {
    let verifier = verifier_with("");
    let good = signed(&header(""), &payload());
    let [h, p, s] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for (token, parts) in [("hunter2", 1), ("a.b", 2), ("a.b.c.d", 4)] {
        assert_eq!(fault(&verifier, token).await, TokenFault::NotAJwt { parts });
    }
    assert_eq!(fault(&verifier, "a.b.c.d.e").await, TokenFault::Encrypted);
    for (token, shape) in [
        (String::new(), PastedText::Empty),
        (format!("{h}.{p} .{s}"), PastedText::Spaces),
        (format!("{h}.{p}.{s}\n"), PastedText::Spaces),
        (format!("Bearer {good}"), PastedText::Bearer),
        (format!("{{\"access_token\":\"{good}\"}}"), PastedText::Json(Some("access_token"))),
        (format!("{{{}\"id_token\":1}}", " ".repeat(MAX_TOKEN_BYTES)), PastedText::Json(Some("id_token"))),
    ] {
        assert_eq!(fault(&verifier, &token).await, TokenFault::Pasted(shape), "{shape:?}");
    }
    let dots = ".".repeat(19_999);
    assert_eq!(fault(&verifier, &dots).await, TokenFault::NotAJwt { parts: 20_000 });
    for (token, part) in [
        (format!("{h}=.{p}.{s}"), "header"),
        (format!("{h}.{p}=.{s}"), "payload"),
        (format!("{h}.{p}.+{}", &s[1..]), "signature"),
    ] {
        assert_eq!(fault(&verifier, &token).await, TokenFault::BadEncoding { part });
    }
    // 342 characters hold 2,052 bits; the four that are left over must be zero, or one token has many spellings.
    let last = s.chars().last().unwrap();
    let loose = char::from(last as u8 + 1);
    let spelled = format!("{h}.{p}.{}{loose}", &s[..s.len() - 1]);
    assert_eq!(fault(&verifier, &spelled).await, TokenFault::BadEncoding { part: "signature" });
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_sizes_at_the_limit_and_past_it() {
    let verifier = verifier_with("");
    let long = |bytes: usize| "x".repeat(bytes);
    assert!(matches!(fault(&verifier, &long(MAX_TOKEN_BYTES)).await, Unverified(TokenFault::NotAJwt { .. })));
    assert_eq!(fault(&verifier, &long(MAX_TOKEN_BYTES + 1)).await, TokenFault::TooLong { bytes: 20_001 });
    // The token's own limit is the only one: a certificate chain in x5c, a long key id, many members.
    let members = (0..1_000).fold(String::new(), |all, number| all + &format!(r#","{number}":0"#));
    for more in [format!(r#","x5c":["{}"]"#, long(12_000)), members] {
        verify(&verifier, &signed(&header(&more), &payload())).await.unwrap();
    }
    let deep = |levels: usize| header(&format!(r#","x":{}{}"#, "[".repeat(levels), "]".repeat(levels)));
    verify(&verifier, &signed(&deep(125), &payload())).await.unwrap();
    let error = fault(&verifier, &signed(&deep(126), &payload())).await;
    assert_eq!(error, TokenFault::BadHeader(HeaderFault::Json(JsonFault::TooDeep)));
}

#[tokio::test(flavor = "multi_thread")]
async fn j1_another_signature_is_another_token() {
    let verifier = verifier_with("");
    let token = signed(&header(""), &payload());
    let (content, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[100] ^= 1;
    let forged = format!("{content}.{}", URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(fault(&verifier, &forged).await, TokenFault::BadSignature);
    let mallory = URL_SAFE_NO_PAD.encode(Value::from(claims().set("sub", "mallory")).to_string());
    let (head, _) = content.split_once('.').unwrap();
    assert_eq!(fault(&verifier, &format!("{head}.{mallory}.{signature}")).await, TokenFault::BadSignature);
    // ECDSA: nothing, zeroes, too short, too long, and the DER form of other protocols.
    let es = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, shared().kid(&KeyChoice::Es256));
    for odd in [vec![], vec![0; 64], vec![1; 63], vec![1; 65], vec![0x30, 6, 2, 1, 1, 2, 1, 1]] {
        let token = shared().sign(&es, payload().as_bytes(), &KeyChoice::Bytes(odd));
        assert_eq!(fault(&verifier, &token).await, TokenFault::BadSignature);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j2_algorithms_come_from_the_configuration() {
    let verifier = verifier_with("");
    let with = |alg: &str| header("").replace("RS256", alg);
    for (alg, fault_kind) in [
        ("none", AlgorithmFault::Unsigned),
        ("nOnE", AlgorithmFault::Unsigned),
        ("HS256", AlgorithmFault::Symmetric),
        ("PS256", AlgorithmFault::NotForSts),
        ("EdDSA", AlgorithmFault::NotForSts),
        ("rs256", AlgorithmFault::Unknown),
        ("", AlgorithmFault::Unknown),
    ] {
        let token = shared().sign(&with(alg), payload().as_bytes(), &KeyChoice::Unsigned);
        assert_eq!(fault(&verifier, &token).await, TokenFault::Algorithm(fault_kind), "{alg}");
    }
    // The public key as a shared secret, in every spelling.
    let jwks = shared().jwks();
    let jwk = jwks["keys"][0].to_string();
    for secret in [shared().rsa_public_pem(), shared().ec_public_pem(), jwk] {
        let token =
            shared().sign(&with("HS256"), payload().as_bytes(), &KeyChoice::Hs256(secret.into_bytes()));
        assert_eq!(fault(&verifier, &token).await, TokenFault::Algorithm(AlgorithmFault::Symmetric));
    }
    let only_es = verifier_with("algorithms = \"ES256\"");
    let error = fault(&only_es, &signed(&header(""), &payload())).await;
    assert!(matches!(error, Unverified(TokenFault::Algorithm(AlgorithmFault::NotListed(_)))), "{error}");
    // An RSA key cannot be meant by ES256, nor the other way round.
    let crossed = shared().sign(&with("ES256"), payload().as_bytes(), &KeyChoice::Rs256);
    assert!(matches!(fault(&verifier, &crossed).await, Unverified(TokenFault::KeyUnknown { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn j3_the_header_cannot_bring_keys_or_extensions() {
    let verifier = verifier_with("");
    for member in ["crit", "b64", "zip"] {
        for value in [r#"["x"]"#, "[]", "false", "0", "\"\""] {
            let token = signed(&header(&format!(r#","{member}":{value}"#)), &payload());
            assert_eq!(fault(&verifier, &token).await, TokenFault::CriticalHeader(member), "{value}");
        }
    }
    let nothing = header(r#","crit":null,"b64":null,"zip":null,"typ":null"#);
    verify(&verifier, &signed(&nothing, &payload())).await.unwrap();
    // A key of the attacker's own, offered in every way there is: not even looked at.
    let own = Issuer::start(IssuerOptions::default()).unwrap();
    let offered = format!(
        r#","jwk":{},"jku":"{}","x5u":"{}","x5c":["AA=="]"#,
        own.jwks()["keys"][0],
        own.page_url(IssuerPage::Jwks),
        own.url()
    );
    let token = own.sign(&header(&offered), payload().as_bytes(), &KeyChoice::Rs256);
    assert_eq!(fault(&verifier, &token).await, TokenFault::BadSignature);
    assert_eq!(own.count(IssuerPage::Jwks) + own.count(IssuerPage::Discovery), 0);
    for (typ, accepted) in [
        ("JWT", true),
        ("jwt", true),
        ("at+jwt", true),
        ("application/at+JWT", true),
        ("logout+jwt", false),
        ("dpop+jwt", false),
        ("", false),
    ] {
        let token = signed(&header(&format!(r#","typ":"{typ}""#)), &payload());
        let result = verify(&verifier, &token).await;
        assert_eq!(result.is_ok(), accepted, "{typ}");
        assert!(accepted || result.unwrap_err() == TokenFault::TokenType, "{typ}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j4_a_key_id_is_a_name_and_nothing_else() {
    let verifier = verifier_with("");
    let with = |kid: &str| signed(&json!({ "alg": "RS256", "kid": kid }).to_string(), &payload());
    for kid in ["../../etc/passwd", "a\0b", "' or 1=1 --", &"k".repeat(10_000)] {
        assert!(
            matches!(fault(&verifier, &with(kid)).await, Unverified(TokenFault::KeyUnknown { .. })),
            "{kid}"
        );
    }
    let number = fault(&verifier, &signed(r#"{"alg":"RS256","kid":7}"#, &payload())).await;
    assert_eq!(number, TokenFault::BadHeader(HeaderFault::KeyId));
    // Without one, the only RSA key is meant.
    for header in [r#"{"alg":"RS256"}"#, r#"{"alg":"RS256","kid":null}"#, r#"{"alg":"RS256","kid":""}"#] {
        verify(&verifier, &signed(header, &payload())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j5_issuer_and_audience_are_exact() {
    let verifier = verifier_with("");
    let url = shared().url();
    let iss = |value: Value| signed(&header(""), &Value::from(claims().set("iss", value)).to_string());
    for other in [format!("{url}/"), format!("x{url}"), url.to_uppercase(), format!("{url}.evil.example")] {
        assert_eq!(fault(&verifier, &iss(json!(other))).await, TokenFault::UnknownIssuer);
    }
    for odd in [json!([url]), json!({ "a": url }), json!(null), json!(7)] {
        assert_eq!(fault(&verifier, &iss(odd)).await, TokenFault::NoIssuer);
    }
    let aud = |value: Value| signed(&header(""), &Value::from(claims().set("aud", value)).to_string());
    let many = |count: usize| {
        let mut list = vec![json!("x"); count - 1];
        list.push(json!("pgpassport"));
        Value::from(list)
    };
    for good in [json!("a"), json!(["x", "a"]), many(1_000)] {
        verify(&verifier, &aud(good)).await.unwrap();
    }
    for bad in [json!([1, "a"]), json!({ "a": 1 }), json!(true), json!(null)] {
        assert_eq!(fault(&verifier, &aud(bad)).await, ClaimFault::BadClaim("aud"));
    }
    for other in [json!("A"), json!("aa"), json!([]), json!(["x"])] {
        assert!(matches!(fault(&verifier, &aud(other)).await, Claims(ClaimFault::Audience { .. })));
    }
    for name in ["aud", "exp", "iat", "sub"] {
        let token = shared().mint(claims().without(name));
        assert_eq!(fault(&verifier, &token).await, ClaimFault::MissingClaim(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j8_a_subject_is_a_text_of_1_to_255_bytes() {
    let verifier = verifier_with("");
    for good in ["s".repeat(255), "s".to_owned()] {
        verify(&verifier, &shared().mint(claims().set("sub", good))).await.unwrap();
    }
    for bad in [json!("s".repeat(256)), json!(""), json!(7), json!(["alice"]), json!(null)] {
        let error = fault(&verifier, &shared().mint(claims().set("sub", bad))).await;
        assert_eq!(error, ClaimFault::BadClaim("sub"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j6_times_at_the_second() {
    let verifier = verifier_with("leeway = \"30s\"\nmax_token_lifetime = \"1h\"");
    let with = |name: &str, value: Value| shared().mint(claims().set(name, value));
    for (name, value) in [("exp", NOW - 29), ("nbf", NOW + 30), ("iat", NOW + 30), ("exp", NOW - 60 + 3_600)]
    {
        verify(&verifier, &with(name, json!(value))).await.unwrap_or_else(|e| panic!("{name} {value}: {e}"));
    }
    for (name, value, expected) in [
        ("exp", NOW - 30, ClaimFault::Expired { seconds_ago: 30 }),
        ("nbf", NOW + 31, ClaimFault::NotYetValid { in_seconds: 31 }),
        ("iat", NOW + 31, ClaimFault::IssuedInFuture { in_seconds: 31 }),
        ("exp", NOW - 60 + 3_601, ClaimFault::LifetimeTooLong { seconds: 3_601, max_seconds: 3_600 }),
    ] {
        assert_eq!(fault(&verifier, &with(name, json!(value))).await, expected, "{name} {value}");
    }
    for name in ["exp", "nbf", "iat"] {
        for odd in [json!("1800000600"), json!(1.5), json!(-1), json!([NOW]), json!({}), json!(true)] {
            let error = fault(&verifier, &with(name, odd)).await;
            assert!(
                error
                    == ClaimFault::BadClaim(match name {
                        "exp" => "exp",
                        "nbf" => "nbf",
                        _ => "iat",
                    })
            );
        }
        assert!(matches!(
            fault(&verifier, &with(name, json!((1_u64 << 53) + 1))).await,
            Claims(ClaimFault::BadClaim(_))
        ));
        let absent = verify(&verifier, &with(name, json!(null))).await.map(drop);
        let expected = match name {
            "exp" => Err(ClaimFault::MissingClaim("exp").into()),
            "iat" => Err(ClaimFault::MissingClaim("iat").into()),
            _ => Ok(()),
        };
        assert_eq!(absent, expected, "null is absent");
        for spelled in ["1e9", "1800000600.0", "1e400"] {
            let text = payload().replace(&format!("\"{name}\":"), &format!("\"{name}\":{spelled},\"was\":"));
            let error = fault(&verifier, &signed(&header(""), &text)).await;
            assert!(
                matches!(error, Claims(ClaimFault::BadClaim(_)) | Unverified(TokenFault::BadPayload(_))),
                "{spelled}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j7_a_duplicate_member_is_refused() {
    let verifier = verifier_with("");
    for twice in [r#"{"sub":"victim","#, r#"{"s\u0075b":"victim","#, r#"{"x":{"y":1,"y":2},"#] {
        let token = signed(&header(""), &payload().replacen('{', twice, 1));
        assert_eq!(fault(&verifier, &token).await, TokenFault::BadPayload(JsonFault::Duplicate), "{twice}");
    }
    let token = signed(&header(r#","kid":"other""#), &payload());
    assert_eq!(
        fault(&verifier, &token).await,
        TokenFault::BadHeader(HeaderFault::Json(JsonFault::Duplicate))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j15_no_error_holds_any_of_the_token() {
    let verifier = verifier_with("");
    let good = signed(&header(""), &payload());
    let parts: Vec<&str> = good.split('.').collect();
    for token in [
        good.replace(parts[2], &parts[2].chars().rev().collect::<String>()),
        format!("{good}x"),
        good.replacen('.', "", 1),
        shared().mint(claims().set("exp", NOW - 100)),
    ] {
        let error = fault(&verifier, &token).await;
        let shown = format!("{error} {error:?}");
        for part in token.split('.') {
            assert!(!shown.contains(&part[..8]), "{shown}");
        }
    }
}
