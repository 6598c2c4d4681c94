//! Record of the keys that a section is read for, while the JSON Schema is made.

use serde_json::Value;

use super::SectionReader;

impl SectionReader<'_, '_> {
    /// Records the form of a key's value.
    pub(in crate::config) fn record(&self, name: &'static str, form: impl FnOnce() -> Value) {
        if let Some(schema) = &self.reading.schema {
            schema.borrow_mut().value(&self.path, name, form());
        }
    }

    /// Records a table below this one.
    pub(in crate::config) fn record_below(&self, name: &'static str, several: bool) {
        if let Some(schema) = &self.reading.schema {
            schema.borrow_mut().below(&self.path, name, several);
        }
    }

    /// Records that a key must be there.
    pub(in crate::config) fn record_required(&self, name: &'static str) {
        if let Some(schema) = &self.reading.schema {
            schema.borrow_mut().require(&self.path, name);
        }
    }
}
