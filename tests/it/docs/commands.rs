//! Each command of the manual is run here, is of a kind that another test runs, or stands below a line that says what it
//! needs and a test cannot have.

use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

use super::{blocks, pages, root, set_up};

/// First words of commands that the named tests run with real parts.
const RUN_ELSEWHERE: [(&str, &str); 19] = [
    ("jq ", "tests/it/log/join.rs"),
    ("pgpassport doctor", "tests/it/doctor/mod.rs"),
    ("pgpassport serve", "tests/it/lifecycle.rs"),
    ("pgpassport health", "tests/it/health.rs"),
    ("pgpassport login", "tests/it/sign_in"),
    ("pgpassport psql", "tests/it/sign_in"),
    ("pgpassport profiles", "tests/it/sign_in"),
    ("pgpassport connect", "tests/it/agent"),
    ("PGPASSPORT_LOCAL_PASSWORD=", "tests/it/agent"),
    ("PGPASSWORD=", "tests/clients/programs"),
    ("export PGPASSWORD=", "tests/clients/programs"),
    ("psql ", "tests/clients/programs"),
    ("MYSQL_PWD=", "tests/it/mysql/unix_listener.rs"),
    ("pg_dump ", "tests/clients/programs"),
    ("umask 077", "tests/clients/programs"),
    ("echo \"127.0.0.1:15432:", "tests/it/agent"),
    ("RESTARTS=100 make test ", "tests/it/rolling_restart.rs"),
    ("bash .ci/run", ".ci/run"),
    ("make ", "Makefile"),
];

/// First words of commands that are run here.
const RUN_HERE: [&str; 5] =
    ["pgpassport check ", "pgpassport policy ", "helm template ", "openssl ", "head -c "];

/// Blocks of commands, each with the text above it.
fn command_blocks(page: &str) -> Vec<(String, String)> {
    let fence = Regex::new(r"(?ms)^( *)```sh\n(.*?)^ *```$").unwrap();
    let found = fence.captures_iter(page);
    found.map(|found| (page[..found.get(0).unwrap().start()].to_owned(), found[2].to_owned())).collect()
}

/// Commands of a block, each on one line.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let mut commands: Vec<String> = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match commands.last_mut() {
            // An open quote continues.
            Some(last) if ['"', '\''].iter().any(|quote| last.matches(*quote).count() % 2 == 1) => {
                *last += &[" ", line].concat();
            }
            _ => commands.push(line.to_owned()),
        }
    }
    commands
}

/// Runs a command of a page in the folder of a configured proxy.
fn run(command: &str, folder: &Path, page: &Path) -> String {
    let own = command
        .replace("/etc/pgpassport/proxy.toml", "proxy.toml")
        .replace(" packaging/", &format!(" {}/packaging/", root().display()));
    let own = own.split(" | psql ").next().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_pgpassport")).parent().unwrap();
    let path = [binary.to_owned(), root().join(".tools/helm"), "/usr/bin".into(), "/bin".into()];
    let output = Command::new("sh")
        .args(["-c", own])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {command}: {output:?}", page.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_is_run_or_says_what_it_needs() {
    let setup = fs::read_to_string(root().join("docs/aws-setup.md")).unwrap();
    let folder = set_up(&setup);
    let (mut here, mut elsewhere, mut marked) = (0, 0, 0);
    for (path, page) in pages() {
        for (above, block) in command_blocks(&page) {
            let mark = above.trim_end().lines().last().unwrap_or_default().trim();
            if mark.starts_with("*Needs ") && mark.ends_with(":*") {
                marked += 1;
                continue;
            }
            for command in commands(&block) {
                if RUN_HERE.iter().any(|words| command.starts_with(words)) {
                    run(&command, folder.path(), &path);
                    here += 1;
                } else if let Some((_, test)) =
                    RUN_ELSEWHERE.iter().find(|(words, _)| command.starts_with(words))
                {
                    assert!(root().join(test).exists(), "there is no {test}");
                    elsewhere += 1;
                } else {
                    panic!(
                        "{}: nothing runs this, and no line \"*Needs …:*\" is above it: {command}",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(
        here > 20 && elsewhere > 20 && marked > 10,
        "{here} here, {elsewhere} elsewhere, {marked} marked"
    );
}

/// Targets of make that pages name exist.
#[test]
fn every_target_of_make_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let target = Regex::new(r"\bmake ([a-z-]+)\b").unwrap();
    let code = Regex::new(r"(?s)```sh\n.*?```|`[^`\n]+`").unwrap();
    let mut seen = 0;
    for (path, page) in pages() {
        for found in code.find_iter(&page).flat_map(|code| target.captures_iter(code.as_str())) {
            let rule = format!("\n{}:", &found[1]);
            assert!(makefile.contains(&rule), "{}: make {}", path.display(), &found[1]);
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} targets");
}

/// `<!-- printed -->` of the first hour, as helm prints it.
#[test]
fn the_first_hour_shows_what_is_printed() {
    let path = root().join("docs/first-hour.md");
    let page = fs::read_to_string(&path).unwrap();
    let setup = fs::read_to_string(root().join("docs/aws-setup.md")).unwrap();
    let folder = set_up(&setup);
    let (above, below) = page.split_once("<!-- printed -->\n```\n").unwrap();
    let command = blocks(above, "sh").pop().unwrap();
    assert_eq!(run(&command, folder.path(), &path), below.split("```").next().unwrap());
    let checked = run("pgpassport check --config /etc/pgpassport/proxy.toml", folder.path(), &path);
    let shown = page.split("or prints\n\n```\n/etc/pgpassport/").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(checked, shown);
}
