//! The file of a Unix socket: made with its mode and group before clients can connect, put in the place of one that a killed
//! process has left behind, and removed when the service stops.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::UnixSocketSettings;
use crate::net::allowed_peers::group_id;

/// Tries to lock the directory, and the pause between two. Another process holds the lock while it makes its socket.
const LOCK_TRIES: usize = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The file of a socket, removed on drop unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Reason why a socket file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketFileError {
    /// The directory is absent or cannot be read.
    #[error("directory {folder}: {problem}", folder = .0.display(), problem = .1)]
    Folder(PathBuf, io::Error),
    /// Others could replace the socket by their own, and receive tokens.
    #[error(
        "directory {} is writable for other users, who could put a socket of their own there and receive tokens; run chmod \
         go-w, or choose another directory",
        .0.display()
    )]
    OpenFolder(PathBuf),
    /// Another user owns the directory.
    #[error(
        "directory {folder} belongs to uid {uid}, and not to root or to the user that runs pgpassport",
        folder = .folder.display()
    )]
    ForeignFolder {
        /// The directory.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A live process has the socket.
    #[error("another process listens on {}", .0.display())]
    InUse(PathBuf),
    /// The path names something else.
    #[error("{} exists and is no socket; remove it, or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The group does not exist.
    #[error("listen.socket_group: this machine has no group {0:?}")]
    Group(String),
    /// The group cannot be set.
    #[error(
        "the socket cannot be given to group {0:?}: {1}; the user that runs pgpassport has to be a member of it"
    )]
    Chown(String, io::Error),
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SocketFile {
    /// Listens at `path`. Nobody can connect before mode and group are set.
    pub(super) fn listen(
        path: &Path,
        settings: &UnixSocketSettings,
        backlog: i32,
    ) -> Result<(UnixListener, Self), SocketFileError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        check_folder(folder)?;
        let _lock = lock(folder).map_err(|error| SocketFileError::Folder(folder.to_owned(), error))?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let made = fs::symlink_metadata(path)?;
        let file = Self { path: path.to_owned(), id: (made.dev(), made.ino()) };
        // Until it listens, every connect is refused.
        fs::set_permissions(path, Permissions::from_mode(settings.mode))?;
        if let Some(group) = &settings.group {
            let id = group_id(group).ok_or_else(|| SocketFileError::Group(group.clone()))?;
            chown(path, None, Some(id)).map_err(|error| SocketFileError::Chown(group.clone(), error))?;
        }
        socket.listen(backlog)?;
        Ok((socket.into(), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.id) {
            let _ = fs::remove_file(&self.path); // the next process would do it
        }
    }
}

/// Refuses a directory in which other users could replace the socket.
fn check_folder(folder: &Path) -> Result<(), SocketFileError> {
    let failed = |error| SocketFileError::Folder(folder.to_owned(), error);
    let found = fs::metadata(folder).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(SocketFileError::OpenFolder(folder.to_owned()));
    }
    if found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return Err(SocketFileError::ForeignFolder { folder: folder.to_owned(), uid: found.uid() });
    }
    Ok(())
}

/// Locks the directory, so that two processes that start at the same time do not take each other's socket for a stale one.
/// A process that holds the lock for long cannot keep the service from starting.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(file)
}

/// Removes a socket on which nobody listens.
fn remove_stale(path: &Path) -> Result<(), SocketFileError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(SocketFileError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // Does not wait: a full queue has a process that listens.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "a socket that a former process left behind is replaced");
            fs::remove_file(path)?;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.into()),
        Ok(()) | Err(_) => Err(SocketFileError::InUse(path.to_owned())),
    }
}
