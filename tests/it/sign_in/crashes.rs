//! A process that is killed in the middle of a rotation, after the issuer's answer and before, between, and after the steps
//! that put the new tokens into the cache.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use super::{Person, asked, issuer};

/// Kills the process at its `KILL_AT`th call of these functions of the C library: the new file is synced, renamed, and the
/// folder is synced.
const KILLER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static int calls;
static void step(void) {
  const char *at = getenv("KILL_AT");
  if (at && ++calls == atoi(at)) { kill(getpid(), SIGKILL); for (;;) pause(); }
}
int rename(const char *from, const char *to) {
  step();
  return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
int fsync(int file) {
  step();
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}
"#;

/// The library with these functions.
fn killer(person: &Person) -> PathBuf {
    let (source, library) = (person.path("killer.c"), person.path("killer.so"));
    std::fs::write(&source, KILLER).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    library
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_rotation_leaves_a_cache_that_works_or_says_to_log_in() {
    let issuer = issuer();
    let person = Person::at(&issuer, "");
    let killer = killer(&person);
    for (step, call, works) in [
        ("the sync of the file", "1", false),
        ("the rename", "2", false),
        ("the sync of the folder", "3", true),
    ] {
        issuer.set_token_life(30);
        person.login("alice").await;
        issuer.set_token_life(900);
        let before = asked(&issuer);
        let mut token = person.command(&["token"]);
        token.env("LD_PRELOAD", &killer).env("KILL_AT", call);
        let killed = token.output().await.unwrap();
        assert_eq!((killed.status.signal(), killed.stdout.len()), (Some(9), 0), "{step}: {killed:?}");
        assert_eq!(asked(&issuer) - before, 1, "{step}: the issuer has rotated");
        let ended = person.run(&["token"]).await;
        assert_eq!(
            (ended.code, ended.stdout.is_empty()),
            (Some(i32::from(!works)), !works),
            "{step}: {ended:?}"
        );
        if !works {
            assert!(ended.stderr.contains("has ended: invalid_grant"), "{step}: {}", ended.stderr);
            assert!(
                ended.stderr.contains("Run `pgpassport login --profile test`"),
                "{step}: {}",
                ended.stderr
            );
        }
        person.login("alice").await;
        assert_eq!(person.run(&["token"]).await.code, Some(0), "{step}");
        let left = std::fs::read_dir(person.path(".cache/pgpassport"))
            .unwrap()
            .map(|file| file.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["test.json", "test.lock"], "{step}: files of the killed process stay");
    }
}
