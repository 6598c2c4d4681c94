//! Values that must never be printed, compared by accident, or left in memory.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A value that cannot be printed, cloned or serialized, and is zeroized on drop.
///
/// Reading requires a call to [`Secret::expose`]; the architecture test counts the callers.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of `value`.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the step that consumes it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The client's JSON Web Token, unchanged and untrusted.
#[derive(Debug)]
pub struct Jwt(Secret<Vec<u8>>);

impl Jwt {
    /// Wraps the bytes of the password message.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// The token's bytes, for verification and for STS.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Length in bytes, which is not secret.
    pub fn length(&self) -> usize {
        self.0.expose().len()
    }

    /// SHA-256 of the token, the key for caches.
    pub fn digest(&self) -> TokenDigest {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.expose());
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        TokenDigest(bytes)
    }
}

/// SHA-256 of a token. Identifies the token without revealing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

/// The RDS IAM authentication token: the upstream password, valid for 15 minutes.
#[derive(Debug)]
pub struct IamToken(Secret<String>);

impl IamToken {
    /// Wraps a signed token.
    pub fn new(token: String) -> Self {
        Self(Secret::new(token))
    }

    /// The token's text, for the upstream password message.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Length in bytes, which is not secret.
    pub fn length(&self) -> usize {
        self.0.expose().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2_secrets_print_nothing() {
        let shown =
            format!("{:?} {:?} {:?}", Secret::new("hunter2".to_owned()), Jwt::new(b"hunter2".to_vec()), {
                IamToken::new("hunter2".into())
            });
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("104"), "bytes as decimals: {shown}");
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, appendix B.1: SHA-256("abc").
        let digest = Jwt::new(b"abc".to_vec()).digest();
        assert_eq!(digest.0[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(digest.0[28..], [0xf2, 0x00, 0x15, 0xad]);
    }
}
