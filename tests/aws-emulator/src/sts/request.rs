//! Form of a request to STS (the query protocol, version 2011-06-15), before anything is looked up.

use std::fmt;

use super::answer::ApiError;
use crate::encoding::form_pairs;

/// The one operation.
pub(super) const ACTION: &str = "AssumeRoleWithWebIdentity";

/// A request in good shape.
pub(super) struct StsRequest {
    pub(super) role_arn: String,
    pub(super) session_name: String,
    pub(super) token: String,
    pub(super) duration: i64,
    pub(super) policy: Option<String>,
}

impl fmt::Debug for StsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsRequest")
            .field("role_arn", &self.role_arn)
            .field("session_name", &self.session_name)
            .field("duration", &self.duration)
            .field("policy", &self.policy)
            .finish_non_exhaustive() // the token is a secret
    }
}

/// The members of the operation that are served here. `PolicyArns` and `ProviderId` are AWS's too, but a client of
/// this stand-in has no use for them, so they are errors.
const PARAMETERS: [&str; 7] =
    ["Action", "Version", "RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy"];

/// A form's fields, whatever they are.
pub(super) struct FormBody(Vec<(String, String)>);

impl FormBody {
    pub(super) fn read(body: &str) -> Option<Self> {
        form_pairs(body).map(Self)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Checks everything that AWS checks before it looks at the token.
    pub(super) fn check(&self) -> Result<StsRequest, ApiError> {
        let action =
            self.get("Action").ok_or_else(|| ApiError::new(400, "MissingAction", "no Action was given"))?;
        let version = self.get("Version").unwrap_or_default();
        if action != ACTION || version != "2011-06-15" {
            let message = format!("Could not find operation {action} for version {version}");
            return Err(ApiError::new(400, "InvalidAction", message));
        }
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !PARAMETERS.contains(&name.as_str()) {
                return Err(ApiError::validation(format!("the parameter {name} is not taken here")));
            }
            if self.0.iter().skip(at + 1).any(|(other, _)| other == name) {
                return Err(ApiError::validation(format!("the parameter {name} comes twice")));
            }
        }
        let role_arn = self.sized("RoleArn", 20, 2048)?;
        let session_name = self.sized("RoleSessionName", 2, 64)?;
        if !session_name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)) {
            return Err(constraint(
                "roleSessionName",
                "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
            ));
        }
        let policy = self.get("Policy").map(|_| self.sized("Policy", 1, 2048)).transpose()?;
        let duration = self.get("DurationSeconds").unwrap_or("3600").parse().ok();
        Ok(StsRequest {
            token: self.sized("WebIdentityToken", 4, 20_000)?,
            duration: duration.filter(|seconds| (900..=43_200).contains(seconds)).ok_or_else(|| {
                constraint("durationSeconds", "Member must have value between 900 and 43200")
            })?,
            role_arn,
            session_name,
            policy,
        })
    }

    fn sized(&self, name: &str, shortest: usize, longest: usize) -> Result<String, ApiError> {
        let member = format!(
            "{}{}",
            name.get(..1).unwrap_or_default().to_lowercase(),
            name.get(1..).unwrap_or_default()
        );
        let value = self.get(name).ok_or_else(|| constraint(&member, "Member must not be null"))?;
        let length = value.chars().count();
        if length < shortest {
            let rule = format!("Member must have length greater than or equal to {shortest}");
            return Err(constraint(&member, &rule));
        }
        if length > longest {
            return Err(constraint(
                &member,
                &format!("Member must have length less than or equal to {longest}"),
            ));
        }
        Ok(value.to_owned())
    }
}

/// AWS's wording. The value itself is left out, as it may be the token.
fn constraint(member: &str, rule: &str) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: {rule}"
    ))
}
