//! One site's session: its subscriptions, and the QoS 1 messages that it is owed.

use super::limits::Limits;
use super::outbox::Outbox;
use super::packet::{Qos, WillPacket};
use super::reply::{Sending, publish_head};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// Number of a batch of row writes; batches commit in order.
pub(super) type Batch = u64;

/// A message from the hub, shared by all who get it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    /// The hub keeps it as the topic's retained message, which is where a restart finds it again.
    pub(super) retained: bool,
}

/// One QoS 1 message on its way to one site.
#[derive(Debug)]
struct Delivery {
    seq: u64,
    message: Message,
    /// The retain flag on the wire.
    retain: bool,
    /// It may be sent once this batch is committed.
    after: Batch,
    /// Given when it is first sent in this process.
    packet_id: Option<u16>,
    /// Sent on the connection that is open now.
    on_wire: bool,
    /// Sent before, perhaps by an earlier process.
    duplicate: bool,
    /// It has a row of its own.
    stored: bool,
}

/// A site's connection, as its session sees it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) connection: u64,
    pub(super) outbox: Arc<Outbox>,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: u32,
    pub(super) keep_alive_s: u16,
    pub(super) since: Instant,
}

/// What a subscription was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
}

/// A site's session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) attached: Option<Attached>,
    pub(super) subscriptions: BTreeMap<Arc<str>, Subscription>,
    pub(super) expiry_s: u32,
    /// When it ends, if its site does not come back; only without a connection.
    pub(super) ends_at: Option<Instant>,
    pub(super) will: Option<WillPacket>,
    /// When the will of a lost connection is due.
    pub(super) will_due: Option<Instant>,
    /// It was loaded, so retained messages queued before the hub's end are to be queued again.
    pub(super) loaded: bool,
    queue: VecDeque<Delivery>,
    queued_bytes: usize,
    last_seq: u64,
    last_packet_id: u16,
}

/// Rows of deliveries that a change of the queue made superfluous, by place.
pub(super) type Dropped = Vec<u64>;

impl Session {
    /// Tells whether it has rows: it outlives its connection.
    pub(super) fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// Queues a message that was loaded, which an earlier process may have sent.
    pub(super) fn restore(&mut self, seq: u64, message: Message) {
        self.last_seq = self.last_seq.max(seq);
        self.queued_bytes += message.payload.len();
        self.queue.push_back(Delivery {
            seq,
            message,
            retain: false,
            after: 0,
            packet_id: None,
            on_wire: false,
            duplicate: true,
            stored: true,
        });
    }

    /// Queues a message; returns its place, and the rows that it pushed out.
    ///
    /// Only the newest retained message of a topic matters, so it takes the place of an unsent older one:
    /// a site that was away for a month gets one assignment, not the history. When the queue is full the
    /// oldest unsent message goes, because newer ones of the hub's topics supersede older ones.
    pub(super) fn enqueue(
        &mut self,
        message: Message,
        retain: bool,
        after: Batch,
        stored: bool,
        limits: &Limits,
    ) -> (u64, Dropped) {
        if message.retained
            && let Some(older) = self.queue.iter_mut().find(|delivery| {
                delivery.packet_id.is_none()
                    && delivery.message.retained
                    && delivery.message.topic == message.topic
            })
        {
            self.queued_bytes = self.queued_bytes - older.message.payload.len() + message.payload.len();
            older.message = message;
            older.after = older.after.max(after);
            return (older.seq, Vec::new());
        }
        self.last_seq += 1;
        let seq = self.last_seq;
        self.queued_bytes += message.payload.len();
        self.queue.push_back(Delivery {
            seq,
            message,
            retain,
            after,
            packet_id: None,
            on_wire: false,
            duplicate: false,
            stored,
        });
        let mut dropped = Vec::new();
        while self.queue.len() > limits.queued_messages_per_site_max
            || self.queued_bytes > limits.queued_bytes_per_site_max
        {
            let oldest = self.queue.iter().position(|delivery| delivery.packet_id.is_none());
            // The newest, just queued, stays even when it alone is over the bound.
            let Some(index) = oldest.filter(|&index| index + 1 < self.queue.len()) else { break };
            dropped.extend(self.remove(index));
        }
        (seq, dropped)
    }

    /// Drops an unsent retained message of a topic whose retained message is cleared.
    pub(super) fn retract(&mut self, topic: &str) {
        let index = self.queue.iter().position(|delivery| {
            delivery.packet_id.is_none() && delivery.message.retained && &*delivery.message.topic == topic
        });
        if let Some(index) = index {
            self.remove(index);
        }
    }

    /// Sends what may be sent: committed, in order, within the site's window and the bytes in flight.
    ///
    /// Returns the rows of messages that the site's own packet limit keeps from ever being sent.
    pub(super) fn pump(&mut self, committed: Batch, limits: &Limits) -> Dropped {
        let mut dropped = Vec::new();
        let Some(attached) = &self.attached else { return dropped };
        let window = usize::from(attached.receive_maximum.min(limits.in_flight_max));
        let outbox = attached.outbox.clone();
        let packet_bytes_max = attached.packet_bytes_max as usize;
        let on_wire = self.queue.iter().filter(|delivery| delivery.on_wire);
        let (mut count, mut bytes) =
            on_wire.fold((0, 0), |(count, bytes), d| (count + 1, bytes + d.message.payload.len()));
        let mut index = 0;
        while index < self.queue.len() {
            let delivery = &self.queue[index];
            if delivery.on_wire {
                index += 1;
                continue;
            }
            let size = delivery.message.payload.len();
            let full = count >= window || count > 0 && bytes + size > limits.in_flight_bytes_max;
            if full || delivery.after > committed {
                break;
            }
            let packet_id = match delivery.packet_id {
                Some(id) => id,
                None => self.free_packet_id(),
            };
            let delivery = &mut self.queue[index];
            let sending = Sending {
                packet_id: Some(packet_id),
                retain: delivery.retain,
                duplicate: delivery.duplicate,
            };
            let head = publish_head(&delivery.message.topic, size, sending);
            if head.len() + size > packet_bytes_max {
                // The standard: act as if it were sent.
                dropped.extend(self.remove(index));
                continue;
            }
            delivery.packet_id = Some(packet_id);
            delivery.on_wire = true;
            delivery.duplicate = true;
            outbox.push_reliable(head, delivery.message.payload.clone());
            count += 1;
            bytes += size;
            index += 1;
        }
        dropped
    }

    /// Takes the site's acknowledgement; returns the row that it frees.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> Dropped {
        let index =
            self.queue.iter().position(|delivery| delivery.on_wire && delivery.packet_id == Some(packet_id));
        index.map(|index| self.remove(index)).unwrap_or_default()
    }

    /// Forgets that anything is on the wire, because the wire is gone.
    pub(super) fn detach(&mut self) {
        self.attached = None;
        for delivery in &mut self.queue {
            delivery.on_wire = false;
        }
    }

    /// Returns the places of all deliveries that have rows.
    pub(super) fn stored_places(&self) -> impl Iterator<Item = u64> {
        self.queue.iter().filter(|delivery| delivery.stored).map(|delivery| delivery.seq)
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    fn remove(&mut self, index: usize) -> Dropped {
        let Some(delivery) = self.queue.remove(index) else { return Vec::new() };
        self.queued_bytes -= delivery.message.payload.len();
        if self.queue.is_empty() {
            self.queue = VecDeque::new(); // most sites are owed nothing most of the time
        }
        if delivery.stored { vec![delivery.seq] } else { Vec::new() }
    }

    /// Returns a packet identifier that no delivery uses; the queue is far shorter than their number.
    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = Some(self.last_packet_id);
            if !self.queue.iter().any(|delivery| delivery.packet_id == id) {
                return self.last_packet_id;
            }
        }
    }
}
