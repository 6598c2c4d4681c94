//! Bounded queue between logging code and the writer thread. A push copies the line and returns; it never
//! waits, fails or panics. Lines without room are counted as lost.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Longest time for one write before the destination counts as stalled.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Channel entries in addition to lines: requests to flush and to change the destination.
const CONTROL_ENTRIES: usize = 16;

/// Value of `last_error` if the last write succeeded.
const NO_ERROR: i32 = 0;

/// Value of `last_error` for an error without an operating system number.
const OTHER_ERROR: i32 = -1;

/// Class of a line. Each class has its own share of the queue, so that a flood of one does not displace
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Ordinary log line.
    Ordinary,
    /// Audit record of a client whose token was verified.
    Audit,
    /// Audit record of a client whose token was not verified.
    UnverifiedAudit,
    /// Report about the log itself, panic message, or last message of the process.
    Notice,
}

impl LineKind {
    const ALL: [Self; 4] = [Self::Ordinary, Self::Audit, Self::UnverifiedAudit, Self::Notice];

    /// Most lines and most bytes of this class in the queue.
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Ordinary => (4_096, 1024 * 1024),
            Self::Audit => (8_192, 4 * 1024 * 1024),
            Self::UnverifiedAudit => (2_048, 1024 * 1024),
            Self::Notice => (64, 256 * 1024),
        }
    }

    /// True for audit records.
    pub fn is_audit(self) -> bool {
        matches!(self, Self::Audit | Self::UnverifiedAudit)
    }
}

/// Space reserved for an audit record in a queue that is not full. Records have about 1 KiB, and their fields
/// are cut.
const AUDIT_RESERVE: usize = 16 * 1024;

/// Entry of the channel.
pub(super) enum QueueEntry {
    /// A line to write.
    Line(LogLine),
    /// Request to answer when all earlier entries are written.
    Flush(SyncSender<()>),
    /// Notice of a new destination.
    Replaced,
}

/// A line with its newline.
pub(super) struct LogLine {
    pub(super) kind: LineKind,
    pub(super) bytes: Box<[u8]>,
}

/// Sending side of the queue. The writer ends when the last sender is dropped.
#[derive(Debug)]
pub struct LogQueue {
    entries: SyncSender<QueueEntry>,
    state: Arc<QueueState>,
}

/// Counters of one class.
#[derive(Debug, Default)]
struct ClassCounts {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Counters and state shared by both sides.
pub(super) struct QueueState {
    started: Instant,
    shares: [ClassCounts; LineKind::ALL.len()],
    failed_writes: AtomicU64,
    /// Number of the last write's error, [`OTHER_ERROR`] or [`NO_ERROR`].
    last_error: AtomicI32,
    /// Milliseconds from `started` to the last progress of the current write; 0 without one.
    progress: AtomicU64,
    writer_panics: AtomicU64,
    /// New destination, if any.
    replacement: Mutex<Option<Box<dyn io::Write + Send>>>,
    writer: OnceLock<Thread>,
}

/// Snapshot of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Waiting lines.
    pub lines: usize,
    /// Bytes of waiting lines.
    pub bytes: usize,
    /// Ordinary lines and notices lost since start because the queue was full.
    pub lost_lines: u64,
    /// Audit records lost since start because the queue was full.
    pub lost_records: u64,
    /// Failed writes since start; a failed line is retried.
    pub failed_writes: u64,
    /// Panics of the writer, which continued after each.
    pub writer_panics: u64,
}

/// Reason why audit records cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditBlocked {
    /// The last write failed.
    #[error("the last write failed: {0}")]
    Failed(io::Error),
    /// A write has taken longer than [`STALL_LIMIT`].
    #[error("the reader or the disk is stalled: a write takes longer than {} s", STALL_LIMIT.as_secs())]
    Stalled,
    /// The share of audit records is full.
    #[error("the queue is full with {0} audit records")]
    Full(usize),
}

impl LogQueue {
    /// Shared state and sending side. The writer receives from `entries`.
    pub(super) fn new(entries: SyncSender<QueueEntry>) -> Self {
        Self { entries, state: Arc::default() }
    }

    /// Capacity of the channel. Suffices for every line that has room in its share.
    pub(super) fn capacity() -> usize {
        LineKind::ALL.iter().map(|kind| kind.bounds().0).sum::<usize>() + CONTROL_ENTRIES
    }

    pub(super) fn state(&self) -> &Arc<QueueState> {
        &self.state
    }

    /// Queues a line, or counts it as lost.
    pub fn push(&self, kind: LineKind, line: &[u8]) {
        let share = self.state.share(kind);
        if !share.reserve(kind, line.len()) {
            share.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(
            TrySendError::Full(QueueEntry::Line(line)) | TrySendError::Disconnected(QueueEntry::Line(line)),
        ) = self.entries.try_send(QueueEntry::Line(LogLine { kind, bytes: line.into() }))
        {
            self.state.lose(&line);
        }
    }

    /// Requests a notification when all waiting lines are written; `None` if the request cannot be queued.
    pub(super) fn ask_to_flush(&self) -> Option<std::sync::mpsc::Receiver<()>> {
        let (done, flushed) = std::sync::mpsc::sync_channel(1);
        self.entries.try_send(QueueEntry::Flush(done)).ok()?;
        Some(flushed)
    }

    /// Writes waiting and future lines to `destination`.
    pub fn redirect(&self, destination: Box<dyn io::Write + Send>) {
        *lock(&self.state.replacement) = Some(destination);
        // Wakes a writer that waits for lines or pauses after a failure. Neither is required, because it
        // checks for a new destination before each attempt.
        let _ = self.entries.try_send(QueueEntry::Replaced);
        if let Some(writer) = self.state.writer.get() {
            writer.unpark();
        }
    }

    /// Checks that lines can be written: the last write succeeded and none is stalled.
    pub fn writable(&self) -> Result<(), AuditBlocked> {
        match self.state.last_error() {
            Some(error) => Err(AuditBlocked::Failed(error)),
            None if self.state.is_stalled() => Err(AuditBlocked::Stalled),
            None => Ok(()),
        }
    }

    /// Like [`LogQueue::writable`], and checks for room for audit records.
    pub fn audit_writable(&self) -> Result<(), AuditBlocked> {
        self.writable()?;
        let share = self.state.share(LineKind::Audit);
        let (lines, bytes) = LineKind::Audit.bounds();
        let waiting = share.lines.load(Ordering::Relaxed);
        if waiting >= lines || share.bytes.load(Ordering::Relaxed) + AUDIT_RESERVE > bytes {
            return Err(AuditBlocked::Full(waiting));
        }
        Ok(())
    }

    /// Counters and depth.
    pub fn status(&self) -> QueueStatus {
        self.state.status()
    }
}

impl Default for QueueState {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            shares: Default::default(),
            failed_writes: AtomicU64::new(0),
            last_error: AtomicI32::new(NO_ERROR),
            progress: AtomicU64::new(0),
            writer_panics: AtomicU64::new(0),
            replacement: Mutex::default(),
            writer: OnceLock::new(),
        }
    }
}

impl std::fmt::Debug for QueueState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status().fmt(f)
    }
}

impl QueueState {
    #[expect(clippy::indexing_slicing, reason = "as many shares as classes")]
    fn share(&self, kind: LineKind) -> &ClassCounts {
        &self.shares[kind as usize]
    }

    pub(super) fn status(&self) -> QueueStatus {
        let mut status = QueueStatus {
            failed_writes: self.failed_writes.load(Ordering::Relaxed),
            writer_panics: self.writer_panics.load(Ordering::Relaxed),
            ..QueueStatus::default()
        };
        for kind in LineKind::ALL {
            let share = self.share(kind);
            status.lines += share.lines.load(Ordering::Relaxed);
            status.bytes += share.bytes.load(Ordering::Relaxed);
            let lost = share.lost.load(Ordering::Relaxed);
            *(if kind.is_audit() { &mut status.lost_records } else { &mut status.lost_lines }) += lost;
        }
        status
    }

    /// Registers the writer's thread, to be woken.
    pub(super) fn writer_is(&self, thread: Thread) {
        let _ = self.writer.set(thread); // set once, by the one writer
    }

    /// The new destination, if any.
    pub(super) fn take_replacement(&self) -> Option<Box<dyn io::Write + Send>> {
        lock(&self.replacement).take()
    }

    /// Records that a write begins or has made progress.
    pub(super) fn progressed(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now.max(1), Ordering::Relaxed);
    }

    /// Records that the line was written.
    pub(super) fn written(&self, line: &LogLine) {
        self.last_error.store(NO_ERROR, Ordering::Relaxed);
        self.progress.store(0, Ordering::Relaxed);
        self.share(line.kind).release(line.bytes.len());
    }

    /// Counts a failed write. Returns true if the previous one succeeded.
    pub(super) fn write_failed(&self, error: &io::Error) -> bool {
        self.failed_writes.fetch_add(1, Ordering::Relaxed);
        let number = error.raw_os_error().unwrap_or(OTHER_ERROR);
        self.last_error.swap(number, Ordering::Relaxed) == NO_ERROR
    }

    /// Counts the line as lost.
    pub(super) fn lose(&self, line: &LogLine) {
        let share = self.share(line.kind);
        share.release(line.bytes.len());
        share.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn writer_panicked(&self) {
        self.progress.store(0, Ordering::Relaxed);
        self.writer_panics.fetch_add(1, Ordering::Relaxed);
    }

    fn last_error(&self) -> Option<io::Error> {
        match self.last_error.load(Ordering::Relaxed) {
            NO_ERROR => None,
            OTHER_ERROR => Some(io::ErrorKind::WriteZero.into()),
            number => Some(io::Error::from_raw_os_error(number)),
        }
    }

    fn is_stalled(&self) -> bool {
        let progress = self.progress.load(Ordering::Relaxed);
        progress != 0 && self.started.elapsed() > Duration::from_millis(progress) + STALL_LIMIT
    }
}

impl ClassCounts {
    fn reserve(&self, kind: LineKind, bytes: usize) -> bool {
        let (most_lines, most_bytes) = kind.bounds();
        let within = |counter: &AtomicUsize, more: usize, most: usize| {
            let add = |now: usize| now.checked_add(more).filter(|sum| *sum <= most);
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
        };
        if !within(&self.lines, 1, most_lines) {
            return false;
        }
        let fits = within(&self.bytes, bytes, most_bytes);
        if !fits {
            self.lines.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    fn release(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
