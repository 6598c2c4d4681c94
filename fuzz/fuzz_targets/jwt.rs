//! Tokens, their JSON, and key sets: nothing made up is believed, and the strict reader takes no more than an
//! ordinary one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpassport::clock::Clock;
use pgpassport::identity::jwks::{KeySet, MAX_KEYS_OF_A_TYPE};
use pgpassport::identity::strict_json::JsonFault;
use pgpassport::identity::{TokenFault, Verifier, VerifyError, strict_json};
use pgpassport::secret::Jwt;
use pgpassport_fuzz::run;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let verifier = Verifier::new(Vec::new(), Clock::system());
    let fault = run(verifier.verify(&Jwt::new(data.to_vec()))).expect_err("no issuer is known");
    assert!(data.len() <= 20_000 || matches!(fault, VerifyError::Unverified(TokenFault::TooLong { .. })));

    let usual: Result<Value, _> = serde_json::from_slice(data);
    match strict_json::parse_object(data, 16_384) {
        Ok(object) => assert_eq!(Some(Value::Object(object)), usual.ok()),
        Err(JsonFault::TooLong) => assert!(data.len() > 16_384),
        Err(JsonFault::NotJson) => assert!(usual.is_err()),
        Err(JsonFault::NotAnObject) => assert!(usual.is_ok_and(|value| !value.is_object())),
        Err(JsonFault::Duplicate | JsonFault::TooDeep) => {} // what makes it strict
    }
    if let Ok(set) = KeySet::parse(data) {
        assert!((1..=2 * MAX_KEYS_OF_A_TYPE).contains(&set.len()));
    }
});
