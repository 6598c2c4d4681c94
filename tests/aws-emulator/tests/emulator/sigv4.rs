//! The verifier of login tokens against tokens that AWS's own tools made.

use aws_emulator::sigv4::{PresignedRequest, TokenRequest, sign};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../../testdata/iam-token-vectors.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name}: {vector}"))
}

#[test]
fn tokens_made_by_aws_tools_have_the_signature_that_is_expected() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 12);
    for vector in &vectors {
        let token = PresignedRequest::parse(text(vector, "expected_token")).unwrap();
        assert_eq!(
            token.expected_signature(text(vector, "secret_key")),
            token.signature,
            "{}",
            vector["note"]
        );
        assert_eq!(token.user, text(vector, "user"));
        assert_eq!(token.host, text(vector, "host"));
        assert_eq!(token.region, text(vector, "region"));
        assert_eq!(i64::from(token.port), vector["port"].as_i64().unwrap());
        assert_eq!(token.session_token.as_deref(), vector["session_token"].as_str());
        assert_eq!(token.expires, 900);
        assert!(token.is_for_rds_db());
        assert_ne!(token.expected_signature("another secret"), token.signature);
    }
}

#[test]
fn a_change_to_any_signed_part_changes_the_signature() {
    let vector = &vectors()[1];
    let (good, secret) = (text(vector, "expected_token"), text(vector, "secret_key"));
    for (from, to) in [
        ("DBUser=alice", "DBUser=alicf"),
        ("db.cluster", "dc.cluster"),
        (":5432/", ":5433/"),
        ("us-east-1%2F", "us-east-2%2F"),
        ("T030405Z", "T030406Z"),
        ("Expires=900", "Expires=901"),
        ("rds-db%2F", "rds%2F"),
        ("Token=FQ", "Token=GQ"),
        ("ASIAIO", "ASIAIP"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        let token = PresignedRequest::parse(&changed).unwrap();
        assert_ne!(token.expected_signature(secret), token.signature, "{from} -> {to}");
    }
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    let vector = &vectors()[1];
    let (authority, query) = text(vector, "expected_token").split_once('?').unwrap();
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.reverse();
    let token = PresignedRequest::parse(&format!("{authority}?{}", pairs.join("&"))).unwrap();
    assert_eq!(token.expected_signature(text(vector, "secret_key")), token.signature);
}

#[test]
fn unusual_tokens_are_not_read() {
    let good = text(&vectors()[3], "expected_token").to_owned();
    assert!(PresignedRequest::parse(&good).is_ok());
    for (from, to, why) in [
        ("db.cluster", "https://db.cluster", "not a host name"),
        (":5432/?", "/?", "no port"),
        (":5432/?", ":05432/?", "not a port"),
        (":5432/?", ":65536/?", "not a port"),
        ("/?Action", "/x?Action", "no query"),
        ("Action=connect", "Action=Connect", "the action is not connect"),
        ("Action=connect", "Action=connect&Action=connect", "a parameter twice"),
        ("Action=connect", "Action=connect&DBUser=root", "a parameter twice"),
        ("Action=connect", "Action=connect&x=y", "unknown parameter"),
        ("Action=connect", "Action=connect&", "a parameter without a value"),
        ("bob.smith%40example.com", "bob.smith@example.com", "not encoded as SigV4 encodes"),
        ("bob.smith%40", "bob+smith%40", "not encoded as SigV4 encodes"),
        ("bob.smith%40", "bob%2fsmith%40", "not encoded as SigV4 encodes"),
        ("bob.smith%40", "bob%4z", "bad percent-encoding"),
        ("bob.smith%40example.com", "", "no DBUser"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "unknown algorithm"),
        ("SignedHeaders=host", "SignedHeaders=host%3Bx", "the signed headers are not host alone"),
        ("%2Faws4_request", "%2Faws5_request", "malformed credential scope"),
        ("%2F20260102%2F", "%2F20260103%2F", "the date is not the day of the credential scope"),
        ("20260102T030405Z", "20260230T030405Z", "malformed date"),
        ("Expires=900", "Expires=0900", "malformed expiry"),
        ("Expires=900", "Expires=-900", "malformed expiry"),
        ("&X-Amz-Signature=", "&X-Amz-Signature-=", "unknown parameter"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert_eq!(PresignedRequest::parse(&bad), Err(why), "{from} -> {to}");
    }
}

#[test]
fn what_the_test_helper_signs_is_what_botocore_signs() {
    for vector in
        vectors().iter().filter(|vector| vector["host"] == vector["host"].as_str().unwrap().to_lowercase())
    {
        let expected = PresignedRequest::parse(text(vector, "expected_token")).unwrap();
        let made = sign(&TokenRequest {
            endpoint: &format!("{}:{}", expected.host, expected.port),
            region: text(vector, "region"),
            user: text(vector, "user"),
            access_key_id: text(vector, "access_key"),
            secret: text(vector, "secret_key"),
            session_token: vector["session_token"].as_str(),
            at: expected.signed_at,
        });
        assert_eq!(
            PresignedRequest::parse(&made).unwrap().signature,
            expected.signature,
            "{}",
            vector["note"]
        );
    }
}
