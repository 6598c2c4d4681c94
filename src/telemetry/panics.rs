//! Panic messages as log lines. The standard library would write them to standard error, and block if the
//! reader has stalled.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::thread;

use super::lines::NOTICE;
use super::noise::NoiseLimiter;
use crate::names::visible;

/// Longest panic message that is written.
const MAX_MESSAGE: usize = 2_000;

/// Replaces the panic hook of the standard library.
pub(super) fn report_to_log(noise: Arc<NoiseLimiter>) {
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(left_out) = noise.line("panic") {
            report(panic, left_out);
        }
    }));
}

/// Writes a panic to the log. Must not panic itself, because a second panic would abort the process.
fn report(panic: &PanicHookInfo<'_>, left_out: u64) {
    let thread = thread::current();
    let backtrace = Backtrace::capture(); // empty unless RUST_BACKTRACE asks for it
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        target: NOTICE,
        thread = thread.name(),
        location = panic.location().map(ToString::to_string),
        reason = panic.payload_as_str().map(|message| visible(message, MAX_MESSAGE)),
        backtrace,
        left_out,
        "panic: this is a bug in pgpassport"
    );
}
