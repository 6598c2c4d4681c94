//! Cancel key, as in BackendKeyData and CancelRequest; never printed.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// Process id and secret of a session.
#[derive(Clone)]
pub struct CancelKey {
    /// Process id of the server process.
    pub pid: i32,
    /// 4 bytes in protocol 3.0, 4 to 256 since 3.2.
    pub secret: Zeroizing<Vec<u8>>,
}

impl CancelKey {
    /// A key of these two parts.
    pub fn new(pid: i32, secret: impl Into<Vec<u8>>) -> Self {
        Self { pid, secret: Zeroizing::new(secret.into()) }
    }

    /// Compares the secret in constant time.
    pub fn has_secret(&self, other: &[u8]) -> bool {
        verify_slices_are_equal(&self.secret, other).is_ok()
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey of process {} with {} bytes", self.pid, self.secret.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2_a_key_prints_no_secret() {
        let shown = format!("{:?}", CancelKey::new(7, *b"hunter2"));
        assert_eq!(shown, "CancelKey of process 7 with 7 bytes");
    }
}
