//! A database server that plays a part: everything a hostile or broken upstream may do before a session begins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_emulator::Ca;
use aws_emulator::certs::ServerCert;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::raw::{CANCEL_CODE, PATIENCE, SSL_REQUEST, message};

/// Behavior of a server.
#[derive(Clone)]
pub(crate) enum Script {
    /// Answers the SSLRequest with this and no more.
    Instead(Vec<u8>),
    /// Takes TLS and the startup packet, then sends this and goes on reading.
    AfterStartup(Vec<u8>),
    /// Asks for a cleartext password, reads it, then sends this and goes on reading.
    AfterPassword(Vec<u8>),
    /// As [`Script::AfterPassword`], and then closes.
    ThenClose(Vec<u8>),
    /// As [`Script::AfterPassword`], and then the test plays on with the connection.
    ThenHand(Vec<u8>, mpsc::UnboundedSender<TlsStream<TcpStream>>),
    /// Speaks 3.2: gives a key of this process id and secret, or of its first 4 bytes to one who asks for 3.0.
    Modern(i32, Vec<u8>),
    /// Speaks 3.0 and answers a request for more with this and the end; then as [`Script::AfterPassword`].
    Ancient(Vec<u8>),
    /// Direct TLS, with ALPN or without; notes server name and password as heard, and welcomes.
    Direct { alpn: bool },
    /// Says nothing, ever.
    Silence,
    /// Resets the connection instead of an answer.
    Reset,
    /// Answers the SSLRequest with this and closes.
    InsteadClose(Vec<u8>),
    /// Takes TLS, reads the first bytes of the handshake, answers with this and closes, or resets where it is `None`.
    InHandshake(Option<Vec<u8>>),
    /// Takes TLS and the startup packet, then sends this and closes.
    AfterStartupClose(Vec<u8>),
}

pub(crate) struct ScriptedServer {
    pub(crate) addr: SocketAddr,
    /// Everything clients sent inside TLS behind the startup packet.
    pub(crate) heard: Arc<Mutex<Vec<u8>>>,
    /// Number of connections so far.
    clients: watch::Receiver<usize>,
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    task: JoinHandle<()>,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedServer {
    /// Plays `script` with a good certificate of `ca`.
    pub(crate) async fn start(ca: &Ca, script: Script) -> Self {
        Self::with_cert(&ca.server(&[aws_emulator::names::ENDPOINT_HOST]).unwrap(), script).await
    }

    #[expect(clippy::unused_async, reason = "it needs a runtime, and its callers wait for it to listen")]
    pub(crate) async fn with_cert(cert: &ServerCert, script: Script) -> Self {
        let acceptor = acceptor(cert, matches!(script, Script::Direct { alpn: true }));
        let acceptor = Arc::new(Mutex::new(acceptor));
        let shown = Arc::clone(&acceptor);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(2_048).unwrap(); // crowds come at once
        let addr = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&heard);
        let packets = Arc::new(Mutex::new(Vec::new()));
        let startup_packets = Arc::clone(&packets);
        let (came, clients) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                came.send_modify(|clients| *clients += 1);
                let (acceptor, script) = (shown.lock().unwrap().clone(), script.clone());
                let (received, startup_packets) = (Arc::clone(&received), Arc::clone(&startup_packets));
                // A client that breaks off ends its part of the play.
                tokio::spawn(
                    async move { play(tcp, acceptor, script, received, startup_packets).await.ok() },
                );
            }
        });
        Self { addr, heard, clients, packets, acceptor, task }
    }

    /// Shows another certificate from now on.
    pub(crate) fn shows(&self, cert: &ServerCert) {
        *self.acceptor.lock().unwrap() = acceptor(cert, false);
    }

    /// Number of connections so far.
    pub(crate) fn count(&self) -> usize {
        *self.clients.borrow()
    }

    /// Waits until `n` clients have come.
    pub(crate) async fn clients(&self, n: usize) {
        let mut clients = self.clients.clone();
        let come = clients.wait_for(|clients| *clients >= n);
        timeout(PATIENCE, come).await.expect("too few clients").unwrap();
    }

    /// The first packets of all connections inside TLS, without their length.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        self.packets.lock().unwrap().clone()
    }

    /// The minor protocol versions that logins asked for.
    pub(crate) fn asked(&self) -> Vec<u8> {
        self.packets().iter().filter(|packet| packet[..2] == [0, 3]).map(|packet| packet[3]).collect()
    }

    /// Process id and secret of all cancels.
    pub(crate) fn cancels(&self) -> Vec<Vec<u8>> {
        let cancels = self.packets().into_iter().filter(|packet| packet[..4] == CANCEL_CODE);
        cancels.map(|packet| packet[4..].to_vec()).collect()
    }

    pub(crate) fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

/// Shows `cert`, which no library checks first; with `alpn` it speaks PostgreSQL's protocol from the first byte.
pub(crate) fn acceptor(cert: &ServerCert, alpn: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_slice_iter(cert.cert_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown);
    if alpn {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn play(
    mut tcp: TcpStream,
    acceptor: TlsAcceptor,
    script: Script,
    received: Arc<Mutex<Vec<u8>>>,
    startup_packets: Arc<Mutex<Vec<Vec<u8>>>>,
) -> std::io::Result<()> {
    if !matches!(script, Script::Direct { .. }) {
        let mut request = [0; 8];
        tcp.read_exact(&mut request).await?;
        assert_eq!(request, SSL_REQUEST, "an upstream login begins with TLS");
    }
    if without_tls(&mut tcp, &script).await? {
        return Ok(());
    }
    let mut tls = acceptor.accept(tcp).await?;
    let length = tls.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
    tls.read_exact(&mut startup).await?;
    startup_packets.lock().unwrap().push(startup.clone());
    if startup[..4] == CANCEL_CODE {
        return tls.shutdown().await;
    }
    let (mut hand_over, mut tell_password) = (None, false);
    let (asks, says, closes) = match script {
        Script::Modern(pid, secret) => {
            let length = if startup[3] == 2 { secret.len() } else { 4 };
            (true, welcome_with(&[&pid.to_be_bytes(), &secret[..length]].concat()), false)
        }
        Script::Ancient(says) if startup[3] != 0 => (false, says, true),
        Script::Ancient(_) => (true, welcome(), false),
        Script::AfterStartup(says) => (false, says, false),
        Script::AfterStartupClose(says) => (false, says, true),
        Script::Direct { .. } => {
            received.lock().unwrap().extend(tls.get_ref().1.server_name().unwrap_or_default().as_bytes());
            tell_password = true;
            (true, welcome(), false)
        }
        Script::AfterPassword(says) => (true, says, false),
        Script::ThenClose(says) => (true, says, true),
        Script::ThenHand(says, to) => {
            hand_over = Some(to);
            (true, says, false)
        }
        Script::Instead(_)
        | Script::InsteadClose(_)
        | Script::InHandshake(_)
        | Script::Silence
        | Script::Reset => {
            unreachable!()
        }
    };
    if asks {
        let password = ask_password(&mut tls).await?;
        if tell_password {
            received.lock().unwrap().extend([b" ", &password[..]].concat());
        }
    }
    tls.write_all(&says).await?;
    tls.flush().await?;
    if closes {
        return tls.shutdown().await;
    }
    if let Some(to) = hand_over {
        to.send(tls).unwrap();
        return Ok(());
    }
    let mut more = [0; 4_096];
    loop {
        let read = tls.read(&mut more).await?;
        if read == 0 {
            return Ok(());
        }
        received.lock().unwrap().extend_from_slice(&more[..read]);
    }
}

/// The parts that end before TLS is there. Tells whether it is over; closing is up to the caller.
async fn without_tls(tcp: &mut TcpStream, script: &Script) -> std::io::Result<bool> {
    match script {
        Script::Silence => std::future::pending().await,
        Script::Reset => socket2::SockRef::from(&*tcp).set_linger(Some(Duration::ZERO))?,
        Script::Instead(bytes) => {
            tcp.write_all(bytes).await?;
            tcp.read_to_end(&mut Vec::new()).await?;
        }
        Script::InsteadClose(bytes) => tcp.write_all(bytes).await?,
        Script::InHandshake(says) => {
            tcp.write_all(b"S").await?;
            tcp.read_u8().await?;
            let Some(says) = says else {
                socket2::SockRef::from(&*tcp).set_linger(Some(Duration::ZERO))?;
                return Ok(true);
            };
            let _ = tcp.read(&mut [0; 4_096]).await?;
            tcp.write_all(says).await?;
            tcp.shutdown().await?;
        }
        Script::Direct { .. } => return Ok(false),
        _ => {
            tcp.write_all(b"S").await?;
            return Ok(false);
        }
    }
    Ok(true)
}

async fn ask_password(tls: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    tls.write_all(&message(b'R', &[0, 0, 0, 3])).await?;
    tls.flush().await?;
    assert_eq!(tls.read_u8().await?, b'p');
    let length = tls.read_u32().await?;
    let mut password = vec![0; usize::try_from(length).unwrap() - 4];
    tls.read_exact(&mut password).await?;
    Ok(password)
}

/// An ErrorResponse.
pub(crate) fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes())
}

/// AuthenticationOk, one parameter, a key, ReadyForQuery.
pub(crate) fn welcome() -> Vec<u8> {
    welcome_with(b"\0\0\x10\x01keys")
}

/// The same with this process id and secret.
pub(crate) fn welcome_with(key: &[u8]) -> Vec<u8> {
    [
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"server_version\x0016.3\0"),
        message(b'K', key),
        message(b'Z', b"I"),
    ]
    .concat()
}
