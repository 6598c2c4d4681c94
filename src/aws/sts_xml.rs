//! Check that an STS answer is complete XML. The SDK's reader accepts truncated documents.

use std::collections::HashSet;

use xmlparser::{ElementEnd, Token, Tokenizer};

use crate::names::printable;

/// Root elements of STS answers (API reference, `AssumeRoleWithWebIdentity` and "Common Errors").
const ROOTS: [&str; 2] = ["AssumeRoleWithWebIdentityResponse", "ErrorResponse"];

/// Deepest nesting of elements, the outermost included; STS uses 4.
const MAX_DEPTH: usize = 16;

/// Longest name that is shown.
const MAX_SHOWN: usize = 64;

/// Reason why a body is not an answer of STS. Foreign strings are escaped and cut.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlFault {
    #[error("it is not UTF-8")]
    NotText,
    #[error("it is not XML")]
    NotXml,
    #[error("it ends too early")]
    Truncated,
    #[error("its elements are not closed in order")]
    Order,
    #[error("an element occurs twice")]
    Twice,
    #[error("its elements are nested too deeply")]
    TooDeep,
    #[error("its root element is \"{0}\"")]
    Root(String),
}

/// Checks that `body` is one complete STS document in which no element has two children of the same name. STS
/// answers contain no lists.
pub(super) fn check(body: &[u8]) -> Result<(), XmlFault> {
    let text = std::str::from_utf8(body).map_err(|_| XmlFault::NotText)?;
    // Open elements, each with the names of its children so far.
    let mut open: Vec<(&str, HashSet<&str>)> = Vec::new();
    let mut root = None;
    for token in Tokenizer::from(text) {
        match token.map_err(|_| if root.is_some() { XmlFault::Truncated } else { XmlFault::NotXml })? {
            Token::ElementStart { local, .. } => {
                let name = local.as_str();
                let is_first = match open.last_mut() {
                    Some((_, children)) => children.insert(name),
                    None => root.is_none(),
                };
                if !is_first {
                    return Err(XmlFault::Twice);
                }
                if root.is_none() && !ROOTS.contains(&name) {
                    return Err(XmlFault::Root(printable(name, MAX_SHOWN)));
                }
                if open.len() == MAX_DEPTH {
                    return Err(XmlFault::TooDeep);
                }
                root = root.or(Some(name));
                open.push((name, HashSet::new()));
            }
            Token::ElementEnd { end: ElementEnd::Empty, .. } => drop(open.pop()),
            Token::ElementEnd { end: ElementEnd::Close(_, local), .. } => {
                let closes = open.pop().is_some_and(|(name, _)| name == local.as_str());
                if !closes {
                    return Err(XmlFault::Order);
                }
            }
            // Entity declarations could make two readers see different texts.
            Token::DtdStart { .. } | Token::EmptyDtd { .. } | Token::EntityDeclaration { .. } => {
                return Err(XmlFault::NotXml);
            }
            _ => {}
        }
    }
    match root {
        Some(_) if open.is_empty() => Ok(()),
        Some(_) => Err(XmlFault::Truncated),
        None => Err(XmlFault::NotXml),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "<?xml version=\"1.0\"?>\n<AssumeRoleWithWebIdentityResponse xmlns=\"https://x/\">\n\
        <AssumeRoleWithWebIdentityResult><Audience/><Credentials><AccessKeyId>A&amp;B</AccessKeyId></Credentials>\n\
        </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\n\
        </AssumeRoleWithWebIdentityResponse>\n";

    #[test]
    fn a_whole_answer_is_whole_and_every_beginning_of_it_is_not() {
        assert_eq!(check(GOOD.as_bytes()), Ok(()));
        let end = GOOD.trim_end().len();
        for cut in 0..end {
            assert!(check(&GOOD.as_bytes()[..cut]).is_err(), "{}", &GOOD[..cut]);
        }
        let error =
            "<ErrorResponse><Error><Code>AccessDenied</Code></Error><RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(check(error.as_bytes()), Ok(()));
    }

    #[test]
    fn what_sts_never_writes_is_no_answer() {
        let deep = format!("{}x{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
        for (body, fault) in [
            ("", XmlFault::NotXml),
            ("{}", XmlFault::NotXml),
            ("<html><body>x</body></html>", XmlFault::Root("html".to_owned())),
            ("<!DOCTYPE html><html></html>", XmlFault::NotXml),
            ("<!DOCTYPE x [<!ENTITY e \"y\">]><ErrorResponse/>", XmlFault::NotXml),
            ("<ErrorResponse><a></b></ErrorResponse>", XmlFault::Order),
            ("<ErrorResponse><a/><a/></ErrorResponse>", XmlFault::Twice),
            (&format!("<ErrorResponse>{deep}</ErrorResponse>"), XmlFault::TooDeep),
        ] {
            assert_eq!(check(body.as_bytes()), Err(fault), "{body}");
        }
        for body in
            ["<ErrorResponse/><ErrorResponse/>", "<ErrorResponse/>x", "<ErrorResponse></ErrorResponse></a>"]
        {
            assert!(check(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(check(b"<ErrorResponse>\xff</ErrorResponse>"), Err(XmlFault::NotText));
    }
}
