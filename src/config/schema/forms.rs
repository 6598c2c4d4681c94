//! The forms of values, as JSON Schema.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

/// Times as `humantime` reads them.
const DURATION: &str = "^(0|([0-9]+ *[A-Za-zµ]+ *)+)$";

/// Any text.
pub(in crate::config) fn text() -> Value {
    json!({ "type": "string" })
}

/// A text or several; of these words alone, where there are some.
pub(in crate::config) fn texts(words: Option<&[&str]>) -> Value {
    let one = words.map_or_else(text, |words| json!({ "type": "string", "enum": words }));
    json!({ "anyOf": [one, { "type": "array", "items": one }] })
}

/// A table of names and texts.
pub(in crate::config) fn map() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

/// `true` or `false`.
pub(in crate::config) fn boolean(default: bool) -> Value {
    json!({ "type": "boolean", "default": default })
}

/// A whole number.
pub(in crate::config) fn count(range: &RangeInclusive<usize>, default: usize) -> Value {
    json!({ "type": "integer", "minimum": range.start(), "maximum": range.end(), "default": default })
}

/// A time with its unit.
pub(in crate::config) fn duration(range: &RangeInclusive<Duration>, default: Duration) -> Value {
    let show = |time: Duration| humantime::format_duration(time).to_string();
    let limits = format!("From {} to {}.", show(*range.start()), show(*range.end()));
    json!({ "type": "string", "pattern": DURATION, "default": show(default), "description": limits })
}

/// True for the form of [`duration`].
pub(in crate::config) fn is_duration(form: &Value) -> bool {
    form["pattern"] == DURATION
}

/// A word out of a few.
pub(in crate::config) fn choice<V: PartialEq>(words: &[(&str, V)], default: &V) -> Value {
    let all: Vec<_> = words.iter().map(|(word, _)| word).collect();
    let default = words.iter().find(|(_, value)| value == default).map(|(word, _)| word);
    json!({ "type": "string", "enum": all, "default": default })
}
