//! Rows that outlive a crash.

use airlift_bundles::code::Code;
use airlift_bundles::ids::{RandomId, Sha256Digest};

use super::Boxed;
use crate::core::write::{BlobRow, OutboxRow, ReceiptRow, Rows, TransferRow, Write};

/// Complete blobs, and transfers that are not complete.
pub type HeldContent = (Vec<BlobRow>, Vec<TransferRow>);

/// The store: one writer, group commit, acknowledged after the commit.
///
/// `commit` queues at the call, so the order of calls is the order of commits; a call's writes are never split,
/// and many calls may share a transaction. Its future resolves when they are durable. After one failure every
/// later commit fails too: the caller drops its core, loads again, and goes on from what is on disk.
pub trait Store: Send + Sync {
    /// Queues one step's writes.
    fn commit(&self, writes: Vec<Write>) -> Boxed<'static, Result<(), StoreError>>;

    /// Everything that a core is loaded from; clears the failure that a commit has left.
    fn load(&self) -> Boxed<'_, Result<Rows, StoreError>>;

    /// All complete blobs and all incomplete transfers, for the content task's start.
    fn content(&self) -> Boxed<'_, Result<HeldContent, StoreError>>;

    /// Receipts `from..=upto` of a chain in order, as many as fit into `bytes_max` and at least one.
    fn receipts(
        &self,
        chain_id: RandomId,
        from: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Boxed<'_, Result<Vec<ReceiptRow>, StoreError>>;

    /// The outbox row of a key.
    fn outbox(&self, key: &str) -> Boxed<'_, Result<Option<OutboxRow>, StoreError>>;

    /// A document by its digest.
    fn document(&self, sha256: Sha256Digest) -> Boxed<'_, Result<Option<Vec<u8>>, StoreError>>;
}

/// The store did not do it; nothing of the step is on disk, or nobody can know.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// More steps are queued than may be: wait for one of them, then ask again.
    #[error("the store's queue is full")]
    Busy,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// A row of a newer version, or one that was damaged.
    #[error("row of {table} cannot be read: {reason}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Why.
        reason: String,
    },
    /// The database's file is damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// Another process holds the state directory.
    #[error("{0} is held by another process")]
    Locked(String),
    /// SQLite or the file system failed.
    #[error("database failed: {0}")]
    Failed(String),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Full => Code::DiskFull,
            Self::Corrupt(_) => Code::StoreDamaged,
            Self::Locked(_) => Code::StoreLocked,
            Self::Busy | Self::Damaged { .. } | Self::Failed(_) | Self::Closed => Code::StoreFailed,
        }
    }
}
