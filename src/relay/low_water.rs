//! Bulk transfers: while much flows one way and nothing the other, the kernel is asked to wake us for a good deal of
//! it at a time. PostgreSQL sends a result in pieces of 8 KiB, and to be woken costs more than to carry one of them.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// So many bytes one way with none the other are a bulk transfer. It lasts longer than its end may wait for us.
pub(super) const AFTER: u64 = 1024 * 1024;

/// So much has to be there before we are woken, or the end. A link of 1 Gbit/s brings it within the millisecond.
pub(super) const AT_LEAST: usize = 64 * 1024;

/// The longest wait for it, because behind the last bytes of a transfer come no others; the timers' resolution, so that
/// up to two may pass.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    Server,
    Client,
}

/// What has flowed last, and whether we are gathering it.
#[derive(Debug)]
pub(super) struct LowWaterMark {
    towards: Towards,
    /// Bytes that way since there were any the other way.
    run: u64,
    batch: Option<BatchWait>,
}

#[derive(Debug)]
struct BatchWait {
    /// `run` when the alarm was set.
    since: u64,
    alarm: Pin<Box<Sleep>>,
}

impl LowWaterMark {
    pub(super) fn new() -> Self {
        Self { towards: Towards::Server, run: 0, batch: None }
    }

    /// Takes note of what was carried to the server and to the client since the last time. `wake_at` sets how much of
    /// what goes that way has to be there before we are woken.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        carried: (u64, u64),
        wake_at: impl Fn(Towards, usize),
    ) {
        let (towards, bytes) = match carried {
            (0, bytes) => (Towards::Client, bytes),
            (bytes, 0) => (Towards::Server, bytes),
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

    /// Ends the gathering when too little has come since the last alarm.
    fn look(&mut self, cx: &mut Context<'_>, wake_at: impl Fn(Towards, usize)) {
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

    /// From here on we are woken for every byte, and what is there already wakes us now.
    pub(super) fn stop(&mut self, wake_at: impl Fn(Towards, usize)) {
        self.run = 0;
        if self.batch.take().is_some() {
            wake_at(self.towards, 1);
        }
    }
}
