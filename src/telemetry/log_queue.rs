//! Bounded queue between the code that logs and the one thread that writes. A push copies the line and returns: it
//! never waits, never fails and never panics. What has no room is counted.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Longest time that a line may be under way to the destination before the destination counts as stalled.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Entries of the channel beyond the lines: requests to flush and to change the destination.
const CONTROL_ENTRIES: usize = 16;

/// `last_error` when no write has failed since the last one that succeeded.
const NO_ERROR: i32 = 0;

/// `last_error` of an error without a number of the operating system.
const OTHER_ERROR: i32 = -1;

/// Class of a line. Each class has a share of the queue of its own, so that a flood of one displaces no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Ordinary log line.
    Ordinary,
    /// Audit record of a client whose token was verified.
    Audit,
    /// Audit record of a client whose token was not verified.
    UnverifiedAudit,
    /// Report about the log itself, message of a panic, or last words of the process.
    Notice,
}

impl LineKind {
    const ALL: [Self; 4] = [Self::Ordinary, Self::Audit, Self::UnverifiedAudit, Self::Notice];

    /// Largest number of lines and of bytes of this class in the queue.
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Ordinary => (4_096, 1024 * 1024),
            Self::Audit => (8_192, 4 * 1024 * 1024),
            Self::UnverifiedAudit => (2_048, 1024 * 1024),
            Self::Notice => (64, 256 * 1024),
        }
    }

    /// Whether it is an audit record.
    pub fn is_audit(self) -> bool {
        matches!(self, Self::Audit | Self::UnverifiedAudit)
    }
}

/// Room that an audit record is sure to find in a queue that is not full; records have about 1 KiB, and their fields
/// are cut.
const AUDIT_RESERVE: usize = 16 * 1024;

/// What is said to the writer.
pub(super) enum QueueEntry {
    /// To be written.
    Line(LogLine),
    /// To be answered when everything before it is written.
    Flush(SyncSender<()>),
    /// There is another destination.
    Replaced,
}

/// One line, with its newline.
pub(super) struct LogLine {
    pub(super) kind: LineKind,
    pub(super) bytes: Box<[u8]>,
}

/// Sending side of the queue. The writer ends when the last one is dropped.
#[derive(Debug)]
pub struct LogQueue {
    entries: SyncSender<QueueEntry>,
    state: Arc<QueueState>,
}

/// Counts of one class.
#[derive(Debug, Default)]
struct ClassCounts {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Counts and state, shared by both sides.
pub(super) struct QueueState {
    started: Instant,
    shares: [ClassCounts; LineKind::ALL.len()],
    failed_writes: AtomicU64,
    /// Number of the last write's error, [`OTHER_ERROR`] or [`NO_ERROR`].
    last_error: AtomicI32,
    /// Milliseconds since `started` at the last progress with the line under way; 0 when none is.
    progress: AtomicU64,
    writer_panics: AtomicU64,
    /// Where to write from now on.
    replacement: Mutex<Option<Box<dyn io::Write + Send>>>,
    writer: OnceLock<Thread>,
}

/// State of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Lines that wait.
    pub lines: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Ordinary lines and notices lost since the start, for want of room.
    pub lost_lines: u64,
    /// Audit records lost since the start, for want of room.
    pub lost_records: u64,
    /// Writes that have failed since the start; a line that fails is tried again.
    pub failed_writes: u64,
    /// Panics of the writer, which went on after each.
    pub writer_panics: u64,
}

/// Why audit records cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditBlocked {
    /// The last write failed.
    #[error("the last write failed: {0}")]
    Failed(io::Error),
    /// A line has been under way for longer than [`STALL_LIMIT`].
    #[error("the reader or the disk is stalled: a write takes longer than {} s", STALL_LIMIT.as_secs())]
    Stalled,
    /// The share of audit records is used up.
    #[error("{0} audit records wait to be written, and there is no room for more")]
    Full(usize),
}

impl LogQueue {
    /// Both sides' common state and the sending side; `entries` leads to the writer.
    pub(super) fn new(entries: SyncSender<QueueEntry>) -> Self {
        Self { entries, state: Arc::default() }
    }

    /// Capacity of the channel: with it a line that has found room in its share finds a place.
    pub(super) fn capacity() -> usize {
        LineKind::ALL.iter().map(|kind| kind.bounds().0).sum::<usize>() + CONTROL_ENTRIES
    }

    pub(super) fn state(&self) -> &Arc<QueueState> {
        &self.state
    }

    /// Takes a line, or counts it as lost.
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

    /// Asks for an answer when everything that waits now is written; `None` when not even that can be asked.
    pub(super) fn ask_to_flush(&self) -> Option<std::sync::mpsc::Receiver<()>> {
        let (done, flushed) = std::sync::mpsc::sync_channel(1);
        self.entries.try_send(QueueEntry::Flush(done)).ok()?;
        Some(flushed)
    }

    /// Lines that wait, and all that come, are written to `destination`.
    pub fn redirect(&self, destination: Box<dyn io::Write + Send>) {
        *self.state.replacement.lock().unwrap_or_else(PoisonError::into_inner) = Some(destination);
        // A writer that waits for lines is told; one that waits after a failure is woken. Neither has to be: the
        // destination is looked for before each try.
        let _ = self.entries.try_send(QueueEntry::Replaced);
        if let Some(writer) = self.state.writer.get() {
            writer.unpark();
        }
    }

    /// Whether lines can be written: the last write succeeded, and none is stalled.
    pub fn writable(&self) -> Result<(), AuditBlocked> {
        match self.state.last_error() {
            Some(error) => Err(AuditBlocked::Failed(error)),
            None if self.state.is_stalled() => Err(AuditBlocked::Stalled),
            None => Ok(()),
        }
    }

    /// As [`LogQueue::writable`]; and there is room for audit records.
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

    /// Counts and depth.
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

    /// The writer's thread, to be woken.
    pub(super) fn writer_is(&self, thread: Thread) {
        let _ = self.writer.set(thread); // set once, by the one writer
    }

    /// The new destination, if there is one.
    pub(super) fn take_replacement(&self) -> Option<Box<dyn io::Write + Send>> {
        self.replacement.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A line is under way, or has made progress.
    pub(super) fn progressed(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now.max(1), Ordering::Relaxed);
    }

    /// The line has left the queue.
    pub(super) fn written(&self, line: &LogLine) {
        self.last_error.store(NO_ERROR, Ordering::Relaxed);
        self.progress.store(0, Ordering::Relaxed);
        self.share(line.kind).release(line.bytes.len());
    }

    /// Counts a failed write; `true` when the one before it succeeded.
    pub(super) fn write_failed(&self, error: &io::Error) -> bool {
        self.failed_writes.fetch_add(1, Ordering::Relaxed);
        let number = error.raw_os_error().unwrap_or(OTHER_ERROR);
        self.last_error.swap(number, Ordering::Relaxed) == NO_ERROR
    }

    /// The line is given up.
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
