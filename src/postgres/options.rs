//! Settings in the startup parameter `options`, parsed as PostgreSQL does: words separated by spaces,
//! backslash escapes, and the switches of the `postgres` command (manual, chapter "postgres").

use crate::names::setting;

/// Switches with a value (`process_postgres_switches`, src/backend/tcop/postgres.c).
const WITH_VALUE: &[u8] = b"BcCDdfhkNprStvW-";

/// Canonical names of all settings in `options`. A one-letter switch stands for one or several settings; one
/// that sets nothing is named by its letter, for example `-j`.
pub fn settings(options: &[u8]) -> Vec<String> {
    let mut words = words(options).into_iter();
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        let Some(mut letters) = word.strip_prefix(b"-") else { continue };
        while let Some((&letter, rest)) = letters.split_first() {
            if !WITH_VALUE.contains(&letter) {
                names.extend(set_by(letter, &[]));
                letters = rest;
                continue;
            }
            let value = if rest.is_empty() { words.next().unwrap_or_default() } else { rest.to_vec() };
            names.extend(set_by(letter, &value));
            break;
        }
    }
    names
}

/// Name of the setting in `name=value`. The server reads hyphens as underscores (`ParseLongOption`).
fn name(assignment: &[u8]) -> String {
    let end = assignment.iter().position(|byte| *byte == b'=').unwrap_or(assignment.len());
    let name = assignment.get(..end).unwrap_or_default();
    setting::canonical(&String::from_utf8_lossy(name).replace('-', "_"))
}

/// Settings of a switch (`process_postgres_switches`, `set_debug_options`, `set_plan_disabling_options` and
/// `get_stats_option_name`, src/backend/tcop/postgres.c).
fn set_by(letter: u8, value: &[u8]) -> Vec<String> {
    let names: &[&str] = match (letter, value) {
        (b'c' | b'-', assignment) => return vec![name(assignment)],
        (b'B', _) => &["shared_buffers"],
        (b'd', _) => &[
            "log_min_messages",
            "log_connections",
            "log_disconnections",
            "log_statement",
            "debug_print_parse",
            "debug_print_plan",
            "debug_print_rewritten",
        ],
        (b'D', _) => &["data_directory"],
        (b'e', _) => &["datestyle"],
        (b'F', _) => &["fsync"],
        (b'f', [b's', ..]) => &["enable_seqscan"],
        (b'f', [b'i', ..]) => &["enable_indexscan"],
        (b'f', [b'o', ..]) => &["enable_indexonlyscan"],
        (b'f', [b'b', ..]) => &["enable_bitmapscan"],
        (b'f', [b't', ..]) => &["enable_tidscan"],
        (b'f', [b'n', ..]) => &["enable_nestloop"],
        (b'f', [b'm', ..]) => &["enable_mergejoin"],
        (b'f', [b'h', ..]) => &["enable_hashjoin"],
        (b'h' | b'i', _) => &["listen_addresses"],
        (b'k', _) => &["unix_socket_directories"],
        (b'l', _) => &["ssl"],
        (b'N', _) => &["max_connections"],
        (b'O', _) => &["allow_system_table_mods"],
        (b'P', _) => &["ignore_system_indexes"],
        (b'p', _) => &["port"],
        (b'S', _) => &["work_mem"],
        (b's', _) => &["log_statement_stats"],
        (b't', [b'p', b'a', ..]) => &["log_parser_stats"],
        (b't', [b'p', b'l', ..]) => &["log_planner_stats"],
        (b't', [b'e', ..]) => &["log_executor_stats"],
        (b'W', _) => &["post_auth_delay"],
        (other, _) => return vec![format!("-{}", char::from(other))],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Splits like `pg_split_opts` (src/backend/utils/init/postinit.c).
fn words(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = options.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => words.extend(word.take()),
            b'\\' => {
                let escaped = bytes.next().copied();
                word.get_or_insert_default().extend(escaped);
            }
            other => word.get_or_insert_default().push(*other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u3_every_spelling_of_a_setting_is_understood() {
        for (options, expected) in [
            ("-c role=admin", &["role"][..]),
            ("-crole=admin", &["role"]),
            ("--role=admin", &["role"]),
            ("  -c\tROLE=x --search-path=a\\ b,c -cgeqo=off ", &["role", "search_path", "geqo"]),
            ("-c r\\ole=x", &["role"]),
            ("\\-c role=x", &["role"]),
            ("-ec role=x", &["datestyle", "role"]),
            ("-S 64 -c role=x", &["work_mem", "role"]),
            ("-S64 -fs", &["work_mem", "enable_seqscan"]),
            (
                "-f m -tpl -t e -tpa",
                &["enable_mergejoin", "log_planner_stats", "log_executor_stats", "log_parser_stats"],
            ),
            ("-fx -j", &["-f", "-j"]),
            (
                "-OPs -W5",
                &[
                    "allow_system_table_mods",
                    "ignore_system_indexes",
                    "log_statement_stats",
                    "post_auth_delay",
                ],
            ),
            (
                "-c sort_mem=9 -cVacuum_Mem=9 --sort-mem=9 --SORT_MEM=9",
                &["work_mem", "maintenance_work_mem", "work_mem", "work_mem"],
            ),
            ("-c session-authorization=x", &["session_authorization"]),
            ("role=x", &[]),
            ("-c", &[""]),
            ("", &[]),
        ] {
            assert_eq!(settings(options.as_bytes()), expected, "{options}");
        }
        assert!(settings(b"-d2").contains(&"log_statement".to_owned()));
    }
}
