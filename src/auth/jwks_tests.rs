//! Key sets of every quality.

use serde_json::json;

use super::*;

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

#[test]
fn p6_what_cannot_be_used_is_left_out_and_the_rest_remains() {
    let odd = [
        json!(7),
        json!({}),
        json!({ "kty": "oct", "k": "AAAA", "kid": "o" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": X }),
        rsa(&json!({ "use": "enc" })),
        rsa(&json!({ "key_ops": ["encrypt"] })),
        rsa(&json!({ "d": "AAAA" })),
        rsa(&json!({ "alg": "RSA-OAEP" })),
        rsa(&json!({ "alg": "PS256" })),
        rsa(&json!({ "kid": 7 })),
        rsa(&json!({ "n": "AQAB" })),
        rsa(&json!({ "n": N.repeat(5) })),
        rsa(&json!({ "e": "AQ" })),
        rsa(&json!({ "e": "AQAA" })),
        rsa(&json!({ "e": "AQAAAAE" })),
        ec(&json!({ "crv": "P-521" })),
        ec(&json!({ "alg": "ES384" })),
        ec(&json!({ "x": "AAAA" })),
        ec(&json!({ "d": "AAAA" })),
    ];
    for key in &odd {
        assert_eq!(parse(std::slice::from_ref(key)).err(), Some(KeySetFault::NoneUsable), "{key}");
    }
    let mut mixed = odd.to_vec();
    mixed.push(rsa(&json!({ "use": "sig", "alg": "RS256", "key_ops": ["verify"] })));
    mixed.push(ec(&json!({})));
    assert_eq!(parse(&mixed).unwrap().len(), 2);
}

#[test]
fn p6_limits_of_a_set_at_the_limit_and_past_it() {
    let many = |count: usize| vec![rsa(&json!({})); count];
    assert_eq!(parse(&many(200)).unwrap().len(), 200);
    assert_eq!(parse(&many(201)).err(), Some(KeySetFault::TooMany(201)));
    let padded = |bytes: usize| {
        let set = json!({ "keys": [rsa(&json!({}))], "pad": "" }).to_string();
        set.replace(r#""pad":"""#, &format!(r#""pad":"{}""#, "x".repeat(bytes - set.len())))
    };
    assert_eq!(padded(MAX_BODY_BYTES).len(), 524_288);
    assert!(KeySet::parse(padded(MAX_BODY_BYTES).as_bytes()).is_ok());
    assert_eq!(
        KeySet::parse(padded(MAX_BODY_BYTES + 1).as_bytes()).err(),
        Some(KeySetFault::Json(JsonFault::TooLong))
    );
    for (body, fault) in [
        ("", KeySetFault::Json(JsonFault::NotJson)),
        ("<html>", KeySetFault::Json(JsonFault::NotJson)),
        ("{}", KeySetFault::NoKeys),
        (r#"{"keys":{}}"#, KeySetFault::NoKeys),
        (r#"{"keys":[]}"#, KeySetFault::NoneUsable),
        (r#"{"keys":[],"keys":[]}"#, KeySetFault::Json(JsonFault::Duplicate)),
    ] {
        assert_eq!(KeySet::parse(body.as_bytes()).err(), Some(fault), "{body}");
    }
}

#[test]
fn j2_rsa_keys_have_2048_to_8192_bits() {
    let sound = |bits: usize, e: &str| {
        let mut n = vec![0xff_u8; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        rsa_is_sound(&URL_SAFE_NO_PAD.encode(n), e).is_some()
    };
    for (bits, accepted) in [(2_047, false), (2_048, true), (8_192, true), (8_193, false)] {
        assert_eq!(sound(bits, "AQAB"), accepted, "{bits}");
    }
    for (e, accepted) in [("AQ", false), ("Ag", false), ("Aw", true), ("AQAC", false), ("_____w", true)] {
        assert_eq!(sound(2_048, e), accepted, "{e}");
    }
}

#[test]
fn j4_key_ids_choose_and_four_tries_are_the_most() {
    let alg = SignatureAlgorithm::Rs256;
    let set =
        parse(&[rsa(&json!({})), rsa(&json!({})), rsa(&json!({ "kid": "other" })), ec(&json!({}))]).unwrap();
    assert_eq!(set.candidates(Some("r"), alg).unwrap().len(), 2, "two keys with one id are both tried");
    assert_eq!(set.candidates(Some("x"), alg).unwrap().len(), 0);
    assert_eq!(set.candidates(Some("e"), alg).unwrap().len(), 0, "an EC key is not for RS256");
    assert_eq!(set.candidates(None, alg).err(), Some(3), "without an id three could be meant");
    assert_eq!(set.candidates(None, SignatureAlgorithm::Es256).unwrap().len(), 1);
    assert_eq!(set.candidates(None, SignatureAlgorithm::Es384).unwrap().len(), 0);
    for (keys, tries) in [(4, 4), (5, 4)] {
        let crowd = parse(&vec![rsa(&json!({})); keys]).unwrap();
        assert_eq!(crowd.candidates(Some("r"), alg).unwrap().len(), tries);
    }
    let only = parse(&[rsa(&json!({ "alg": "RS512" }))]).unwrap();
    assert_eq!(only.candidates(Some("r"), alg).unwrap().len(), 0, "the set says what it is for");
}
