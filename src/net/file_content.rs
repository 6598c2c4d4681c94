//! Content of the files that a configuration names. `env:NAME` in the place of a path is the content of a variable of the
//! environment, for containers without files.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::variable_of;

/// Reads the whole content.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Reads the whole content, which has to be UTF-8.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut content = Zeroizing::new(String::new());
    open(path)?.read_to_string(&mut content)?;
    Ok(content)
}

/// Opens the file or the variable.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let Some(name) = variable_of(path) else { return Ok(Box::new(File::open(path)?)) };
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let absent = || io::Error::new(io::ErrorKind::NotFound, "this variable of the environment is not set");
    let value = with_lines(Zeroizing::new(value.ok_or_else(absent)?.into_vec()));
    Ok(Box::new(Cursor::new(Content(value))))
}

/// Bytes that are overwritten when they are dropped.
struct Content(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Some stores of secrets write `\n` for the end of a line. A text without any line break has them replaced.
fn with_lines(text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if text.contains(&b'\n') || !text.windows(2).any(|pair| pair == br"\n") {
        return text;
    }
    let mut lines = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next_if_eq(&b'n').is_some() {
            lines.push(b'\n');
        } else {
            lines.push(byte);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_line_breaks_are_line_breaks_where_there_are_no_others() {
        for (text, lines) in [
            (r"a\nb\n", "a\nb\n"),
            ("a\\nb\n", "a\\nb\n"),
            (r"a\tb", r"a\tb"),
            (r"a\\nb", "a\\\nb"),
            ("", ""),
        ] {
            let read = with_lines(Zeroizing::new(text.as_bytes().to_vec()));
            assert_eq!(String::from_utf8_lossy(&read), lines, "{text}");
        }
    }

    #[test]
    fn a_variable_is_read_like_a_file() {
        let path = read_text(Path::new("env:PATH")).unwrap();
        assert_eq!(path.as_str(), std::env::var("PATH").unwrap());
        let error = read(Path::new("env:PGPASSPORT_NO_SUCH_VARIABLE")).unwrap_err();
        assert_eq!(error.to_string(), "this variable of the environment is not set");
    }
}
