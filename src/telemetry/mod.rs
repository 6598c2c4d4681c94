//! What people read: log lines and the audit record. Nothing here steers the program.

pub mod logging;
pub mod trail;
