//! Opens a session on the upstream: from the grant to the server's ReadyForQuery.

use tokio::time::{Instant, timeout_at};

use super::cluster::ClusterGrant;
use super::due::timed;
use super::outcome::LoginError;
use super::{LoginDeadlines, SessionContext, within};
use crate::net::dial::{DialDurations, Dialed, ServerRoute};
use crate::pool::{ConnectionOrigin, PoolSlot};
use crate::postgres::Postgres;
use crate::postgres::server_login;
use crate::postgres::server_login::{LoginParameters, UpstreamSession};
use crate::refusal::Stage;
use crate::secret::Jwt;
use crate::telemetry::audit::AuditRecord;
use crate::telemetry::login_metrics::LoginStep;

/// Most login attempts at a server that refuses because of a shortage, each after closing an idle connection.
const MAX_TRIES: usize = 10;

/// Logs in. Connects to the server and assumes the role concurrently. If the server is full, tries again
/// within the login's deadline while `slot` can free a connection slot there.
pub(super) async fn connect(
    steps: &SessionContext,
    jwt: Jwt,
    granted: &ClusterGrant,
    (wanted, slot): (LoginParameters<'_>, Option<&PoolSlot<Postgres>>),
    due: LoginDeadlines,
    trail: &mut AuditRecord,
) -> Result<(UpstreamSession, ConnectionOrigin), LoginError> {
    let metrics = &steps.shared.metrics;
    let dialing = within(due, Stage::UpstreamConnect, granted.dial(due.login));
    let federating = within(due, Stage::Sts, granted.federate(&steps.shared.federation, jwt));
    let (mut dialed, credentials) = tokio::try_join!(
        timed(metrics, LoginStep::Connect, dialing),
        timed(metrics, LoginStep::Sts, federating),
    )?;
    trail.role_session(credentials.session_name(), credentials.access_key_id());
    let grant = granted.grant();
    let DialDurations { name, tcp, tls } = dialed.durations();
    let mut tries = 1;
    let upstream = loop {
        let signed = credentials.iam_token(grant.cluster(), grant.db_user(), steps.shared.clock.now())?;
        let turn = within(due, Stage::Limits, granted.login_turn(signed.reused));
        timed(metrics, LoginStep::Queue, turn).await?;
        let begun = Instant::now();
        let logging_in = server_login::log_in(&mut dialed, wanted, signed.token, due.login);
        let logging_in = within(due, Stage::UpstreamLogin, logging_in);
        let logged_in = timed(metrics, LoginStep::ServerLogin, logging_in).await;
        if let Err(LoginError::Upstream(why)) = &logged_in
            && why.is_about_credentials()
        {
            steps.shared.federation.refused(&credentials);
        }
        dialed = match logged_in {
            Ok(said) => {
                metrics.upstream_opened([name, tcp, tls, begun.elapsed()]);
                break UpstreamSession::opened(dialed, said);
            }
            Err(why) if tries < MAX_TRIES => dial_again(slot, &dialed.route(), due, why).await?,
            Err(why) => return Err(why),
        };
        tries += 1;
    };
    credentials.were_accepted();
    let opened = ConnectionOrigin {
        at: Instant::now(),
        credentials_expire_at: credentials.expires_at(),
        role_session_name: credentials.session_name().to_owned(),
        access_key_id: credentials.access_key_id().to_owned(),
    };
    Ok((upstream, opened))
}

/// Connects again to a server that refused because of a shortage, after freeing a slot there. Returns the
/// refusal `why` if that fails.
async fn dial_again(
    slot: Option<&PoolSlot<Postgres>>,
    way: &ServerRoute,
    due: LoginDeadlines,
    why: LoginError,
) -> Result<Dialed, LoginError> {
    let (Some(slot), LoginError::Upstream(refusal)) = (slot, &why) else { return Err(why) };
    let Some(shortage) = refusal.shortage() else { return Err(why) };
    let again =
        async { if slot.make_room(shortage, way.addr()).await { way.dial().await.ok() } else { None } };
    timeout_at(due.login, again).await.ok().flatten().ok_or(why)
}
