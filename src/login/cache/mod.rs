//! The tokens of a profile between two commands: in a private file, in a credential helper, or nowhere.
//!
//! Refresh tokens rotate: the issuer takes each one once. So a process that refreshes holds the profile's lock from
//! reading the cache to writing it, and the other processes read the cache again afterwards.

mod file;
mod helper;
mod lock;
mod private_path;
mod record;

use std::path::PathBuf;

use self::file::CacheFile;
use self::helper::CredentialHelper;
pub use self::lock::CacheLock;
pub use self::private_path::private_folder;
use crate::config::client::CacheKind;
use crate::login::Profile;
use crate::login::folders::ClientFolders;
use crate::login::tokens::TokenSet;

/// Most bytes that are read from a cache: two tokens of 20,000 bytes and their frame, with room to spare.
const MAX_RECORD_BYTES: usize = 256 * 1024;

/// The cache cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Others can read or replace the tokens.
    #[error("{}: {problem}, so the tokens in it are not used", path.display())]
    NotPrivate {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        problem: String,
        /// The command that repairs it.
        repair: String,
    },
    /// The system's words.
    #[error("{}: {problem}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The content is not what this program writes.
    #[error("the tokens in {place} cannot be read: {problem}")]
    Damaged {
        /// The file or the helper.
        place: String,
        /// The reason; never the content.
        problem: String,
    },
    /// The credential helper does not work.
    #[error("docker-credential-{name}: {problem}")]
    Helper {
        /// The helper's name.
        name: String,
        /// The reason.
        problem: String,
    },
    /// Another process holds the lock for too long.
    #[error("{}: another pgpassport process holds the lock for more than {} s", path.display(), lock::MAX_WAIT.as_secs())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

impl CacheError {
    /// Remedy for the person.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotPrivate { repair, .. } => format!("{repair} Then run `pgpassport login`."),
            Self::Io { .. } => "Check the path, its permissions and the free space.".into(),
            Self::Damaged { .. } => "Run `pgpassport login`.".into(),
            Self::Helper { .. } => {
                "Install the helper and unlock its keychain, or set cache = \"file\" in the profile.".into()
            }
            Self::Busy { .. } => "End the process that hangs, and try again.".into(),
        }
    }
}

#[derive(Debug)]
enum Store {
    File(CacheFile),
    Helper(CredentialHelper),
    Nowhere,
}

/// The cache of one profile.
#[derive(Debug)]
pub struct TokenCache {
    store: Store,
    profile: Profile,
    lock_path: PathBuf,
    folder: PathBuf,
}

impl TokenCache {
    /// Nothing is opened or created yet.
    pub fn new(profile: &Profile, folders: &ClientFolders) -> Self {
        let folder = folders.cache.clone();
        let store = match &profile.cache {
            CacheKind::File => Store::File(CacheFile::new(folder.join(format!("{}.json", profile.name)))),
            CacheKind::Helper(name) => Store::Helper(CredentialHelper::new(name, &profile.name)),
            CacheKind::None => Store::Nowhere,
        };
        let lock_path = folder.join(format!("{}.lock", profile.name));
        Self { store, profile: profile.clone(), lock_path, folder }
    }

    /// True if tokens outlive the process.
    pub fn is_kept(&self) -> bool {
        !matches!(self.store, Store::Nowhere)
    }

    /// The lock of this profile; waits for the process that holds it. Creates the folder.
    pub async fn lock(&self) -> Result<CacheLock, CacheError> {
        private_path::create_folder(&self.folder)?;
        CacheLock::acquire(&self.lock_path).await
    }

    /// The cached tokens; none when there are none, or when they are of another issuer, client, scope or kind than the
    /// profile's.
    pub async fn load(&self) -> Result<Option<TokenSet>, CacheError> {
        let (text, place) = match &self.store {
            Store::File(file) => (file.read()?, file.path().display().to_string()),
            Store::Helper(helper) => (helper.get().await?, helper.program()),
            Store::Nowhere => return Ok(None),
        };
        let Some(text) = text else { return Ok(None) };
        record::read(&text, &self.profile).map_err(|problem| CacheError::Damaged { place, problem })
    }

    /// Replaces the cached tokens, all or nothing.
    pub async fn save(&self, tokens: &TokenSet, _: &CacheLock) -> Result<(), CacheError> {
        let text = record::write(tokens, &self.profile);
        match &self.store {
            Store::File(file) => file.replace(&text),
            Store::Helper(helper) => helper.store(&text).await,
            Store::Nowhere => Ok(()),
        }
    }

    /// Deletes the cached tokens.
    pub async fn erase(&self, _: &CacheLock) -> Result<(), CacheError> {
        match &self.store {
            Store::File(file) => file.delete(),
            Store::Helper(helper) => helper.erase().await,
            Store::Nowhere => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
