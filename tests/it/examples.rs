//! `examples/*.toml`: each is a whole configuration that `check` finds good, with the files that it names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_emulator::Ca;
use pgpassport::config::Config;

use crate::docs::users_are_named_safely;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

/// A folder with all files that the examples name, as an installation has them.
fn installation() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new().unwrap();
    let certificate = ca.server(&["db.acme.com"]).unwrap();
    for name in ["server", "tls"] {
        certificate.write(folder.path(), name).unwrap();
    }
    for name in ["rds-global-bundle.pem", "clients-ca.pem"] {
        fs::write(folder.path().join(name), ca.pem()).unwrap();
    }
    let secret = "RkqPuhdp0HXR7Wv3dQ6N4cZ1yM8sJbLxTgEoUaVnIfA="; // random for this test
    for (name, text) in [("cancel.secret", secret), ("proxy.credentials", "proxy:password")] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

#[test]
fn check_finds_every_example_good() {
    let folder = installation();
    for path in examples() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let own = format!("{}/", folder.path().display());
        let installed = folder.path().join(name);
        let own_files = text.replace("/etc/pgpassport/", &own).replace("/var/log/pgpassport/", &own);
        fs::write(&installed, own_files).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(["check", "--config"])
            .arg(&installed)
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "{name}: {check:?}");
        assert!(said.contains("no problems found") && !said.contains("warning"), "{name}: {said}");
        users_are_named_safely(&Config::from_toml(&text, &path).unwrap(), &path);
    }
}

#[test]
fn the_page_lists_every_example() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/README.md")).unwrap();
    let names: Vec<_> =
        examples().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for name in &names {
        assert!(page.contains(&format!("| [{name}]({name}) |")), "{name} has no row");
    }
    assert_eq!(page.matches(".toml) |").count(), names.len());
}
