//! A client of MySQL's protocol for the loads: TLS, the login with a password or a token, statements as text, and one
//! prepared statement.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aws_emulator::names;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::ground::Contestant;
use crate::sessions::client_tls;

/// `LONG_PASSWORD`, `CONNECT_WITH_DB`, `PROTOCOL_41`, SSL, TRANSACTIONS, `SECURE_CONNECTION`, `PLUGIN_AUTH`,
/// `PLUGIN_AUTH_LENENC_CLIENT_DATA`, `DEPRECATE_EOF`.
const FLAGS: u32 = 1 | 1 << 3 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 15 | 1 << 19 | 1 << 21 | 1 << 24;

/// `COM_QUIT`, `COM_QUERY`, `COM_STMT_PREPARE`, `COM_STMT_EXECUTE`.
const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;

/// First bytes of answers.
const OK: u8 = 0x00;
const MORE_AUTH: u8 = 0x01;
const END: u8 = 0xfe;
const ERR: u8 = 0xff;

const PLUGIN: &[u8] = b"caching_sha2_password\0";
const CLEAR: &[u8] = b"mysql_clear_password\0";

/// Way to log in to a contestant.
pub(crate) struct MysqlRoute {
    port: u16,
    user: &'static str,
    password: String,
    tls: Arc<ClientConfig>,
}

/// A session.
pub(crate) struct MysqlSession {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    /// Sequence number of the last packet of either side.
    sequence: u8,
    /// The last packet of the server.
    payload: Vec<u8>,
}

impl MysqlRoute {
    pub(crate) fn to(to: &Contestant) -> Self {
        let mut tls = client_tls(&to.ca);
        tls.resumption = Resumption::disabled(); // as MySQL's own clients, each login is a whole handshake
        Self { port: to.port, user: to.user, password: to.password.clone(), tls: Arc::new(tls) }
    }

    /// A new session in database `app`.
    pub(crate) fn log_in(&self) -> MysqlSession {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        tcp.set_nodelay(true).expect("a socket option");
        let mut payload = Vec::new();
        let sequence = read_packet(&mut tcp, &mut payload);
        let salt = salt(&payload);
        let head = [&FLAGS.to_le_bytes()[..], &(1_u32 << 30).to_le_bytes(), &[45], &[0; 23]].concat();
        tcp.write_all(&packet(sequence + 1, &head)).expect("an SSLRequest");
        let name = "localhost".try_into().expect("a name");
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).expect("a TLS client");
        let stream = BufReader::with_capacity(1 << 14, StreamOwned::new(tls, tcp));
        let mut session = MysqlSession { stream, sequence: sequence + 1, payload };
        let (user, proof) = (self.user.as_bytes(), self.proof(&salt));
        let fields = [user, b"\0", &[32], &proof, names::DATABASE.as_bytes(), b"\0", PLUGIN].concat();
        session.reply(&[&head[..], &fields].concat());
        loop {
            session.receive();
            let reply = match &session.payload[..] {
                [OK, ..] => return session,
                [MORE_AUTH, 3] => continue, // the password is right
                [END, asked @ ..] if asked.starts_with(PLUGIN) => self.proof(&asked[PLUGIN.len()..][..20]),
                [END, asked @ ..] if asked == CLEAR => self.in_clear(),
                [MORE_AUTH, 4] => self.in_clear(), // the server has not seen it before
                other => panic!("an answer to the login: {other:?}"),
            };
            session.reply(&reply);
        }
    }

    fn in_clear(&self) -> Vec<u8> {
        [self.password.as_bytes(), b"\0"].concat()
    }

    /// The answer of `caching_sha2_password`: SHA256(password) XOR SHA256(SHA256(SHA256(password)), salt).
    fn proof(&self, salt: &[u8]) -> Vec<u8> {
        let sha256 = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
        let once = sha256(self.password.as_bytes());
        let mask = sha256(&[&sha256(&sha256(&once)), salt].concat());
        once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    }
}

/// The two parts of the salt in a greeting: 8 bytes behind version and connection id, and 12 behind 19 bytes of flags.
fn salt(greeting: &[u8]) -> Vec<u8> {
    let version = greeting.iter().position(|byte| *byte == 0).expect("a version");
    let rest = &greeting[version + 1 + 4..];
    [&rest[..8], &rest[8 + 19..][..12]].concat()
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("packets of the loads are small").to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// Reads a packet and returns its sequence number.
fn read_packet(stream: &mut impl Read, payload: &mut Vec<u8>) -> u8 {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a packet");
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    payload.resize(usize::try_from(length).expect("24 bits"), 0);
    stream.read_exact(payload).expect("the rest of a packet");
    header[3]
}

impl MysqlSession {
    fn reply(&mut self, payload: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.get_mut().write_all(&packet(self.sequence, payload)).expect("a packet is sent");
    }

    fn command(&mut self, command: u8, parts: &[&[u8]]) {
        self.sequence = u8::MAX; // the command's is 0
        self.reply(&[&[command], &parts.concat()[..]].concat());
    }

    /// Reads the next packet and returns its length with the header.
    fn receive(&mut self) -> usize {
        self.sequence = read_packet(&mut self.stream, &mut self.payload);
        let failed = self.payload.first() == Some(&ERR);
        assert!(!failed, "an error: {}", String::from_utf8_lossy(&self.payload));
        self.payload.len() + 4
    }

    /// Reads the answer to a statement, an OK or columns and rows, and returns its length.
    fn answer(&mut self) -> usize {
        let mut length = self.receive();
        if self.payload.first() == Some(&OK) {
            return length;
        }
        loop {
            length += self.receive();
            if self.payload.first() == Some(&END) {
                return length;
            }
        }
    }

    /// Runs a statement as text and returns the length of its answer.
    pub(crate) fn query(&mut self, sql: &str) -> usize {
        self.command(QUERY, &[sql.as_bytes()]);
        self.answer()
    }

    /// Prepares a statement and returns its number.
    pub(crate) fn prepare(&mut self, sql: &str) -> [u8; 4] {
        self.command(PREPARE, &[sql.as_bytes()]);
        self.receive();
        let [OK, a, b, c, d, columns, 0, parameters, 0, ..] = self.payload[..] else {
            panic!("an answer to a preparation: {:?}", self.payload);
        };
        for _ in 0..columns + parameters {
            self.receive();
        }
        [a, b, c, d]
    }

    /// Executes a prepared statement with one number.
    pub(crate) fn execute(&mut self, statement: [u8; 4], number: u64) {
        // No cursor, one execution, no NULL, types follow: BIGINT.
        self.command(EXECUTE, &[&statement, b"\0\x01\0\0\0\0\x01\x08\0", &number.to_le_bytes()]);
        self.answer();
    }

    pub(crate) fn quit(mut self) {
        self.command(QUIT, &[]);
    }
}
