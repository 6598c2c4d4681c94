//! Carrying a cancel to the very server that runs the session, over TLS verified like any other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::dial::{DialError, Dialers};
use crate::wire::{limits, put};

/// Where and with which key a session's queries are cancelled.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelTarget {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The server's address: a name could lead to another instance by now.
    pub addr: SocketAddr,
    /// Its process id for the session.
    pub pid: i32,
    /// Its secret.
    pub secret: Box<[u8]>,
}

impl fmt::Debug for CancelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelTarget {{ addr: {}, pid: {} }}", self.addr, self.pid)
    }
}

/// Delivers the cancel. The server answers by closing, whether or not there was something to cancel.
pub async fn deliver(dialers: &Dialers, target: &CancelTarget) -> Result<(), DialError> {
    let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
    let gone = || DialError::Resolve { host: target.cluster.to_string(), problem: "no such cluster".into() };
    let dialer = dialers.of(&target.cluster).ok_or_else(gone)?;
    let mut stream = dialer.dial_addr(target.addr, deadline).await?.stream;
    let mut packet = BytesMut::new();
    let key = SecretKey::Bytes(Bytes::copy_from_slice(&target.secret));
    let failed = |source| DialError::Connect { addr: target.addr, source };
    put(&CancelRequest::new(target.pid, key), &mut packet)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let say = async {
        stream.write_all(&packet).await?;
        stream.flush().await?;
        // Its end is the sign that the signal has been sent; bytes instead of it are of no interest.
        let _ = stream.read(&mut [0; 1]).await;
        Ok(())
    };
    timeout_at(deadline, say).await.unwrap_or(Ok(())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::aws::test_cluster::cluster;

    #[tokio::test(start_paused = true)]
    async fn u6_a_cancel_has_five_seconds() {
        let ca = tempfile::NamedTempFile::new().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(ca.path(), issued.cert.pem()).unwrap();
        let mut cluster = cluster("http://127.0.0.1:1");
        ca.path().clone_into(&mut cluster.ca_file);
        let dialers = Dialers::new(&[Arc::new(cluster)], std::time::Duration::from_hours(1)).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = "app".into();
        let target =
            CancelTarget { cluster, addr: silent.local_addr().unwrap(), pid: 7, secret: Box::new([0; 4]) };
        let begun = Instant::now();
        assert!(matches!(deliver(&dialers, &target).await, Err(DialError::TimedOut)));
        let waited = begun.elapsed().as_millis();
        assert!((5_000..=5_001).contains(&waited), "{waited} ms");
    }
}
