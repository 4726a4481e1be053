//! Sends outbox rows: receipts and status, in signed batches that fit a packet, one batch after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlift_bundles::ids::RandomId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire;
use tracing::warn;

use super::{Ports, Site};
use crate::core::event::ConnId;
use crate::core::outbox::{STATUS, seal_batch};
use crate::core::write::MetaRow;
use crate::ports::Link;
use crate::ports::link::Outgoing;
use crate::ports::store::StoreError;

/// Receipts read at once.
const READ_BYTES: usize = 72 << 10;
/// Between two attempts to get into a full queue.
const PAUSE: Duration = Duration::from_millis(100);

/// Rows that the core wants sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) chain_id: RandomId,
    pub(super) from: u64,
    pub(super) upto: u64,
    pub(super) status: bool,
}

impl Range {
    /// Takes in what is due later.
    fn join(self, later: Self) -> Self {
        if self.chain_id != later.chain_id {
            return later; // of this database only its newest chain is still told
        }
        let (from, upto) = (self.from.min(later.from), self.upto.max(later.upto));
        Self { from, upto, status: self.status || later.status, ..later }
    }
}

/// Rows, by whom they are signed, and over which connection they go.
pub(super) struct Due {
    pub(super) conn: ConnId,
    pub(super) meta: MetaRow,
    pub(super) range: Range,
}

/// What waits for the batch before it: a burst of receipts becomes few batches, and as large as the line is slow.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    due: Option<Due>,
    sending: bool,
}

impl Waiting {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing panics while it holds the slot.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is due; answers whether somebody must begin to send.
    pub(super) fn add(&self, due: Due) -> bool {
        let mut slot = self.slot();
        let Due { conn, meta, range } = due;
        let range = match slot.due.take() {
            Some(earlier) if earlier.conn == conn => earlier.range.join(range),
            // What was due over an earlier connection is due again over this one, and is in it.
            _ => range,
        };
        slot.due = Some(Due { conn, meta, range });
        !std::mem::replace(&mut slot.sending, true)
    }

    /// What to send next; nothing ends the sending.
    fn next(&self) -> Option<Due> {
        let mut slot = self.slot();
        slot.sending = slot.due.is_some();
        slot.due.take()
    }
}

/// Why rows were not sent; they stay where they are.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Frame(#[from] wire::WireError),
}

/// Sends until nothing is due.
pub(super) async fn send(site: Site, ports: Ports, waiting: Waiting) {
    while let Some(due) = waiting.next() {
        if let Err(fault) = send_due(&site, &ports, due).await {
            warn!(%fault, "records were not sent and will be offered again");
        }
    }
}

/// Reads the rows, signs them batch by batch, and hands them to the link.
async fn send_due(site: &Site, ports: &Ports, due: Due) -> Result<(), SendError> {
    let Some(link) = &ports.link else { return Ok(()) };
    let Due { conn, meta, range } = due;
    let mut status = if range.status { ports.store.outbox(STATUS).await? } else { None };
    let mut from = range.from;
    while from <= range.upto || status.is_some() {
        let receipts = if from <= range.upto {
            ports.store.receipts(range.chain_id.clone(), from, range.upto, READ_BYTES).await?
        } else {
            Vec::new()
        };
        if receipts.is_empty() && status.is_none() {
            return Ok(()); // dropped since: they were acknowledged
        }
        let (envelope, taken, told) = seal_batch(&site.key, &meta, &receipts, status.as_ref());
        from = receipts.get(taken.saturating_sub(1)).map_or(range.upto + 1, |last| last.seq + 1);
        if told {
            status = None;
        }
        let batch: Arc<[u8]> = wire::frame(&envelope, &Limits::DEFAULT)?.into();
        publish(link.as_ref(), conn, Outgoing::Batch(batch)).await;
    }
    Ok(())
}

/// Waits for room; a connection that is gone has room for everything.
async fn publish(link: &dyn Link, conn: ConnId, message: Outgoing) {
    while link.publish(conn, message.clone()).is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_due_while_a_batch_waits_goes_in_one_range() {
        let range = |chain: u8, from, upto, status| Range {
            chain_id: RandomId::from_bytes([chain; 16]),
            from,
            upto,
            status,
        };
        assert_eq!(range(1, 5, 5, false).join(range(1, 6, 6, false)), range(1, 5, 6, false));
        // A status alone is an empty range.
        assert_eq!(range(1, 7, 6, true).join(range(1, 7, 9, false)), range(1, 7, 9, true));
        assert_eq!(range(1, 5, 9, false).join(range(1, 10, 9, true)), range(1, 5, 9, true));
        // Sent again from the last acknowledged one on.
        assert_eq!(range(1, 8, 9, false).join(range(1, 2, 9, false)), range(1, 2, 9, false));
        assert_eq!(range(1, 5, 9, true).join(range(2, 1, 3, false)), range(2, 1, 3, false));
    }
}
