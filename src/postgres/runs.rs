//! The client's messages that the server has not answered, in order, as runs of one kind.

use std::collections::VecDeque;

/// Most runs that are distinguished. Later ones are counted as [`MessageRun::Either`].
pub(super) const MAX_RUNS: usize = 8_192;

/// Capacity for runs that is kept when nothing waits.
pub(super) const KEPT_RUNS: usize = 32;

/// A run of client messages of one kind, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageRun {
    /// Parse, Bind, Describe, Execute and Close before their Sync.
    Extended(u32),
    /// `count` Syncs, each after `each` messages of the extended protocol, at least one.
    Batches { each: u32, count: u32 },
    /// Query and FunctionCall.
    Queries(u32),
    /// Syncs without preceding messages.
    Syncs(u32),
    /// Batches, Queries and Syncs beyond [`MAX_RUNS`], in unknown order.
    Either(u32),
    /// Syncs that the server may have ignored.
    PerhapsSyncs(u32),
    /// CopyDone and CopyFail: each ends a COPY IN and is otherwise ignored.
    CopyEnds(u32),
}

impl MessageRun {
    /// Most ReadyForQuery messages that the run causes.
    pub(super) fn owed(self) -> u32 {
        match self {
            Self::Extended(_) | Self::CopyEnds(_) => 0,
            Self::Batches { count, .. }
            | Self::Queries(count)
            | Self::Syncs(count)
            | Self::Either(count)
            | Self::PerhapsSyncs(count) => count,
        }
    }

    fn may_begin_copy(self) -> bool {
        match self {
            Self::Extended(_) | Self::Batches { .. } | Self::Queries(_) | Self::Either(_) => true,
            Self::Syncs(_) | Self::PerhapsSyncs(_) | Self::CopyEnds(_) => false,
        }
    }

    /// Joins two runs if they are of one kind, or if there is no room (`full`) for another run. `None` also
    /// if the count overflows.
    fn join(self, next: Self, full: bool) -> Option<Self> {
        use MessageRun as W;
        match (self, next) {
            (W::Extended(count), W::Extended(more)) => count.checked_add(more).map(W::Extended),
            (W::Batches { each, count }, W::Batches { each: same, count: more }) if each == same => {
                count.checked_add(more).map(|count| W::Batches { each, count })
            }
            (W::Queries(count), W::Queries(more)) => count.checked_add(more).map(W::Queries),
            (W::Syncs(count), W::Syncs(more)) => count.checked_add(more).map(W::Syncs),
            (W::CopyEnds(count), W::CopyEnds(more)) => count.checked_add(more).map(W::CopyEnds),
            (
                W::Batches { count, .. } | W::Queries(count) | W::Syncs(count) | W::Either(count),
                W::Batches { count: more, .. } | W::Queries(more) | W::Syncs(more),
            ) if full => count.checked_add(more).map(W::Either),
            _ => None,
        }
    }
}

/// A queue of runs, at most two more than [`MAX_RUNS`]. CopyDone and CopyFail never precede everything that
/// can begin a COPY, because the server ignores them there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RunQueue(VecDeque<MessageRun>);

/// There are more runs, or more messages in a run, than can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

impl RunQueue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn front(&self) -> Option<MessageRun> {
        self.0.front().copied()
    }

    pub(super) fn back(&self) -> Option<MessageRun> {
        self.0.back().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MessageRun> {
        self.0.iter().copied()
    }

    /// Appends a run, joined with the last one if both are of one kind.
    pub(super) fn push(&mut self, run: MessageRun) -> Result<(), TooDeep> {
        // The following Sync makes a batch of it, which the previous run can absorb.
        let begins_batch = matches!(run, MessageRun::Extended(_)) && self.len() == MAX_RUNS;
        let full = self.len() >= MAX_RUNS && !begins_batch;
        if matches!(run, MessageRun::CopyEnds(_)) && !self.iter().any(MessageRun::may_begin_copy) {
            return Ok(());
        }
        match self.0.back_mut() {
            Some(last) if let Some(joined) = last.join(run, full) => *last = joined,
            _ if full => return Err(TooDeep),
            _ => self.0.push_back(run),
        }
        Ok(())
    }

    pub(super) fn push_front(&mut self, run: MessageRun) {
        self.0.push_front(run);
    }

    pub(super) fn pop_front(&mut self) {
        self.0.pop_front();
    }

    pub(super) fn pop_back(&mut self) {
        self.0.pop_back();
    }

    /// Removes one message or batch from the first run.
    pub(super) fn take_front(&mut self) {
        if let Some(
            MessageRun::Extended(count @ 2..)
            | MessageRun::Batches { count: count @ 2.., .. }
            | MessageRun::Queries(count @ 2..)
            | MessageRun::Syncs(count @ 2..)
            | MessageRun::Either(count @ 2..)
            | MessageRun::PerhapsSyncs(count @ 2..)
            | MessageRun::CopyEnds(count @ 2..),
        ) = self.0.front_mut()
        {
            *count -= 1;
        } else {
            self.0.pop_front();
        }
    }

    /// Splits the first of the batches at the front into its messages and its Sync.
    pub(super) fn open_batch(&mut self) {
        if let Some(MessageRun::Batches { each, .. }) = self.front() {
            self.take_front();
            self.0.push_front(MessageRun::Syncs(1));
            self.0.push_front(MessageRun::Extended(each));
        }
    }

    /// Removes the second run if it consists of Syncs, and returns their number.
    pub(super) fn take_syncs_behind_front(&mut self) -> Option<u32> {
        let Some(MessageRun::Syncs(count) | MessageRun::PerhapsSyncs(count)) = self.0.get(1).copied() else {
            return None;
        };
        self.0.remove(1);
        Some(count)
    }

    /// Removes one CopyDone or CopyFail directly after the first run.
    pub(super) fn take_copy_end_behind_front(&mut self) {
        match self.0.get_mut(1) {
            Some(MessageRun::CopyEnds(count @ 2..)) => *count -= 1,
            Some(MessageRun::CopyEnds(_)) => drop(self.0.remove(1)),
            _ => {}
        }
    }

    /// Inserts Syncs that may have been ignored at the front, after those that were not: ReadyForQuery
    /// messages are interchangeable.
    pub(super) fn put_perhaps_syncs(&mut self, count: u32) {
        if count > 0 {
            let sure = |run: &MessageRun| matches!(run, MessageRun::Syncs(_) | MessageRun::CopyEnds(_));
            let place = self.0.iter().take_while(|run| sure(run)).count();
            self.0.insert(place, MessageRun::PerhapsSyncs(count));
        }
    }

    /// Frees memory when nothing waits. Call after a change at the front.
    pub(super) fn tidy(&mut self) {
        let mut at = 0;
        while let Some(run) = self.0.get(at).filter(|run| !run.may_begin_copy()) {
            if matches!(run, MessageRun::CopyEnds(_)) {
                self.0.remove(at);
            } else {
                at += 1;
            }
        }
        if self.0.is_empty() && self.0.capacity() > KEPT_RUNS {
            self.0 = VecDeque::new();
        }
    }
}
