//! A sign-in between its start and its redirect. The browser keeps it, sealed, in a cookie: the proxy holds no state that a
//! stranger can fill.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::login::sign_in::random_word;
use crate::login::tokens::CodeVerifier;
use crate::names::random_bytes;

/// Longest life of a sign-in, from its start to its redirect.
pub(super) const MAX_AGE: Duration = Duration::from_mins(10);

/// Longest sealed sign-in, in bytes of base64.
const MAX_SEALED: usize = 512;

/// Context of the seal, so that a value of another kind cannot be opened as a sign-in.
const CONTEXT: &[u8] = b"pgpassport sign-in 1";

/// Values of one sign-in that its redirect and its tokens have to match.
#[derive(Debug)]
pub(super) struct SignInAttempt {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: CodeVerifier,
    /// Seconds since 1970.
    started: u64,
}

impl SignInAttempt {
    /// A fresh one. `now` is in seconds since 1970.
    pub(super) fn begin(now: u64) -> Self {
        Self { state: random_word(), nonce: random_word(), verifier: CodeVerifier::random(), started: now }
    }
}

/// Seals sign-ins with a random key of this process (AES-256-GCM-SIV, RFC 8452).
#[derive(Debug)]
pub(super) struct AttemptSealer(LessSafeKey);

impl AttemptSealer {
    /// With a fresh key; `None` if the library refuses it.
    pub(super) fn random() -> Option<Self> {
        let key = Zeroizing::new(random_bytes::<32>());
        UnboundKey::new(&AES_256_GCM_SIV, &*key).ok().map(LessSafeKey::new).map(Self)
    }

    /// The value of the cookie.
    pub(super) fn seal(&self, attempt: &SignInAttempt) -> Option<String> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let SignInAttempt { state, nonce: word, verifier, started } = attempt;
        let mut record =
            Zeroizing::new(format!("{started}.{state}.{word}.{}", verifier.expose()).into_bytes());
        let number = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(number, Aad::from(CONTEXT), &mut *record).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &record].concat()))
    }

    /// Opens a cookie's value; `None` if it is not of this process or too old.
    pub(super) fn open(&self, sealed: &str, now: u64) -> Option<SignInAttempt> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, record) = bytes.split_at_checked(NONCE_LEN)?;
        let mut record = Zeroizing::new(record.to_vec());
        let number = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(number, Aad::from(CONTEXT), &mut record).ok()?;
        let mut parts = std::str::from_utf8(opened).ok()?.split('.');
        let started: u64 = parts.next()?.parse().ok()?;
        let mut next = || parts.next().map(str::to_owned);
        let (state, word, verifier) = (next()?, next()?, next()?);
        let is_young = now.checked_sub(started).is_some_and(|age| age <= MAX_AGE.as_secs());
        is_young.then(|| SignInAttempt {
            state,
            nonce: word,
            verifier: CodeVerifier::again(verifier),
            started,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_comes_back_whole_within_its_life_and_from_its_own_process() {
        let sealer = AttemptSealer::random().unwrap();
        let attempt = SignInAttempt::begin(1_000);
        let sealed = sealer.seal(&attempt).unwrap();
        assert!(sealed.len() <= MAX_SEALED, "{}", sealed.len());
        let opened = sealer.open(&sealed, 1_000 + MAX_AGE.as_secs()).unwrap();
        assert_eq!((&opened.state, &opened.nonce), (&attempt.state, &attempt.nonce));
        assert_eq!(opened.verifier.challenge(), attempt.verifier.challenge());
        for now in [999, 1_001 + MAX_AGE.as_secs()] {
            assert!(sealer.open(&sealed, now).is_none(), "{now}");
        }
        assert!(AttemptSealer::random().unwrap().open(&sealed, 1_000).is_none());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(sealer.open(std::str::from_utf8(&bytes).unwrap(), 1_000).is_none(), "{at}");
        }
        for bad in ["", "A", "!!", &"A".repeat(MAX_SEALED + 1)] {
            assert!(sealer.open(bad, 1_000).is_none(), "{bad}");
        }
        assert!(!format!("{attempt:?}").contains(attempt.verifier.expose()));
    }
}
