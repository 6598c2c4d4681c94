//! Output for people: log lines, audit records, metrics. Nothing here influences the program.

pub mod audit;
mod audit_event;
pub mod audit_file;
pub mod aws_metrics;
pub mod cluster_metrics;
pub mod connection_metrics;
pub mod console_audit;
pub mod issuer_metrics;
pub mod labels;
mod lines;
pub mod log_metrics;
pub mod log_queue;
mod log_writer;
pub mod logging;
pub mod login_metrics;
mod login_step;
pub mod login_totals;
pub mod login_trace;
pub mod metrics;
pub mod metrics_format;
pub mod noise;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod page_metrics;
mod panics;
pub mod pool_metrics;
pub mod process_metrics;
pub mod reload_metrics;
mod resolver_metrics;
pub mod session_outcome;
mod syslog;
mod task_metrics;
pub mod trace_metrics;
mod trace_target;
mod word_series;
