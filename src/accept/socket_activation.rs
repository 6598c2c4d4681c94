//! Sockets of the configured listeners: handed over by the service manager (socket activation,
//! `sd_listen_fds(3)`) or bound by the process.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

use super::listening_socket::ListeningSocket;
use crate::config::ListenSettings;

/// Reason why a listener has no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The address cannot be bound.
    #[error("listen.addr: cannot listen on {addr}: {error}")]
    Bind {
        /// Address of the listener.
        addr: std::net::SocketAddr,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The numbers of sockets and listeners differ.
    #[error(
        "the service manager hands over {handed} socket(s), and the configuration has {listeners} [[listen]]; write \
         one ListenStream= for each"
    )]
    Count {
        /// Number of sockets.
        handed: usize,
        /// Number of listeners.
        listeners: usize,
    },
    /// A socket from the service manager is unusable.
    #[error("socket number {number} of the service manager cannot be used: {error}")]
    Handed {
        /// Number of the socket, from 1.
        number: usize,
        /// Description of the fault.
        error: io::Error,
    },
}

/// One socket per listener, in order.
pub fn open(listeners: &[ListenSettings]) -> Result<Vec<ListeningSocket>, SocketError> {
    let handed = handed_over(&mut ListenFd::from_env())?;
    if handed.is_empty() {
        return listeners.iter().map(bind).collect();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<_> = names.split(':').collect();
    let wanted: Vec<_> = listeners.iter().map(|listen| listen.name.as_str()).collect();
    match_names(&wanted, handed, &names)?.into_iter().zip(listeners).map(inherit).collect()
}

fn bind(listen: &ListenSettings) -> Result<ListeningSocket, SocketError> {
    ListeningSocket::bind(listen.addr, listen.reuse_port)
        .map_err(|error| SocketError::Bind { addr: listen.addr, error })
}

fn handed_over(sockets: &mut ListenFd) -> Result<Vec<TcpListener>, SocketError> {
    let mut handed = Vec::new();
    for index in 0..sockets.len() {
        let wrong = |error| SocketError::Handed { number: index + 1, error };
        let missing = || io::Error::other("it was taken already");
        let socket = sockets.take_tcp_listener(index).map_err(wrong)?;
        handed.push(socket.ok_or_else(missing).map_err(wrong)?);
    }
    Ok(handed)
}

/// Assigns to each listener the socket of its name (`FileDescriptorName=`), and to the others the remaining
/// sockets in order.
fn match_names<S>(listeners: &[&str], handed: Vec<S>, names: &[&str]) -> Result<Vec<S>, SocketError> {
    if handed.len() != listeners.len() {
        return Err(SocketError::Count { handed: handed.len(), listeners: listeners.len() });
    }
    let mut sockets: Vec<_> = handed.into_iter().map(Some).collect();
    let mut take_named = |listener: &&str| {
        let index = names.iter().position(|name| name == listener)?;
        sockets.get_mut(index)?.take()
    };
    let named: Vec<_> = listeners.iter().map(&mut take_named).collect();
    let mut rest = sockets.into_iter().flatten();
    Ok(named.into_iter().filter_map(|socket| socket.or_else(|| rest.next())).collect())
}

fn inherit((socket, listen): (TcpListener, &ListenSettings)) -> Result<ListeningSocket, SocketError> {
    match socket.local_addr() {
        Ok(addr) if addr != listen.addr && listen.addr.port() != 0 => tracing::warn!(
            listener = listen.name,
            %addr,
            configured = %listen.addr,
            "the service manager's socket has an address other than listen.addr; the socket's address is used"
        ),
        _ => {}
    }
    ListeningSocket::inherited(socket).map_err(|error| SocketError::Bind { addr: listen.addr, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_name_and_the_rest_by_order() {
        let matched = |handed: &[u8], names: &[&str]| {
            match_names(&["vpn", "office", "lab"], handed.to_vec(), names).map_err(|e| e.to_string())
        };
        let unnamed = ["pgpassport.socket"; 3];
        assert_eq!(matched(&[3, 4, 5], &unnamed).unwrap(), [3, 4, 5]);
        assert_eq!(matched(&[3, 4, 5], &[""]).unwrap(), [3, 4, 5]);
        assert_eq!(matched(&[3, 4, 5], &["lab", "vpn", "office"]).unwrap(), [4, 5, 3]);
        assert_eq!(matched(&[3, 4, 5], &["lab", "x", "x"]).unwrap(), [4, 5, 3]);
        assert_eq!(matched(&[3, 4, 5], &["lab", "lab", "lab"]).unwrap(), [4, 5, 3]);
        for wrong in [&[3][..], &[3, 4, 5, 6]] {
            let error = matched(wrong, &unnamed).unwrap_err();
            assert!(error.contains("3 [[listen]]") && error.contains("ListenStream="), "{error}");
        }
    }
}
