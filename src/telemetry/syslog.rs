//! Audit records as messages of the local syslog: `/dev/log`, which is journald's under systemd. The form is that of
//! syslog(3), without a time: the daemon has its own.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Facility `authpriv` (10) and severity `info` (6), RFC 3164, section 4.1.1.
const PRIORITY: u8 = 10 * 8 + 6;

/// A daemon's socket. Each line is one datagram.
#[derive(Debug)]
pub(super) struct SyslogSocket {
    path: PathBuf,
    /// Absent after a failure, because a daemon that was restarted has another socket.
    socket: Option<UnixDatagram>,
    /// Beginning of each message.
    head: String,
}

impl SyslogSocket {
    /// Connects to the daemon.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let head = format!("<{PRIORITY}>pgpassport[{}]: ", std::process::id());
        Ok(Self { path: path.to_owned(), socket: Some(connected(path)?), head })
    }
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Write for SyslogSocket {
    /// Sends a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if text.is_empty() {
            return Ok(line.len());
        }
        let message = [self.head.as_bytes(), text].concat();
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connected(&self.path)?,
        };
        let sent = socket.send(&message);
        if sent.as_ref().is_ok() || sent.as_ref().is_err_and(|error| is_passing(error.kind())) {
            self.socket = Some(socket);
        }
        sent.map(|_| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True if the socket is still the daemon's.
fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_message_and_a_restarted_daemon_gets_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(SyslogSocket::connect(&path).is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut sink = SyslogSocket::connect(&path).unwrap();
        let received = |daemon: &UnixDatagram| {
            let mut bytes = [0; 256];
            let length = daemon.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert_eq!(sink.write(b"{\"a\":1}\n").unwrap(), 8);
        let head = format!("<86>pgpassport[{}]: ", std::process::id());
        assert_eq!(received(&daemon), format!("{head}{{\"a\":1}}"));
        assert_eq!(sink.write(b"\n").unwrap(), 1);
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            sink.write(b"lost\n").unwrap_err();
        }
        let daemon = UnixDatagram::bind(&path).unwrap();
        sink.write_all(b"again\n").unwrap();
        assert_eq!(received(&daemon), format!("{head}again"), "the empty line was no message");
        daemon.set_nonblocking(true).unwrap();
        // A daemon that does not read is no failure of the socket.
        let full = (0..10_000).find_map(|_| sink.write(b"x\n").err()).expect("a full queue");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        received(&daemon);
        sink.write_all(b"x\n").unwrap();
    }
}
