//! Content by digest: the one place that holds blobs.

use std::io::{Read, Seek};
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::ids::{Blake3Digest, Sha256Digest};
use tokio::sync::mpsc;

use super::Boxed;
use crate::core::effect::FetchLimits;
use crate::core::event::{Failure, FailureClass};
use crate::core::object::Generation;

/// The content store: fetch sets by digest, pieces pushed in by links and media, complete blobs out.
///
/// It verifies each piece against the bundle's lists before writing it, syncs data, and then commits bits through
/// the `Store` port, every 8 MiB or second; so a kill costs at most 8 MiB again, whoever carried them.
pub trait Content: Send + Sync {
    /// Makes everything of a bundle that this site's platforms need complete, in the order index, artifact
    /// manifest, piece lists, blobs; dropped before its end it keeps what is committed. Progress is (bytes there,
    /// bytes in all), sent with `try_send` and lost when nobody listens.
    fn fetch(
        &self,
        generation: Arc<Generation>,
        limits: FetchLimits,
        progress: mpsc::Sender<(u64, u64)>,
    ) -> Boxed<'_, Result<(), ContentError>>;

    /// What running fetches miss, most wanted first, at most `count`: links and media serve from this list.
    fn wanted(&self, count: usize) -> Vec<WantedItem>;

    /// Resolves when something has come to be wanted since it last did; for one waiter at a time.
    fn more_wanted(&self) -> Boxed<'_, ()>;

    /// Takes bytes for a wanted item from any carrier, in any order; unwanted ones are dropped unread. It answers
    /// when there is room for more, which is how carriers feel back-pressure.
    fn put(&self, part: Part) -> Boxed<'_, Result<PutOutcome, ContentError>>;

    /// Whether a blob is complete and verified.
    fn held(&self, sha256: &Sha256Digest) -> bool;

    /// Opens a complete blob, verified anew.
    ///
    /// # Errors
    /// Where it is not complete, was damaged since it came, or cannot be read.
    fn open(&self, sha256: &Sha256Digest) -> Result<Box<dyn Blob>, ContentError>;

    /// Takes a blob for missing from now on, because its bytes were found to be others, or gone.
    fn forget(&self, sha256: &Sha256Digest);

    /// Drops blobs that none of these generations needs, and answers with the bytes that were freed.
    fn keep(&self, generations: Vec<Arc<Generation>>) -> Boxed<'_, Result<u64, ContentError>>;
}

/// A verified blob that is open for reading.
pub trait Blob: Read + Seek + Send {}

impl<T: Read + Seek + Send> Blob for T {}

/// An item that a fetch misses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedItem {
    /// Which item.
    pub sha256: Sha256Digest,
    /// Its size where it is known; without a piece list it is at most 1 MiB.
    pub size: Option<u64>,
    /// Bits of the pieces that are there already; empty for an item without a piece list.
    pub bitmap: Vec<u8>,
    /// Count of its pieces; 0 for an item without a piece list.
    pub pieces: u32,
}

/// Bytes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A whole item without a piece list, at most 1 MiB.
    Whole {
        /// The item.
        sha256: Sha256Digest,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// One piece of 64 KiB, or the shorter last one.
    Piece {
        /// The item.
        sha256: Sha256Digest,
        /// Which piece.
        number: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// One piece of an item that is named by its encoding's root.
    Encoded {
        /// The encoding.
        root: Blake3Digest,
        /// Which piece.
        number: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// What became of a [`Part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// Verified and written.
    Taken,
    /// There already, or not wanted.
    Unneeded,
    /// Its bytes are not what the digest says; the carrier is not to be trusted with this item.
    Wrong,
}

/// Content cannot be had, written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ContentError {
    /// Whose fault.
    pub class: FailureClass,
    /// The stable code.
    pub code: Code,
    /// What happened.
    pub reason: String,
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Self { class: error.class, code: error.code, reason: error.reason, evidence: Vec::new() }
    }
}
