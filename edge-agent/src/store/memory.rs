//! The store in memory, for simulated sites: the same contract, no disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use airlift_bundles::ids::{RandomId, Sha256Digest};

use crate::core::write::{BlobRow, OutboxRow, ReceiptRow, Rows, TransferRow, Write};
use crate::ports::Boxed;
use crate::ports::store::{Store, StoreError};

/// Rows in memory; they live as long as this does, so a simulated restart hands the same one to the next process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    rows: Rows,
    receipts: BTreeMap<(RandomId, u64), ReceiptRow>,
    blobs: BTreeMap<Sha256Digest, BlobRow>,
    transfers: BTreeMap<Sha256Digest, TransferRow>,
}

impl Kept {
    fn apply(&mut self, write: Write) {
        self.rows.apply(&write);
        match write {
            Write::AppendReceipt(row) => {
                self.receipts.insert((row.chain_id.clone(), row.seq), row);
            }
            Write::ReceiptAcked { chain_id, upto } => {
                for (_, row) in self.receipts.range_mut((chain_id.clone(), 0)..=(chain_id, upto)) {
                    row.acked = true;
                }
            }
            Write::DropReceipts { chain_id, below } => {
                self.receipts.retain(|(chain, seq), _| *chain != chain_id || *seq >= below);
            }
            Write::PutTransfer(row) => drop(self.transfers.insert(row.sha256, row)),
            Write::DropTransfer(sha256) => drop(self.transfers.remove(&sha256)),
            Write::PutBlob(row) => drop(self.blobs.insert(row.sha256, row)),
            Write::DropBlob(sha256) => drop(self.blobs.remove(&sha256)),
            _ => {}
        }
    }
}

/// A copy is another disk with the same rows.
impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { kept: Mutex::new(self.kept().clone()) }
    }
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere cannot leave it half written: each write is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is there already.
fn ready<T: Send + 'static>(answer: T) -> Boxed<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Store for MemoryStore {
    fn commit(&self, writes: Vec<Write>) -> Boxed<'static, Result<(), StoreError>> {
        let mut kept = self.kept();
        for write in writes {
            kept.apply(write);
        }
        ready(())
    }

    fn load(&self) -> Boxed<'_, Result<Rows, StoreError>> {
        ready(self.kept().rows.clone())
    }

    fn content(&self) -> Boxed<'_, Result<(Vec<BlobRow>, Vec<TransferRow>), StoreError>> {
        let kept = self.kept();
        ready((kept.blobs.values().copied().collect(), kept.transfers.values().cloned().collect()))
    }

    fn receipts(
        &self,
        chain_id: RandomId,
        from: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Boxed<'_, Result<Vec<ReceiptRow>, StoreError>> {
        let kept = self.kept();
        if from > upto {
            return ready(Vec::new());
        }
        let mut size = 0;
        let fits = |(at, row): &(usize, &ReceiptRow)| {
            size += row.envelope.len();
            *at == 0 || size <= bytes_max
        };
        let chain = kept.receipts.range((chain_id.clone(), from)..=(chain_id, upto)).map(|(_, row)| row);
        ready(chain.enumerate().take_while(fits).map(|(_, row)| row.clone()).collect())
    }

    fn outbox(&self, key: &str) -> Boxed<'_, Result<Option<OutboxRow>, StoreError>> {
        ready(self.kept().rows.outbox.get(key).cloned())
    }

    fn document(&self, sha256: Sha256Digest) -> Boxed<'_, Result<Option<Vec<u8>>, StoreError>> {
        ready(self.kept().rows.documents.get(&sha256).map(|row| row.envelope.to_vec()))
    }
}
