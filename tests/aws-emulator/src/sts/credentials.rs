//! The temporary credentials that exist: STS puts them in, the RDS gate looks them up.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::policy::{IamPolicy, RequestContext};
use crate::sync::lock;

/// A set of temporary credentials and the session behind it.
#[derive(Clone)]
pub struct RoleSession {
    /// `ASIA…`.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token.
    pub session_token: String,
    /// The role's ARN.
    pub role_arn: String,
    /// The session name: it stands in `CloudTrail`.
    pub session_name: String,
    /// The token's `sub`.
    pub subject: String,
    /// The session tags.
    pub tags: Vec<(String, String)>,
    /// When the credentials end, in seconds since 1970.
    pub expiration: i64,
    /// The inline session policy.
    pub session_policy: Option<IamPolicy>,
    /// The role's permission policy: the present one, as IAM keeps no copy in the session.
    pub(crate) role_policy: Arc<Mutex<IamPolicy>>,
    /// Condition keys and policy variables of the session.
    pub(crate) context: RequestContext,
}

impl RoleSession {
    /// The role's permission policy as it stands now.
    pub fn role_policy(&self) -> IamPolicy {
        lock(&self.role_policy).clone()
    }
}

impl fmt::Debug for RoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleSession")
            .field("access_key_id", &self.access_key_id)
            .field("role_arn", &self.role_arn)
            .field("session_name", &self.session_name)
            .field("subject", &self.subject)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// All credentials of one imagined AWS. Several STS stand-ins can share one, so that tests with an STS of their own can
/// share a database.
#[derive(Clone, Debug, Default)]
pub struct CredentialStore(Arc<Mutex<HashMap<String, RoleSession>>>);

impl CredentialStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The session of an access key.
    pub fn get(&self, access_key_id: &str) -> Option<RoleSession> {
        lock(&self.0).get(access_key_id).cloned()
    }

    /// Takes credentials away, as an administrator who revokes them.
    pub fn revoke(&self, access_key_id: &str) {
        lock(&self.0).remove(access_key_id);
    }

    pub(crate) fn put(&self, session: RoleSession) {
        lock(&self.0).insert(session.access_key_id.clone(), session);
    }
}
