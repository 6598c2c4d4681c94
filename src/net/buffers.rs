//! Buffers for relayed bytes. Each thread keeps a few and lends them while bytes are in transit, so that idle
//! sessions hold none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::socket::OverTcp;
use std::future::poll_fn;

/// Size of a buffer, four full TLS records. COPY used 5 % less CPU than with half of it.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Most buffers a thread keeps. Each active direction uses two, and a thread runs one task at a time.
const MAX_KEPT: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed buffer and the bytes in it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer of [`BUFFER_BYTES`].
    pub fn take() -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        let bytes = kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Self { bytes, start: 0, end: 0 }
    }

    /// A buffer that contains `bytes`.
    pub fn holding(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), start: 0, end: bytes.len() }
    }

    /// The bytes in the buffer.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Removes the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Appends the bytes of one read. Ready with 0 at the reader's end and if the buffer is full.
    pub fn poll_fill<R>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        let mut space = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        Pin::new(reader).poll_read(cx, &mut space).map_ok(|()| {
            let read = space.filled().len();
            self.end += read;
            read
        })
    }

    /// True if no bytes can be added.
    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() != BUFFER_BYTES {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        // Another session will borrow it. Overwriting only the used part costs nothing for a query.
        if let Some(used) = bytes.get_mut(..self.end) {
            used.fill(0);
        }
        // At the thread's end its store is gone; the buffer is then freed.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MAX_KEPT {
                kept.push(bytes);
            }
        });
    }
}

/// A connection that reads ahead. TLS reads 4 KiB at a time, which would cost a system call each. The reader
/// has to own the connection, because bytes that were read ahead are stored here.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    ahead: Option<Buffer>,
}

impl<S> ReadAhead<S> {
    /// Reads ahead from `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: None }
    }

    /// The underlying connection.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The underlying connection, for replacing it with another one to the same peer.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// True if no bytes are read ahead.
    pub fn is_empty(&self) -> bool {
        self.ahead.is_none()
    }
}

impl<S: OverTcp> OverTcp for ReadAhead<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.stream.tcp()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = match self.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let mut buffer = Buffer::take();
                match buffer.poll_fill(cx, &mut self.stream) {
                    Poll::Ready(Ok(_)) => buffer,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        let wanted = buffer.filled();
        let wanted = wanted.get(..space.remaining()).unwrap_or(wanted);
        space.put_slice(wanted);
        let count = wanted.len();
        buffer.consume(count);
        self.ahead = Some(buffer).filter(|buffer| !buffer.filled().is_empty());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one), // the kernel's shorter way
            several => Pin::new(&mut self.stream).poll_write_vectored(cx, several),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// True if the peer has already sent more than what was read. Checked before a TLS handshake: plaintext bytes
/// before the handshake must never be taken for encrypted ones (the class of CVE-2021-23214). Consumes the
/// bytes it finds, so the connection has to end if the answer is true.
pub async fn has_early_bytes<R: AsyncRead + Unpin>(reader: &mut R) -> bool {
    let mut byte = [0; 1];
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(!buffer.filled().is_empty()),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(false),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn kept() -> usize {
        KEPT.with(|kept| kept.borrow().len())
    }

    #[test]
    fn buffers_come_back_empty_and_not_without_end() {
        let mut first = Buffer::take();
        first.bytes[..6].copy_from_slice(b"secret");
        first.end = 6;
        drop(first);
        assert_eq!(kept(), 1);
        let again = Buffer::take();
        assert!(again.filled().is_empty() && again.bytes.iter().all(|byte| *byte == 0));
        drop(again);
        drop((0..=MAX_KEPT).map(|_| Buffer::take()).collect::<Vec<_>>());
        assert_eq!(kept(), MAX_KEPT);
        drop(Buffer::holding(b"of another size"));
        assert!(Buffer::take().is_full() == (BUFFER_BYTES == 0) && kept() == MAX_KEPT);
    }

    #[tokio::test]
    async fn what_was_read_ahead_arrives_and_an_idle_reader_holds_nothing() {
        let (ours, mut theirs) = duplex(100);
        let mut reader = ReadAhead::new(ours);
        theirs.write_all(b"0123456789").await.unwrap();
        let mut three = [0; 3];
        reader.read_exact(&mut three).await.unwrap();
        assert!(&three == b"012" && reader.ahead.is_some());
        let mut seven = [0; 7];
        reader.read_exact(&mut seven).await.unwrap();
        assert!(&seven == b"3456789" && reader.ahead.is_none());
        assert!(!has_early_bytes(&mut reader).await && reader.ahead.is_none());
        drop(theirs);
        assert_eq!(reader.read(&mut three).await.unwrap(), 0);
    }
}
