//! What people read: log lines, the audit record, metrics. Nothing here steers the program.

pub mod logging;
pub mod metrics;
pub mod trail;
