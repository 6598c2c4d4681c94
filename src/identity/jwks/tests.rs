//! Key sets of every quality.

use SignatureAlgorithm::{Es256, Es384, Es512, Rs256, Rs512};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::identity::jwk::KeyFault as F;

/// The public key of RFC 7515, appendix A.2 (RSA, 2,048 bits).
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// The public key of RFC 7515, appendix A.3 (P-256).
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn rsa(changes: &Value) -> Value {
    let mut key = json!({ "kty": "RSA", "kid": "r", "n": N, "e": "AQAB" });
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

fn ec(changes: &Value) -> Value {
    let mut key = json!({ "kty": "EC", "crv": "P-256", "kid": "e", "x": X, "y": Y });
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

fn parse(keys: &[Value]) -> Result<KeySet, KeySetFault> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn one(key: &Value) -> Result<VerificationKey, F> {
    match key {
        Value::Object(key) => VerificationKey::parse(key),
        _ => Err(F::Json(JsonFault::NotAnObject)),
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn p6_a_key_that_cannot_be_used_is_named_with_the_reason_and_the_rest_remains() {
    let odd = [
        (json!(7), F::Json(JsonFault::NotAnObject)),
        (json!({}), F::NoType),
        (json!({ "kty": "oct", "k": "AAAA", "kid": "o" }), F::Type(text("oct"))),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": X }), F::Type(text("OKP"))),
        (json!({ "kty": 1 }), F::NotText("kty")),
        (rsa(&json!({ "use": "enc" })), F::Use(text("enc"))),
        (rsa(&json!({ "use": "x509-svid" })), F::Use(text("x509-svid"))),
        (rsa(&json!({ "use": ["sig"] })), F::NotText("use")),
        (rsa(&json!({ "key_ops": ["encrypt"] })), F::Operations),
        (rsa(&json!({ "key_ops": "verify" })), F::Operations),
        (rsa(&json!({ "d": "AAAA" })), F::Private("d")),
        (rsa(&json!({ "p": "AAAA" })), F::Private("p")),
        (rsa(&json!({ "alg": "RSA-OAEP" })), F::Algorithm(text("RSA-OAEP"))),
        (rsa(&json!({ "alg": "PS256" })), F::Algorithm(text("PS256"))),
        (rsa(&json!({ "alg": "x\u{1b}[2J\"" })), F::Algorithm(text("x\\u{1b}[2J\\\""))),
        (rsa(&json!({ "alg": "ES256" })), F::Mismatch(Es256)),
        (rsa(&json!({ "kid": 7 })), F::NotText("kid")),
        (rsa(&json!({ "n": null })), F::Missing("n")),
        (rsa(&json!({ "n": null, "x5c": ["MIIB"] })), F::CertificateOnly("n")),
        (rsa(&json!({ "n": "AQ AB" })), F::Encoding("n")),
        (rsa(&json!({ "n": "AQAB" })), F::RsaBits(17)),
        (rsa(&json!({ "n": N.repeat(5) })), F::RsaBits(10_256)),
        (rsa(&json!({ "n": format!("{}A", &N[..341]) })), F::Modulus),
        (rsa(&json!({ "e": "AQ" })), F::Exponent),
        (rsa(&json!({ "e": "AQAA" })), F::Exponent),
        (ec(&json!({ "crv": "secp256k1" })), F::Curve(text("secp256k1"))),
        (ec(&json!({ "crv": null })), F::Missing("crv")),
        (ec(&json!({ "crv": "P-521" })), F::Point),
        (ec(&json!({ "alg": "ES384" })), F::Mismatch(Es384)),
        (ec(&json!({ "x": "AAAA" })), F::Point),
        (ec(&json!({ "x": format!("AQAA{X}") })), F::Coordinate("x")),
        (ec(&json!({ "d": "AAAA" })), F::Private("d")),
    ];
    for (key, fault) in &odd {
        assert_eq!(one(key).unwrap_err(), *fault, "{key}");
    }
    let mut mixed: Vec<_> = odd.iter().map(|(key, _)| key.clone()).collect();
    mixed.push(rsa(&json!({ "use": "sig", "alg": "RS256", "key_ops": ["verify"] })));
    mixed.push(ec(&json!({})));
    let set = parse(&mixed).unwrap();
    assert_eq!((set.len(), set.left_out_count(), set.left_out().len()), (2, odd.len(), odd.len()));
    let named: Vec<_> = set.left_out().iter().map(ToString::to_string).collect();
    assert_eq!(named[2], "key \"o\": its kty is \"oct\", not RSA or EC");
    assert_eq!(named[3], "key number 4: its kty is \"OKP\", not RSA or EC");
    assert_eq!(
        parse(&mixed[..1]).unwrap_err().to_string(),
        "the key set has no usable key (key number 1: it is not a JSON object)"
    );
    assert!(parse(&mixed[..9]).unwrap_err().to_string().ends_with("; and 6 more)"));
}

#[test]
fn what_serialisers_write_for_an_absent_member_is_absent() {
    let nulls = json!({ "d": null, "p": null, "q": null, "dp": null, "dq": null, "qi": null, "oth": null, "k": null,
        "use": null, "alg": null, "key_ops": null, "x5c": null, "x5t": null, "kid": null });
    let empty = json!({ "d": "", "p": "", "oth": [], "use": "", "alg": "", "key_ops": [], "x5c": [], "x5t": "", "kid": "" });
    for absent in [&nulls, &empty] {
        for key in [rsa(absent), ec(absent)] {
            assert_eq!(one(&key).unwrap().kid(), None, "{key}");
        }
    }
}

/// A key that two readers could understand differently costs nobody else's tokens.
#[test]
fn a_key_that_is_not_strict_json_is_left_out_alone() {
    let good = rsa(&json!({})).to_string();
    let twice = good.replacen('{', r#"{"kid":"a","#, 1);
    let deep = good.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(200), "]".repeat(200)), 1);
    let huge = good.replacen('{', r#"{"x":1e400,"#, 1);
    let half = good.replacen('{', r#"{"x5t":"\ud800","#, 1);
    for (odd, fault) in [
        (twice, JsonFault::Duplicate),
        (deep, JsonFault::TooDeep),
        (huge, JsonFault::NotJson),
        (half, JsonFault::NotJson),
    ] {
        let set = KeySet::parse(format!(r#"{{"keys":[{odd},{good}]}}"#).as_bytes()).unwrap();
        assert_eq!((set.len(), &set.left_out()[0].fault), (1, &F::Json(fault)), "{odd}");
    }
}

/// Two spellings of one number are one key.
#[test]
fn numbers_may_have_leading_zeros_or_lack_them_and_base64_may_be_of_any_kind() {
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let spellings = |text: &str| {
        let number = decoded(text);
        let zero = [&[0], number.as_slice()].concat();
        [
            URL_SAFE_NO_PAD.encode(&zero),
            STANDARD.encode(&number),
            STANDARD.encode([&[0, 0], &number[..]].concat()),
        ]
    };
    assert!(STANDARD.encode(decoded(N)).contains(['+', '/']) && STANDARD.encode(decoded(N)).ends_with("=="));
    for n in spellings(N) {
        assert_eq!(one(&rsa(&json!({ "n": n, "e": "AAEAAQ==" }))), one(&rsa(&json!({}))), "{n}");
    }
    for x in spellings(X) {
        assert_eq!(one(&ec(&json!({ "x": x }))), one(&ec(&json!({}))), "{x}");
    }
    // A point whose x begins with a zero byte, which a careless issuer leaves out: 2^-1 of the generator's order would do,
    // and so does any key that is made until it has one.
    let (x, y) = std::iter::repeat_with(fresh_point).find(|(x, _)| x[0] == 0).unwrap();
    let key =
        |x: &[u8]| one(&ec(&json!({ "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(&y) })));
    assert_eq!(key(&x[1..]).unwrap(), key(&x).unwrap());
}

fn fresh_point() -> (Vec<u8>, Vec<u8>) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    (x.to_vec(), y.to_vec())
}

#[test]
fn spiffe_says_jwt_svid_where_others_say_sig() {
    for usage in ["sig", "jwt-svid"] {
        assert!(one(&rsa(&json!({ "use": usage }))).is_ok(), "{usage}");
    }
}

/// `IAM` user guide: 100 RSA keys and 100 EC keys; STS refuses all tokens of a type that has more.
#[test]
fn p6_a_type_with_more_keys_than_sts_reads_is_left_out_and_the_other_stays() {
    let many = |count: usize| -> Vec<Value> {
        (0..count).map(|kid| rsa(&json!({ "kid": kid.to_string() }))).collect()
    };
    assert_eq!(parse(&many(100)).unwrap().len(), 100);
    assert!(parse(&many(101)).is_err());
    let set = parse(&[many(101), vec![ec(&json!({}))]].concat()).unwrap();
    assert_eq!((set.len(), set.left_out_count()), (1, 101));
    assert_eq!(set.left_out()[0].fault, F::TooMany(100, "RSA"));
    // Of others there may be any number; they are counted, and the first are named.
    let others = vec![json!({ "kty": "OKP" }); 1_000];
    let set = parse(&[others, many(1)].concat()).unwrap();
    assert_eq!((set.len(), set.left_out_count(), set.left_out().len()), (1, 1_000, MAX_NAMED));
}

#[test]
fn p6_a_set_is_one_strict_object() {
    for (body, fault) in [
        ("", KeySetFault::Json(JsonFault::NotJson)),
        ("<html>", KeySetFault::Json(JsonFault::NotJson)),
        ("{}", KeySetFault::NoKeys),
        (r#"{"keys":{}}"#, KeySetFault::NoKeys),
        (r#"{"keys":null}"#, KeySetFault::NoKeys),
        (r#"{"keys":[]}"#, KeySetFault::NoneUsable(String::new())),
        (r#"{"keys":[],"keys":[]}"#, KeySetFault::Json(JsonFault::Duplicate)),
    ] {
        assert_eq!(KeySet::parse(body.as_bytes()).err(), Some(fault), "{body}");
    }
    let marked = format!("\u{feff}{}", json!({ "keys": [rsa(&json!({}))] }));
    assert_eq!(KeySet::parse(marked.as_bytes()).unwrap().len(), 1);
}

#[test]
fn j2_rsa_keys_have_2048_to_8192_bits() {
    let sound = |bits: usize, e: &str| {
        let mut n = vec![0xff_u8; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        one(&rsa(&json!({ "n": URL_SAFE_NO_PAD.encode(n), "e": e }))).is_ok()
    };
    for (bits, accepted) in [(2_047, false), (2_048, true), (8_192, true), (8_193, false)] {
        assert_eq!(sound(bits, "AQAB"), accepted, "{bits}");
    }
    for (e, accepted) in [
        ("AQ", false),
        ("Ag", false),
        ("Aw", true),
        ("AQAC", false),
        ("_____w", true),
        ("AQAAAAE", true), // 33 bits
        ("AgAAAAE", false),
    ] {
        assert_eq!(sound(2_048, e), accepted, "{e}");
    }
}

#[test]
fn j4_key_ids_are_hints_and_sixteen_tries_are_the_most() {
    let set = parse(&[
        rsa(&json!({})),
        rsa(&json!({ "e": "Aw" })),
        rsa(&json!({ "kid": "other" })),
        rsa(&json!({ "kid": null, "e": "BQ" })),
        ec(&json!({})),
    ])
    .unwrap();
    let count = |kid, alg| set.candidates(kid, alg).unwrap().len();
    assert_eq!(count(Some("r"), Rs256), 3, "two keys with the id, and the one without any");
    assert_eq!(count(Some("x"), Rs256), 1, "the one without an id may be meant");
    assert_eq!(count(Some("e"), Rs256), 1, "an EC key is not for RS256");
    assert_eq!(count(None, Rs256), 4, "without an id each may be meant");
    assert_eq!((count(None, Es256), count(None, Es384), count(None, Es512)), (1, 0, 0));
    let crowd = |keys: usize| -> KeySet {
        let exponent = |number: usize| URL_SAFE_NO_PAD.encode([u8::try_from(2 * number + 3).unwrap()]);
        parse(&(0..keys).map(|number| rsa(&json!({ "e": exponent(number) }))).collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(crowd(16).candidates(Some("r"), Rs256).unwrap().len(), 16);
    assert_eq!(crowd(17).candidates(Some("r"), Rs256).err(), Some(17));
    let only = parse(&[rsa(&json!({ "alg": "RS512" }))]).unwrap();
    assert_eq!(only.candidates(Some("r"), Rs256).unwrap().len(), 0, "the set says what it is for");
    assert_eq!(only.candidates(Some("r"), Rs512).unwrap().len(), 1);
}

#[test]
fn a_key_that_is_told_twice_is_one_key() {
    let set = parse(&[
        rsa(&json!({})),
        rsa(&json!({})),
        rsa(&json!({ "kid": "again" })),
        rsa(&json!({ "alg": "RS256" })),
    ]);
    assert_eq!(set.unwrap().len(), 3);
    let (one, same) =
        (parse(&[rsa(&json!({})), ec(&json!({}))]).unwrap(), parse(&[ec(&json!({})), rsa(&json!({}))]));
    assert!(one.same_keys(&same.unwrap()));
    assert!(!one.same_keys(&parse(&[rsa(&json!({})), ec(&json!({ "kid": "f" }))]).unwrap()));
    assert!(!one.same_keys(&parse(&[rsa(&json!({}))]).unwrap()));
}
