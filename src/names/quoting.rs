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

/// Quotes a MySQL string, for example a user name (MySQL manual, "String Literals").
pub fn mysql_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// Quotes the database of a MySQL `GRANT`, in which `_` and `%` are wildcards (MySQL manual, "GRANT Statement").
pub fn mysql_grant_database(name: &str) -> String {
    let literal = name.replace('\\', r"\\").replace('_', r"\_").replace('%', r"\%");
    format!("`{}`", literal.replace('`', "``"))
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
        assert_eq!(mysql_text("o'neill"), "'o''neill'");
        assert_eq!(mysql_text(r"\'"), r"'\\'''");
        assert_eq!(mysql_grant_database("shop_eu`.*"), r"`shop\_eu``.*`");
        assert_eq!(sql_literal(r"\'"), r"E'\\'''");
        assert_eq!(shell_word("it's $(x)"), r"'it'\''s $(x)'");
    }
}
