//! The rules of the code, read from the sources: imports, readers of secrets, length of a file
//! may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folders`.
pub(crate) fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Every product file, as (path below `src`, text without its tests).
pub(crate) fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in rust_files(&["src"]) {
        let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        if !name.contains("test") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\n").next().unwrap().to_owned();
            found.push((name, code));
        }
    }
    assert!(found.len() > 30, "only {} files found", found.len());
    found
}

/// The part that a file belongs to.
fn part(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// The part that a path names.
fn part_of(path: &str) -> &str {
    path.split("::").next().unwrap()
}

/// The code without its comment lines.
pub(crate) fn without_comments(code: &str) -> String {
    let lines: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// Every path below `crate::` that the code names, lists written out: `crate::auth::{Grant, keys::X}` gives
/// `auth::Grant` and `auth::keys::X`.
fn paths(code: &str) -> Vec<String> {
    without_comments(code).split("crate::").skip(1).flat_map(|rest| tree("", rest).0).collect()
}

/// The paths of the use tree at the beginning of `text`, and what is behind it.
pub(crate) fn tree<'a>(before: &str, text: &'a str) -> (Vec<String>, &'a str) {
    let Some(mut list) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !['_', '*'].contains(&c));
        let (name, behind) = text.split_at(end.unwrap_or(text.len()));
        let path = format!("{before}{name}");
        return match behind.strip_prefix("::") {
            Some(more) => tree(&format!("{path}::"), more),
            None => (vec![path], behind),
        };
    };
    let mut found = Vec::new();
    loop {
        list = list.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if list.is_empty() || list.starts_with('}') {
            return (found, list.get(1..).unwrap_or_default());
        }
        let (paths, behind) = tree(before, list);
        found.extend(paths);
        list = behind.find([',', '}']).map_or("", |at| &behind[at..]); // past an `as …`
    }
}

#[test]
fn paths_are_found_in_every_way_to_write_them() {
    let code = "
        use crate::wire::{self, frames::{A, B as C}, *};
        // use crate::not::this;
        pub(crate) use crate::{
            names,
            auth::Grant,
        };
        fn x() -> crate::config::Config {}";
    assert_eq!(
        paths(code),
        [
            "wire::self",
            "wire::frames::A",
            "wire::frames::B",
            "wire::*",
            "names",
            "auth::Grant",
            "config::Config"
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table and its rules")]
fn imports_follow_the_table() {
    let leaves = ["secret", "names", "refusal", "clock"];
    let steps = "aws config console identity lifecycle net pool protocol relay supervisor telemetry";
    let allowed: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("clock", vec![]),
        ("names", vec![]),
        ("refusal", vec!["names"]),
        ("secret", vec![]),
        ("sync", vec![]),
        ("words", vec![]),
        ("agent", vec!["mysql", "names", "net", "protocol", "refusal", "secret"]),
        ("admin", vec!["accept", "lifecycle", "net", "session", "supervisor", "telemetry"]),
        ("aws", [&leaves[..], &["config", "identity", "net"]].concat()),
        ("config", vec!["names", "rds_roots", "secret"]),
        (
            "console",
            [
                &leaves[..],
                &["accept", "config", "identity", "lifecycle", "net", "postgres", "session", "telemetry"],
            ]
            .concat(),
        ),
        ("core_dumps", vec![]),
        ("identity", [&leaves[..], &["config", "net", "supervisor"]].concat()),
        ("lifecycle", vec!["supervisor"]),
        ("login", vec!["clock", "config", "names", "net", "secret"]),
        ("mysql", [&leaves[..], &["identity", "net", "protocol"]].concat()),
        ("net", [&leaves[..], &["config", "identity", "rds_roots"]].concat()),
        ("pool", [&leaves[..], &["config", "identity", "net", "protocol", "supervisor"]].concat()),
        ("accept", vec!["config", "lifecycle", "names", "net", "session", "supervisor", "telemetry"]),
        ("postgres", [&leaves[..], &["identity", "net", "protocol"]].concat()),
        ("protocol", [&leaves[..], &["identity", "net"]].concat()),
        ("rds_roots", vec![]),
        ("relay", [&leaves[..], &["config", "net", "protocol"]].concat()),
        ("session", steps.split(' ').chain(leaves).collect()),
        ("supervisor", vec!["names"]),
        (
            "sign_in",
            [&leaves[..], &["accept", "config", "identity", "login", "net", "session", "telemetry"]].concat(),
        ),
        ("telemetry", vec!["clock", "names", "refusal", "config", "net", "supervisor"]),
    ]);
    let know_all = ["app", "cli", "commands", "lib", "main"];
    let mut checked = 0;
    for (file, code) in sources().into_iter().filter(|(file, _)| !know_all.contains(&part(file))) {
        let may =
            allowed.get(part(&file)).unwrap_or_else(|| panic!("no row of the import table for src/{file}"));
        checked += 1;
        for path in paths(&code) {
            let used = part_of(&path);
            let every_part = ["sync", "words", part(&file)].contains(&used);
            assert!(may.contains(&used) || every_part, "src/{file} must not use {used}: {path}");
        }
    }
    assert!(checked > 25, "only {checked} files were checked");
    // The client's side runs on people's machines; the proxy is not made of it.
    for (file, code) in sources() {
        let client = ["agent", "cli", "commands", "lib", "login", "sign_in"].contains(&part(&file));
        assert!(client || !paths(&code).iter().any(|path| part_of(path) == "login"), "src/{file} uses login");
        let builds = ["commands", "lib", "sign_in"].contains(&part(&file)); // its faults reach no session
        assert!(
            builds || !paths(&code).iter().any(|path| part_of(path) == "sign_in"),
            "src/{file} uses sign_in"
        );
    }
    // Parts of the session that know little, although it knows every step.
    let alone: &[(&str, &[&str])] = &[
        ("session/permits", &["config", "names"]),
        ("session/registry", &["config", "names", "relay"]),
        ("session/login_rate", &["config"]),
    ];
    for (file, code) in sources() {
        let Some((name, may)) = alone.iter().find(|(name, _)| file.starts_with(name)) else { continue };
        for path in paths(&code) {
            let own = path == "sync::lock" || path.starts_with(&name.replace('/', "::"));
            assert!(own || may.contains(&part_of(&path)), "src/{file} must not use {path}");
        }
    }
    // Names that climb out of a part would escape the rule above.
    for (file, code) in sources() {
        let code = without_comments(&code);
        let top = !file.contains('/') || file.ends_with("/mod.rs");
        let climbs = if top { "super::" } else { "super::super" };
        assert!(!code.contains(climbs), "src/{file} must say crate:: instead of {climbs}");
    }
}

#[test]
fn steps_take_their_own_settings_and_never_the_whole_config() {
    for (file, code) in sources() {
        if matches!(part(&file), "app" | "config" | "commands" | "main") {
            continue;
        }
        for path in paths(&code) {
            let whole = ["config", "config::self", "config::*", "config::Config"].contains(&path.as_str());
            assert!(!whole, "src/{file} reads the whole configuration: {path}");
        }
    }
}

#[test]
fn from_other_parts_only_types_are_used() {
    // The server's side knows the grant and the client's parameters, and not the way to them.
    for (file, code) in sources() {
        let upstream = ["net/", "pool/", "postgres/server_login", "postgres/reset", "postgres/cancel/"];
        let starts = |with: &str| file.starts_with(with);
        let forbidden: &[&str] = match part(&file) {
            _ if upstream.into_iter().any(starts) => &[
                "identity::verify",
                "identity::key_store",
                "postgres::client",
                "postgres::negotiate",
                "postgres::password",
                "aws",
            ],
            "aws" => &["identity::verify", "identity::key_store"],
            "relay" => &["net::tls", "config::Config"],
            _ => &[],
        };
        for path in paths(&code) {
            let within =
                |name: &&str| path.strip_prefix(*name).is_some_and(|r| r.is_empty() || r.starts_with("::"));
            assert!(!forbidden.iter().any(within), "src/{file} must not name {path}");
        }
        for word in ["pgwire", "aws_sdk"] {
            let carries = matches!(part(&file), "session" | "relay");
            assert!(!carries || !code.contains(word), "src/{file} must not name {word}");
        }
    }
}

#[test]
fn each_capability_is_used_in_one_place() {
    let places = |needle: &str| -> Vec<String> {
        sources().into_iter().filter(|(_, code)| code.contains(needle)).map(|(file, _)| file).collect()
    };
    assert_eq!(places("SystemTime::now"), ["clock.rs"]);
    // No bytes of a stranger cause a connection to a database.
    assert_eq!(places("OperatorCheck::from_command_line"), ["commands/doctor/preflight.rs"]);
    assert_eq!(places("DialPermission for "), ["net/dial_permission.rs"]);
    assert_eq!(places("PoisonError"), ["sync.rs"], "sync::lock takes locks");
    assert_eq!(places("process::exit"), Vec::<String>::new(), "main returns an exit code instead");
    assert_eq!(places("ErrorResponse::new"), ["postgres/error_response.rs"]);
    for (file, code) in sources() {
        let imports = code.lines().any(|line| line.starts_with("use pgwire"));
        assert!(!imports || ["postgres"].contains(&part(&file)), "src/{file} names pgwire");
        let is_static = |line: &str| {
            let line = line.trim_start();
            let item = line
                .strip_prefix("pub")
                .map_or(line, |rest| rest.split_once(' ').map_or("", |(_, item)| item));
            item.starts_with("static ") || item.starts_with("thread_local!") || line.contains("lazy_static")
        };
        // Each thread keeps a few spare buffers, which are empty, so no session sees bytes of another.
        let spare_buffers = |line: &str| {
            file == "net/buffers.rs"
                && (line == "thread_local! {" || line.starts_with("    static KEPT: RefCell<"))
        };
        let global = code.lines().find(|line| is_static(line) && !spare_buffers(line));
        assert!(global.is_none(), "src/{file} has global state: {}", global.unwrap_or_default());
    }
}

/// Errors are printed with their causes. A text that holds its cause's would name it twice.
#[test]
fn no_error_repeats_its_source() {
    let mut checked = 0;
    for (file, code) in sources() {
        for variant in without_comments(&code).split("#[error(").skip(1) {
            let variant = variant.split("\n}").next().unwrap();
            let (text, fields) = variant.split_once(")]").unwrap();
            let has_source = ["#[from]", "#[source]", " source:"].iter().any(|word| fields.contains(word));
            assert!(
                !has_source || !text.contains('{'),
                "src/{file}: the text of this error has its source: {text}"
            );
            checked += usize::from(has_source);
        }
    }
    assert!(checked > 15, "only {checked} errors with a source were found");
}

/// Functions that live as long as the process belong to the supervisor; the others end with what they are for. Threads
/// that block are bounded and few, and nothing makes them in passing.
#[test]
fn every_spawned_task_has_an_owner() {
    let owners = [
        ("agent/mod.rs", "tools.spawn("),                // one connection of a tool
        ("admin/http.rs", "tokio::spawn("),              // one connection
        ("console/desk.rs", "tokio::spawn("),            // one command
        ("sign_in/web.rs", "tokio::spawn("),             // one connection
        ("session/live.rs", "tokio::spawn("),            // one connection that comes back to the pool
        ("commands/doctor/session.rs", "tokio::spawn("), // one run of doctor
        ("net/address.rs", "running.spawn("),            // one race of addresses
        ("accept/workers.rs", "tasks.spawn("),           // one session
        ("supervisor.rs", "control.spawn("),             // the supervisor itself
        ("aws/federation.rs", "control.spawn("),         // one call, which has a limit
        ("accept/workers.rs", "sessions-{number}\")).spawn("), // supervised
        ("accept/threads.rs", ".spawn_scoped("),         // ends at once
        ("net/resolver/threads.rs", ".spawn("),          // at most MAX_LOOKUPS
        ("commands/reload.rs", ".spawn("),               // one at a time
        ("commands/connect.rs", "agent.spawn("),         // an agent that is to outlive the command
        ("commands/agent_tokens.rs", "tokio::spawn("),   // one request, whose answer waiting tools share
        ("login/cache/helper.rs", ".spawn("),            // a program, which has a time limit
        ("login/redirect.rs", "connections.spawn("),     // one connection
        ("telemetry/log_writer.rs", ".spawn("),          // one, which goes on after a panic
    ];
    for (file, code) in sources() {
        let code = without_comments(&code);
        let lines = code.lines().filter(|line| line.contains("spawn(") || line.contains("spawn_"));
        for line in lines.filter(|line| !line.contains("supervisor.spawn(") && !line.contains("fn spawn")) {
            let owned = owners.iter().any(|(owner, call)| *owner == file && line.contains(call));
            assert!(owned, "src/{file} spawns what nobody owns: {line}");
        }
        for word in ["spawn_blocking", "block_in_place", "tokio::fs", "lookup_host"] {
            assert!(!code.contains(word), "src/{file}: {word} takes a thread that nobody has counted");
        }
        let asks_dns = code.contains("to_socket_addrs") || code.contains("ToSocketAddrs");
        assert!(!asks_dns || file == "net/resolver.rs", "src/{file} asks DNS by itself");
        let runtimes = ["new_current_thread()", "new_multi_thread()"];
        let builds = runtimes.iter().map(|word| code.matches(word).count()).sum::<usize>();
        let limits = code.matches("max_blocking_threads(").count();
        assert_eq!(builds, limits, "src/{file}: a runtime without a limit on blocking threads");
    }
}

#[test]
fn l2_secrets_are_read_only_where_they_are_spent() {
    let mut readers: Vec<String> = sources()
        .into_iter()
        .filter(|(file, code)| file != "secret.rs" && without_comments(code).contains("expose"))
        .map(|(file, _)| file)
        .collect();
    readers.sort();
    assert_eq!(
        readers,
        [
            "agent/local_password.rs",
            "agent/mysql/local_login.rs",
            "agent/mysql/proxy_login.rs",
            "agent/proxy_login.rs",
            "agent/scram.rs",
            "aws/credentials.rs",
            "aws/sts.rs",
            "commands/agent_tokens.rs",
            "commands/connect.rs",
            "commands/connection.rs",
            "commands/connection/mysql.rs",
            "identity/inspect.rs",
            "identity/verify.rs",
            "login/cache/record.rs",
            "login/issuer_client.rs",
            "login/tokens.rs",
            "mysql/server_login.rs",
            "postgres/cancel/secret.rs",
            "postgres/server_login.rs",
            "sign_in/attempt.rs",
            "sign_in/site.rs"
        ]
    );
}

#[test]
fn files_are_short_and_begin_with_their_purpose() {
    let mut checked = 0;
    for file in rust_files(&["src", "tests/it", "tests/aws-emulator", "fuzz/src", "fuzz/fuzz_targets"]) {
        checked += 1;
        let (name, text) = (file.display(), fs::read_to_string(&file).unwrap());
        assert!(text.starts_with("//! "), "{name} does not begin by saying what it is for");
        let lines = text.lines().count();
        assert!(lines <= 400, "{name} has {lines} lines, over 400");
    }
    assert!(checked > 120, "only {checked} files were checked");
}
