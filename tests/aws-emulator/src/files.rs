//! A scratch folder that goes away with its owner.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::EmulatorError;
use crate::encoding::{KEY_ID, random_text};

/// A folder with a random name in the system's temporary folder, deleted on drop.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes the folder. `mode` says who may look in: 0o700, or 0o755 when another user's server has to.
    pub fn new(purpose: &str, mode: u32) -> Result<Self, EmulatorError> {
        let name = format!("{purpose}-{}", random_text(KEY_ID, 10).to_lowercase());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(mode)
            .create(&path)
            .map_err(EmulatorError::io(format!("making the folder {}", path.display())))?;
        Ok(Self(path))
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the folder away: its new owner deletes it.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nothing can be done about a folder that will not go; the system cleans its temporary folder.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Writes a file that only its owner can read. It never has another mode, not even for a moment.
pub fn write_private(path: &Path, text: &str) -> Result<(), EmulatorError> {
    let doing = || EmulatorError::io(format!("writing {}", path.display()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(doing())?;
    file.write_all(text.as_bytes()).map_err(doing())
}

/// Writes a file that everyone may read.
pub fn write_public(path: &Path, text: &str) -> Result<(), EmulatorError> {
    fs::write(path, text).map_err(EmulatorError::io(format!("writing {}", path.display())))
}
