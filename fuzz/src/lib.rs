//! Helpers of all targets: a peer that sends given bytes in given pieces, and a runtime to meet it on.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pgpassport::net::socket::OverTcp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A peer that says `input` and closes. What is written to it is kept.
pub struct Scripted<'a> {
    input: &'a [u8],
    /// Decides how many bytes come at once and when nothing comes for a moment; 0 gives everything at once.
    cuts: u32,
    /// Bytes that were read.
    pub read: usize,
    /// Bytes that were written.
    pub written: Vec<u8>,
}

impl<'a> Scripted<'a> {
    pub fn new(input: &'a [u8], cuts: u8) -> Self {
        Self { input, cuts: u32::from(cuts), read: 0, written: Vec::new() }
    }

    /// The next number of a xorshift generator (Marsaglia, 2003).
    fn next(&mut self) -> usize {
        self.cuts ^= self.cuts << 13;
        self.cuts ^= self.cuts >> 17;
        self.cuts ^= self.cuts << 5;
        self.cuts as usize
    }
}

impl AsyncRead for Scripted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = match self.next() {
            0 => usize::MAX,
            n if n % 8 == 0 => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            n => 1 + n % 32,
        };
        let (now, later) = self.input.split_at(most.min(self.input.len()).min(buf.remaining()));
        buf.put_slice(now);
        self.read += now.len();
        self.input = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl OverTcp for Scripted<'_> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// Runs `future` to its end on this thread's runtime.
pub fn run<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: RefCell<Runtime> =
            RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
    }
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}

/// A listener's side of TLS, with a certificate of this process alone.
pub fn acceptor() -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::PrivateKeyDer;
    thread_local! {
        static ACCEPTOR: tokio_rustls::TlsAcceptor = {
            let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
            let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![issued.cert.der().clone()], key)
                .expect("a key for the certificate");
            config.alpn_protocols = vec![b"postgresql".to_vec()];
            std::sync::Arc::new(config).into()
        };
    }
    ACCEPTOR.with(Clone::clone)
}

/// Header of a MySQL packet at the beginning of `bytes`: length of the payload, and number.
pub fn mysql_header(bytes: &[u8]) -> Option<(usize, u8)> {
    let [low, middle, high, number] = *bytes.first_chunk()?;
    Some((usize::from(low) + 256 * usize::from(middle) + 65_536 * usize::from(high), number))
}

/// A MySQL packet of fewer than 16 MiB.
pub fn mysql_packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

/// Payload of a `HandshakeResponse` of MySQL with the flags that MySQL and MariaDB share, whose fields behind the charset
/// are `fields`.
pub fn mysql_response(flags: u32, fields: &[&[u8]]) -> Vec<u8> {
    [&flags.to_le_bytes()[..], b"\0\0\0\x01", &[45], &[0; 23], &fields.concat()].concat()
}
