//! The cache as a file, mode 0600 in a folder of mode 0700, replaced as a whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::private_path::{check_folder, io, open, private_options};
use super::{CacheError, MAX_RECORD_BYTES};

#[derive(Debug)]
pub(super) struct CacheFile {
    path: PathBuf,
}

impl CacheFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The content; none when there is no file.
    pub(super) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        match fs::symlink_metadata(self.folder()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            _ => check_folder(self.folder())?,
        }
        let Some(file) = open(&self.path)? else { return Ok(None) };
        let limit = u64::try_from(MAX_RECORD_BYTES).unwrap_or(u64::MAX);
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_RECORD_BYTES));
        file.take(limit).read_to_end(&mut text).map_err(io(&self.path))?;
        Ok(Some(text))
    }

    /// Puts `text` in the place of the content. After a crash the file has the old content or the new one. The caller
    /// holds the lock, so that one process at a time writes the file beside it.
    pub(super) fn replace(&self, text: &[u8]) -> Result<(), CacheError> {
        check_folder(self.folder())?;
        drop(open(&self.path)?); // a wider file is refused, although it would be replaced
        let new = self.path.with_extension("json.new");
        remove(&new)?; // of a process that was killed
        let written = self.write_new(&new, text);
        if written.is_err() {
            let _ = remove(&new); // the reason is told
        }
        written
    }

    fn write_new(&self, new: &Path, text: &[u8]) -> Result<(), CacheError> {
        let mut file = private_options().create_new(true).open(new).map_err(io(new))?;
        file.write_all(text).and_then(|()| file.sync_all()).map_err(io(new))?;
        drop(file);
        fs::rename(new, &self.path).map_err(io(&self.path))?;
        sync_folder(self.folder())
    }

    pub(super) fn delete(&self) -> Result<(), CacheError> {
        remove(&self.path.with_extension("json.new"))?;
        remove(&self.path)?;
        sync_folder(self.folder())
    }
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

/// Makes a rename last over a crash of the machine. Windows has no such call and needs none.
fn sync_folder(path: &Path) -> Result<(), CacheError> {
    if cfg!(unix) { File::open(path).and_then(|folder| folder.sync_all()).map_err(io(path)) } else { Ok(()) }
}
