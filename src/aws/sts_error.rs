//! Errors of STS calls, classified by who has to act and whether another attempt may help.

use std::error::Error;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::retry::TransientFault;
use crate::names::printable;
use crate::net::tls_error;

/// Longest part of an STS message that is logged.
const MAX_LOGGED: usize = 256;

/// Reason why there are no credentials. `Display` is for the log; clients get only the class.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StsError {
    /// STS refused this person or token.
    #[error("STS refused with {code}: {message}")]
    Refused {
        /// The error code.
        code: String,
        /// The message from STS, escaped and cut, with the request id.
        message: String,
    },
    /// STS refused the request: role, policy or Region is configured wrongly.
    #[error("STS rejected the configured role, policy or Region with {code}: {message}")]
    Misconfigured {
        /// The error code.
        code: String,
        /// The message from STS, escaped and cut, with the request id.
        message: String,
    },
    /// STS is slow, throttling, failing or unreachable, or cannot reach the issuer.
    #[error("STS is unavailable: {0}")]
    Unavailable(String),
    /// The answer of STS is invalid.
    #[error("invalid answer from STS: {0}")]
    BadResponse(&'static str),
}

/// Error type of the SDK for this call.
pub(super) type CallError = SdkError<AssumeRoleWithWebIdentityError>;

/// Reason why one attempt failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// STS has decided; another attempt would not help.
    Finally(StsError),
    /// STS answered with success but the answer is unusable.
    Unusable(&'static str),
    /// No call was made. Holds the reason.
    NotMade(&'static str),
    /// Another attempt may help.
    ForNow(TransientFault, String),
}

impl From<AttemptError> for StsError {
    fn from(failed: AttemptError) -> Self {
        match failed {
            AttemptError::Finally(error) => error,
            AttemptError::Unusable(what) => Self::BadResponse(what),
            AttemptError::NotMade(why) => Self::Unavailable(why.to_owned()),
            AttemptError::ForNow(_, why) => Self::Unavailable(why),
        }
    }
}

/// Classifies by error code, not by variant, because the SDK models only some of the errors.
pub(super) fn classify(error: &CallError) -> AttemptError {
    let SdkError::ServiceError(service) = error else {
        return AttemptError::ForNow(TransientFault::Failing, described(error));
    };
    let status = service.raw().status().as_u16();
    let request_id = error.request_id().unwrap_or("none");
    let text = error.message().unwrap_or("no message");
    let message =
        format!("{} (HTTP {status}, request id {})", printable(text, MAX_LOGGED), printable(request_id, 64));
    let Some(code) = error.code() else {
        let why = format!("not an answer from STS: {message}");
        return AttemptError::ForNow(TransientFault::Failing, why);
    };
    let later = |fault| AttemptError::ForNow(fault, format!("{}: {message}", printable(code, 64)));
    match code {
        "InvalidIdentityToken" if text.contains("Couldn't retrieve verification key") => {
            later(TransientFault::KeysNotFetched)
        }
        "IDPCommunicationError" => later(TransientFault::IssuerUnreachable),
        _ if status == 429 || code.contains("Throttl") || code.contains("TooMany") => {
            later(TransientFault::Throttled)
        }
        "InternalFailure" | "ServiceUnavailable" => later(TransientFault::Failing),
        _ if status >= 500 => later(TransientFault::Failing),
        "ValidationError"
        | "MalformedPolicyDocument"
        | "PackedPolicyTooLarge"
        | "RegionDisabledException" => {
            AttemptError::Finally(StsError::Misconfigured { code: code.to_owned(), message })
        }
        _ => AttemptError::Finally(StsError::Refused { code: printable(code, 64), message }),
    }
}

/// The innermost cause, because the SDK's outer messages say less. No cause contains a part of the request.
fn described(error: &(impl Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    printable(&causes.last().map_or_else(|| error.to_string(), tls_error::cause), MAX_LOGGED)
}
