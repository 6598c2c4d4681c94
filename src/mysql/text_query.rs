//! Queries of the proxy's own on a server session, answered in text (MySQL Internals, "Text Resultset").

use tokio::io::{AsyncRead, AsyncWrite};

use super::capabilities::Capabilities;
use super::command::QUERY;
use super::limits::MAX_LOGIN_PACKET;
use super::packet::{Fields, Packet, Sequence, WireError};
use super::server_error::{ERR, LoginStep, ServerError};

/// Most columns of an answer.
const MAX_COLUMNS: u64 = 16;

/// Most rows of an answer. `SHOW GRANTS` has one for each object on which the user has privileges.
const MAX_ROWS: usize = 1_024;

/// First byte of the packet that ends columns or rows.
const END: u8 = 0xfe;

/// Values of a row, as text. NULL is `None`.
pub type Row = Vec<Option<String>>;

/// Reason why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server refused the query.
    #[error("the server refused with {0}")]
    Refused(Box<ServerError>),
    /// The answer is not a result set of the expected form and length.
    #[error("the server's answer is malformed: {0}")]
    Layout(&'static str),
    /// A protocol violation or connection error.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The rows of the answer to `sql`, which is one statement.
pub(super) async fn rows<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    capabilities: Capabilities,
    sql: &str,
) -> Result<Vec<Row>, QueryError> {
    let mut sequence = Sequence::default();
    sequence.write(stream, &query(capabilities, sql)).await?;
    let head = next(stream, &mut sequence).await?;
    // An OK packet begins with 0, and a request for a local file with 0xfb, which is no length.
    let columns = Fields::of(&head.payload).length().filter(|count| (1..=MAX_COLUMNS).contains(count));
    let columns = columns.ok_or(QueryError::Layout("number of columns"))?;
    for _ in 0..columns {
        next(stream, &mut sequence).await?;
    }
    if !capabilities.contains(Capabilities::DEPRECATE_EOF)
        && next(stream, &mut sequence).await?.kind() != Some(END)
    {
        return Err(QueryError::Layout("end of the columns"));
    }
    let mut rows = Vec::new();
    loop {
        let packet = next(stream, &mut sequence).await?;
        if packet.kind() == Some(END) {
            return Ok(rows);
        }
        if rows.len() == MAX_ROWS {
            return Err(QueryError::Layout("too many rows"));
        }
        rows.push(row(&packet.payload, columns).ok_or(QueryError::Layout("row"))?);
    }
}

fn row(payload: &[u8], columns: u64) -> Option<Row> {
    let mut fields = Fields::of(payload);
    let mut row = Row::new();
    for _ in 0..columns {
        row.push(if fields.rest().first() == Some(&0xfb) {
            fields.u8();
            None
        } else {
            Some(String::from_utf8_lossy(fields.with_length()?).into_owned())
        });
    }
    fields.rest().is_empty().then_some(row)
}

/// `COM_QUERY` in the form of the session's flags.
pub(super) fn query(capabilities: Capabilities, sql: &str) -> Vec<u8> {
    let none: &[u8] = if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
    [&[QUERY], none, sql.as_bytes()].concat()
}

/// The next packet of an answer that is no error.
async fn next<S: AsyncRead + Unpin>(stream: &mut S, sequence: &mut Sequence) -> Result<Packet, QueryError> {
    let packet = sequence.read(stream, MAX_LOGIN_PACKET).await?;
    if packet.kind() == Some(ERR) {
        let error = ServerError::parse(&packet.payload, LoginStep::Token)?;
        return Err(QueryError::Refused(Box::new(error)));
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const COLUMN: &[u8] = b"\x03def";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";

    async fn answered(capabilities: Capabilities, answer: &[&[u8]]) -> Result<Vec<Row>, QueryError> {
        let (mut ours, mut theirs) = duplex(1 << 20);
        let mut sequence = Sequence::default();
        sequence.skip();
        for packet in answer {
            sequence.write(&mut theirs, packet).await.unwrap();
        }
        let rows = rows(&mut ours, capabilities, "select").await;
        let mut asked = Sequence::default();
        assert_eq!(asked.read(&mut theirs, 100).await.unwrap().kind(), Some(QUERY));
        rows
    }

    #[tokio::test]
    async fn rows_are_read_in_both_forms() {
        let expected =
            vec![vec![Some("a".to_owned()), None], vec![Some(String::new()), Some("b".to_owned())]];
        let (first, second): (&[u8], &[u8]) = (b"\x01a\xfb", b"\0\x01b");
        let modern = [&[2][..], COLUMN, COLUMN, first, second, b"\xfe\0\0\x02\0\0\0"];
        assert_eq!(answered(Capabilities::COMMON, &modern).await.unwrap(), expected);
        let classic = [&[2][..], COLUMN, COLUMN, EOF, first, second, EOF];
        let flags =
            Capabilities::from_bits(Capabilities::COMMON.bits() & !Capabilities::DEPRECATE_EOF.bits());
        assert_eq!(answered(flags, &classic).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn an_answer_of_another_form_is_an_error() {
        let common = Capabilities::COMMON;
        let error: &[u8] = b"\xff\x17\x04#08S01no";
        for answer in [&[error][..], &[b"\x01", error], &[b"\x01", COLUMN, b"\x01a", error]] {
            assert!(matches!(answered(common, answer).await, Err(QueryError::Refused(_))), "{answer:?}");
        }
        // OK, a request for a file, 17 columns, rows with too few and too many values.
        for answer in [
            &[&b"\0\0\0\x02\0\0\0"[..]][..],
            &[b"\xfb/etc/passwd"],
            &[b"\x11"],
            &[b"\x01", COLUMN, b""],
            &[b"\x01", COLUMN, b"\x01a\x01b"],
            &[b"\x01", COLUMN, b"\x02a"],
        ] {
            assert!(matches!(answered(common, answer).await, Err(QueryError::Layout(_))), "{answer:?}");
        }
        let mut many = vec![&b"\x01"[..], COLUMN];
        many.extend(std::iter::repeat_n(&b"\x01a"[..], MAX_ROWS));
        let whole: Vec<_> = many.iter().copied().chain([EOF]).collect();
        assert_eq!(answered(common, &whole).await.unwrap().len(), MAX_ROWS);
        many.push(b"\x01a");
        assert!(matches!(answered(common, &many).await, Err(QueryError::Layout(_))));
    }
}
