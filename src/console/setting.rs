//! Session settings that drivers set or ask for. The console has none: it accepts them without effect, and shows the
//! values that it reports at the login.

/// A setting: PostgreSQL's name, lower-case, and the value that the console shows; reported at the login if true.
type Setting = (&'static str, &'static str, bool);

/// The version of PostgreSQL whose dialect clients may expect. Old enough that psql 14 and later print no warning; new
/// enough for every driver.
pub(super) const SERVER_VERSION: &str = concat!("14.0 (pgpassport ", env!("CARGO_PKG_VERSION"), ")");

const SETTINGS: &[Setting] = &[
    ("server_version", SERVER_VERSION, true),
    ("server_encoding", "UTF8", true),
    ("client_encoding", "UTF8", true),
    ("datestyle", "ISO, MDY", true),
    ("timezone", "UTC", true),
    ("integer_datetimes", "on", true),
    ("intervalstyle", "iso_8601", true),
    ("standard_conforming_strings", "on", true),
    ("default_transaction_read_only", "off", true),
    ("in_hot_standby", "off", true),
    ("is_superuser", "off", true),
    ("application_name", "", false),
    ("bytea_output", "hex", false),
    ("client_min_messages", "notice", false),
    ("extra_float_digits", "1", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("jit", "off", false),
    ("lock_timeout", "0", false),
    ("row_security", "on", false),
    ("search_path", "", false),
    ("statement_timeout", "0", false),
    ("synchronize_seqscans", "on", false),
    ("transaction_isolation", "read committed", false),
    ("transaction_read_only", "off", false),
];

/// Name and value of a setting.
pub(super) fn find(name: &str) -> Option<(&'static str, &'static str)> {
    let known = SETTINGS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known));
    known.map(|(name, value, _)| (*name, *value))
}

/// Settings that are reported at the login, with PostgreSQL's spelling, which some drivers compare.
pub(super) fn reported() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().filter(|(.., reported)| *reported).map(|(name, value, _)| {
        let spelled = match *name {
            "datestyle" => "DateStyle",
            "timezone" => "TimeZone",
            "intervalstyle" => "IntervalStyle",
            name => name,
        };
        (spelled, *value)
    })
}
