//! Delivery of a cancel to its servers, over verified TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::key::CancelKey;
use super::{CancelIgnored, CancelOrder};
use crate::net::dial::{DialError, Dialer, DialerSet};
use crate::postgres::message::put;
use crate::postgres::{Postgres, limits};

/// Most servers to which one cancel is sent. A cluster has at most 8 addresses of its name and 16 remembered
/// ones.
const MAX_TOLD: usize = 64;

/// Listener and server name of a cancel. They equal those of its session, which narrows down the clusters.
#[derive(Clone, Copy, Debug)]
pub struct CancelEntrance<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// SNI, if it came inside TLS.
    pub server_name: Option<&'a str>,
}

/// Result of a delivered cancel.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Sent to these servers.
    To(Vec<SocketAddr>),
    /// Covered by another cancel of the same session that began after this one arrived.
    Together,
}

/// Reason why a cancel was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The cancel was ignored.
    #[error(transparent)]
    Ignored(#[from] CancelIgnored),
    /// Servers of this kind ignore cancel requests.
    #[error("RDS Proxy does not support CancelRequest")]
    NoCancels,
    /// No server could be reached. Holds the last error.
    #[error(transparent)]
    Failed(#[from] DialError),
}

/// Delivers the order in its turn, before `deadline`. Servers answer by closing the connection, whether or
/// not a statement was running.
pub async fn deliver(
    dialers: &DialerSet<Postgres>,
    entrance: CancelEntrance<'_>,
    order: &CancelOrder,
    deadline: Instant,
) -> Result<Delivered, Undelivered> {
    let Some(mut under_way) = order.turn(deadline).await? else { return Ok(Delivered::Together) };
    let (places, busy) = match order.server() {
        Some((cluster, _)) => {
            (&dialers.of(cluster).ok_or(CancelIgnored::Nobody)?.cancels, CancelIgnored::ClusterBusy)
        }
        None => (order.unproven(), CancelIgnored::UnprovenBusy),
    };
    let Ok(Ok(_place)) = timeout_at(deadline, places.acquire()).await else { return Err(busy.into()) };
    let recipients = recipients(dialers, entrance, order, deadline).await;
    under_way.starts();
    let tell_one = async |(dialer, addr): (&Arc<Dialer<Postgres>>, SocketAddr)| {
        tell(dialer, addr, &order.key_for(dialer.cluster), deadline).await.map(|()| addr)
    };
    let (mut told, mut failed) = (Vec::new(), None);
    for result in join_all(recipients.into_iter().map(tell_one)).await {
        match result {
            Ok(addr) => told.push(addr),
            Err(error) => failed = Some(error),
        }
    }
    if told.is_empty() {
        return Err(failed.unwrap_or(Undelivered::Ignored(CancelIgnored::Nobody)));
    }
    under_way.finish();
    Ok(Delivered::To(told))
}

/// The proxy's own cancel of a session: stops a statement that was abandoned.
#[derive(Debug)]
pub struct StatementCancel {
    dialer: Arc<Dialer<Postgres>>,
    addr: SocketAddr,
    key: CancelKey,
}

impl StatementCancel {
    /// For a session of `dialer` at `addr` with this key.
    pub(crate) fn new(dialer: Arc<Dialer<Postgres>>, addr: SocketAddr, key: CancelKey) -> Self {
        Self { dialer, addr, key }
    }

    /// Sends the cancel, and returns true if the server was told. If it cannot be reached, it notices the end at its next
    /// write.
    pub async fn send(self) -> bool {
        let Ok(_slot) = self.dialer.recalls.acquire().await else { return false };
        let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
        let told = tell(&self.dialer, self.addr, &self.key, deadline).await;
        if let Err(error) = &told {
            tracing::debug!(addr = %self.addr, %error, "a statement of an ended session may go on");
        }
        told.is_ok()
    }
}

/// The servers of an order.
async fn recipients<'a>(
    dialers: &'a DialerSet<Postgres>,
    entrance: CancelEntrance<'_>,
    order: &CancelOrder,
    deadline: Instant,
) -> Vec<(&'a Arc<Dialer<Postgres>>, SocketAddr)> {
    if let Some((cluster, addr)) = order.server() {
        return dialers.of(cluster).map(|dialer| (dialer, addr)).into_iter().collect();
    }
    let clusters = dialers.behind(entrance.listener, entrance.server_name);
    let share = (MAX_TOLD / clusters.len().max(1)).max(1);
    let candidates = join_all(clusters.iter().map(|dialer| dialer.candidates(deadline))).await;
    let of_one = |(dialer, found): (&'a Arc<Dialer<Postgres>>, Vec<SocketAddr>)| {
        found.into_iter().take(share).map(move |addr| (dialer, addr))
    };
    clusters.into_iter().zip(candidates).flat_map(of_one).take(MAX_TOLD).collect()
}

async fn tell(
    dialer: &Arc<Dialer<Postgres>>,
    addr: SocketAddr,
    key: &CancelKey,
    deadline: Instant,
) -> Result<(), Undelivered> {
    if !dialer.takes_cancels() {
        return Err(Undelivered::NoCancels);
    }
    let mut stream = match dialer.dial_addr(addr, &(), deadline).await {
        Ok(dialed) => dialed.stream,
        Err(error) => {
            dialer.forget(addr);
            return Err(error.into());
        }
    };
    let failed = |error| Undelivered::Failed(DialError::Connect { addr, error });
    let mut packet = BytesMut::new();
    let secret = SecretKey::Bytes(Bytes::copy_from_slice(&key.secret));
    put(&CancelRequest::new(key.pid, secret), &mut packet)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let say = async {
        stream.write_all(&packet).await?;
        stream.flush().await?;
        // The server closes after it has sent the signal; bytes before that are irrelevant.
        let _ = stream.read(&mut [0; 1]).await;
        Ok(())
    };
    timeout_at(deadline, say).await.unwrap_or(Ok(())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::TrustAnchors;
    use crate::config::test_fixture::cluster;
    use crate::net::cluster_id::ClusterId;
    use crate::net::resolver::Resolver;
    use crate::postgres::cancel::{CancelKeys, CancelSecret, CancelTarget};
    use crate::postgres::version::MinorVersion;
    use crate::protocol::KeyScope;

    #[tokio::test(start_paused = true)]
    async fn u6_a_cancel_has_five_seconds() {
        let ca = tempfile::NamedTempFile::new().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(ca.path(), issued.cert.pem()).unwrap();
        let mut cluster = cluster("http://127.0.0.1:1");
        let id = ClusterId::of(&cluster.endpoint);
        cluster.authorities = TrustAnchors::File(ca.path().to_owned());
        let hour = std::time::Duration::from_hours(1);
        let dialer = Dialer::<Postgres>::new(&cluster, hour, Resolver::system()).unwrap();
        let dialers: DialerSet<Postgres> = [Arc::new(dialer)].into_iter().collect();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = CancelKey::new(7, [0; 32]);
        let target = CancelTarget { cluster: id, addr: silent.local_addr().unwrap(), key };
        let keys = CancelKeys::new(&CancelSecret::random()).unwrap();
        let given = keys.issue(target, MinorVersion::V3_2, KeyScope::AnyReplica).unwrap().key;
        let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
        let order =
            keys.judge(&given, std::net::IpAddr::from([127, 0, 0, 1]).into(), deadline).await.unwrap();
        let entrance = CancelEntrance { listener: "main", server_name: None };
        let begun = Instant::now();
        let result = deliver(&dialers, entrance, &order, deadline).await;
        assert!(matches!(result, Err(Undelivered::Failed(DialError::Handshake { .. }))), "{result:?}");
        let waited = begun.elapsed().as_millis();
        assert!((5_000..=5_001).contains(&waited), "{waited} ms");
    }
}
