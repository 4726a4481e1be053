//! What is to happen, in the order of its time; what has the same time happens in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::happening::Happening;

struct Entry {
    at_ms: u64,
    number: u64,
    what: Happening,
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.at_ms, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The heap of events, and virtual time.
#[derive(Default)]
pub(super) struct Timeline {
    now_ms: u64,
    planned: u64,
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Timeline {
    /// Milliseconds since the world began.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Plans something in so many milliseconds.
    pub(super) fn after(&mut self, delay_ms: u64, what: Happening) {
        self.at(self.now_ms + delay_ms, what);
    }

    /// Plans something for then, or for now where that has passed.
    pub(super) fn at(&mut self, at_ms: u64, what: Happening) {
        self.planned += 1;
        let entry = Entry { at_ms: at_ms.max(self.now_ms), number: self.planned, what };
        self.heap.push(Reverse(entry));
    }

    /// Goes on to what comes next, up to `end_ms`.
    pub(super) fn next(&mut self, end_ms: u64) -> Option<Happening> {
        if self.heap.peek().is_none_or(|Reverse(entry)| entry.at_ms > end_ms) {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.now_ms = entry.at_ms;
        Some(entry.what)
    }
}
