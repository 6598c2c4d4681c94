//! Rows of an answer, encoded where they are made, so that the session thread only writes bytes.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::data::{FieldDescription, RowDescription};

use crate::postgres::message::RawMessage;

/// Most rows of an answer.
pub(super) const MAX_ROWS: usize = 10_000;

/// Most bytes of an answer's rows.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// OIDs of `int8` and `text` (PostgreSQL, `pg_type.dat`).
const INT8: u32 = 20;
const TEXT: u32 = 25;

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`
    Text,
    /// `int8`
    Number,
}

/// A column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: ColumnType,
}

impl Column {
    /// A column of texts.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: ColumnType::Text }
    }

    /// A column of numbers.
    pub const fn number(name: &'static str) -> Self {
        Self { name, kind: ColumnType::Number }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// A number, for a column of numbers.
    Number(i64),
    /// A text.
    Text(Cow<'static, str>),
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Formats of the columns of an answer, as a client asks for them: true for binary. Empty for text, one for all columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultFormats(pub(super) Vec<bool>);

impl ResultFormats {
    fn is_binary(&self, column: usize) -> bool {
        match self.0.as_slice() {
            [] => false,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(false),
        }
    }

    /// True if there is no format, one, or one for each of `columns`.
    pub(super) fn fit(&self, columns: usize) -> bool {
        self.0.len() <= 1 || self.0.len() == columns
    }
}

/// `RowDescription` of an answer.
pub(super) fn description(columns: &[Column], formats: &ResultFormats) -> RowDescription {
    let field = |(at, column): (usize, &Column)| {
        let (oid, size) = match column.kind {
            ColumnType::Text => (TEXT, -1),
            ColumnType::Number => (INT8, 8),
        };
        let format = i16::from(formats.is_binary(at));
        FieldDescription::new(column.name.to_owned(), 0, 0, oid, size, -1, format)
    };
    RowDescription::new(columns.iter().enumerate().map(field).collect())
}

/// Encoder of the rows of one answer.
#[derive(Debug)]
pub struct RowEncoder {
    columns: &'static [Column],
    formats: ResultFormats,
    bytes: BytesMut,
    rows: usize,
    left_out: usize,
}

impl RowEncoder {
    /// Without rows.
    pub fn new(columns: &'static [Column], formats: ResultFormats) -> Self {
        Self { columns, formats, bytes: BytesMut::new(), rows: 0, left_out: 0 }
    }

    /// Appends a row. A row beyond the limits is counted and left out.
    pub fn push(&mut self, cells: &[Cell]) {
        if self.rows >= MAX_ROWS || self.bytes.len() >= MAX_BYTES {
            self.left_out += 1;
            return;
        }
        let mut body = i16::try_from(self.columns.len()).unwrap_or(i16::MAX).to_be_bytes().to_vec();
        for (at, column) in self.columns.iter().enumerate() {
            let binary = self.formats.is_binary(at);
            match (column.kind, cells.get(at)) {
                (_, None | Some(Cell::Null)) => body.extend((-1_i32).to_be_bytes()),
                (ColumnType::Number, Some(Cell::Number(number))) if binary => {
                    value(&mut body, &number.to_be_bytes());
                }
                (_, Some(Cell::Number(number))) => value(&mut body, number.to_string().as_bytes()),
                (_, Some(Cell::Text(text))) => value(&mut body, text.replace('\0', " ").as_bytes()),
            }
        }
        RawMessage { tag: b'D', body }.encode_into(&mut self.bytes);
        self.rows += 1;
    }

    /// The rows, and the number of those that were left out.
    pub fn finish(self) -> (Rows, usize) {
        (Rows(self.bytes.freeze()), self.left_out)
    }
}

fn value(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes()); // MAX_BYTES is far below
    body.extend(bytes);
}

/// Encoded rows.
#[derive(Debug, Default)]
pub struct Rows(Bytes);

impl Rows {
    /// Bytes of the rows.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    /// All rows.
    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Takes the first `max` rows, or all for 0, and says whether there are more.
    pub(super) fn take(&mut self, max: usize) -> (Bytes, bool) {
        let mut rest = self.0.clone();
        let mut taken = 0;
        while !rest.is_empty() && (max == 0 || taken < max) {
            let length =
                rest.get(1..5).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes);
            rest.advance(usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1).min(rest.len()));
            taken += 1;
        }
        let part = self.0.split_to(self.0.len() - rest.len());
        (part, !self.0.is_empty())
    }
}
