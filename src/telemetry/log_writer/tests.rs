//! Destinations that fail, stall, take half a line and panic, step by step.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::sync::lock;
use crate::telemetry::log_queue::{AuditBlocked, LineKind};

/// Longest wait of a test for a thread; it is for a broken build.
const PATIENCE: Duration = Duration::from_mins(1);

/// Result of one write.
enum Step {
    Take(usize),
    Fail(i32),
    Panic,
}

/// Destination whose writes wait to be told how they end; without a teller they succeed.
struct Stepped {
    steps: Receiver<Step>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Stepped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = match self.steps.recv() {
            Ok(Step::Fail(number)) => return Err(io::Error::from_raw_os_error(number)),
            Ok(Step::Panic) => panic!("the destination panics"),
            Ok(Step::Take(most)) => bytes.len().min(most),
            Err(_) => bytes.len(),
        };
        lock(&self.taken).extend_from_slice(&bytes[..take]);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Stage {
    queue: Arc<LogQueue>,
    steps: Sender<Step>,
    taken: Arc<Mutex<Vec<u8>>>,
    reports: Receiver<WriterReport>,
}

fn stepped() -> (Stepped, Sender<Step>, Arc<Mutex<Vec<u8>>>) {
    let ((steps, receiver), taken) = (channel(), Arc::default());
    (Stepped { steps: receiver, taken: Arc::clone(&taken) }, steps, taken)
}

impl Stage {
    fn new() -> Self {
        let (destination, steps, taken) = stepped();
        let (told, reports) = channel();
        let reporter = Box::new(move |report| told.send(report).unwrap_or_default());
        Self { queue: start("test-writer", Box::new(destination), reporter).unwrap(), steps, taken, reports }
    }

    fn push(&self, kind: LineKind, text: &str) {
        self.queue.push(kind, text.as_bytes());
    }

    /// From here on all writes succeed; gives what was taken when all is written.
    fn ended(self) -> (String, Receiver<WriterReport>) {
        drop(self.steps);
        flush([&*self.queue], PATIENCE);
        assert_eq!((self.queue.status().lines, self.queue.status().bytes), (0, 0));
        (String::from_utf8(self.taken.lock().unwrap().clone()).unwrap(), self.reports)
    }
}

/// Waits until the queue's state is as wanted.
fn until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "never happened: {what}");
        thread::yield_now();
    }
}

#[test]
fn a_full_queue_loses_what_is_new_counts_it_and_says_so() {
    let stage = Stage::new();
    let (most, _) = LineKind::Ordinary.bounds();
    let lines: Vec<_> = (0..most + 10).map(|number| format!("{number}\n")).collect();
    for line in &lines {
        stage.push(LineKind::Ordinary, line);
    }
    // A flood of lines takes nothing from audit records, and those of strangers nothing from those of people.
    stage.push(LineKind::UnverifiedAudit, "stranger\n");
    stage.push(LineKind::Audit, "record\n");
    stage.push(LineKind::Notice, "notice\n");
    let status = stage.queue.status();
    assert_eq!((status.lines, status.lost_lines, status.lost_records), (most + 3, 10, 0));
    let (text, reports) = stage.ended();
    let mut wanted = lines[..most].concat();
    wanted.push_str("stranger\nrecord\nnotice\n");
    assert_eq!(text, wanted);
    let Ok(WriterReport::Missed(missed)) = reports.recv_timeout(PATIENCE) else { panic!("no report") };
    assert_eq!(missed, MissedLines { lines: 10, ..MissedLines::default() });
}

#[test]
fn bytes_are_bounded_too_and_records_of_strangers_leave_room_for_those_of_people() {
    let stage = Stage::new();
    for kind in [LineKind::Ordinary, LineKind::UnverifiedAudit, LineKind::Audit, LineKind::Notice] {
        let (_, most) = kind.bounds();
        let line = "x".repeat(most / 4);
        (0..5).for_each(|_| stage.push(kind, &line));
        stage.push(kind, &"x".repeat(most + 1));
    }
    let status = stage.queue.status();
    assert_eq!((status.lines, status.lost_lines, status.lost_records), (16, 4, 4));
    assert!(matches!(stage.queue.audit_writable(), Err(AuditBlocked::Full(4))));
    assert!(stage.queue.writable().is_ok());
    stage.ended();
}

#[test]
fn a_failed_write_is_tried_again_and_nothing_is_lost() {
    let stage = Stage::new();
    stage.push(LineKind::Audit, "first\n");
    stage.push(LineKind::Audit, "second\n");
    let no_space = 28; // ENOSPC
    for step in [Step::Fail(no_space), Step::Take(2), Step::Fail(no_space)] {
        stage.steps.send(step).unwrap();
    }
    until("two failures", || stage.queue.status().failed_writes == 2);
    let Err(AuditBlocked::Failed(error)) = stage.queue.audit_writable() else { panic!("writable") };
    assert_eq!(error.raw_os_error(), Some(no_space));
    let Ok(WriterReport::Failing(error)) = stage.reports.recv_timeout(PATIENCE) else { panic!("no report") };
    assert_eq!(error.raw_os_error(), Some(no_space));
    let queue = Arc::clone(&stage.queue);
    let (text, reports) = stage.ended();
    assert_eq!(text, "first\nsecond\n");
    assert!(queue.audit_writable().is_ok(), "it recovers by itself");
    let Ok(WriterReport::Missed(missed)) = reports.recv_timeout(PATIENCE) else { panic!("no report") };
    assert_eq!(missed, MissedLines { failed_writes: 2, ..MissedLines::default() });
}

#[test]
fn a_new_destination_gets_the_whole_of_a_line_that_the_old_one_has_half_taken() {
    let stage = Stage::new();
    stage.push(LineKind::Audit, "first\n");
    for step in [Step::Take(2), Step::Fail(28)] {
        stage.steps.send(step).unwrap();
    }
    until("a failure", || stage.queue.status().failed_writes == 1);
    let (next, _, taken) = stepped();
    stage.queue.redirect(Box::new(next));
    flush([&*stage.queue], PATIENCE);
    assert_eq!(*taken.lock().unwrap(), b"first\n");
    // One that waits for lines takes it at once, and lets go of the old one.
    let (last, _, taken) = stepped();
    stage.queue.redirect(Box::new(last));
    stage.push(LineKind::Audit, "second\n");
    flush([&*stage.queue], PATIENCE);
    assert_eq!(*taken.lock().unwrap(), b"second\n");
}

#[test]
fn a_panic_of_the_destination_costs_one_line_and_not_the_writer() {
    let stage = Stage::new();
    stage.push(LineKind::Audit, "first\n");
    stage.push(LineKind::Audit, "second\n");
    for step in [Step::Take(2), Step::Panic] {
        stage.steps.send(step).unwrap();
    }
    until("the panic", || stage.queue.status().writer_panics == 1);
    assert_eq!(stage.queue.status().lost_records, 1);
    assert_eq!(stage.ended().0, "fi\nsecond\n", "the next line is a line of its own");
}

#[test]
fn a_push_and_a_flush_do_not_wait_for_a_destination_that_stalls() {
    let stage = Stage::new();
    stage.push(LineKind::Ordinary, "stuck\n");
    flush([&*stage.queue], Duration::from_millis(1));
    for _ in 0..2 * LogQueue::capacity() {
        stage.push(LineKind::Ordinary, "more\n");
    }
    // Requests to flush are bounded too.
    (0..100).for_each(|_| flush([&*stage.queue], Duration::ZERO));
    assert_eq!(stage.taken.lock().unwrap().len(), 0);
    drop(stage.steps);
    until("all is written", || stage.queue.status().lines == 0);
}
