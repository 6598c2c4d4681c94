//! A client of MySQL that speaks packet by packet, written for the tests alone.

use std::fmt;
use std::sync::Arc;

use aws_emulator::names;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::World;
use crate::world::raw::{PATIENCE, trusting};

/// `LONG_PASSWORD`, `CONNECT_WITH_DB`, `LOCAL_FILES`, `PROTOCOL_41`, SSL, TRANSACTIONS, `SECURE_CONNECTION`, `MULTI_STATEMENTS`,
/// `MULTI_RESULTS`, `PLUGIN_AUTH`, `PLUGIN_AUTH_LENENC_CLIENT_DATA`, `DEPRECATE_EOF`.
pub(crate) const FLAGS: u32 = 1
    | 1 << 3
    | 1 << 7
    | 1 << 9
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 21
    | 1 << 24;

/// The question for a cleartext password.
pub(crate) const ASK_CLEAR: &[u8] = b"\xfemysql_clear_password\0";

/// An ERR packet as a client reads it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MysqlError {
    pub(crate) errno: u16,
    pub(crate) sqlstate: String,
    pub(crate) text: String,
}

impl fmt::Debug for MysqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.errno, self.sqlstate, self.text)
    }
}

impl MysqlError {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first()?;
        let (errno, rest) = rest.split_first_chunk()?;
        let (state, words) = match rest.strip_prefix(b"#") {
            Some(rest) => rest.split_at(5),
            None => (&b""[..], rest),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (*kind == 0xff).then(|| Self {
            errno: u16::from_le_bytes(*errno),
            sqlstate: text(state),
            text: text(words),
        })
    }
}

/// A packet: its header with `number`, then `payload`.
pub(crate) fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

/// A `HandshakeResponse`; `fields` follow the reserved bytes. Its first 32 bytes are an SSLRequest.
pub(crate) fn response(fields: &[u8]) -> Vec<u8> {
    [&FLAGS.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45], &[0; 23], fields].concat()
}

/// Reads one packet: its number and payload. `None` at the end.
pub(crate) async fn read_packet<S: AsyncReadExt + Unpin>(stream: &mut S) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((header[3], payload))
}

/// A client over TLS.
pub(crate) struct RawMysql {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Connection id of the greeting.
    pub(crate) id: u32,
}

/// A new connection and the payload of its greeting.
pub(crate) async fn greeted(port: u16) -> (TcpStream, Vec<u8>) {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (number, greeting) =
        timeout(PATIENCE, read_packet(&mut tcp)).await.expect("a greeting").expect("a greeting");
    assert_eq!((number, greeting[0]), (0, 10));
    (tcp, greeting)
}

/// Connection id in a greeting.
pub(crate) fn id_of(greeting: &[u8]) -> u32 {
    let end = greeting.iter().position(|byte| *byte == 0).unwrap();
    u32::from_le_bytes(*greeting[end + 1..].first_chunk().unwrap())
}

impl RawMysql {
    /// Up to TLS.
    pub(crate) async fn connect(world: &World) -> Self {
        Self::connect_to(world, world.port).await
    }

    /// The same at another port with the certificate of `world`.
    pub(crate) async fn connect_to(world: &World, port: u16) -> Self {
        let (mut tcp, greeting) = greeted(port).await;
        tcp.write_all(&packet(1, &response(b""))).await.unwrap();
        let connector = TlsConnector::from(Arc::new(trusting(world.listener_ca())));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        Self { stream, id: id_of(&greeting) }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet: its number and payload. `None` at the end.
    pub(crate) async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, read_packet(&mut self.stream)).await.expect("neither a packet nor an end")
    }

    /// Waits for the end of the connection; packets before it are an error.
    pub(crate) async fn expect_end(&mut self) {
        let more = self.packet().await;
        assert!(more.is_none(), "{more:?}");
    }

    /// Logs in to database `app`; the token is asked for.
    pub(crate) async fn log_in(world: &World, user: &str, token: &str) -> Result<Self, MysqlError> {
        Self::connect(world).await.finish(user, token).await
    }

    /// From the `HandshakeResponse` on.
    pub(crate) async fn finish(mut self, user: &str, token: &str) -> Result<Self, MysqlError> {
        let fields = format!("{user}\0\0{}\0caching_sha2_password\0", names::DATABASE);
        self.send(&packet(2, &response(fields.as_bytes()))).await;
        match self.packet().await {
            Some((3, question)) if question == ASK_CLEAR => {}
            Some((_, other)) => {
                return Err(MysqlError::parse(&other).unwrap_or_else(|| panic!("no question: {other:?}")));
            }
            None => panic!("no question"),
        }
        self.send(&packet(4, &[token.as_bytes(), b"\0"].concat())).await;
        let (number, answer) = self.packet().await.expect("an answer to the token");
        assert_eq!(number, 5);
        match MysqlError::parse(&answer) {
            Some(error) => {
                self.expect_end().await; // one refusal, and the end
                Err(error)
            }
            None => {
                assert_eq!(answer[0], 0, "an OK");
                Ok(self)
            }
        }
    }

    /// Sends a command.
    pub(crate) async fn command(&mut self, payload: &[u8]) {
        self.send(&packet(0, payload)).await;
    }

    /// Runs a statement and gives the first column of its rows, or of nothing for an OK.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<String>, MysqlError> {
        self.command(&[b"\x03", sql.as_bytes()].concat()).await;
        self.answer().await
    }

    /// The answer to a command: rows, or none for an OK.
    pub(crate) async fn answer(&mut self) -> Result<Vec<String>, MysqlError> {
        let (number, first) = self.packet().await.expect("an answer");
        assert!([1, 2].contains(&number), "{number}"); // 2 behind a command in two packets
        match first[0] {
            0 => return Ok(Vec::new()),
            0xff => return Err(MysqlError::parse(&first).unwrap()),
            columns => {
                for _ in 0..columns {
                    self.packet().await.expect("a column");
                }
            }
        }
        let mut rows = Vec::new();
        loop {
            let (_, row) = self.packet().await.expect("a row");
            match row[0] {
                0xfe => return Ok(rows),
                0xff => return Err(MysqlError::parse(&row).unwrap()),
                length => {
                    let text = &row[1..=usize::from(length)];
                    rows.push(String::from_utf8(text.to_vec()).unwrap());
                }
            }
        }
    }
}
