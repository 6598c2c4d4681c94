//! Quoting of names and values in texts to paste: SQL, connection strings and shell commands.

/// Quotes an SQL identifier (PostgreSQL manual, "Identifiers and Key Words").
pub fn sql_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes an SQL string constant, for any setting of `standard_conforming_strings`.
pub fn sql_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', r"\\")) } else { format!("'{quoted}'") }
}

/// Quotes a value of a keyword/value connection string (PostgreSQL manual, "Connection Strings").
pub fn conninfo_value(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '\'' | '\\' | '=' | '"');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Quotes a word for a POSIX shell, in single quotes.
pub fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_inside_its_quotes() {
        for (name, sql, conninfo) in [
            ("alice", r#""alice""#, "alice"),
            ("a.b-c@d", r#""a.b-c@d""#, "a.b-c@d"),
            (r#"x";GRANT all TO "y"#, r#""x"";GRANT all TO ""y""#, r#"'x";GRANT all TO "y'"#),
            (r#"a\"b"#, r#""a\""b""#, r#"'a\\"b'"#),
            ("x host=evil", r#""x host=evil""#, "'x host=evil'"),
            ("o'neill", r#""o'neill""#, r"'o\'neill'"),
            ("", r#""""#, "''"),
        ] {
            assert_eq!((sql_identifier(name).as_str(), conninfo_value(name).as_str()), (sql, conninfo));
        }
        assert_eq!(sql_literal("it's"), "'it''s'");
        assert_eq!(sql_literal(r"\'"), r"E'\\'''");
        assert_eq!(shell_word("it's $(x)"), r"'it'\''s $(x)'");
    }
}
