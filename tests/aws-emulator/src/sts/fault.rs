//! The ways in which STS itself fails or answers wrongly.

use crate::HttpFault;

/// A fault of STS.
#[derive(Clone, Debug)]
pub enum StsFault {
    /// A fault below the level of STS: no answer, a late one, a page of HTML.
    Http(HttpFault),
    /// An error in AWS's form.
    Error {
        /// The HTTP status.
        status: u16,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// A good answer without `Credentials`.
    WithoutCredentials,
    /// A good answer about another subject.
    OtherSubject(String),
    /// A good answer from another provider.
    OtherProvider(String),
    /// Credentials that have already expired. The gate knows them as expired too.
    AlreadyExpired,
    /// A good answer that ends in the middle.
    Truncated,
    /// A good answer that ends behind this text.
    TruncatedBehind(&'static str),
    /// A good answer about another assumed role.
    OtherRole(String),
    /// A good answer in which the first text is replaced by the second.
    Altered(&'static str, String),
}

impl StsFault {
    /// Any error.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Error { status, code: code.to_owned(), message: message.to_owned() }
    }

    /// Too many requests: the SDK tries again.
    pub fn throttling() -> Self {
        Self::error(400, "Throttling", "Rate exceeded")
    }

    /// STS could not reach the issuer: the SDK tries again.
    pub fn idp_communication() -> Self {
        let message =
            "The request could not be fulfilled because the identity provider could not be reached.";
        Self::error(400, "IDPCommunicationError", message)
    }

    /// STS could not read the issuer's keys, possibly only this time.
    pub fn key_not_retrieved() -> Self {
        let message = "Couldn't retrieve verification key from your identity provider, please reference \
                       AssumeRoleWithWebIdentity documentation for requirements";
        Self::error(400, "InvalidIdentityToken", message)
    }

    /// A failure inside AWS: the SDK tries again.
    pub fn internal_failure() -> Self {
        Self::error(500, "InternalFailure", "We encountered an internal error. Please try again.")
    }

    /// Status 503 with a page of HTML.
    pub fn unavailable() -> Self {
        Self::Http(HttpFault::html(503))
    }
}

impl From<HttpFault> for StsFault {
    fn from(fault: HttpFault) -> Self {
        Self::Http(fault)
    }
}
