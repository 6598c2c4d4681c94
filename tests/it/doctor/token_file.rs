//! The file that a token is read from, and the memory that it is read into.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::world::World;
use crate::world::admin::until;

const BINARY: &str = env!("CARGO_BIN_EXE_pgpassport");

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_others_can_read_is_a_warning() {
    let world = World::start().await;
    let file = world.folder().join("it's.jwt");
    fs::write(&file, world.token("alice") + "\n").unwrap();
    for (mode, word, more) in [
        (0o644, "warn  token-file", "      remedy   chmod 0600 '"),
        (0o604, "warn  token-file", "it'\\''s.jwt': anyone"),
        (0o600, "ok    token-file", "others cannot read "),
    ] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let output = Command::new(BINARY)
            .args(["doctor", "--database", "app", "--config"])
            .arg(world.config_file())
            .arg("--token-file")
            .arg(&file)
            .output()
            .unwrap();
        world.hear(&output.stdout);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(word) && text.contains(more), "{mode:o}: {text}");
        assert_eq!(output.status.code(), Some(0), "{mode:o}: a warning is no failure");
    }
}

/// A process that waits for its token can no longer leave a core dump, whatever limit it was given.
#[tokio::test(flavor = "multi_thread")]
async fn core_dumps_are_off_before_a_secret_is_read() {
    let world = World::start().await;
    let script = format!(
        "ulimit -c unlimited; exec {BINARY} doctor --token-file - --config {}",
        world.config_file().display()
    );
    let mut child =
        Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let proc = format!("/proc/{}", child.id());
    let core_limit = || {
        let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    until("no core dumps", async || core_limit() == ["0", "0"]).await;
    // What belongs to a process that is not dumpable belongs to root.
    let owner = |file: &str| fs::metadata(format!("{proc}/{file}")).unwrap().uid();
    until("no debuggers", async || owner("environ") == 0).await;
    drop(child.stdin.take());
    child.wait().unwrap();
}
