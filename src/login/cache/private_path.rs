//! Files and folders that nobody else can read. A wider one is refused, not repaired: somebody may have read it.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::CacheError;

pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> CacheError {
    move |error| CacheError::Io { path: path.to_owned(), problem: error.to_string() }
}

/// Checks that a folder is the person's own and closed to others, or creates it so.
pub fn private_folder(path: &Path) -> Result<(), CacheError> {
    create_folder(path)
}

/// Creates the folder with mode 0700 unless it is there, and checks it.
pub(super) fn create_folder(path: &Path) -> Result<(), CacheError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io(path))?;
    check_folder(path)
}

/// Checks a folder that is there.
pub(super) fn check_folder(path: &Path) -> Result<(), CacheError> {
    let folder = fs::symlink_metadata(path).map_err(io(path))?;
    if !folder.is_dir() {
        return Err(CacheError::Io { path: path.to_owned(), problem: "this is not a folder".into() });
    }
    check(path, &folder, "chmod 700")
}

/// Opens a private file for reading; none when there is none. Symbolic links are not followed.
pub(super) fn open(path: &Path) -> Result<Option<File>, CacheError> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path)(error)),
    };
    let found = file.metadata().map_err(io(path))?;
    if !found.is_file() {
        return Err(CacheError::Io { path: path.to_owned(), problem: "this is not a file".into() });
    }
    check(path, &found, "chmod 600")?;
    Ok(Some(file))
}

/// Options for a file that this person alone can read.
pub(super) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    }
    options
}

#[cfg(unix)]
fn check(path: &Path, found: &Metadata, repair: &str) -> Result<(), CacheError> {
    use std::os::unix::fs::MetadataExt;
    let refuse = |problem: String, repair: String| {
        Err(CacheError::NotPrivate { path: path.to_owned(), problem, repair })
    };
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return refuse(
            format!("it belongs to another user (uid {})", found.uid()),
            format!("Run pgpassport as its owner, or remove {}.", path.display()),
        );
    }
    if found.mode() & 0o077 != 0 {
        return refuse(
            format!("its mode is {:04o} and others can use it", found.mode() & 0o7777),
            format!("Find out who has read it, run `pgpassport logout`, and `{repair} {}`.", path.display()),
        );
    }
    Ok(())
}

/// Windows: a person's profile folder is closed to others by its access control list, which new files inherit.
#[cfg(not(unix))]
fn check(_: &Path, _: &Metadata, _: &str) -> Result<(), CacheError> {
    Ok(())
}
