//! Output for people: log lines, audit records, metrics. Nothing here influences the program.

pub mod audit;
pub mod audit_file;
pub mod aws_metrics;
pub mod cluster_metrics;
pub mod console_audit;
pub mod issuer_metrics;
mod labels;
mod lines;
pub mod log_metrics;
pub mod log_queue;
mod log_writer;
pub mod logging;
pub mod login_metrics;
mod login_step;
pub mod login_totals;
pub mod metrics;
pub mod metrics_format;
pub mod noise;
mod page_metrics;
mod panics;
pub mod pool_metrics;
pub mod process_metrics;
mod resolver_metrics;
mod task_metrics;
