//! The record of the reader's questions, and the schema made of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::forms;

/// The keys that the reader has asked for, by table.
#[derive(Debug, Default)]
pub(in crate::config) struct SchemaRecorder(BTreeMap<String, RecordedTable>);

#[derive(Debug, Default)]
struct RecordedTable {
    keys: BTreeMap<&'static str, RecordedKey>,
    required: BTreeSet<&'static str>,
}

#[derive(Debug, Default)]
struct RecordedKey {
    /// Forms of a value that is no table.
    values: Vec<Value>,
    one_table: bool,
    several_tables: bool,
}

impl SchemaRecorder {
    /// Records a key of the table at `path` whose value has this form.
    pub(in crate::config) fn value(&mut self, path: &str, key: &'static str, form: Value) {
        let values = &mut self.key(path, key).values;
        if !values.contains(&form) {
            values.push(form);
        }
    }

    /// Records a table below the one at `path`; `several` for an array of tables.
    pub(in crate::config) fn below(&mut self, path: &str, key: &'static str, several: bool) {
        let key = self.key(path, key);
        key.several_tables |= several;
        key.one_table |= !several;
    }

    /// Records that the key must be there.
    pub(in crate::config) fn require(&mut self, path: &str, key: &'static str) {
        self.0.entry(without_numbers(path)).or_default().required.insert(key);
    }

    fn key(&mut self, path: &str, key: &'static str) -> &mut RecordedKey {
        self.0.entry(without_numbers(path)).or_default().keys.entry(key).or_default()
    }

    /// The schema of the table at `path`.
    pub(super) fn table(&self, path: &str, descriptions: &Descriptions) -> Value {
        let mut properties = Map::new();
        let Some(recorded) = self.0.get(path) else { return json!({ "type": "object" }) };
        for (name, key) in &recorded.keys {
            let below = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            let mut forms = specific(&key.values);
            if key.one_table {
                forms.push(self.table(&below, descriptions));
            }
            if key.several_tables {
                forms.push(json!({ "type": "array", "items": self.table(&below, descriptions) }));
            }
            let mut form = match <[Value; 1]>::try_from(forms) {
                Ok([only]) => only,
                Err(forms) => json!({ "anyOf": forms }),
            };
            if let Some(form) = form.as_object_mut() {
                let limits = form.get("description").and_then(Value::as_str);
                let texts: Vec<_> = descriptions.of_key(path, name).into_iter().chain(limits).collect();
                let whole = texts.join(" ");
                if !whole.is_empty() {
                    form.insert("description".to_owned(), json!(whole));
                }
            }
            properties.insert((*name).to_owned(), form);
        }
        if recorded.required.is_empty() {
            return json!({ "type": "object", "properties": properties, "additionalProperties": false });
        }
        let required = &recorded.required;
        json!({ "type": "object", "properties": properties, "additionalProperties": false, "required": required })
    }
}

/// `a[0].b[1]` without the numbers: `a.b`.
pub(in crate::config) fn without_numbers(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The forms without those that another one says more exactly, and without defaults that are not always the same.
fn specific(forms: &[Value]) -> Vec<Value> {
    let plain = [forms::text(), forms::texts(None)];
    let kind = |form: &Value| form.get("anyOf").is_some();
    let more_exact = |form: &Value| {
        let is_same_kind = |other: &&Value| kind(other) == kind(form) && other["type"] == form["type"];
        forms.iter().filter(is_same_kind).any(|other| !plain.contains(other))
    };
    let mut kept: Vec<Value> =
        forms.iter().filter(|form| !plain.contains(form) || !more_exact(form)).cloned().collect();
    if kept.len() > 1 {
        for form in kept.iter_mut().filter_map(Value::as_object_mut) {
            form.remove("default");
        }
        let mut once: Vec<Value> = Vec::new();
        kept.retain(|form| {
            let is_new = !once.contains(form);
            once.push(form.clone());
            is_new
        });
    }
    kept
}
