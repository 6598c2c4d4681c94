//! Known answers: tokens made by an independent implementation (see `tests/aws-emulator/testdata/iam-token-vectors.json`), and
//! names that would add parameters of their own if they were not encoded.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use super::*;
use crate::aws::credentials::RoleCredentials;
use crate::names::Endpoint;

/// A token's authority and its parameters, in any order.
fn parts(token: &str) -> (&str, BTreeMap<&str, &str>) {
    let (authority, query) = token.split_once("/?").unwrap();
    let pairs: Vec<_> = query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    assert_eq!(map.len(), pairs.len(), "a parameter twice: {token}");
    (authority, map)
}

/// `2026-01-02T03:04:05Z` as a time, for years after 1970 (days from civil, Howard Hinnant).
fn time(text: &str) -> SystemTime {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = shifted / 400;
    let of_era = shifted - era * 400;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap())
}

fn identity(key_id: &str, secret: &str, session_token: Option<&str>) -> Credentials {
    Credentials::new(key_id, secret, session_token.map(str::to_owned), None, "test")
}

#[test]
fn p4_tokens_equal_those_of_an_independent_implementation() {
    let text = include_str!("../../../tests/aws-emulator/testdata/iam-token-vectors.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let get = |key: &str| vector[key].as_str().unwrap();
        let port = vector["port"].as_u64().unwrap();
        // The configured endpoint is lower-cased before anything is signed.
        let endpoint = Endpoint::parse(&format!("{}:{port}", get("host"))).unwrap();
        let at = TokenRequest::rds(endpoint.host(), endpoint.port(), get("region"), get("user"));
        let identity = identity(get("access_key"), get("secret_key"), vector["session_token"].as_str());
        let token = presigned(identity, &at, time(get("time"))).unwrap();
        let expected = get("expected_token");
        let (authority, parameters) = parts(&token);
        let (expected_authority, expected_parameters) = parts(expected);
        assert_eq!(parameters, expected_parameters, "{}", get("note"));
        assert_eq!(authority, expected_authority.to_lowercase(), "{}", get("note"));
        assert!(token.rsplit_once('&').unwrap().1.starts_with("X-Amz-Signature="), "the signature is last");
    }
}

#[test]
fn p4_dsql_tokens_equal_those_of_an_independent_implementation() {
    let text = include_str!("../../../tests/aws-emulator/testdata/dsql-token-vectors.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let get = |key: &str| vector[key].as_str().unwrap();
        let mut cluster = crate::config::test_fixture::cluster("http://127.0.0.1:1");
        cluster.kind = EndpointKind::Dsql;
        cluster.endpoint = Endpoint::parse(get("host")).unwrap();
        cluster.region = crate::names::Region::parse(get("region")).unwrap();
        let wanted = TokenRequest::at(&cluster, &DbUser::parse("alice").unwrap());
        let identity = identity(get("access_key"), get("secret_key"), vector["session_token"].as_str());
        let token = presigned(identity, &wanted, time(get("time"))).unwrap();
        assert_eq!(parts(&token), parts(get("expected_token")), "{}", get("note"));
    }
}

#[test]
fn p4_no_user_can_add_a_parameter() {
    let host = "c1.cluster-abc123.eu-west-1.rds.amazonaws.com";
    let at = |user| TokenRequest::rds(host, 5432, "eu-west-1", user);
    for (user, encoded, signature) in [
        (
            "x&DBUser=admin",
            "x%26DBUser%3Dadmin",
            "10511aeaeecd948fda47a57fd0fac2491a82860d1006cb692313a3246f26c0a8",
        ),
        ("a+b", "a%2Bb", "bbb438095facc3605b3e9a5d2e57c8c697382a0f6bf68452c216263c915d7a24"),
        ("50%", "50%25", "bd5550951cd94f1959a329ff283834e56df71e58b8a6dd85c85b4cfc5ddb6b56"),
        ("auth0|123", "auth0%7C123", "5fd004a0abb0ee7d352011607c4c38c14ed2352a05f4e2eba6eaed8210d76c8e"),
        ("ünï", "%C3%BCn%C3%AF", "af133c4908043f094870aa84c6528a8a7661c36c8d959234588fa433c45b425e"),
    ] {
        let identity = identity(
            "ASIAEXAMPLEKEYID0000",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            Some("FwoGZXIvYXdzE+abc/def=="),
        );
        let token = presigned(identity, &at(user), time("2026-01-02T03:04:05Z")).unwrap();
        let (_, parameters) = parts(&token);
        assert_eq!((parameters["DBUser"], parameters["X-Amz-Signature"]), (encoded, signature), "{user}");
    }
    let identity = identity("AKID", "secret", None);
    let token = presigned(identity, &at("a#b /?"), time("2026-01-02T03:04:05Z")).unwrap();
    assert_eq!(parts(&token).1["DBUser"], "a%23b%20%2F%3F");
}

#[test]
fn a_token_is_reused_for_ten_minutes_and_not_longer() {
    let cluster = crate::config::test_fixture::cluster("http://127.0.0.1:1");
    let start = time("2026-01-02T03:04:05Z");
    let credentials = RoleCredentials::new(
        "ASIA".into(),
        "secret".into(),
        Some("token".into()),
        start + Duration::from_hours(1),
        "alice-1".into(),
    );
    let user = DbUser::parse("alice").unwrap();
    let at = |seconds: u64| {
        let signed = credentials.iam_token(&cluster, &user, start + Duration::from_secs(seconds)).unwrap();
        parts(signed.token.expose()).1["X-Amz-Date"].to_owned()
    };
    assert_eq!(at(0), "20260102T030405Z");
    assert_eq!(at(599), "20260102T030405Z");
    assert_eq!(at(600), "20260102T031405Z");
    // A clock that goes backwards makes a new one: the old one would be from the future.
    assert_eq!(at(0), "20260102T030405Z");
    assert_eq!(format!("{credentials:?}"), "RoleCredentials of alice-1");
}
