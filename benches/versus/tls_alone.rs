//! Cost of TLS alone for a proxy with TLS on both legs: the product's two configurations, rustls in memory, no socket,
//! no runtime, no protocol. With the floor's figure it is the least that such a proxy can cost.

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use aws_emulator::Ca;
use pgpassport::net::tls::{ListenerFiles, server_config, upstream_config};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::measure::{figure, own_cpu_seconds};

/// Bytes of a transaction of `pgbench -S -M prepared`: Bind, Describe, Execute, Sync; and their answers.
const TRANSACTION: [usize; 2] = [60, 75];

/// Largest encrypted message of a bulk transfer (RFC 8446, section 5.1: 2^14 bytes a record).
const RECORD: usize = 1 << 14;

/// Each leg: the end that the proxy has, and its peer.
struct TlsLeg {
    ours: Connection,
    peers: Connection,
}

/// Both legs of a session.
pub(crate) struct TlsLegs {
    client: TlsLeg,
    server: TlsLeg,
}

impl TlsLegs {
    /// After their handshakes.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new().expect("a certificate authority");
        let ca_file = ca.write(folder.path()).expect("ca.pem");
        let files = ca.server(&["localhost"]).expect("a certificate").write(folder.path(), "server");
        let files = files.expect("a certificate");
        let files = ListenerFiles { cert_file: &files.cert, key_file: &files.key, client: None };
        let listener =
            Arc::new(server_config(files, Some(b"postgresql")).expect("a listener's configuration"));
        let upstream = Arc::new(upstream_config(Some(&ca_file), None).expect("an upstream's configuration"));
        let (near, far) = (handshaken(&upstream, &listener), handshaken(&upstream, &listener));
        Self { client: TlsLeg { peers: near.0, ours: near.1 }, server: TlsLeg { ours: far.0, peers: far.1 } }
    }

    /// Seconds of CPU for the four records of one transaction.
    pub(crate) fn a_transaction(&mut self) -> f64 {
        const COUNT: usize = 20_000;
        let [up, down] = TRANSACTION;
        let there = carry(&mut self.client, &mut self.server, up, COUNT);
        let back = carry(&mut self.server, &mut self.client, down, COUNT);
        (there + back) / figure(COUNT)
    }

    /// Seconds of CPU for a gigabyte in full records, one way.
    pub(crate) fn a_gigabyte(&mut self) -> f64 {
        /// Few enough for the processor's cache, as bytes are that have just been received.
        const COUNT: usize = 16;
        const TIMES: usize = 500;
        let seconds: f64 = (0..TIMES).map(|_| carry(&mut self.client, &mut self.server, RECORD, COUNT)).sum();
        seconds / figure(TIMES * COUNT * RECORD) * 1e9
    }
}

/// Seconds of CPU for taking `count` records of `length` bytes from one leg and putting them on the other.
fn carry(from: &mut TlsLeg, to: &mut TlsLeg, length: usize, count: usize) -> f64 {
    let message = vec![b'x'; length];
    let records: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            from.peers.writer().write_all(&message).expect("a record");
            outgoing(&mut from.peers)
        })
        .collect();
    let mut sent = Vec::with_capacity(count * (length + 64));
    let mut plain = vec![0; RECORD];
    let before = own_cpu_seconds();
    for record in &records {
        receive(&mut from.ours, record);
        let plain = plain.get_mut(..length).expect("not more than a record");
        from.ours.reader().read_exact(plain).expect("what was sent");
        to.ours.writer().write_all(plain).expect("a record");
        to.ours.write_tls(&mut sent).expect("memory");
    }
    let cost = own_cpu_seconds() - before;
    // The other peer has to understand every one of them, so that its count of records goes along.
    let (mut sent, mut left) = (Cursor::new(sent), count * length);
    while left > 0 {
        if let Ok(read) = to.peers.reader().read(&mut plain) {
            left -= read;
        } else {
            to.peers.read_tls(&mut sent).expect("memory");
            to.peers.process_new_packets().expect("good records");
        }
    }
    cost
}

/// Both ends of one connection: the one that asks, the one that answers.
fn handshaken(upstream: &Arc<ClientConfig>, listener: &Arc<ServerConfig>) -> (Connection, Connection) {
    let name = "localhost".try_into().expect("a name");
    let mut client: Connection = ClientConnection::new(Arc::clone(upstream), name).expect("a client").into();
    let mut server: Connection = ServerConnection::new(Arc::clone(listener)).expect("a server").into();
    while client.is_handshaking() || server.is_handshaking() {
        let bytes = outgoing(&mut client);
        receive(&mut server, &bytes);
        let bytes = outgoing(&mut server);
        receive(&mut client, &bytes);
    }
    (client, server)
}

fn outgoing(end: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while end.wants_write() {
        end.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

fn receive(end: &mut Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        end.read_tls(&mut bytes).expect("memory");
        end.process_new_packets().expect("good records");
    }
}
