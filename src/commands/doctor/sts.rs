//! STS: its endpoint, the call, and the token that is signed with what it gives.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::Trouble;
use super::access::Brought;
use super::report::{Link, Report};
use super::sts_words::explain;
use crate::auth::Grant;
use crate::aws::credentials::SignedToken;
use crate::aws::federation::Federation;
use crate::aws::iam_token::LIFETIME;
use crate::aws::retry::StsTimes;
use crate::clock::Clock;
use crate::resolver::Resolver;
use crate::secret::{IamToken, Jwt};

pub(super) const LINKS: [Link; 3] = [Link::StsEndpoint, Link::Sts, Link::IamToken];

/// The IAM token, if STS and the signer give one.
pub(super) async fn examine(
    jwt: Jwt,
    grant: &Grant,
    brought: Brought,
    (times, slow): (StsTimes, Duration),
    (clock, resolver): (&Clock, &Resolver),
    report: &mut Report<'_>,
) -> Option<IamToken> {
    let reached = endpoint(grant, resolver, times.connect, report).await;
    if !reached {
        report.skip_all(&LINKS[1..], "not tried: the STS endpoint cannot be reached");
        return None;
    }
    let clusters = [Arc::clone(grant.cluster())];
    let federation =
        match Federation::new(&clusters, times, clock.clone(), resolver.clone(), Handle::current()) {
            Ok(federation) => federation,
            Err(error) => {
                report.fail(Link::Sts, Trouble::new(error.to_string(), "Correct cluster.sts_ca_file."));
                report.skip(Link::IamToken, "not tried: there are no credentials");
                return None;
            }
        };
    let begun = Instant::now();
    let credentials = match federation.federate(jwt, grant).await {
        Ok(credentials) => credentials,
        Err(error) => {
            report.fail(Link::Sts, explain(&error, grant, &brought));
            report.skip(Link::IamToken, "not tried: there are no credentials");
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
        report.warn(Link::Sts, Trouble::new(found, remedy));
    } else {
        report.ok(Link::Sts, found);
    }
    match credentials.iam_token(grant.cluster(), grant.db_user(), clock.now()) {
        Ok(SignedToken { token, .. }) => {
            let (endpoint, minutes) = (&grant.cluster().endpoint, LIFETIME.as_secs() / 60);
            let length = token.length();
            report.ok(
                Link::IamToken,
                format!(
                    "{length} bytes, signed for {endpoint} in {}, good for {minutes} minutes",
                    grant.cluster().region.as_str()
                ),
            );
            Some(token)
        }
        Err(error) => {
            report.fail(
                Link::IamToken,
                Trouble::new(error.to_string(), "This is a fault of pgpassport: report it."),
            );
            None
        }
    }
}

/// TCP to the endpoint; TLS is part of the call.
async fn endpoint(grant: &Grant, resolver: &Resolver, wait: Duration, report: &mut Report<'_>) -> bool {
    let url = &grant.cluster().sts_endpoint_url;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let connecting = async {
        let found = resolver.look_up(&host, port).await.map_err(|error| error.to_string())?;
        TcpStream::connect(found.as_slice()).await.map_err(|error| error.to_string())
    };
    let problem = match timeout(wait, connecting).await {
        Ok(Ok(stream)) => {
            let peer = stream.peer_addr().map_or_else(|_| host.clone(), |addr| addr.to_string());
            report.ok(Link::StsEndpoint, format!("{host}:{port} takes connections at {peer}"));
            return true;
        }
        Ok(Err(problem)) => problem,
        Err(_) => format!("no answer within {} s", wait.as_secs()),
    };
    let remedy = "Let this machine reach STS on port 443, or set cluster.sts_endpoint_url to a VPC endpoint of STS. STS \
                  has to be active in the Region.";
    report.fail(Link::StsEndpoint, Trouble::new(format!("{host}:{port}: {problem}"), remedy));
    false
}
