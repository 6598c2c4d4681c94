//! The secret that replicas share, and the keys derived from it.

use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::names::random_bytes;
use crate::net::file_content;
use crate::secret::Secret;

/// Least length of the decoded secret: that of the derived keys.
const MIN_BYTES: usize = 32;

/// Longest file; 32 bytes take 45 characters.
const MAX_FILE: u64 = 4_096;

/// Least number of distinct bytes. 32 random bytes have fewer once in 10^17 files; passwords often do.
const MIN_DIFFERENT: usize = 16;

const SALT: &[u8] = b"pgpassport cancel keys";

/// Reason why a `cancel.secret_file` is unusable.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; make one with: head -c 32 /dev/urandom | base64", path.display())]
pub struct CancelSecretError {
    path: PathBuf,
    problem: String,
}

/// Source of all cancel keys.
#[derive(Debug)]
pub struct CancelSecret {
    bytes: Secret<Vec<u8>>,
    shared: bool,
}

impl CancelSecret {
    /// A random secret of this process: other replicas cannot read its keys.
    pub fn random() -> Self {
        Self { bytes: Secret::new(random_bytes::<MIN_BYTES>().to_vec()), shared: false }
    }

    /// Reads the secret that replicas share: at least 32 random bytes in base64, white space ignored.
    pub fn read(path: &Path) -> Result<Self, CancelSecretError> {
        let wrong = |problem: String| CancelSecretError { path: path.to_owned(), problem };
        let mut text = Zeroizing::new(Vec::new());
        let file = file_content::open(path).map_err(|error| wrong(error.to_string()))?;
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
        if text.len() as u64 > MAX_FILE {
            return Err(wrong(format!("the file has more than {MAX_FILE} bytes")));
        }
        text.retain(|byte| !byte.is_ascii_whitespace());
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient)
            .decode(&*text)
            .map(Secret::new)
            .map_err(|_| wrong("this is not base64".into()))?;
        let length = bytes.expose().len();
        if length < MIN_BYTES {
            return Err(wrong(format!("the secret has {length} bytes and needs {MIN_BYTES}")));
        }
        let mut different = bytes.expose().clone();
        different.sort_unstable();
        different.dedup();
        let count = different.len();
        drop(Zeroizing::new(different));
        if count < MIN_DIFFERENT {
            return Err(wrong("the secret is not random".into()));
        }
        Ok(Self { bytes, shared: true })
    }

    /// True if other replicas may have the secret.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Keys for sealed records and for 4-byte secrets: HKDF-SHA256 (RFC 5869) with a label for each.
    pub(super) fn keys(&self) -> Result<(LessSafeKey, hmac::Key), aws_lc_rs::error::Unspecified> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(self.bytes.expose());
        let sealing = UnboundKey::from(root.expand(&[b"sealed key, version 1"], &AES_256_GCM_SIV)?);
        let short = root.expand(&[b"4-byte secret, version 1"], hmac::HMAC_SHA256)?;
        Ok((LessSafeKey::new(sealing), hmac::Key::from(short)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CancelSecret, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        CancelSecret::read(file.path()).map_err(|error| error.to_string())
    }

    /// `length` distinct bytes in base64.
    fn secret(length: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode((0..length).collect::<Vec<u8>>())
    }

    #[test]
    fn a_secret_is_as_long_as_the_keys_and_one_byte_less_is_none() {
        let good = read(&secret(32)).unwrap();
        assert!(good.is_shared() && good.bytes.expose().len() == 32);
        let error = read(&secret(31)).unwrap_err();
        assert!(error.contains("31 bytes and needs 32") && error.contains("/dev/urandom"), "{error}");
    }

    #[test]
    fn lines_and_padding_do_not_matter() {
        let text = secret(64);
        let (first, second) = text.trim_end_matches('=').split_at(40);
        let cut = read(&format!("  {first}\r\n{second}\n\n")).unwrap();
        assert_eq!(cut.bytes.expose(), read(&text).unwrap().bytes.expose());
    }

    #[test]
    fn what_is_not_random_is_refused() {
        let engine = base64::engine::general_purpose::STANDARD;
        assert!(read(&engine.encode([7; 32])).unwrap_err().contains("not random"));
        assert!(read(&engine.encode("changemechangemechangemechangeme")).unwrap_err().contains("not random"));
        assert!(read("not base64!").unwrap_err().contains("not base64"));
        assert!(read("").unwrap_err().contains("0 bytes"));
        assert!(read(&"A".repeat(4_096)).unwrap_err().contains("not random"), "not too long");
        assert!(read(&"A".repeat(4_097)).unwrap_err().contains("more than 4096"));
        assert!(CancelSecret::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn l2_a_secret_prints_nothing() {
        let shown = format!("{:?}", read(&secret(32)).unwrap());
        assert!(!shown.contains("1, 2, 3"), "{shown}");
    }
}
