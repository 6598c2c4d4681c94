//! Headers of requests to the collector, which may hold a key.

use std::path::{Path, PathBuf};

use hyper::header::{HeaderName, HeaderValue};

use crate::net::file_content;

/// Reason why the headers cannot be used. It repeats no value.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The file cannot be read.
    #[error("{path}: {fault}", path = .0.display(), fault = .1)]
    Io(PathBuf, std::io::Error),
    /// A line is no header.
    #[error("{path}, line {line}: write one header a line, as in \"Authorization: Bearer …\"", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
    /// The exporter sets this header itself.
    #[error("{path}, line {line}: this header cannot be set", path = .path.display())]
    Own {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
}

/// Headers that belong to the request itself.
const OWN: [&str; 6] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"];

/// Reads headers, one a line. Empty lines are skipped.
pub(super) fn read(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, HeadersError> {
    let text = file_content::read_text(path).map_err(|error| HeadersError::Io(path.to_owned(), error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| header(path, number + 1, line)).collect()
}

fn header(path: &Path, number: usize, line: &str) -> Result<(HeaderName, HeaderValue), HeadersError> {
    let wrong = || HeadersError::Line { path: path.to_owned(), line: number };
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    if OWN.contains(&name.as_str()) {
        return Err(HeadersError::Own { path: path.to_owned(), line: number });
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn headers_are_read_and_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path)
        };
        let headers = read("Authorization: Bearer s3cret\n\n x-team : db \n").unwrap();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["authorization", "x-team"]);
        assert!(!format!("{headers:?}").contains("s3cret"), "{headers:?}");
        for (text, told) in [
            ("s3cret", "line 1: write one header a line"),
            ("\na b: s3cret", "line 2: write"),
            ("x: s3\u{1}cret", "line 1: write"),
            ("Content-Type: s3cret", "cannot be set"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("s3cret"), "{error}");
        }
    }
}
