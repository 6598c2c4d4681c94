//! Messages of panics, as lines of the log. The standard library would write them to standard error itself, and wait
//! there for a reader that has stalled.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::thread;

use super::lines::NOTICE;
use super::noise::NoiseLimiter;
use crate::names::visible;

/// Longest message of a panic that is written.
const MAX_MESSAGE: usize = 2_000;

/// Takes the place of the standard library's hook.
pub(super) fn report_to_log(noise: Arc<NoiseLimiter>) {
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(left_out) = noise.line("panic") {
            report(panic, left_out);
        }
    }));
}

/// A second panic in here would end the process: nothing here panics.
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
        "panic: this is a fault of pgpassport"
    );
}
