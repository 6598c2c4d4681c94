//! What went wrong with a call to STS, sorted by whose turn it is to act and by whether another try may help.

use std::error::Error;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::retry::TransientFault;
use crate::names::printable;

/// Longest part of a message of STS that is logged.
const MAX_LOGGED: usize = 256;

/// Why there are no credentials. Its text is for the log; clients are told the class only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StsError {
    /// STS says no to this person or token.
    #[error("STS refused with {code}: {message}")]
    Refused {
        /// The error code.
        code: String,
        /// STS's words, escaped and cut, with the request id.
        message: String,
    },
    /// STS says no to what we ask: the role, the policy or the Region is set up wrongly.
    #[error("STS cannot do what is configured, {code}: {message}")]
    Misconfigured {
        /// The error code.
        code: String,
        /// STS's words, escaped and cut, with the request id.
        message: String,
    },
    /// STS is slow, throttling, failing or away, or cannot reach the issuer.
    #[error("STS is unavailable: {0}")]
    Unavailable(String),
    /// STS answered with something that cannot be believed.
    #[error("STS answered wrongly: {0}")]
    BadResponse(&'static str),
}

/// What the SDK makes of a failed call.
pub(super) type CallError = SdkError<AssumeRoleWithWebIdentityError>;

/// How one try failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// STS has decided; another try would not help.
    Finally(StsError),
    /// STS gave a good status and nothing that can be used.
    Unusable(&'static str),
    /// No call was made; the words say why.
    NotMade(&'static str),
    /// Another try may help.
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

/// By code, not by variant: the SDK models only some of STS's errors.
pub(super) fn classify(error: &CallError) -> AttemptError {
    let SdkError::ServiceError(service) = error else {
        return AttemptError::ForNow(TransientFault::Failing, described(error));
    };
    let status = service.raw().status().as_u16();
    let request_id = error.request_id().unwrap_or("none");
    let words = error.message().unwrap_or("no message");
    let message =
        format!("{} (HTTP {status}, request id {})", printable(words, MAX_LOGGED), printable(request_id, 64));
    let Some(code) = error.code() else {
        let why = format!("an answer that is not STS's: {message}");
        return AttemptError::ForNow(TransientFault::Failing, why);
    };
    let later = |fault| AttemptError::ForNow(fault, format!("{}: {message}", printable(code, 64)));
    match code {
        "InvalidIdentityToken" if words.contains("Couldn't retrieve verification key") => {
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

/// The innermost cause; the SDK's own words around it say less. No cause holds a part of the request.
fn described(error: &(impl Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    printable(&causes.last().map_or_else(|| error.to_string(), ToString::to_string), MAX_LOGGED)
}
