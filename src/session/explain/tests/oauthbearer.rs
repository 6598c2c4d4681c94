//! Refusals as an OAUTHBEARER client reads them.

use super::*;

#[test]
fn a_servers_own_words_stay_its_own_over_oauthbearer() {
    let refusal = explain_bearer(&refused_at(LoginStep::Authenticated, "28000"), "al");
    assert_eq!((&*refusal.sqlstate, &*refusal.message), ("28P01", "its words"));
}

#[test]
fn j16_refusals_over_oauthbearer_speak_of_no_password() {
    use BearerError as B;
    let failed = "OAuth bearer authentication failed for user \"al\"";
    for (why, sqlstate, first_words) in [
        (TokenError::from(B::Discovery).into(), "28P01", failed),
        (TokenError::from(B::NotBearer("it is empty")).into(), "28P01", failed),
        (TokenError::from(B::Wire(WireError::Length { tag: 'p', length: 9 })).into(), "28P01", failed),
        (TokenError::from(B::Malformed("x")).into(), "08P01", "malformed OAUTHBEARER message: x"),
        (TokenError::from(B::Mechanism).into(), "08P01", "client selected an invalid SASL"),
        (TokenError::from(B::Wire(WireError::Unexpected('Q'))).into(), "08P01", "expected SASL response"),
        (TokenError::from(B::AuthorizationIdentity).into(), "0A000", "client uses authorization identity"),
        (LoginError::Verify(VerifyError::NotAJwt { parts: 1 }), "28P01", failed),
        (LoginError::Verify(VerifyError::BadSignature), "28P01", failed),
        (LoginError::Verify(VerifyError::Expired { seconds_ago: 90 }), "28P01", failed),
        (full(LimitScope::Clients), "53300", "too many connections for the proxy"),
    ] {
        let refusal = explain_bearer(&why, "al");
        assert_eq!(refusal.sqlstate, sqlstate, "{why}");
        assert!(refusal.message.starts_with(first_words), "{}", refusal.message);
        let hint = refusal.hint.clone().unwrap_or_default();
        for text in [&refusal.message, &refusal.detail, &hint] {
            assert!(!text.to_lowercase().contains("password"), "{text}");
        }
        assert_eq!(refusal.rejects_the_person(), sqlstate == "28P01");
    }
}
