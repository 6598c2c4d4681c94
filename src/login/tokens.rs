//! Tokens and what else must stay secret, as types that cannot be printed.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::UnverifiedClaims;
use crate::names::random_bytes;
use crate::secret::Secret;

/// The token that the proxy takes as the password. Clones share it.
#[derive(Clone, Debug)]
pub struct ClientToken {
    text: Arc<Secret<String>>,
    expires_at: u64,
}

impl ClientToken {
    /// `expires_at` is in seconds since 1970, by this machine's clock.
    pub fn new(text: String, expires_at: u64) -> Self {
        Self { text: Arc::new(Secret::new(text)), expires_at }
    }

    /// The token's text, for the password message, the issuer, and the person who asked for it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// True if both are the same token.
    pub fn is_same(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }

    /// End of the token in seconds since 1970, by this machine's clock.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// The claims; none when the token is not a JWT.
    pub fn claims(&self) -> Option<UnverifiedClaims> {
        UnverifiedClaims::read(self.expose())
    }

    /// Time from `now`, in seconds since 1970, to the token's end.
    pub fn lifetime(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now))
    }
}

/// A refresh token (RFC 6749, section 1.5). Clones share it.
#[derive(Clone, Debug)]
pub struct RefreshToken(Arc<Secret<String>>);

impl RefreshToken {
    /// Wraps the issuer's text.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Secret::new(text)))
    }

    /// The text, for the issuer and for the cache.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A code verifier of PKCE (RFC 7636): 256 random bits.
#[derive(Debug)]
pub struct CodeVerifier(Secret<String>);

impl CodeVerifier {
    /// A fresh one.
    pub fn random() -> Self {
        Self(Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>())))
    }

    /// The verifier of a sign-in that began with [`CodeVerifier::random`].
    pub fn again(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The S256 challenge, which is public.
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.expose().as_bytes()))
    }

    /// The verifier itself, for the token endpoint.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The secret of a confidential client (RFC 6749, section 2.3.1).
#[derive(Debug)]
pub struct ClientSecret(Secret<String>);

impl ClientSecret {
    /// Wraps the issuer's text.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The text, for the token endpoint.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A code of the authorization endpoint (RFC 6749, section 4.1.2).
#[derive(Debug)]
pub struct AuthorizationCode(Secret<String>);

impl AuthorizationCode {
    /// Wraps the code of a redirect.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The text, for the token endpoint.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The tokens of one sign-in.
#[derive(Debug)]
pub struct TokenSet {
    /// The token for the proxy.
    pub current: ClientToken,
    /// The token for the next one; absent when the issuer gave none.
    pub refresh: Option<RefreshToken>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        // Appendix B.
        let verifier = CodeVerifier(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned()));
        assert_eq!(verifier.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, two) = (CodeVerifier::random(), CodeVerifier::random());
        assert!(one.expose().len() >= 43 && one.expose() != two.expose());
    }

    #[test]
    fn nothing_is_printed() {
        let set = TokenSet {
            current: ClientToken::new("hunter2".into(), 1),
            refresh: Some(RefreshToken::new("hunter2".into())),
        };
        let shown = format!("{set:?} {:?}", CodeVerifier(Secret::new("hunter2".into())));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
