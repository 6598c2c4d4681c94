//! Further logins of a session's user, with the credentials of its own login.

use std::fmt;
use std::sync::Arc;

use super::cluster::{Cluster, ClusterGrant};
use crate::aws::credentials::RoleCredentials;
use crate::clock::Clock;
use crate::names::DbUser;
use crate::protocol::{FurtherLogin, FurtherToken, Protocol};

/// The credentials of a session's login, which open further connections of the same user until they expire.
struct SessionCredentials {
    cluster: Arc<Cluster>,
    user: DbUser,
    credentials: Arc<RoleCredentials>,
    clock: Clock,
}

/// The permission of `granted`'s user.
pub(super) fn login<P: Protocol>(
    granted: &ClusterGrant<P>,
    credentials: &Arc<RoleCredentials>,
    clock: &Clock,
) -> Arc<dyn FurtherLogin> {
    Arc::new(SessionCredentials {
        cluster: granted.cluster(),
        user: granted.grant().db_user().clone(),
        credentials: Arc::clone(credentials),
        clock: clock.clone(),
    })
}

impl fmt::Debug for SessionCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCredentials").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl FurtherLogin for SessionCredentials {
    fn user(&self) -> &str {
        self.user.as_str()
    }

    fn token(&self) -> FurtherToken<'_> {
        Box::pin(async {
            let Self { cluster, user, credentials, clock } = self;
            if !credentials.are_good(clock.now()) {
                return None;
            }
            let signed = credentials.iam_token(&cluster.settings, user, clock.now()).ok()?;
            cluster.login_turn(signed.reused).await.ok()?;
            Some(signed.token)
        })
    }
}
