//! A client that speaks the protocol byte by byte, written for the tests alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_emulator::Ca;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Limit of waits in a broken build. A good build needs a small part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Further patience for each other client of a crowd that logs in at the same time.
const CROWD_PATIENCE: Duration = Duration::from_millis(60);

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub(crate) const CANCEL_CODE: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];

/// The fields of an ErrorResponse, by their letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorFields(pub(crate) BTreeMap<char, String>);

impl ErrorFields {
    pub(crate) fn parse(body: &[u8]) -> Self {
        let fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        Self(
            fields
                .map(|field| (char::from(field[0]), String::from_utf8_lossy(&field[1..]).into_owned()))
                .collect(),
        )
    }
    fn get(&self, field: char) -> &str {
        self.0.get(&field).map_or("", String::as_str)
    }
    pub(crate) fn sqlstate(&self) -> &str {
        self.get('C')
    }
    pub(crate) fn message(&self) -> &str {
        self.get('M')
    }
    /// DETAIL without the session id, which is checked to be there.
    pub(crate) fn detail(&self) -> String {
        let (detail, session) = self.get('D').rsplit_once("Session ").expect("a session id in DETAIL");
        assert_eq!(session.len(), 17, "sixteen hex digits and a full stop: {session}");
        detail.trim_end().to_owned()
    }
    pub(crate) fn hint(&self) -> &str {
        self.get('H')
    }
    pub(crate) fn session(&self) -> String {
        self.get('D').rsplit_once("Session ").unwrap().1.trim_end_matches('.').to_owned()
    }
}

/// A TLS configuration that trusts `ca` alone.
pub(crate) fn trusting(ca: &Ca) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) struct RawClient {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Time limit for each message.
    patience: Duration,
}

impl RawClient {
    pub(crate) async fn connect(port: u16, ca: &Ca) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), ca).await
    }

    /// TLS by SSLRequest on a connection that is there already.
    pub(crate) async fn over(tcp: TcpStream, ca: &Ca) -> Self {
        Self::with(tcp, Arc::new(trusting(ca))).await
    }

    /// A client of a crowd with a shared TLS configuration.
    pub(crate) async fn with(tcp: TcpStream, tls: Arc<ClientConfig>) -> Self {
        Self::negotiate(tcp, tls).await.unwrap()
    }

    /// Gives each message more time: a client of a crowd waits for the others.
    pub(crate) fn in_crowd(mut self, size: usize) -> Self {
        self.patience = PATIENCE + CROWD_PATIENCE * u32::try_from(size).unwrap();
        self
    }

    /// As [`RawClient::over`], where the connection may break.
    pub(crate) async fn try_over(tcp: TcpStream, ca: &Ca) -> io::Result<Self> {
        Self::negotiate(tcp, Arc::new(trusting(ca))).await
    }

    /// A client on a connection that has TLS already.
    pub(crate) fn of(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, patience: PATIENCE }
    }

    async fn negotiate(mut tcp: TcpStream, tls: Arc<ClientConfig>) -> io::Result<Self> {
        tcp.write_all(&SSL_REQUEST).await?;
        assert_eq!(tcp.read_u8().await?, b'S');
        let connector = TlsConnector::from(tls);
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
        Ok(Self::of(stream))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn start(&mut self, user: &str, database: Option<&str>) {
        let mut pairs = vec![("user", user)];
        pairs.extend(database.map(|database| ("database", database)));
        self.send(&startup(&pairs)).await;
    }

    /// Logs in speaking protocol 3.`minor`; gives the session's process id and secret in one.
    pub(crate) async fn login_for_key(mut self, minor: u8, user: &str, token: &str) -> (Self, Vec<u8>) {
        let mut packet = startup(&[("user", user), ("database", "app")]);
        packet[7] = minor;
        self.send(&packet).await;
        let (client, messages) = self.finish_login(token).await.unwrap();
        let (_, key) = messages.into_iter().find(|(tag, _)| *tag == b'K').expect("a key");
        (client, key)
    }

    /// The next message: its tag and body. `None` at the end.
    pub(crate) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(self.patience, self.read_message()).await.expect("neither a message nor an end")
    }

    async fn read_message(&mut self) -> Option<(u8, Vec<u8>)> {
        let tag = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((tag, body))
    }

    /// Reads the end of a cancelled statement.
    pub(crate) async fn expect_57014(&mut self) {
        let mut error = ErrorFields::default();
        loop {
            match self.message().await.expect("the session goes on") {
                (b'E', body) => error = ErrorFields::parse(&body),
                (b'Z', _) => break,
                _ => {}
            }
        }
        assert_eq!(error.sqlstate(), "57014", "{error:?}");
    }

    /// Logs in; gives the messages between the password and the first ReadyForQuery.
    pub(crate) async fn login(
        mut self,
        user: &str,
        database: Option<&str>,
        token: &str,
    ) -> Result<(Self, Vec<(u8, Vec<u8>)>), ErrorFields> {
        self.start(user, database).await;
        self.finish_login(token).await
    }

    /// From the password question on.
    pub(crate) async fn finish_login(
        mut self,
        token: &str,
    ) -> Result<(Self, Vec<(u8, Vec<u8>)>), ErrorFields> {
        match self.message().await {
            Some((b'R', body)) if body == [0, 0, 0, 3] => {}
            Some((b'E', body)) => return Err(ErrorFields::parse(&body)),
            other => panic!("no password question: {other:?}"),
        }
        self.send(&password(token)).await;
        let mut messages = Vec::new();
        loop {
            match self.message().await.expect("an answer to the password") {
                (b'Z', _) => return Ok((self, messages)),
                (b'E', body) => return Err(ErrorFields::parse(&body)),
                message => messages.push(message),
            }
        }
    }
}

pub(crate) fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in pairs {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

/// A CancelRequest for a process id and secret.
pub(crate) fn cancel(key: &[u8]) -> Vec<u8> {
    [&u32::try_from(key.len() + 8).unwrap().to_be_bytes()[..], &CANCEL_CODE, key].concat()
}

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], body].concat()
}

pub(crate) fn password(token: &str) -> Vec<u8> {
    message(b'p', &[token.as_bytes(), b"\0"].concat())
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}
