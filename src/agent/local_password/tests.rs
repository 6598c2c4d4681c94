//! The file of the password.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use tempfile::tempdir;

use super::*;

#[test]
fn a_password_is_random_private_and_stable() {
    let folder = tempdir().unwrap();
    let folder = folder.path().join("agent");
    let of = |profile| LocalPassword::of(&folder, profile).unwrap().expose().to_owned();
    let (one, two) = (of("one"), of("two"));
    assert_ne!(one, two);
    assert_eq!(one.len(), 22);
    assert_eq!(of("one"), one);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("one.password"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft is left");
}

#[test]
fn processes_that_begin_together_agree() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("agent");
    let all: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| LocalPassword::of(&path, "p").unwrap().expose().to_owned()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|password| *password == all[0]), "{all:?}");
}

#[test]
fn what_others_can_read_or_write_is_refused_and_not_repaired() {
    let folder = tempdir().unwrap();
    let folder = folder.path().join("agent");
    LocalPassword::of(&folder, "p").unwrap();
    let file = folder.join("p.password");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let error = LocalPassword::of(&folder, "p").unwrap_err();
        assert!(matches!(error, LocalPasswordError::NotPrivate { .. }), "{mode:o}: {error}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
    assert!(LocalPassword::of(&folder, "p").is_err());
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    for damage in ["", "short\n", "with a space in the middle\n", &"x".repeat(300)] {
        fs::write(&file, damage).unwrap();
        let error = LocalPassword::of(&folder, "p").unwrap_err();
        assert!(matches!(error, LocalPasswordError::Damaged(_)), "{damage:?}: {error}");
    }
    // A link could lead to a file of somebody else's choice.
    fs::rename(&file, folder.join("other")).unwrap();
    std::os::unix::fs::symlink(folder.join("other"), &file).unwrap();
    assert!(matches!(LocalPassword::of(&folder, "p"), Err(LocalPasswordError::Io { .. })));
}
