//! Which settings a client sets by the startup parameter `options`, told as PostgreSQL reads it: words parted by
//! spaces, backslash escapes, and the switches of the `postgres` command (manual, chapter "postgres").

/// Switches that take a value (`process_postgres_switches`, src/backend/tcop/postgres.c).
const WITH_VALUE: &[u8] = b"BcCDdfhkNprStvW-";

/// The names of all settings in `options`: lower-case, with underscores. Switches with a letter of their own are
/// called by the setting they stand for, or else by the letter, as in `-f`.
pub fn settings(options: &[u8]) -> Vec<String> {
    let mut words = words(options).into_iter();
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        let Some(mut letters) = word.strip_prefix(b"-") else { continue };
        while let Some((letter, rest)) = letters.split_first() {
            if !WITH_VALUE.contains(letter) {
                names.push(meaning(*letter));
                letters = rest;
                continue;
            }
            let value = if rest.is_empty() { words.next().unwrap_or_default() } else { rest.to_vec() };
            names.push(if matches!(letter, b'c' | b'-') { name(&value) } else { meaning(*letter) });
            break;
        }
    }
    names
}

/// The setting's name in `name=value`; the server reads hyphens as underscores.
fn name(assignment: &[u8]) -> String {
    let end = assignment.iter().position(|byte| *byte == b'=').unwrap_or(assignment.len());
    let name = assignment.get(..end).unwrap_or_default();
    String::from_utf8_lossy(name).to_ascii_lowercase().replace('-', "_")
}

fn meaning(letter: u8) -> String {
    match letter {
        b'e' => "datestyle".to_owned(),
        b'O' => "allow_system_table_mods".to_owned(),
        b'P' => "ignore_system_indexes".to_owned(),
        b'S' => "work_mem".to_owned(),
        b's' => "log_statement_stats".to_owned(),
        b'W' => "post_auth_delay".to_owned(),
        other => format!("-{}", char::from(other)),
    }
}

/// As `pg_split_opts` does (src/backend/utils/init/postinit.c).
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
            ("-S64 -fs", &["work_mem", "-f"]),
            ("role=x", &[]),
            ("-c", &[""]),
            ("", &[]),
        ] {
            assert_eq!(settings(options.as_bytes()), expected, "{options}");
        }
    }
}
