//! Words of a command: quotes, comments and semicolons as in SQL.

use crate::postgres::command_failure::CommandFailure;

/// Most commands of one text.
const MAX_COMMANDS: usize = 64;

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Without quotes; keywords are compared in any case.
    Plain(String),
    /// In single or double quotes.
    Quoted(String),
    /// A semicolon.
    End,
}

impl Word {
    /// True for this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Plain(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The value of a word in a place where a value is expected.
    pub(super) fn value(&self) -> &str {
        match self {
            Self::Plain(word) | Self::Quoted(word) => word,
            Self::End => "",
        }
    }
}

/// The words of a text.
pub(super) fn words(text: &str) -> Result<Vec<Word>, CommandFailure> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(words) };
        rest = match first {
            ';' => {
                words.push(Word::End);
                rest.get(1..).unwrap_or_default()
            }
            '=' | ',' | '(' | ')' => {
                words.push(Word::Plain(first.to_string()));
                rest.get(1..).unwrap_or_default()
            }
            '\'' | '"' => {
                let (value, behind) = quoted(rest, first)?;
                words.push(Word::Quoted(value));
                behind
            }
            _ if rest.starts_with("--") => rest.split_once('\n').map_or("", |(_, behind)| behind),
            _ if rest.starts_with("/*") => match rest.split_once("*/") {
                Some((_, behind)) => behind,
                None => return Err(CommandFailure::new("42601", "unterminated /* comment")),
            },
            _ => {
                let ends = |c: char| c.is_whitespace() || ";=,()'\"".contains(c);
                let (word, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                words.push(Word::Plain(word.to_owned()));
                behind
            }
        };
    }
}

/// The value in quotes at the beginning of `text`, and the rest. A doubled quote stands for one.
fn quoted(text: &str, quote: char) -> Result<(String, &str), CommandFailure> {
    let mut value = String::new();
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some((part, behind)) = rest.split_once(quote) {
        value.push_str(part);
        match behind.strip_prefix(quote) {
            Some(behind) => {
                value.push(quote);
                rest = behind;
            }
            None => return Ok((value, behind)),
        }
    }
    Err(CommandFailure::new("42601", "unterminated quoted string"))
}

/// The commands of a text, each as words.
pub(super) fn commands(text: &str) -> Result<Vec<Vec<Word>>, CommandFailure> {
    let words = words(text)?;
    let commands = words.split(|word| *word == Word::End).filter(|command| !command.is_empty());
    let commands: Vec<_> = commands.map(<[Word]>::to_vec).collect();
    if commands.len() > MAX_COMMANDS {
        let message = format!("a text has at most {MAX_COMMANDS} commands");
        return Err(CommandFailure::new("54000", message));
    }
    Ok(commands)
}

/// The command that these words make, in one line.
pub(super) fn written(words: &[Word]) -> String {
    let word = |word: &Word| match word {
        Word::Plain(word) => word.clone(),
        Word::Quoted(value) => format!("'{}'", value.replace('\'', "''")),
        Word::End => ";".to_owned(),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        commands(text).unwrap().iter().map(|words| written(words)).collect()
    }

    #[test]
    fn commands_are_split_outside_quotes_and_comments() {
        assert_eq!(texts("show  help;; SHOW\tversion -- a;b\n;"), ["show help", "SHOW version"]);
        assert_eq!(texts("/* a; */ kill subject 'it''s; me'"), ["kill subject 'it''s; me'"]);
        assert_eq!(texts("set log_level='debug'"), ["set log_level = 'debug'"]);
        assert_eq!(texts("pause \"a b\""), ["pause 'a b'"]);
        assert!(texts("").is_empty() && texts(" ; -- x").is_empty());
        for bad in ["kill 'x", "kill \"x", "/* x"] {
            assert_eq!(commands(bad).unwrap_err().sqlstate, "42601", "{bad}");
        }
        assert!(commands(&"x;".repeat(64)).is_ok());
        assert_eq!(commands(&"x;".repeat(65)).unwrap_err().sqlstate, "54000");
    }

    #[test]
    fn a_written_command_has_the_same_words() {
        for text in ["show sessions", "kill subject 'a''b'", "set x = 'y'", "resume \"two words\""] {
            let words = words(text).unwrap();
            assert_eq!(super::words(&written(&words)).unwrap(), words, "{text}");
        }
    }
}
