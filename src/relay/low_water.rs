//! Low-water mark for bulk transfers. While many bytes flow one way and none the other, the kernel wakes the
//! task only for larger amounts (`SO_RCVLOWAT`). PostgreSQL sends results in pieces of 8 KiB, and a wake-up
//! costs more than relaying one of them.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::net::buffers::BUFFER_BYTES;

/// Bytes in one direction, with none in the other, from which a transfer counts as bulk.
pub(super) const AFTER: u64 = 1024 * 1024;

/// Bytes that must be available before a wake-up, or the end of the stream. A link of 1 Gbit/s delivers them
/// within a millisecond.
pub(super) const AT_LEAST: usize = BUFFER_BYTES;
const _: () = assert!(AFTER >= 2 * AT_LEAST as u64, "a bulk transfer is longer than one wake-up");

/// Longest wait for [`AT_LEAST`], because nothing follows the last bytes of a transfer. Equals the timers'
/// resolution, so up to two may pass.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowDirection {
    Server,
    Client,
}

/// The current run of bytes in one direction, and the low-water mark.
#[derive(Debug)]
pub(super) struct LowWaterMark {
    towards: FlowDirection,
    /// Bytes in this direction since the last byte in the other.
    run: u64,
    batch: Option<BatchWait>,
}

#[derive(Debug)]
struct BatchWait {
    /// `run` when the timer was set.
    since: u64,
    alarm: Pin<Box<Sleep>>,
}

impl LowWaterMark {
    pub(super) fn new() -> Self {
        Self { towards: FlowDirection::Server, run: 0, batch: None }
    }

    /// Records the bytes relayed to the server and to the client since the last call. `wake_at` sets the
    /// low-water mark of a direction.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        carried: (u64, u64),
        wake_at: impl Fn(FlowDirection, usize),
    ) {
        let (towards, bytes) = match carried {
            (0, bytes) => (FlowDirection::Client, bytes),
            (bytes, 0) => (FlowDirection::Server, bytes),
            _ => return self.stop(wake_at),
        };
        if bytes > 0 && towards != self.towards {
            self.stop(&wake_at);
            self.towards = towards;
        }
        self.run += bytes;
        if self.run >= AFTER && self.batch.is_none() {
            wake_at(self.towards, AT_LEAST);
            self.batch = Some(BatchWait { since: self.run, alarm: Box::pin(sleep(PATIENCE)) });
        }
        self.look(cx, wake_at);
    }

    /// Ends the batching if too few bytes have arrived since the timer was set.
    fn look(&mut self, cx: &mut Context<'_>, wake_at: impl Fn(FlowDirection, usize)) {
        while let Some(BatchWait { since, alarm }) = &mut self.batch
            && alarm.as_mut().poll(cx).is_ready()
        {
            if self.run - *since < AT_LEAST as u64 {
                return self.stop(wake_at);
            }
            *since = self.run;
            alarm.as_mut().reset(Instant::now() + PATIENCE);
        }
    }

    /// Resets the low-water mark to one byte. Bytes that are already there wake the task now.
    pub(super) fn stop(&mut self, wake_at: impl Fn(FlowDirection, usize)) {
        self.run = 0;
        if self.batch.take().is_some() {
            wake_at(self.towards, 1);
        }
    }
}
