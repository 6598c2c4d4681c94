//! Lists of sections: each section is read, and compared with those before it.

use super::reader::SectionReader;

/// Reads `sections`. `compare` gets each value with those before it. `None` if a section has no value, which is a
/// recorded problem; the others are compared all the same.
pub(super) fn several<'r, 't, T>(
    sections: &[SectionReader<'r, 't>],
    read: impl Fn(&SectionReader<'r, 't>) -> Option<T>,
    compare: impl Fn(&SectionReader<'r, 't>, &T, &[T]),
) -> Option<Vec<T>> {
    let (mut values, mut whole) = (Vec::new(), true);
    for section in sections {
        match read(section) {
            Some(value) => {
                compare(section, &value, &values);
                values.push(value);
            }
            None => whole = false,
        }
    }
    whole.then_some(values)
}

/// Reports a name that a section of `table` before this one has.
pub(super) fn check_name<'n>(
    section: &SectionReader<'_, '_>,
    table: &str,
    name: &str,
    mut before: impl Iterator<Item = &'n str>,
) {
    if before.any(|other| other == name) {
        section.wrong("name", format!("another [[{table}]] has the name {name:?}; give each its own"));
    }
}
