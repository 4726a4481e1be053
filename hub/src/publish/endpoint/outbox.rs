//! What waits for one connection's socket, bounded in bytes.
//!
//! Everybody who has something for a site puts it here and never waits; the connection's own task takes it
//! out. Two lanes: answers and QoS 1 go first, so that a megabyte of pieces never delays an assignment.

use super::limits::Limits;
use super::reason::Reason;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// One packet, or its head and the payload that it shares with other connections.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) head: Bytes,
    pub(super) payload: Bytes,
    answer: bool,
}

impl Chunk {
    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

#[derive(Debug, Default)]
struct Lanes {
    urgent: VecDeque<Chunk>,
    bulk: VecDeque<Chunk>,
    bytes: usize,
    answer_bytes: usize,
    closing: Option<Reason>,
    waker: Option<Waker>,
}

/// The queue between the hub and one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    lanes: Mutex<Lanes>,
    bytes_max: usize,
    answer_bytes_max: usize,
    /// Milliseconds on the endpoint's clock when the peer was last heard.
    heard_ms: AtomicU64,
    dropped: AtomicU64,
}

impl Outbox {
    pub(super) fn new(limits: &Limits, now_ms: u64) -> Self {
        Self {
            lanes: Mutex::default(),
            bytes_max: limits.send_buffer_bytes_max,
            answer_bytes_max: limits.unread_answers_bytes_max,
            heard_ms: AtomicU64::new(now_ms),
            dropped: AtomicU64::new(0),
        }
    }

    /// Queues an answer. It is always taken: [`Outbox::is_unread`] stops the questions instead.
    pub(super) fn push_answer(&self, packet: Bytes) {
        let mut lanes = self.lanes();
        lanes.answer_bytes += packet.len();
        lanes.bytes += packet.len();
        lanes.urgent.push_back(Chunk { head: packet, payload: Bytes::new(), answer: true });
        wake(lanes);
    }

    /// Queues a QoS 1 message. It is always taken: the session bounds what is in flight.
    pub(super) fn push_reliable(&self, head: Bytes, payload: Bytes) {
        let mut lanes = self.lanes();
        let chunk = Chunk { head, payload, answer: false };
        lanes.bytes += chunk.len();
        lanes.urgent.push_back(chunk);
        wake(lanes);
    }

    /// Queues a QoS 0 message if there is room, and tells whether there was.
    pub(super) fn push_droppable(&self, head: Bytes, payload: Bytes) -> bool {
        let mut lanes = self.lanes();
        let chunk = Chunk { head, payload, answer: false };
        if lanes.bytes + chunk.len() > self.bytes_max {
            drop(lanes);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        lanes.bytes += chunk.len();
        lanes.bulk.push_back(chunk);
        wake(lanes);
        true
    }

    /// Asks the connection to end with this reason; the first one asked stands.
    pub(super) fn close(&self, reason: Reason) {
        let mut lanes = self.lanes();
        lanes.closing.get_or_insert(reason);
        wake(lanes);
    }

    /// Remembers whom to wake, and returns why the connection is to end, if it is.
    pub(super) fn register(&self, waker: &Waker) -> Option<Reason> {
        let mut lanes = self.lanes();
        match &mut lanes.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        lanes.closing
    }

    /// Takes the next packet to write.
    pub(super) fn pop(&self) -> Option<Chunk> {
        let mut lanes = self.lanes();
        let Lanes { urgent, bulk, .. } = &mut *lanes;
        let lane = if urgent.is_empty() { bulk } else { urgent };
        let chunk = lane.pop_front()?;
        if lane.is_empty() {
            *lane = VecDeque::new(); // an idle connection holds no queue
        }
        lanes.bytes -= chunk.len();
        if chunk.answer {
            lanes.answer_bytes -= chunk.len();
        }
        Some(chunk)
    }

    /// Drops all that waits, before a last word.
    pub(super) fn clear(&self) {
        let mut lanes = self.lanes();
        *lanes = Lanes { closing: lanes.closing, waker: lanes.waker.take(), ..Lanes::default() };
    }

    /// Tells whether the peer leaves its answers unread, so that it must not be read from.
    pub(super) fn is_unread(&self) -> bool {
        self.lanes().answer_bytes > self.answer_bytes_max
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.lanes().bytes
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn hear(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the connection after the lock is gone, so that it does not wake into a held one.
fn wake(mut lanes: MutexGuard<'_, Lanes>) {
    let waker = lanes.waker.take();
    drop(lanes);
    if let Some(waker) = waker {
        waker.wake();
    }
}
