//! Doctor: STS endpoint, the STS call, and the IAM token signed with its result.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::LinkProblem;
use super::access::AwsClaims;
use super::report::{ChainLink, DoctorReport};
use super::sts_advice::{TRUST_AUTHORITIES, explain};
use crate::aws::credentials::SignedToken;
use crate::aws::federation::Federation;
use crate::aws::iam_token::LIFETIME;
use crate::aws::retry::StsTimes;
use crate::aws::sts::StsEndpoint;
use crate::aws::sts_client::https_client;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::identity::Grant;
use crate::net::https::{HttpsClient, Reached};
use crate::net::outgoing::Outgoing;
use crate::secret::{IamToken, Jwt};
use crate::session::outcome::LoginError;

pub(super) const LINKS: [ChainLink; 3] = [ChainLink::StsEndpoint, ChainLink::Sts, ChainLink::IamToken];

const CORRECT_AUTHORITIES: &str = "Correct cluster.sts_ca_file.";

const REACH_ENDPOINT: &str = "Allow this machine to reach STS on port 443, or set cluster.sts_endpoint_url to a VPC endpoint of \
    STS. STS has to be active in the Region.";

/// Checks STS and signs the IAM token, if possible.
pub(super) async fn examine(
    jwt: Jwt,
    grant: &Grant,
    aws_claims: AwsClaims,
    (times, slow): (StsTimes, Duration),
    (clock, outgoing): (&Clock, &Outgoing),
    report: &mut DoctorReport<'_>,
) -> Option<IamToken> {
    let client = https_client(grant.cluster(), &times, outgoing);
    let sts = StsEndpoint::new(grant.cluster(), times, clock.clone(), outgoing, None);
    let (client, sts) = match (client, sts) {
        (Ok(client), Ok(sts)) => (client, Arc::new(sts)),
        (Err(error), _) | (_, Err(error)) => {
            report.fail(ChainLink::StsEndpoint, LinkProblem::new(error.to_string(), CORRECT_AUTHORITIES));
            report.skip_all(&LINKS[1..], "not tried: the STS client could not be built");
            return None;
        }
    };
    if let Some(found) = endpoint(&client, grant.cluster(), report).await {
        report.ok(ChainLink::StsEndpoint, found);
    } else {
        report.skip_all(&LINKS[1..], "not tried: the STS endpoint cannot be reached");
        return None;
    }
    let begun = Instant::now();
    let federation = Federation::new(clock.clone(), Handle::current());
    let credentials = match federation.federate(&sts, jwt, grant).await {
        Ok(credentials) => credentials,
        Err(error) => {
            let problem = explain(&error, grant, &aws_claims);
            report.fail(ChainLink::Sts, problem.by_clock(&LoginError::Sts(error), outgoing.clocks()));
            report.skip(ChainLink::IamToken, "not tried: there are no credentials");
            return None;
        }
    };
    let left = credentials.expires_at().duration_since(clock.now()).unwrap_or_default();
    let took = begun.elapsed();
    let found = format!(
        "role {} as session {}, credentials for {}, in {} ms",
        grant.role().as_str(),
        credentials.session_name(),
        super::seconds(left),
        took.as_millis()
    );
    if took > slow {
        let remedy = "Use the Region's own endpoint or a VPC endpoint; a slow issuer makes STS slow too.";
        report.warn(ChainLink::Sts, LinkProblem::new(found, remedy));
    } else {
        report.ok(ChainLink::Sts, found);
    }
    match credentials.iam_token(grant.cluster(), grant.db_user(), clock.now()) {
        Ok(SignedToken { token, .. }) => {
            let (endpoint, minutes) = (&grant.cluster().endpoint, LIFETIME.as_secs() / 60);
            let length = token.length();
            report.ok(
                ChainLink::IamToken,
                format!(
                    "{length} bytes, signed for {endpoint} in {}, good for {minutes} minutes",
                    grant.cluster().region.as_str()
                ),
            );
            Some(token)
        }
        Err(error) => {
            report.fail(
                ChainLink::IamToken,
                LinkProblem::new(error.to_string(), "This is a fault of pgpassport: report it."),
            );
            None
        }
    }
}

/// Asks the endpoint without a token. Any HTTP answer proves the way to STS, and tells its time.
pub(super) async fn preflight(
    cluster: &ClusterSettings,
    times: StsTimes,
    outgoing: &Outgoing,
    report: &mut DoctorReport<'_>,
) {
    let client = match https_client(cluster, &times, outgoing) {
        Ok(client) => client,
        Err(error) => {
            let problem = LinkProblem::new(error.to_string(), CORRECT_AUTHORITIES);
            return report.fail(ChainLink::StsEndpoint, problem);
        }
    };
    let Some(reached) = endpoint(&client, cluster, report).await else { return };
    match client.get(cluster.sts_endpoint_url.as_str(), "*/*").await {
        Ok(answer) => {
            let found = format!("{reached} and answers, HTTP status {}", answer.status.as_u16());
            report.ok(ChainLink::StsEndpoint, found);
        }
        Err(error) => {
            let host = cluster.sts_endpoint_url.host_str().unwrap_or_default();
            let remedy =
                if error.to_string().contains("certificate") { TRUST_AUTHORITIES } else { REACH_ENDPOINT };
            report.fail(ChainLink::StsEndpoint, LinkProblem::new(format!("{host}: {error}"), remedy));
        }
    }
}

/// Connects to the endpoint by TCP, or through the proxy. Returns the finding if that succeeds.
async fn endpoint(
    client: &HttpsClient,
    cluster: &ClusterSettings,
    report: &mut DoctorReport<'_>,
) -> Option<String> {
    let url = &cluster.sts_endpoint_url;
    let host = url.host_str().unwrap_or_default();
    let named = format!("{host}:{}", url.port_or_known_default().unwrap_or(443));
    let problem = match client.reach(url.as_str()).await {
        Ok(Reached { addr, through_proxy }) => {
            let how = if through_proxy { "is reached through the proxy" } else { "accepts connections" };
            return Some(format!("{named} {how} at {addr}"));
        }
        Err(error) => error,
    };
    let remedy = if problem.to_string().contains("through the proxy") {
        "Let the proxy of egress.proxy connect to STS, or write STS into egress.no_proxy."
    } else {
        REACH_ENDPOINT
    };
    report.fail(ChainLink::StsEndpoint, LinkProblem::new(format!("{named}: {problem}"), remedy));
    None
}
