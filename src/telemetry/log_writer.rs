//! The writer thread. It owns the destination and is the only thread that waits if a reader stalls or a disk
//! is full. A line whose write fails is kept and retried; later lines wait in the queue or are counted as
//! lost.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::log_queue::{LogLine, LogQueue, QueueEntry, QueueState, QueueStatus};

/// Pause after a failed write, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pause if a nonblocking destination (`O_NONBLOCK`) is full.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(10);

/// Pause after the last waiting line was written. A thread that logs during the pause wakes no writer, so that a busy
/// service wakes the writer once for many lines.
const GATHER_PAUSE: Duration = Duration::from_millis(5);

/// Least time between reports of lost lines.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Least time between reports of failing writes, if they fail and succeed in turn.
const FAILING_EVERY: Duration = Duration::from_secs(10);

/// A change to report to operators.
#[derive(Debug)]
pub(super) enum WriterReport {
    /// Writes fail from now on.
    Failing(io::Error),
    /// Writes succeed again. Holds the losses since the last report.
    Missed(MissedLines),
}

/// Lost lines and failed writes between two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MissedLines {
    pub(super) lines: u64,
    pub(super) records: u64,
    pub(super) failed_writes: u64,
}

impl MissedLines {
    fn between(before: &QueueStatus, now: &QueueStatus) -> Self {
        Self {
            lines: now.lost_lines - before.lost_lines,
            records: now.lost_records - before.lost_records,
            failed_writes: now.failed_writes - before.failed_writes,
        }
    }
}

/// Receiver of reports, called on the writer's thread. Must not wait for the queue.
pub(super) type Reporter = Box<dyn Fn(WriterReport) + Send>;

/// Starts a thread that writes queued lines to `destination`. The thread ends when the queue is dropped.
pub(super) fn start(
    name: &str,
    destination: Box<dyn Write + Send>,
    reporter: Reporter,
) -> io::Result<Arc<LogQueue>> {
    let (sender, entries) = sync_channel(LogQueue::capacity());
    let queue = Arc::new(LogQueue::new(sender));
    let state = Arc::clone(queue.state());
    let mut writer = LogWriter {
        entries,
        state,
        destination,
        reporter,
        reported: QueueStatus::default(),
        reported_at: None,
        failing_told_at: None,
        within_line: false,
    };
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        writer.state.writer_is(thread::current());
        // A panic loses only the current line.
        while catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            writer.state.writer_panicked();
        }
    })?;
    Ok(queue)
}

/// Waits until all lines in `queues` are written, at most for `limit`.
pub(super) fn flush<'q>(queues: impl IntoIterator<Item = &'q LogQueue>, limit: Duration) {
    let deadline = Instant::now() + limit;
    let requests: Vec<_> = queues.into_iter().filter_map(LogQueue::ask_to_flush).collect();
    for flushed in requests {
        let _ = flushed.recv_timeout(deadline.saturating_duration_since(Instant::now())); // the limit bounds the wait
    }
}

struct LogWriter {
    entries: Receiver<QueueEntry>,
    state: Arc<QueueState>,
    destination: Box<dyn Write + Send>,
    reporter: Reporter,
    /// State at the last report.
    reported: QueueStatus,
    reported_at: Option<Instant>,
    failing_told_at: Option<Instant>,
    /// True if the destination ends within a line that was abandoned.
    within_line: bool,
}

impl LogWriter {
    fn run(&mut self) {
        loop {
            match self.next_entry() {
                Ok(QueueEntry::Line(line)) => {
                    let line = LineInProgress { line, state: Arc::clone(&self.state), written: false };
                    self.write(line);
                }
                Ok(QueueEntry::Flush(done)) => {
                    let _ = self.destination.flush();
                    let _ = done.try_send(()); // nobody may be waiting any more
                }
                Ok(QueueEntry::Replaced) => self.take_replacement(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_missed();
        }
    }

    /// Takes the next entry. Waits at most [`REPORT_EVERY`] while losses are unreported.
    fn next_entry(&self) -> Result<QueueEntry, RecvTimeoutError> {
        if let Ok(entry) = self.entries.try_recv() {
            return Ok(entry);
        }
        thread::park_timeout(GATHER_PAUSE);
        if self.missed() == MissedLines::default() {
            self.entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.entries.recv_timeout(REPORT_EVERY)
        }
    }

    /// Writes the line, with retries.
    fn write(&mut self, mut line: LineInProgress) {
        self.state.progressed();
        let (mut done, mut pause) = (0, FIRST_PAUSE);
        if self.within_line {
            // A line that a panic interrupted must not run into this one.
            self.within_line = self.destination.write(b"\n").is_err();
        }
        while let Some(rest) = line.line.bytes.get(done..).filter(|rest| !rest.is_empty()) {
            self.within_line = done > 0;
            let result = match self.destination.write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match result {
                Ok(written) => {
                    done += written;
                    pause = FIRST_PAUSE;
                    self.state.progressed();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(NO_ROOM_PAUSE);
                }
                Err(error) => {
                    self.failed(error);
                    thread::park_timeout(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if let Some(destination) = self.state.take_replacement() {
                // The new destination gets the whole line.
                (self.destination, done) = (destination, 0);
            }
        }
        self.within_line = false;
        line.written = true;
    }

    fn failed(&mut self, error: io::Error) {
        let is_first = self.state.write_failed(&error);
        if is_first && self.failing_told_at.is_none_or(|at| at.elapsed() >= FAILING_EVERY) {
            self.failing_told_at = Some(Instant::now());
            (self.reporter)(WriterReport::Failing(error));
        }
    }

    fn take_replacement(&mut self) {
        if let Some(destination) = self.state.take_replacement() {
            (self.destination, self.within_line) = (destination, false);
        }
    }

    fn missed(&self) -> MissedLines {
        MissedLines::between(&self.reported, &self.state.status())
    }

    /// Reports losses after a line was written; rate-limited for floods.
    fn report_missed(&mut self) {
        let now = self.state.status();
        let missed = MissedLines::between(&self.reported, &now);
        let too_early = self.reported_at.is_some_and(|at| at.elapsed() < REPORT_EVERY);
        if missed == MissedLines::default() || too_early {
            return;
        }
        (self.reported, self.reported_at) = (now, Some(Instant::now()));
        (self.reporter)(WriterReport::Missed(missed));
    }
}

/// A line taken from the channel. Counted as lost if a panic drops it.
struct LineInProgress {
    line: LogLine,
    state: Arc<QueueState>,
    written: bool,
}

impl Drop for LineInProgress {
    fn drop(&mut self) {
        if self.written {
            self.state.written(&self.line);
        } else {
            self.state.lose(&self.line);
        }
    }
}

#[cfg(test)]
mod tests;
