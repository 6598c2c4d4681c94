//! Opens a session on the upstream: from the grant to a session that is ready for statements.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::cluster::ClusterGrant;
use super::due::timed;
use super::further;
use super::outcome::LoginError;
use super::{LoginDeadlines, ProtocolContext, within};
use crate::identity::Grant;
use crate::net::address::part_of;
use crate::net::dial::{DialDurations, Dialed, ServerRoute};
use crate::pool::{ConnectionOrigin, PoolSlot};
use crate::protocol::{LoginFailure, Protocol, ServerSession};
use crate::refusal::Stage;
use crate::secret::{IamToken, Jwt};
use crate::telemetry::audit::AuditRecord;
use crate::telemetry::labels::UpstreamStep;
use crate::telemetry::login_metrics::LoginStep;
use crate::telemetry::login_trace::SpanName;

/// Most login attempts at a server that refuses because of a shortage, each after closing an idle connection.
const MAX_TRIES: usize = 10;

/// Longest wait for one address to finish a login while another one is untried.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// Logs in. Connects to the server and assumes the role concurrently. If the server is full, tries again
/// within the login's deadline while `slot` can free a connection slot there.
pub(super) async fn connect<P: Protocol>(
    steps: &ProtocolContext<P>,
    jwt: Jwt,
    granted: &ClusterGrant<P>,
    (startup, slot): (&P::Startup, Option<&PoolSlot<P>>),
    due: LoginDeadlines<'_>,
    trail: &mut AuditRecord,
) -> Result<(ServerSession<P>, ConnectionOrigin), LoginError> {
    let shared = &*steps.common.shared;
    let (metrics, hello) = (&shared.metrics.logins, P::hello(startup, &steps.state));
    let dialing = within(due, Stage::UpstreamConnect, granted.dial(&hello, due.login));
    let federating = within(due, Stage::Sts, granted.federate(&shared.federation, jwt));
    let (mut dialed, credentials) = tokio::try_join!(
        timed((metrics, due), LoginStep::Connect, dialing),
        timed((metrics, due), LoginStep::Sts, federating),
    )?;
    trail.role_session(credentials.session_name(), credentials.access_key_id());
    let grant = granted.grant();
    let DialDurations { name, tcp, tls } = dialed.durations();
    let mut tries = 1;
    let upstream = loop {
        let begun = Instant::now();
        let signed = credentials.iam_token(grant.cluster(), grant.db_user(), shared.clock.now())?;
        due.traced(|trace| trace.step(SpanName::Sign, begun));
        let turn = within(due, Stage::Limits, granted.login_turn(signed.reused));
        timed((metrics, due), LoginStep::Queue, turn).await?;
        let begun = Instant::now();
        let logging_in = log_in(&mut dialed, (grant, startup), signed.token, due.login);
        let logging_in = within(due, Stage::UpstreamLogin, logging_in);
        let logged_in = timed((metrics, due), LoginStep::ServerLogin, logging_in).await;
        if let Err(LoginError::Upstream(why)) = &logged_in
            && why.is_about_credentials()
        {
            shared.federation.refused(&credentials);
        }
        dialed = match logged_in {
            Ok(said) => {
                metrics.upstream_opened([
                    (UpstreamStep::Name, name),
                    (UpstreamStep::Tcp, tcp),
                    (UpstreamStep::Tls, tls),
                    (UpstreamStep::Login, begun.elapsed()),
                ]);
                break P::opened(dialed, said, || further::login(granted, &credentials, &shared.clock));
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

/// Logs in over `dialed`, consuming `token`. An address that fails, does not answer, or currently accepts no
/// sessions is abandoned for the next one of the endpoint, with the same token, until `deadline`. Afterwards
/// `dialed` is the connection to the server whose answer counts.
pub(crate) async fn log_in<P: Protocol>(
    dialed: &mut Dialed<P>,
    (grant, startup): (&Grant, &P::Startup),
    token: IamToken,
    deadline: Instant,
) -> Result<P::LoginReply, LoginFailure<P::LoginError>> {
    loop {
        let until = part_of(deadline, dialed.others.len(), LOGIN_PATIENCE);
        let addr = dialed.addr;
        let tried = timeout_at(until, P::log_in(dialed, grant, startup, &token)).await;
        let error = match tried.unwrap_or(Err(LoginFailure::Silent(addr))) {
            Ok(reply) => {
                dialed.record_success();
                return Ok(reply);
            }
            Err(error) => error,
        };
        if dialed.others.is_empty() || !error.is_of_the_address() {
            return Err(error);
        }
        match dialed.connect_to_next(&error, deadline).await {
            Ok(()) => {}
            Err(distrust) if distrust.is_distrust() => return Err(distrust.into()),
            // The answer of a server says more than unreachable addresses.
            Err(_) => return Err(error),
        }
    }
}

/// Connects again to a server that refused because of a shortage, after freeing a slot there. Returns the
/// refusal `why` if that fails.
async fn dial_again<P: Protocol>(
    slot: Option<&PoolSlot<P>>,
    way: &ServerRoute<P>,
    due: LoginDeadlines<'_>,
    why: LoginError,
) -> Result<Dialed<P>, LoginError> {
    let (Some(slot), LoginError::Upstream(refusal)) = (slot, &why) else { return Err(why) };
    let Some(shortage) = refusal.shortage() else { return Err(why) };
    let again =
        async { if slot.make_room(shortage, way.addr()).await { way.dial().await.ok() } else { None } };
    timeout_at(due.login, again).await.ok().flatten().ok_or(why)
}
