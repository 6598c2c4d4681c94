//! Temporary credentials of one person's role, and the IAM token made from them while it is fresh.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::iam_token::{self, SignError};
use crate::config::ClusterSettings;
use crate::names::DbUser;
use crate::secret::{IamToken, Secret};
use crate::sync::lock;

/// Time for which one IAM token is used for further logins. AWS throttles new tokens, not reused ones (Aurora
/// user guide, "IAM database authentication": 200 new connections per second). The remaining third of its
/// lifetime is a margin for clock skew and slow logins.
pub const REUSE_TOKEN_FOR: Duration = Duration::from_mins(10);
const _: () = assert!(REUSE_TOKEN_FOR.as_secs() < iam_token::LIFETIME.as_secs());

/// Time for which credentials that the server has refused and never accepted are still used.
pub const KEEP_REFUSED: Duration = Duration::from_secs(5);

/// An IAM token for a login.
#[derive(Debug)]
pub struct SignedToken {
    /// The token.
    pub token: IamToken,
    /// True if another login has used the token. AWS does not throttle reused tokens.
    pub reused: bool,
}

/// Credentials from STS for one token, role and user.
pub struct RoleCredentials {
    access_key_id: String,
    secret_access_key: Secret<String>,
    session_token: Option<Secret<String>>,
    expires_at: SystemTime,
    session_name: String,
    token: Mutex<Option<(SystemTime, IamToken)>>,
    obtained: Instant,
    /// True once a server has accepted the credentials.
    proven: AtomicBool,
    /// True once the credentials must not be used again.
    spent: AtomicBool,
}

impl RoleCredentials {
    /// Wraps the parts of a response. `session_name` is the RoleSessionName of the request.
    pub fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
        expires_at: SystemTime,
        session_name: String,
    ) -> Self {
        Self {
            access_key_id,
            secret_access_key: Secret::new(secret_access_key),
            session_token: session_token.map(Secret::new),
            expires_at,
            session_name,
            token: Mutex::new(None),
            obtained: Instant::now(),
            proven: AtomicBool::new(false),
            spent: AtomicBool::new(false),
        }
    }

    /// Records that a server has accepted the credentials.
    pub fn were_accepted(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Records that a server has refused the credentials, and returns true if they must not be used again. If
    /// they worked before, the role or its permissions have changed and new credentials may work. If they
    /// never worked, they are kept for [`KEEP_REFUSED`], so that a person whom the server always refuses does
    /// not cause an STS call with every attempt.
    pub(super) fn were_refused(&self) -> bool {
        let spent = self.proven.load(Ordering::Relaxed) || self.obtained.elapsed() >= KEEP_REFUSED;
        spent && !self.spent.swap(true, Ordering::Relaxed)
    }

    /// True once the credentials must not be used again.
    pub(super) fn are_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// True if a server may still accept the credentials.
    pub fn are_good(&self, now: SystemTime) -> bool {
        !self.are_spent() && now < self.expires_at
    }

    /// Size in bytes, including the IAM token that will be signed with the credentials.
    pub(super) fn bytes(&self) -> usize {
        let (key_id, secret, session_token) = self.expose();
        let session_token = session_token.unwrap_or_default();
        let signed = iam_token::length(key_id, session_token);
        size_of::<Self>()
            + key_id.len()
            + secret.len()
            + session_token.len()
            + signed
            + self.session_name.len()
    }

    /// Expiry of the credentials.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Id of their access key: CloudTrail's name for every call made with them.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The RoleSessionName, by which CloudTrail identifies the session.
    pub fn session_name(&self) -> &str {
        &self.session_name
    }

    /// Access key id, secret access key, session token.
    pub(super) fn expose(&self) -> (&str, &str, Option<&str>) {
        let session_token = self.session_token.as_ref().map(|token| token.expose().as_str());
        (&self.access_key_id, self.secret_access_key.expose(), session_token)
    }

    /// An IAM token for `user`, signed now or within the last [`REUSE_TOKEN_FOR`]. These credentials belong
    /// to one user at one cluster, so only one token is cached.
    pub fn iam_token(
        &self,
        cluster: &ClusterSettings,
        user: &DbUser,
        now: SystemTime,
    ) -> Result<SignedToken, SignError> {
        let mut remembered = lock(&self.token);
        if let Some((signed_at, token)) = remembered.as_ref()
            && now.duration_since(*signed_at).is_ok_and(|age| age < REUSE_TOKEN_FOR)
        {
            return Ok(SignedToken { token: IamToken::new(token.expose().to_owned()), reused: true });
        }
        let token = iam_token::sign(self.expose(), cluster, user, now)?;
        let copy = IamToken::new(token.expose().to_owned());
        *remembered = Some((now, token));
        Ok(SignedToken { token: copy, reused: false })
    }
}

impl std::fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RoleCredentials of {}", self.session_name)
    }
}
