//! Failures of TLS in words: what rustls, the PEM reader and the sockets below them say, without names of their types and
//! without links to their documentation.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InconsistentKeys};

use crate::names::visible;

/// Longest description of a failed connection, in bytes. It can hold names of the peer's certificate.
const MAX_PROBLEM: usize = 512;

/// The failure of a connection, for a log line, an audit record or a refusal. rustls hides its own error inside an
/// `io::Error`.
pub fn describe(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let problem = match inner {
        Some(tls) => connection(tls),
        None => without_link(&error.to_string()),
    };
    visible(&problem, MAX_PROBLEM)
}

/// Text of an error in a chain of causes. An error of a connection has the words of [`describe`].
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        describe(error)
    } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
        visible(&connection(error), MAX_PROBLEM)
    } else {
        without_link(&error.to_string())
    }
}

/// The fault of a certificate or key of our own, at a start or reload.
pub(super) fn own(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => format!("the certificate cannot be used: {}", certificate(why)),
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key is not that of the certificate".to_owned()
        }
        rustls::Error::General(why) if why.contains("private key") => {
            "the private key cannot be used: it has to be RSA of 2,048 to 8,192 bits, ECDSA on P-256, P-384 or P-521, \
             or Ed25519"
                .to_owned()
        }
        other => without_link(&other.to_string()),
    }
}

/// The fault of a connection.
fn connection(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => format!("invalid peer certificate: {}", certificate(why)),
        other => without_link(&other.to_string()),
    }
}

/// The fault of a certificate. rustls has words of its own for names, times and purposes; for the others it has the names
/// of its variants, and those of webpki's.
fn certificate(error: &CertificateError) -> String {
    let words = match error {
        CertificateError::BadEncoding => "it is damaged, or not encoded as X.509 requires",
        CertificateError::UnknownIssuer => "no authority that is trusted here has signed it",
        CertificateError::BadSignature => "its signature is not that of the authority it names",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnhandledCriticalExtension => "it has a critical extension that is not known",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not accepted, such as SHA-1, MD5 or a short RSA key"
        }
        CertificateError::Other(other) => return webpki(&other.to_string()),
        other => return other.to_string(),
    };
    words.to_owned()
}

/// webpki's variants that rustls passes on by name.
fn webpki(name: &str) -> String {
    let words = match name {
        "UnsupportedCertVersion" => {
            "it is of X.509 version 1 or 2, and TLS takes version 3 alone; have it issued again, with subjectAltName"
        }
        "CaUsedAsEndEntity" => {
            "it is that of an authority (CA:TRUE), and a server or client needs one of its own (CA:FALSE)"
        }
        "EndEntityUsedAsCa" => "one in its chain is signed by one that is no authority (CA:FALSE)",
        "PathLenConstraintViolated" => "its chain is longer than an authority in it allows",
        "NameConstraintViolation" => "an authority in its chain may not sign for its names",
        "MalformedExtensions" | "ExtensionValueInvalid" | "EmptyEkuExtension" | "TrailingData" => {
            "one of its extensions is malformed"
        }
        "InvalidSerialNumber" => "its serial number is malformed",
        other => return format!("it cannot be verified ({other})"),
    };
    words.to_owned()
}

/// The text in front of a link to a library's documentation.
fn without_link(text: &str) -> String {
    let end = text.find("https://docs.rs/").unwrap_or(text.len());
    text.get(..end).unwrap_or(text).trim_end_matches([' ', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_close_notify_is_told_without_a_link() {
        // As rustls makes it (`conn.rs`, `UNEXPECTED_EOF_MESSAGE`).
        let said = "peer closed connection without sending TLS close_notify: \
                    https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, said);
        let told = "peer closed connection without sending TLS close_notify";
        assert_eq!((describe(&error), cause(&error)), (told.to_owned(), told.to_owned()));
    }

    #[test]
    fn causes_are_told_by_what_they_are() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(cause(&reset), "connection reset");
        let untrusted = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let told = "invalid peer certificate: no authority that is trusted here has signed it";
        assert_eq!(cause(&untrusted), told);
        assert_eq!(cause(&io::Error::new(io::ErrorKind::InvalidData, untrusted)), told);
    }
}
