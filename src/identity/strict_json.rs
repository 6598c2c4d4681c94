//! Strict parser for untrusted JSON: rejects input that two readers could understand differently, and bounds
//! cost.
//!
//! `serde_json` alone takes the last of two members with the same name and allows a depth of 127. It keeps
//! integers up to 64 bits exact; other numbers become floats, which no caller of this module accepts.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Deepest nesting of objects and arrays, the outermost included: one less than `serde_json` reads (its
/// recursion limit is 128). RFC 8259, section 9, allows such a limit; .NET's is 64.
pub const MAX_DEPTH: usize = 126;

/// Reason why the input is not one strict JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// The input is longer than its limit.
    #[error("too long")]
    TooLong,
    /// The input is not JSON, or has bytes after its end.
    #[error("not JSON")]
    NotJson,
    /// The input is JSON but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// An object has two members with the same name.
    #[error("a member occurs twice")]
    Duplicate,
    /// The input is nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Checks that `bytes` is one strict JSON object of at most `max_bytes`. Builds nothing, because input must
/// not cost much memory before its signature holds.
pub fn check_object(bytes: &[u8], max_bytes: usize) -> Result<(), JsonFault> {
    if bytes.len() > max_bytes {
        return Err(JsonFault::TooLong);
    }
    let first = bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    let fault = Cell::new(JsonFault::NotJson);
    let mut text = serde_json::Deserializer::from_slice(bytes);
    JsonChecker { depth_left: MAX_DEPTH, fault: &fault }
        .deserialize(&mut text)
        .and_then(|()| text.end())
        .map_err(|_| fault.get())?;
    if first == Some(&b'{') { Ok(()) } else { Err(JsonFault::NotAnObject) }
}

/// Parses one strict JSON object of at most `max_bytes`.
pub fn parse_object(bytes: &[u8], max_bytes: usize) -> Result<Map<String, Value>, JsonFault> {
    check_object(bytes, max_bytes)?;
    serde_json::from_slice(bytes).map_err(|_| JsonFault::NotJson)
}

/// Parses the strict JSON object in an issuer's document. The caller bounds its length. A byte order mark
/// before it is ignored, as RFC 8259, section 8.1, allows.
pub fn parse_document(page: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    parse_object(page.strip_prefix("\u{feff}".as_bytes()).unwrap_or(page), usize::MAX)
}

/// The unparsed elements of the list `name` in an issuer's document, so that each can be parsed on its own;
/// `None` if there is no such list. The enclosing object is strict. The caller bounds the length.
pub fn raw_list<'p>(page: &'p [u8], name: &str) -> Result<Option<Vec<&'p RawValue>>, JsonFault> {
    let page = page.strip_prefix("\u{feff}".as_bytes()).unwrap_or(page);
    let members: RawMembers<'p> = serde_json::from_slice(page)
        .map_err(|error| if error.is_data() { JsonFault::NotAnObject } else { JsonFault::NotJson })?;
    let mut names = HashSet::new();
    if !members.0.iter().all(|(name, _)| names.insert(name)) {
        return Err(JsonFault::Duplicate);
    }
    let list = members.0.iter().find(|(other, _)| other == name);
    Ok(list.and_then(|(_, value)| serde_json::from_str(value.get()).ok()))
}

/// The members of an object in order, with unparsed values.
struct RawMembers<'p>(Vec<(String, &'p RawValue)>);

impl<'de> serde::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<RawMembers<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        text.deserialize_map(Members)
    }
}

/// Walks a value, builds nothing, and stops at the first fault.
struct JsonChecker<'a> {
    depth_left: usize,
    fault: &'a Cell<JsonFault>,
}

impl JsonChecker<'_> {
    /// Depth left for the elements of this value.
    fn inside<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth_left.checked_sub(1).ok_or_else(|| self.stop(JsonFault::TooDeep))
    }

    fn stop<E: serde::de::Error>(&self, fault: JsonFault) -> E {
        self.fault.set(fault);
        E::custom(fault)
    }
}

impl<'de> DeserializeSeed<'de> for JsonChecker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonChecker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let depth_left = self.inside()?;
        while list.next_element_seed(JsonChecker { depth_left, fault: self.fault })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let depth_left = self.inside()?;
        let mut names = HashSet::new();
        while let Some(name) = object.next_key::<String>()? {
            if !names.insert(name) {
                return Err(self.stop(JsonFault::Duplicate));
            }
            object.next_value_seed(JsonChecker { depth_left, fault: self.fault })?;
        }
        Ok(())
    }
}

/// A member that should be a string. Reading never fails for another type, so that one wrong member does not
/// affect the others; lists and objects are skipped, not built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TextOrList {
    /// The member is absent or `null`.
    #[default]
    Absent,
    /// A string.
    Text(String),
    /// Any other value.
    Other,
}

impl<'de> serde::Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = TextOrList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<TextOrList, E> {
        Ok(TextOrList::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<TextOrList, E> {
        Ok(TextOrList::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<TextOrList, E> {
        Ok(TextOrList::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<TextOrList, E> {
        Ok(TextOrList::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<TextOrList, E> {
        Ok(TextOrList::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<TextOrList, E> {
        Ok(TextOrList::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TextOrList, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(TextOrList::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<TextOrList, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(TextOrList::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), JsonFault> {
        check_object(text.as_bytes(), 1 << 20)
    }

    #[test]
    fn j7_duplicate_members_are_refused_at_every_depth() {
        for text in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":{"b":{"c":1,"c":1}}}"#,
            r#"{"a":[1,{"b":1,"b":2}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(check(text), Err(JsonFault::Duplicate), "{text}");
            assert_eq!(parse_object(text.as_bytes(), 1 << 20), Err(JsonFault::Duplicate), "{text}");
        }
        for text in [r#"{"a":{"a":{"a":1}}}"#, r#"{"a":1,"A":1}"#, r#"{"a":[{"b":1},{"b":2}]}"#] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn j1_nesting_ends_where_serde_json_ends() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(check(&nested(126)), Ok(()));
        assert_eq!(check(&nested(127)), Err(JsonFault::TooDeep));
        assert!(parse_object(nested(126).as_bytes(), 1 << 20).is_ok(), "what is checked can be read");
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(check(&objects(126)), Ok(()));
        assert_eq!(check(&objects(127)), Err(JsonFault::TooDeep));
        assert_eq!(check(&"[".repeat(10_000)), Err(JsonFault::TooDeep));
    }

    #[test]
    fn j1_the_size_is_judged_first() {
        let text = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert_eq!(check_object(text(4096).as_bytes(), 4096), Ok(()));
        assert_eq!(check_object(text(4097).as_bytes(), 4096), Err(JsonFault::TooLong));
        assert_eq!(check_object(&[0xff; 4097], 4096), Err(JsonFault::TooLong));
    }

    #[test]
    fn j1_only_one_object_and_nothing_behind_it() {
        for text in
            ["{} x", "{}{}", "{}\0", "", " ", "{", "{\"a\":1,}", "\u{feff}{}", "{'a':1}", "{\"a\":NaN}"]
        {
            assert_eq!(check(text), Err(JsonFault::NotJson), "{text:?}");
        }
        for text in ["[]", "\"a\"", "1", "null", " [1] "] {
            assert_eq!(check(text), Err(JsonFault::NotAnObject), "{text:?}");
        }
        for bytes in
            [&b"{\"a\":\"\xff\"}"[..], b"{\"a\":\"\\ud800\"}", b"{\"a\":\"\n\"}", b"{\"\xc0\x80\":1}"]
        {
            assert_eq!(check_object(bytes, 100), Err(JsonFault::NotJson), "{bytes:?}");
        }
        assert_eq!(check(" \r\n\t{ } "), Ok(()));
    }

    #[test]
    fn a_page_may_begin_with_a_byte_order_mark_and_a_token_may_not() {
        let page = "\u{feff}{\"a\":1}".as_bytes();
        assert_eq!(parse_document(page).unwrap()["a"], 1);
        assert_eq!(parse_object(page, 100), Err(JsonFault::NotJson));
        assert_eq!(parse_document("\u{feff}\u{feff}{}".as_bytes()), Err(JsonFault::NotJson));
    }

    #[test]
    fn the_elements_of_a_list_are_left_to_be_judged_alone() {
        let page = "\u{feff} {\"x\":1,\"keys\":[ {\"a\":1,\"a\":2} ,7]}";
        let texts = |page: &'static str| {
            raw_list(page.as_bytes(), "keys")
                .map(|list| list.map(|list| list.iter().map(|raw| raw.get()).collect()))
        };
        let found: Result<Option<Vec<_>>, _> = texts(page);
        assert_eq!(found, Ok(Some(vec!["{\"a\":1,\"a\":2}", "7"])));
        for (page, found) in [
            ("{}", Ok(None)),
            ("{\"keys\":{}}", Ok(None)),
            ("{\"keys\":null}", Ok(None)),
            ("{\"keys\":[],\"keys\":[]}", Err(JsonFault::Duplicate)),
            ("{\"keys\":[],\"x\":1,\"\\u0078\":2}", Err(JsonFault::Duplicate)),
            ("[]", Err(JsonFault::NotAnObject)),
            ("7", Err(JsonFault::NotAnObject)),
            ("", Err(JsonFault::NotJson)),
            ("{\"keys\":[{]}", Err(JsonFault::NotJson)),
            ("{\"keys\":[]} x", Err(JsonFault::NotJson)),
        ] {
            assert_eq!(texts(page), found, "{page}");
        }
    }

    #[test]
    fn j6_numbers_are_exact_or_refused_or_floats() {
        let number = |text: &str| {
            parse_object(format!("{{\"n\":{text}}}").as_bytes(), 1 << 20).map(|object| object["n"].clone())
        };
        assert_eq!(number("9007199254740993").unwrap().as_u64(), Some(9_007_199_254_740_993));
        assert_eq!(number("18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
        assert_eq!(number("18446744073709551616").unwrap().as_u64(), None);
        assert_eq!(number("1e3").unwrap().as_u64(), None);
        assert_eq!(number("1.0").unwrap().as_u64(), None);
        assert_eq!(number("1e400"), Err(JsonFault::NotJson));
        assert_eq!(number(&"9".repeat(60_000)), Err(JsonFault::NotJson));
        assert_eq!(number("01"), Err(JsonFault::NotJson));
    }

    #[test]
    fn members_never_fail_for_their_type() {
        let member = |text: &str| serde_json::from_str::<TextOrList>(text).unwrap();
        assert_eq!(member("\"a\\u0062\""), TextOrList::Text("ab".into()));
        assert_eq!(member("null"), TextOrList::Absent);
        for text in ["1", "-1", "1.5", "true", "{\"a\":[1]}", "[\"a\"]", "[\"a\",[\"b\"]]", "[\"a\",{}]"] {
            assert_eq!(member(text), TextOrList::Other, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(serde_json::from_str::<TextOrList>(&deep).is_ok(), "passed over without recursion");
    }
}
