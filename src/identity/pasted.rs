//! Shapes of texts that are sent in place of a JWT: what people paste, and what scripts store when a request fails.
//! A shape reveals no content, so it can be named to a client.

/// Shape of a text that is not a JWT and that can be recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastedText {
    /// No bytes.
    #[error("is empty")]
    Empty,
    /// A word that programs print for an absent value.
    #[error("is the word null, undefined, None or nil")]
    NoValue,
    /// An HTTP header or its value.
    #[error("begins with the word Bearer or Authorization")]
    Bearer,
    /// A token in quotation marks.
    #[error("is in quotation marks")]
    Quoted,
    /// A JSON object, with the member that holds the token, where there is one.
    #[error("is a whole JSON object")]
    Json(Option<&'static str>),
    /// A page of HTML or XML.
    #[error("is a page of HTML or XML")]
    Markup,
    /// The name of a shell variable.
    #[error("is the name of a shell variable")]
    Variable,
    /// A token that RDS takes, not one of the identity provider.
    #[error("is a signed AWS request, such as an RDS IAM token")]
    AwsRequest,
    /// UTF-16, or a byte order mark.
    #[error("is UTF-16 or begins with a byte order mark")]
    Encoded,
    /// White space within.
    #[error("contains spaces or line ends")]
    Spaces,
}

impl PastedText {
    /// The shape of `text`, which was found not to be a JWT.
    pub fn of(text: &[u8]) -> Option<Self> {
        let trimmed = text.trim_ascii();
        let begins = |prefix: &str| {
            let start = trimmed.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let contains = |part: &str| trimmed.windows(part.len()).any(|window| window == part.as_bytes());
        let shape = match (trimmed.first(), trimmed.last()) {
            (None, _) | (_, None) => Self::Empty,
            (Some(0xfe | 0xff), _) => Self::Encoded,
            _ if trimmed.starts_with(&[0xef, 0xbb, 0xbf]) || trimmed.contains(&0) => Self::Encoded,
            _ if ["null", "undefined", "none", "nil", "\"\"", "''"].iter().any(|word| is(trimmed, word)) => {
                Self::NoValue
            }
            (Some(b'{' | b'['), _) => Self::Json(
                ["access_token", "id_token", "token"]
                    .into_iter()
                    .find(|member| contains(&format!("\"{member}\""))),
            ),
            (Some(b'"' | b'\''), _) | (_, Some(b'"' | b'\'')) => Self::Quoted,
            (Some(b'<'), _) => Self::Markup,
            (Some(b'$' | b'%'), _) => Self::Variable,
            _ if begins("Bearer") || begins("Authorization:") => Self::Bearer,
            _ if contains("X-Amz-Signature=") => Self::AwsRequest,
            _ if text.iter().any(u8::is_ascii_whitespace) => Self::Spaces,
            _ => return None,
        };
        Some(shape)
    }

    /// Advice about the text to send instead.
    pub fn advice(self) -> String {
        let advice = match self {
            Self::Empty => {
                "The command that should print the token printed nothing: look at its error output."
            }
            Self::NoValue => {
                "The answer of the identity provider has no such member (jq prints null for it): look at the whole \
                 answer, which may be an error."
            }
            Self::Bearer => "Send the token alone, without \"Bearer\" and the space behind it.",
            Self::Quoted => "Send the token without quotation marks (jq -r prints it so).",
            Self::Json(Some(member)) => {
                return format!(
                    "Send the token alone: it is the member \"{member}\" of the answer (jq -r .{member} prints it)."
                );
            }
            Self::Json(None) => {
                "Send the token alone. The answer has no member that usually holds one, so it may be an error."
            }
            Self::Markup => {
                "The address that was asked answers with a page: ask the token endpoint of the identity provider."
            }
            Self::Variable => {
                "Let the shell replace the variable by its value: single quotes keep it from doing so."
            }
            Self::AwsRequest => {
                "Send the JWT of the identity provider: pgpassport makes the RDS IAM token itself."
            }
            Self::Encoded => "Write the file as plain ASCII (PowerShell: Out-File -Encoding ascii).",
            Self::Spaces => "Send the token as one line without spaces: some programs fold long lines.",
        };
        advice.to_owned()
    }
}

fn is(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_shape() {
        let utf16: Vec<u8> = "eyJ".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], Option<PastedText>); 27] = [
            (b"", Some(PastedText::Empty)),
            (b" \n", Some(PastedText::Empty)),
            (b"null", Some(PastedText::NoValue)),
            (b"None", Some(PastedText::NoValue)),
            (b"undefined\n", Some(PastedText::NoValue)),
            (b"\"\"", Some(PastedText::NoValue)),
            (b"Bearer a.b.c", Some(PastedText::Bearer)),
            (b"bearer a.b.c", Some(PastedText::Bearer)),
            (b"Authorization: Bearer a.b.c", Some(PastedText::Bearer)),
            (b"\"a.b.c\"", Some(PastedText::Quoted)),
            (b"'a.b.c'\n", Some(PastedText::Quoted)),
            (b"a.b.c\"", Some(PastedText::Quoted)),
            (b"{\"access_token\":\"a.b.c\",\"id_token\":\"\"}", Some(PastedText::Json(Some("access_token")))),
            (b"{\n \"id_token\" : \"a.b.c\"}", Some(PastedText::Json(Some("id_token")))),
            (b"{\"error\":\"invalid_grant\"}", Some(PastedText::Json(None))),
            (b"<!DOCTYPE html>", Some(PastedText::Markup)),
            (b"$TOKEN", Some(PastedText::Variable)),
            (b"%TOKEN%", Some(PastedText::Variable)),
            (b"db:5432/?Action=connect&X-Amz-Signature=0", Some(PastedText::AwsRequest)),
            (&utf16, Some(PastedText::Encoded)),
            (b"\xff\xfee\0", Some(PastedText::Encoded)),
            (b"\xef\xbb\xbfa.b.c", Some(PastedText::Encoded)),
            (b"a.b\n.c", Some(PastedText::Spaces)),
            (b"a.b.c ", Some(PastedText::Spaces)),
            (b"gho_abc", None),
            (b"hunter2", None),
            (b"a.b.c", None),
        ];
        for (text, shape) in cases {
            assert_eq!(PastedText::of(text), shape, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn no_text_of_a_shape_repeats_the_content() {
        for text in ["\"S3CR3T\"", "Bearer S3CR3T", "{\"S3CR3T\":1}", "$S3CR3T", "<S3CR3T", "S3CR 3T"] {
            let shape = PastedText::of(text.as_bytes()).unwrap();
            assert!(!format!("{shape} {} {shape:?}", shape.advice()).contains("S3CR"), "{text}");
        }
    }
}
