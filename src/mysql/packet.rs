//! Packets of the login: reads exactly one and buffers nothing after it, so that neither the TLS handshake nor the
//! relay inherits bytes. Parsing is bounded and cannot panic.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

use super::limits::MAX_PAYLOAD;
use crate::net::tls_error;

/// Bytes of a packet's header: 3 bytes of length, little-endian, and a sequence number.
pub const HEADER: usize = 4;

/// Reason why a packet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed the connection between two packets.
    #[error("the peer closed the connection")]
    Closed,
    /// The payload is longer than this packet may be.
    #[error("a packet has an impossible length of {0}")]
    Length(usize),
    /// The packet is out of order.
    #[error("a packet has sequence number {got} instead of {expected}")]
    Sequence {
        /// The number that was due.
        expected: u8,
        /// The number of the packet.
        got: u8,
    },
    /// A packet of this kind is not allowed here.
    #[error("unexpected packet 0x{0:02x}")]
    Unexpected(u8),
    /// The payload violates the protocol.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The socket failed.
    #[error("{}", tls_error::describe(.0))]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl WireError {
    /// True if the peer closed, also without a TLS `close_notify` or by reset.
    pub fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Closed => true,
            Self::Io(error) => {
                matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
            }
            _ => false,
        }
    }
}

/// A packet. Its payload may be a secret: it is printed as a length and zeroized on drop.
pub struct Packet {
    /// Sequence number.
    pub sequence: u8,
    /// Everything after the header.
    pub payload: Vec<u8>,
}

impl Packet {
    /// The first byte, which says what the packet is; `None` for an empty payload.
    pub fn kind(&self) -> Option<u8> {
        self.payload.first().copied()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        self.payload.zeroize();
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet {} with {} bytes", self.sequence, self.payload.len())
    }
}

/// The packets of a login on one connection. Both sides count in one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence(u8);

impl Sequence {
    /// The number of the next packet of either side.
    pub fn next(self) -> u8 {
        self.0
    }

    /// The sequence behind a greeting and a request for TLS.
    pub fn within_tls() -> Self {
        Self(2)
    }

    /// Counts a packet that is read by other means, and returns its number.
    pub fn skip(&mut self) -> u8 {
        self.advance()
    }

    fn advance(&mut self) -> u8 {
        let number = self.0;
        self.0 = number.wrapping_add(1);
        number
    }

    /// Reads the next packet, whose payload has at most `cap` bytes. Length and number are checked before anything is
    /// allocated.
    pub async fn read<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cap: usize,
    ) -> Result<Packet, WireError> {
        let (length, sequence) = self.read_header(reader, cap).await?;
        let mut packet = Packet { sequence, payload: vec![0; length] };
        reader.read_exact(&mut packet.payload).await?;
        Ok(packet)
    }

    /// Reads the next packet's header.
    pub async fn read_header<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cap: usize,
    ) -> Result<(usize, u8), WireError> {
        let mut header = [0; HEADER];
        let read = reader.read(&mut header).await?;
        if read == 0 {
            return Err(WireError::Closed);
        }
        if let Some(rest) = header.get_mut(read..) {
            reader.read_exact(rest).await?;
        }
        let (length, got) = split_header(header);
        let expected = self.advance(); // whatever comes next is behind this packet
        if length > cap.min(MAX_PAYLOAD - 1) {
            return Err(WireError::Length(length));
        }
        if got != expected {
            return Err(WireError::Sequence { expected, got });
        }
        Ok((length, got))
    }

    /// Writes the next packet and flushes it. The copy is zeroized, because the payload may be a secret.
    pub async fn write<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        payload: &[u8],
    ) -> Result<(), WireError> {
        let packet = Zeroizing::new(packet(self.advance(), payload));
        writer.write_all(&packet).await?;
        writer.flush().await?;
        Ok(())
    }
}

/// Length and sequence number in a header.
pub fn split_header([low, middle, high, sequence]: [u8; HEADER]) -> (usize, u8) {
    (usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16, sequence)
}

/// Encodes a complete packet. Callers stay far below [`MAX_PAYLOAD`].
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len().min(MAX_PAYLOAD)).unwrap_or(u32::MAX);
    let [low, middle, high, _] = length.to_le_bytes();
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&[low, middle, high, sequence]);
    out.extend_from_slice(payload);
    out
}

/// The fields of a payload, read from its beginning. Each method returns `None` when the payload is too short.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `payload`.
    pub fn of(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The unread rest.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes a byte.
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*taken))
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*taken))
    }

    /// A string that ends with a NUL, without it.
    pub fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }

    /// A string that ends with a NUL or with the payload. Some clients leave out the last NUL.
    pub fn until_nul_or_end(&mut self) -> &'a [u8] {
        self.until_nul().unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    /// A length-encoded integer (MySQL Internals, "`Protocol::LengthEncodedInteger`").
    pub fn length(&mut self) -> Option<u64> {
        let width = match self.u8()? {
            small @ ..=0xfa => return Some(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xfb | 0xff => return None,
        };
        let mut wide = [0; 8];
        wide.iter_mut().zip(self.bytes(width)?).for_each(|(to, from)| *to = *from);
        Some(u64::from_le_bytes(wide))
    }

    /// A length-encoded string.
    pub fn with_length(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length()?).ok()?;
        self.bytes(length)
    }
}

/// Appends a length-encoded integer.
pub fn put_length(value: usize, out: &mut Vec<u8>) {
    let wide = u64::try_from(value).unwrap_or(u64::MAX).to_le_bytes();
    let (mark, width) = match value {
        ..=0xfa => (None, 1),
        0xfb..=0xffff => (Some(0xfc), 2),
        0x1_0000..=0xff_ffff => (Some(0xfd), 3),
        _ => (Some(0xfe), 8),
    };
    out.extend(mark);
    out.extend(wide.iter().take(width));
}

/// Appends a length-encoded string.
pub fn put_with_length(text: &[u8], out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn read(expected: u8, bytes: &[u8]) -> Result<Packet, WireError> {
        let (mut ours, mut theirs) = duplex(3);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { theirs.write_all(&bytes).await });
        let result = Sequence(expected).read(&mut ours, 10).await;
        drop(ours);
        let _ = writer.await;
        result
    }

    #[tokio::test]
    async fn lengths_and_numbers_are_judged_before_reading() {
        let at_cap = read(7, b"\x0a\0\0\x070123456789").await.unwrap();
        assert_eq!((at_cap.sequence, &at_cap.payload[..]), (7, &b"0123456789"[..]));
        for (header, length) in
            [(*b"\x0b\0\0", 11), (*b"\0\x01\0", 256), (*b"\0\0\x01", 65_536), ([0xff; 3], 0xff_ffff)]
        {
            let error = read(0, &[&header[..], b"\0"].concat()).await.unwrap_err();
            assert!(matches!(error, WireError::Length(l) if l == length), "{error}");
        }
        let error = read(1, b"\x01\0\0\x02x").await.unwrap_err();
        assert!(matches!(error, WireError::Sequence { expected: 1, got: 2 }), "{error}");
        assert!(matches!(read(0, b"").await, Err(WireError::Closed)));
        assert!(matches!(read(0, b"\x02\0").await, Err(WireError::Io(_))));
        assert!(read(0, b"\x02\0\0\0x").await.unwrap_err().is_gone());
        assert_eq!(read(0, b"\0\0\0\0").await.unwrap().kind(), None);
    }

    #[tokio::test]
    async fn numbers_go_on_over_both_directions_and_wrap() {
        let (mut ours, mut theirs) = duplex(64);
        let mut sequence = Sequence(255);
        sequence.write(&mut ours, b"a").await.unwrap();
        let mut sent = [0; 5];
        theirs.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"\x01\0\0\xffa");
        theirs.write_all(b"\x01\0\0\0b").await.unwrap();
        assert_eq!(sequence.read(&mut ours, 10).await.unwrap().payload, b"b");
        assert_eq!(sequence.next(), 1);
    }

    #[test]
    fn l2_a_packet_prints_no_payload() {
        let packet = Packet { sequence: 3, payload: b"hunter2".to_vec() };
        assert_eq!(format!("{packet:?}"), "packet 3 with 7 bytes");
    }

    #[test]
    fn length_encoded_integers_have_the_widths_of_the_manual() {
        for (value, bytes) in [
            (0_usize, &b"\0"[..]),
            (250, b"\xfa"),
            (251, b"\xfc\xfb\0"),
            (65_535, b"\xfc\xff\xff"),
            (65_536, b"\xfd\0\0\x01"),
            (0xff_ffff, b"\xfd\xff\xff\xff"),
            (0x100_0000, b"\xfe\0\0\0\x01\0\0\0\0"),
        ] {
            let mut out = Vec::new();
            put_length(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(Fields::of(bytes).length(), u64::try_from(value).ok());
        }
        for bad in [&b""[..], b"\xfb", b"\xff", b"\xfc\0", b"\xfd\0\0", b"\xfe\0\0\0\0\0\0\0"] {
            assert_eq!(Fields::of(bad).length(), None, "{bad:?}");
        }
        assert_eq!(Fields::of(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffx").with_length(), None);
    }

    #[test]
    fn strings_end_where_they_say() {
        let mut fields = Fields::of(b"ab\0cd");
        assert_eq!(fields.until_nul(), Some(&b"ab"[..]));
        assert_eq!(fields.until_nul(), None);
        assert_eq!(fields.until_nul_or_end(), b"cd");
        assert_eq!(fields.rest(), b"");
        assert_eq!((fields.u8(), fields.u16(), fields.u32()), (None, None, None));
    }

    proptest! {
        #[test]
        fn a_string_is_read_as_it_was_written(text in prop::collection::vec(any::<u8>(), 0..700), rest in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut out = Vec::new();
            put_with_length(&text, &mut out);
            out.extend(&rest);
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.with_length(), Some(&text[..]));
            prop_assert_eq!(fields.rest(), &rest[..]);
        }
    }
}
