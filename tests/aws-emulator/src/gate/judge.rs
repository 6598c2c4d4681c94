//! The checks of RDS IAM authentication on a login token, one after the other.

use crate::policy::{AccessRequest, Effect};
use crate::sigv4::PresignedRequest;
use crate::sts::{CredentialStore, RoleSession};

/// Why a token was refused. The text goes to the server's log as the LDAP diagnostic message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// The token is malformed or is for something else.
    #[error("InvalidToken: {0}")]
    InvalidToken(&'static str),
    /// The token, or the credentials that signed it, are no longer good.
    #[error("ExpiredToken: {0}")]
    ExpiredToken(&'static str),
    /// Nobody has this access key.
    #[error("InvalidClientTokenId")]
    UnknownAccessKey,
    /// Another key, another endpoint, or a changed parameter.
    #[error("SignatureDoesNotMatch")]
    SignatureDoesNotMatch,
    /// The role may not connect as this user.
    #[error("NotAuthorized by role policy")]
    RolePolicy,
    /// The inline session policy does not allow this user.
    #[error("NotAuthorized by session policy")]
    SessionPolicy,
    /// The test said so.
    #[error("denied on purpose")]
    OnPurpose,
}

/// Database behind the gate.
#[derive(Clone, Debug)]
pub(super) struct GuardedDatabase {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) resource_id: String,
    /// Host and port, in lower case; several where reader and writer lead to the same server.
    pub(super) endpoints: Vec<String>,
}

/// Judges a token for a user at a moment. Also gives the session, as far as the token led to one.
pub(super) fn judge(
    guarded: &GuardedDatabase,
    store: &CredentialStore,
    now: i64,
    user: &str,
    token: &str,
) -> (Option<RoleSession>, Result<(), GateRefusal>) {
    let presigned = match PresignedRequest::parse(token) {
        Ok(presigned) => presigned,
        Err(why) => return (None, Err(GateRefusal::InvalidToken(why))),
    };
    let Some(session) = store.get(&presigned.access_key_id) else {
        return (None, Err(GateRefusal::UnknownAccessKey));
    };
    let outcome = signature(&presigned, &session)
        .and_then(|()| content(guarded, &presigned, user))
        .and_then(|()| times(&presigned, &session, now))
        .and_then(|()| policies(guarded, &session, user));
    (Some(session), outcome)
}

fn signature(presigned: &PresignedRequest, session: &RoleSession) -> Result<(), GateRefusal> {
    if presigned.session_token.as_deref() != Some(session.session_token.as_str()) {
        return Err(GateRefusal::InvalidToken("not the session token of this access key"));
    }
    if presigned.expected_signature(&session.secret) == presigned.signature {
        Ok(())
    } else {
        Err(GateRefusal::SignatureDoesNotMatch)
    }
}

fn content(guarded: &GuardedDatabase, presigned: &PresignedRequest, user: &str) -> Result<(), GateRefusal> {
    let endpoint = format!("{}:{}", presigned.host.to_lowercase(), presigned.port);
    if !presigned.is_for_rds_db() {
        Err(GateRefusal::InvalidToken("not for the service rds-db"))
    } else if presigned.region != guarded.region {
        Err(GateRefusal::InvalidToken("for another Region"))
    } else if !guarded.endpoints.contains(&endpoint) {
        Err(GateRefusal::InvalidToken("for another endpoint"))
    } else if presigned.user != user {
        Err(GateRefusal::InvalidToken("for another database user"))
    } else {
        Ok(())
    }
}

/// AWS publishes no tolerance for clocks; five minutes is SigV4's customary one for a date in the future.
const FUTURE: i64 = 300;

fn times(presigned: &PresignedRequest, session: &RoleSession, now: i64) -> Result<(), GateRefusal> {
    if !(1..=900).contains(&presigned.expires) {
        Err(GateRefusal::InvalidToken("not good for 1 to 900 seconds"))
    } else if presigned.signed_at > now + FUTURE {
        Err(GateRefusal::InvalidToken("signature not yet current"))
    } else if presigned.signed_at + presigned.expires <= now {
        Err(GateRefusal::ExpiredToken("the token is too old"))
    } else if session.expiration <= now {
        Err(GateRefusal::ExpiredToken("the credentials that signed it have expired"))
    } else {
        Ok(())
    }
}

/// Role policy and session policy must both allow; what one denies is denied.
fn policies(guarded: &GuardedDatabase, session: &RoleSession, user: &str) -> Result<(), GateRefusal> {
    let GuardedDatabase { account, region, resource_id, .. } = guarded;
    let resource = format!("arn:aws:rds-db:{region}:{account}:dbuser:{resource_id}/{user}");
    let question = AccessRequest {
        action: "rds-db:connect",
        resource: Some(&resource),
        provider: None,
        context: &session.context,
    };
    if session.role_policy().decide(&question) != Effect::Allow {
        return Err(GateRefusal::RolePolicy);
    }
    match &session.session_policy {
        Some(policy) if policy.decide(&question) != Effect::Allow => Err(GateRefusal::SessionPolicy),
        _ => Ok(()),
    }
}
