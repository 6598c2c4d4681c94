//! The folders of a person's files: XDG base directories on Linux and macOS, known folders on Windows.

use std::ffi::OsString;
use std::path::PathBuf;

use super::SignInError;

/// The folders of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFolders {
    /// `client.toml` and accepted profiles.
    pub config: PathBuf,
    /// Cached tokens and their locks.
    pub cache: PathBuf,
    /// Sockets and passwords of the agent; the cache folder where the system has no folder for it.
    pub runtime: PathBuf,
}

impl ClientFolders {
    /// The folders of the process's environment.
    pub fn of_environment() -> Result<Self, SignInError> {
        Self::of(|name| std::env::var_os(name))
    }

    /// The folders of an environment. A path that is not absolute is ignored, as the XDG specification says.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SignInError> {
        let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let (home, config, cache) = if cfg!(windows) {
            let local = folder("LOCALAPPDATA");
            (folder("USERPROFILE"), folder("APPDATA"), local.map(|path| path.join("cache")))
        } else {
            (folder("HOME"), folder("XDG_CONFIG_HOME"), folder("XDG_CACHE_HOME"))
        };
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        let config = config.or_else(|| below_home(".config")).ok_or(SignInError::NoHome)?.join("pgpassport");
        let cache = cache.or_else(|| below_home(caches)).ok_or(SignInError::NoHome)?.join("pgpassport");
        let runtime = folder("XDG_RUNTIME_DIR").map_or_else(|| cache.clone(), |path| path.join("pgpassport"));
        Ok(Self { config, cache, runtime })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn xdg_comes_before_home_and_relative_paths_are_ignored() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
            ClientFolders::of(move |name| {
                pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            })
        };
        let folders = of(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x"), ("XDG_CACHE_HOME", "y")]).unwrap();
        assert_eq!(folders.config, PathBuf::from("/x/pgpassport"));
        assert!(folders.cache.starts_with("/home/a") && folders.runtime == folders.cache, "{folders:?}");
        assert!(matches!(of(&[]), Err(SignInError::NoHome)));
    }
}
