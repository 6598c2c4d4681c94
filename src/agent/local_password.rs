//! The local password of a profile: random, the same over restarts, in a file that its owner alone can read. It is good for
//! the loopback port of the agent and for nothing else.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::fcntl::OFlag;

use crate::names::random_bytes;
use crate::secret::Secret;

/// Shortest and longest password, in characters. A new one has 22, which are 128 random bits.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// A local password.
#[derive(Debug)]
pub struct LocalPassword(Secret<String>);

/// Reasons why there is no local password.
#[derive(Debug, thiserror::Error)]
pub enum LocalPasswordError {
    /// The file or its folder cannot be read or written.
    #[error("{}: {problem}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        problem: io::Error,
    },
    /// Others can use it, or it belongs to somebody else. It is not repaired: it may have been read.
    #[error("{}: {problem}", path.display())]
    NotPrivate {
        /// The path.
        path: PathBuf,
        /// The reason and the remedy.
        problem: String,
    },
    /// The content is not a password of this program.
    #[error("{}: this is no local password; remove the file to get a new one", .0.display())]
    Damaged(PathBuf),
}

impl LocalPassword {
    /// The password of `profile` in `folder`; a new one if there is none. Two processes that make one at the same time get
    /// the same.
    pub fn of(folder: &Path, profile: &str) -> Result<Self, LocalPasswordError> {
        private_folder(folder)?;
        let path = folder.join(format!("{profile}.password"));
        match read(&path)? {
            Some(password) => Ok(password),
            None => create(folder, &path),
        }
    }

    /// The password itself, for its owner and for the verifier.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> LocalPasswordError {
    move |problem| LocalPasswordError::Io { path: path.to_owned(), problem }
}

/// Creates the folder with mode 0700 unless it is there, and checks that it is its owner's alone.
pub fn private_folder(path: &Path) -> Result<(), LocalPasswordError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
    let found = fs::symlink_metadata(path).map_err(failed(path))?;
    if !found.is_dir() {
        return Err(failed(path)(io::ErrorKind::NotADirectory.into()));
    }
    check(path, &found)
}

fn check(path: &Path, found: &Metadata) -> Result<(), LocalPasswordError> {
    let refuse = |problem: String| Err(LocalPasswordError::NotPrivate { path: path.to_owned(), problem });
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return refuse(format!("it belongs to another user (uid {})", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o7777;
        return refuse(format!("its mode is {mode:04o} and others can use it; remove it to get a new one"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<LocalPassword>, LocalPasswordError> {
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    check(path, &file.metadata().map_err(failed(path))?)?;
    let mut text = String::new();
    File::take(file, 1_024).read_to_string(&mut text).map_err(failed(path))?;
    let text = Secret::new(text);
    let password = text.expose().trim_end();
    if !LENGTHS.contains(&password.len()) || !password.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LocalPasswordError::Damaged(path.to_owned()));
    }
    Ok(Some(LocalPassword(Secret::new(password.to_owned()))))
}

/// Writes a whole file beside `path` and links it there, so that nobody reads half of one.
fn create(folder: &Path, path: &Path) -> Result<LocalPassword, LocalPasswordError> {
    let password = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<16>()));
    let draft = folder.join(format!(".{}", URL_SAFE_NO_PAD.encode(random_bytes::<9>())));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed(&draft))?;
    let written =
        file.write_all(format!("{}\n", password.expose()).as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft).map_err(failed(&draft))?;
    match linked {
        Ok(()) => Ok(LocalPassword(password)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| failed(path)(io::ErrorKind::NotFound.into()))
        }
        Err(error) => Err(failed(path)(error)),
    }
}

#[cfg(test)]
mod tests;
