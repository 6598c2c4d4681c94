//! Parameters of one `AssumeRoleWithWebIdentity` call.

use std::time::Duration;

use crate::names::{Issuer, RoleArn, Subject};
use crate::secret::Jwt;

/// Parameters of one call.
#[derive(Debug)]
pub struct AssumeRoleRequest {
    /// The person's token, consumed by the call.
    pub jwt: Jwt,
    /// The verified issuer.
    pub issuer: Issuer,
    /// The verified subject.
    pub subject: Subject,
    /// The role to request.
    pub role: RoleArn,
    /// The RoleSessionName.
    pub session_name: String,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Requested lifetime.
    pub duration: Duration,
}
