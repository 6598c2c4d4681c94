//! The cache as a file, and its refusals.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::config::client::ClientConfig;
use crate::login::tokens::{ClientToken, RefreshToken};

fn profile(more: &str) -> Profile {
    let text = format!(
        "[[profile]]\nname = \"acme\"\nissuer = \"https://acme.com\"\nclient_id = \"c\"\nproxy = \"db.acme.com\"\n{more}"
    );
    ClientConfig::from_toml(&text, "client.toml").unwrap().profiles.remove(0)
}

fn folders(root: &Path) -> ClientFolders {
    ClientFolders { config: root.join("config"), cache: root.join("cache"), runtime: root.join("run") }
}

fn tokens(text: &str) -> TokenSet {
    TokenSet {
        current: ClientToken::new(format!("{text}-c"), 7),
        refresh: Some(RefreshToken::new(format!("{text}-r"))),
    }
}

async fn refresh_token(cache: &TokenCache) -> Option<String> {
    cache.load().await.unwrap().map(|set| set.refresh.unwrap().expose().to_owned())
}

#[tokio::test]
async fn tokens_are_found_again_by_the_same_profile_only() {
    let root = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(&profile(""), &folders(root.path()));
    assert!(cache.load().await.unwrap().is_none(), "no folder");
    let lock = cache.lock().await.unwrap();
    assert!(cache.load().await.unwrap().is_none(), "no file");
    cache.save(&tokens("one"), &lock).await.unwrap();
    cache.save(&tokens("two"), &lock).await.unwrap();
    assert_eq!(refresh_token(&cache).await.as_deref(), Some("two-r"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = root.path().join("cache");
    assert_eq!((mode(&folder), mode(&folder.join("acme.json"))), (0o700, 0o600));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the record and the lock: {names:?}");
    for other in ["scopes = [\"openid\"]", "token = \"id\"", "audience = \"x\""] {
        let cache = TokenCache::new(&profile(other), &folders(root.path()));
        assert!(cache.load().await.unwrap().is_none(), "{other}");
    }
    cache.erase(&lock).await.unwrap();
    assert!(cache.load().await.unwrap().is_none());
    cache.erase(&lock).await.unwrap();
}

#[tokio::test]
async fn a_cache_that_others_can_read_is_refused_and_left_as_it_is() {
    for (place, mode) in
        [("cache", 0o750), ("cache", 0o701), ("cache/acme.json", 0o640), ("cache/acme.json", 0o604)]
    {
        let root = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(&profile(""), &folders(root.path()));
        let lock = cache.lock().await.unwrap();
        cache.save(&tokens("one"), &lock).await.unwrap();
        let path = root.path().join(place);
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        for error in [cache.load().await.unwrap_err(), cache.save(&tokens("two"), &lock).await.unwrap_err()] {
            assert!(matches!(&error, CacheError::NotPrivate { .. }), "{place} {mode:o}: {error}");
            assert!(error.remedy().contains("chmod"), "{}", error.remedy());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "it was repaired");
        let text = fs::read_to_string(root.path().join("cache/acme.json")).unwrap();
        assert!(text.contains("one-r"), "it was replaced");
    }
}

#[tokio::test]
async fn a_link_is_not_followed_and_a_strange_record_is_told() {
    let root = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(&profile(""), &folders(root.path()));
    let lock = cache.lock().await.unwrap();
    let path = root.path().join("cache/acme.json");
    symlink(root.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(cache.load().await, Err(CacheError::Io { .. })));
    fs::remove_file(&path).unwrap();
    cache.save(&tokens("canary"), &lock).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    for text in ["", "{", &whole[..whole.len() - 1], &whole.replace("\"version\":1", "\"version\":2")] {
        fs::write(&path, text).unwrap();
        let error = cache.load().await.unwrap_err();
        assert!(matches!(&error, CacheError::Damaged { .. }), "{text}: {error}");
        assert!(
            !error.to_string().contains("canary") && error.remedy().contains("pgpassport login"),
            "{error}"
        );
    }
    cache.save(&tokens("new"), &lock).await.unwrap();
    assert_eq!(refresh_token(&cache).await.as_deref(), Some("new-r"));
}

#[tokio::test]
async fn a_second_holder_waits_for_the_first() {
    let root = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(&profile(""), &folders(root.path()));
    let first = cache.lock().await.unwrap();
    let mut second = Box::pin(cache.lock());
    assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut second).await.is_err(), "two holders");
    drop(first);
    second.await.unwrap();
}
