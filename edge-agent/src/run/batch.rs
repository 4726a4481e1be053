//! Sends outbox rows: receipts and status, in signed batches that fit a packet.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::RandomId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire;

use super::{Ports, Site};
use crate::core::event::ConnId;
use crate::core::outbox::{STATUS, seal_batch};
use crate::core::write::MetaRow;
use crate::ports::Link;
use crate::ports::link::{LinkBusy, Outgoing};
use crate::ports::store::StoreError;

/// Receipts read at once.
const READ_BYTES: usize = 72 << 10;
/// Between two attempts to get into a full queue, and how often.
const PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 100;

/// What the core wants sent.
pub(super) struct Range {
    pub(super) chain_id: RandomId,
    pub(super) from: u64,
    pub(super) upto: u64,
    pub(super) status: bool,
}

/// Why rows were not sent; they stay where they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Busy(#[from] LinkBusy),
    #[error(transparent)]
    Frame(#[from] wire::WireError),
}

/// Reads the rows, signs them batch by batch, and hands them to the link.
pub(super) async fn send(
    site: &Site,
    ports: &Ports,
    meta: &MetaRow,
    conn: ConnId,
    range: Range,
) -> Result<(), SendError> {
    let Some(link) = &ports.link else { return Ok(()) };
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
        let (envelope, taken, told) = seal_batch(&site.key, meta, &receipts, status.as_ref());
        from = receipts.get(taken.saturating_sub(1)).map_or(range.upto + 1, |last| last.seq + 1);
        if told {
            status = None;
        }
        let batch: Arc<[u8]> = wire::frame(&envelope, &Limits::DEFAULT)?.into();
        publish(link.as_ref(), conn, Outgoing::Batch(batch)).await?;
    }
    Ok(())
}

async fn publish(link: &dyn Link, conn: ConnId, message: Outgoing) -> Result<(), LinkBusy> {
    for _ in 0..ATTEMPTS {
        if link.publish(conn, message.clone()).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(LinkBusy)
}
