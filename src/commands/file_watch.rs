//! Changes of the files that a configuration names, found by their metadata: renewed certificates of cert-manager or
//! certbot, and Kubernetes Secrets, whose files lead through a link `..data` that is replaced as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, NamedFile, WatchScope};

/// Files that are looked at, and their state at the last look that was acted upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WatchedFiles(Vec<(PathBuf, Option<FileState>)>);

/// Metadata of a file behind all links. A file that is replaced, written or moved has another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// `None` for a file that cannot be found.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// True for files that a reload reads again. Audit records and the cancel secret are opened at the start.
fn is_reloaded(file: &NamedFile) -> bool {
    !matches!(file.section(), "audit" | "cancel")
}

impl WatchedFiles {
    /// The state of the files of `config` now; of none where they are not watched. Blocks.
    pub(super) fn of(config: &Config) -> Self {
        let mut paths: Vec<PathBuf> = match config.reload.watch {
            WatchScope::Off => return Self::default(),
            WatchScope::Files => Vec::new(),
            WatchScope::All => vec![config.file.clone()],
        };
        paths.extend(config.files.iter().filter(|file| is_reloaded(file)).map(|file| file.path.clone()));
        paths.sort_unstable();
        paths.dedup();
        Self(paths.into_iter().map(|path| (path.clone(), FileState::of(&path))).collect())
    }

    /// The same files, each with its state in `before`, where it is known: what changed in between is a change.
    pub(super) fn with_first_states_of(self, before: &Self) -> Self {
        let first = |(path, state): (PathBuf, Option<FileState>)| {
            let known = before.0.iter().find(|(known, _)| *known == path).map(|(_, known)| *known);
            (path, known.unwrap_or(state))
        };
        Self(self.0.into_iter().map(first).collect())
    }

    /// The files whose state differs from the one in `other`.
    pub(super) fn changed_since(&self, other: &Self) -> Vec<PathBuf> {
        let differs = |(path, state): &&(PathBuf, Option<FileState>)| {
            other.0.iter().find(|(known, _)| known == path).is_none_or(|(_, known)| known != state)
        };
        self.0.iter().filter(differs).map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn replaced_written_and_relinked_files_are_changes_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "same bytes").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        fs::write(at("tls.key"), "key").unwrap();
        let text = include_str!("../../proxy.toml")
            .replace("/etc/pgpassport/server.crt", at("tls.crt").to_str().unwrap())
            .replace("/etc/pgpassport/server.key", at("tls.key").to_str().unwrap());
        let config = Config::from_toml(&text, at("proxy.toml")).unwrap();
        let look = || WatchedFiles::of(&config);
        let first = look();
        assert!(look().changed_since(&first).is_empty());

        symlink("..2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(look().changed_since(&first), [at("tls.crt")]);
        let second = look();
        fs::write(at("other"), "key").unwrap();
        fs::rename(at("other"), at("tls.key")).unwrap();
        assert_eq!(look().changed_since(&second), [at("tls.key")]);
        let third = look();
        fs::remove_file(at("tls.key")).unwrap();
        assert_eq!(look().changed_since(&third), [at("tls.key")]);
        assert!(look().changed_since(&look()).is_empty(), "an absent file is no change for ever");

        fs::write(at("proxy.toml"), "x").unwrap();
        let all = |scope| {
            let mut config = config.clone();
            config.reload.watch = scope;
            WatchedFiles::of(&config)
        };
        assert_eq!(all(WatchScope::All).changed_since(&look()), [at("proxy.toml")]);
        assert_eq!(all(WatchScope::Off), WatchedFiles::default());
    }
}
