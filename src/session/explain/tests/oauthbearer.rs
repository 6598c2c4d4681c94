//! Refusals as an OAUTHBEARER client reads them.

use std::sync::Arc;

use super::*;
use crate::postgres::oauthbearer::{BearerError, Discovery};

fn by_bearer() -> TokenMethod {
    TokenMethod::OAuthBearer(Arc::new(Discovery::new("https://idp.example", "openid").unwrap()))
}

#[test]
fn errors_of_a_server_are_unchanged_over_oauthbearer() {
    let (sqlstate, message, _) = shown(&refused_at(LoginStep::Authenticated, "28000"), &by_bearer());
    assert_eq!((&*sqlstate, &*message), ("28P01", "its words"));
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
        (token(TokenFault::NotAJwt { parts: 1 }), "28P01", failed),
        (token(TokenFault::BadSignature), "28P01", failed),
        (claims(ClaimFault::Expired { seconds_ago: 90 }), "28P01", failed),
        (full(LimitScope::Clients), "53300", "too many connections for the proxy"),
    ] {
        let (code, message, rest) = shown(&why, &by_bearer());
        assert_eq!(code, sqlstate, "{why}");
        assert!(message.starts_with(first_words), "{message}");
        for text in [message, rest] {
            assert!(!text.to_lowercase().contains("password"), "{text}");
        }
        assert_eq!(explain(&why).rejects_the_person(), sqlstate == "28P01");
    }
}
