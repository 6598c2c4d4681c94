//! Sockets of the configured listeners: handed over by the service manager (socket activation,
//! `sd_listen_fds(3)`) or bound by the process.

use std::io;
use std::path::PathBuf;

use listenfd::ListenFd;

use super::listening_socket::{InheritedSocket, ListeningSocket};
use super::unix_socket::SocketFileError;
use crate::config::{ListenAddr, ListenSettings};

/// Reason why a listener has no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The address cannot be bound.
    #[error("listen.addr: cannot listen on {addr}: {error}")]
    Bind {
        /// Address of the listener.
        addr: ListenAddr,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("listen.addr: cannot listen on unix:{path}: {error}", path = .path.display())]
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Reason.
        error: SocketFileError,
    },
    /// A socket of the other kind was handed over.
    #[error(
        "listen.addr: the service manager hands over {handed} for the listener {listener:?} at {configured}; write the \
         same address in ListenStream= (a path without \"unix:\")"
    )]
    Kind {
        /// Name of the listener.
        listener: String,
        /// Address of the configuration.
        configured: ListenAddr,
        /// Kind of the socket.
        handed: &'static str,
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

/// Sockets of all listeners, in order.
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

/// Binds the socket of a listener.
pub fn bind(listen: &ListenSettings) -> Result<ListeningSocket, SocketError> {
    match &listen.addr {
        ListenAddr::Tcp(addr) => ListeningSocket::bind(*addr, listen.reuse_port)
            .map_err(|error| SocketError::Bind { addr: listen.addr.clone(), error }),
        ListenAddr::Unix(path) => ListeningSocket::bind_unix(path, &listen.unix_socket)
            .map_err(|error| SocketError::Unix { path: path.clone(), error }),
    }
}

fn handed_over(sockets: &mut ListenFd) -> Result<Vec<InheritedSocket>, SocketError> {
    let mut handed = Vec::new();
    for index in 0..sockets.len() {
        let wrong = |error| SocketError::Handed { number: index + 1, error };
        let missing = || io::Error::other("it was taken already");
        // A socket of the other kind stays where it is.
        let socket = match sockets.take_unix_listener(index) {
            Ok(socket) => socket.map(InheritedSocket::Unix),
            Err(_) => sockets.take_tcp_listener(index).map_err(wrong)?.map(InheritedSocket::Tcp),
        };
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

fn inherit((socket, listen): (InheritedSocket, &ListenSettings)) -> Result<ListeningSocket, SocketError> {
    let kind = match (&socket, &listen.addr) {
        (InheritedSocket::Tcp(_), ListenAddr::Unix(_)) => Some("a TCP socket"),
        (InheritedSocket::Unix(_), ListenAddr::Tcp(_)) => Some("a Unix socket"),
        _ => None,
    };
    if let Some(handed) = kind {
        let (listener, configured) = (listen.name.clone(), listen.addr.clone());
        return Err(SocketError::Kind { listener, configured, handed });
    }
    let failed = |error| SocketError::Bind { addr: listen.addr.clone(), error };
    let socket = ListeningSocket::inherited(socket).map_err(failed)?;
    match socket.addr() {
        Ok(addr) if addr != listen.addr && listen.addr.tcp().is_none_or(|addr| addr.port() != 0) => {
            tracing::warn!(
                listener = listen.name,
                %addr,
                configured = %listen.addr,
                "the service manager's socket has an address other than listen.addr; the socket's address is used"
            );
        }
        _ => {}
    }
    Ok(socket)
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
