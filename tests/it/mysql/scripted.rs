//! A server of MySQL that plays a part: everything that a hostile or broken one may do before a session begins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_emulator::{Ca, names};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::raw::{ASK_CLEAR, packet, read_packet};
use crate::world::scripted_server::acceptor;

/// The part.
#[derive(Clone)]
pub(crate) enum Part {
    /// Sends these bytes in place of a greeting.
    Instead(Vec<u8>),
    /// Greets, takes TLS and the response, then sends these bytes.
    AfterResponse(Vec<u8>),
    /// As before; asks for the token, takes one packet, then sends these bytes.
    AfterToken(Vec<u8>),
}

/// The server. It reads on after its part and keeps the connection open.
pub(crate) struct ScriptedMysql {
    pub(crate) addr: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    /// Number of connections that are open.
    plays: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

/// What the server was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// In clear.
    pub(crate) clear: Vec<u8>,
    /// Payloads of `HandshakeResponses`.
    pub(crate) responses: Vec<Vec<u8>>,
    /// Inside TLS behind the `HandshakeResponse`.
    pub(crate) secret: Vec<u8>,
}

impl Drop for ScriptedMysql {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Capability flags of a greeting.
pub(crate) const SERVER_FLAGS: u32 = 0xdfff_ffff;

/// Payload of a greeting with these flags.
pub(crate) fn greeting(version: &str, flags: u32) -> Vec<u8> {
    let [low, low_2, high, high_2] = flags.to_le_bytes();
    let mut out = [b"\x0a", version.as_bytes(), b"\0\x2a\0\0\0abcdefgh\0"].concat();
    out.extend([low, low_2, 255, 2, 0, high, high_2, 21]);
    out.extend([0; 10]);
    out.extend(b"ijklmnopqrst\0caching_sha2_password\0");
    out
}

/// Payload of an OK.
pub(crate) const OK: &[u8] = b"\0\0\0\x02\0\0\0";

/// Payload of an ERR.
pub(crate) fn err(errno: u16, text: &str) -> Vec<u8> {
    [&[0xff][..], &errno.to_le_bytes(), b"#HY000", text.as_bytes()].concat()
}

impl ScriptedMysql {
    pub(crate) async fn start(ca: &Ca, part: Part) -> Self {
        let cert = ca.server(&[names::MYSQL_ENDPOINT_HOST]).unwrap();
        let acceptor = acceptor(&cert, false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Heard>>::default());
        let notes = Arc::clone(&heard);
        let (open, plays) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, part, notes) = (acceptor.clone(), part.clone(), Arc::clone(&notes));
                let open = open.clone();
                open.send_modify(|plays| *plays += 1);
                // A client that breaks off ends its part of the play.
                tokio::spawn(async move {
                    play(tcp, acceptor, part, notes).await.ok();
                    open.send_modify(|plays| *plays -= 1);
                });
            }
        });
        Self { addr, heard, plays, task }
    }

    /// All that the server was told, once the proxy has closed each connection: its refusal can reach the client before
    /// its last bytes reach the server.
    pub(crate) async fn heard_to_the_end(&self) -> Heard {
        self.plays.clone().wait_for(|plays| *plays == 0).await.unwrap();
        self.heard()
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }
}

async fn play(
    mut tcp: TcpStream,
    acceptor: TlsAcceptor,
    part: Part,
    heard: Arc<Mutex<Heard>>,
) -> std::io::Result<()> {
    let mut more = [0; 4_096];
    if let Part::Instead(bytes) = &part {
        let (mut from, mut to) = tcp.split();
        // Both at once: one who stops reading still gets heard.
        let say = async {
            let _ = to.write_all(bytes).await;
        };
        let hear = async {
            while let Ok(read @ 1..) = from.read(&mut more).await {
                heard.lock().unwrap().clear.extend_from_slice(&more[..read]);
            }
        };
        tokio::join!(say, hear);
        return Ok(());
    }
    tcp.write_all(&packet(0, &greeting("8.0.39", SERVER_FLAGS))).await?;
    let (number, request) = read_packet(&mut tcp).await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    assert_eq!((number, request.len()), (1, 32), "an SSLRequest");
    heard.lock().unwrap().clear.extend(request);
    let mut tls = acceptor.accept(tcp).await?;
    let (number, response) = read_packet(&mut tls).await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    assert_eq!(number, 2);
    heard.lock().unwrap().responses.push(response);
    let says = match part {
        Part::AfterResponse(says) => says,
        Part::AfterToken(says) => {
            tls.write_all(&packet(3, ASK_CLEAR)).await?;
            tls.flush().await?;
            let (_, token) = read_packet(&mut tls).await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            heard.lock().unwrap().secret.extend(token);
            says
        }
        Part::Instead(_) => unreachable!(),
    };
    let (mut from, mut to) = tokio::io::split(tls);
    let say = async {
        let _ = to.write_all(&says).await;
        let _ = to.flush().await;
    };
    let hear = async {
        while let Ok(read @ 1..) = from.read(&mut more).await {
            heard.lock().unwrap().secret.extend_from_slice(&more[..read]);
        }
    };
    tokio::join!(say, hear);
    Ok(())
}
