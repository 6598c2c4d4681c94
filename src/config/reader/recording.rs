//! Record of the keys that a section is read for: with their values for the console, and without for the JSON Schema.

use serde_json::Value;

use super::SectionReader;

impl SectionReader<'_, '_> {
    /// Records a key and the form of its value.
    pub(in crate::config) fn record(&self, name: &'static str, form: impl FnOnce() -> Value) {
        let form = form();
        let found = self.table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name));
        let found = found.map(|(_, value)| value.get_ref());
        self.reading.keys.borrow_mut().value(self.key(name), &form, found);
        if let Some(schema) = &self.reading.schema {
            schema.borrow_mut().value(&self.path, name, form);
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
