//! Pieces: 64 KiB of one item each, so that any carrier may bring any part in any order and every byte is
//! checked before it is written.
//!
//! A piece list is nothing but the BLAKE3 hashes of the pieces, 32 bytes each, in order. It is a blob that the
//! bundle pins by SHA-256, so its length alone says how many pieces there are; a list over 1 MiB is split in
//! order (FORMAT.md, section 5).

use std::ops::Range;

use crate::ids::Blake3Digest;

/// Bytes of every piece but the last.
pub const PIECE_BYTES: usize = 64 << 10;
/// Bytes of one hash in a list.
const HASH_BYTES: usize = 32;
/// A list blob holds at most this many hashes: 1 MiB, which covers 2 GiB of content.
pub const HASHES_PER_LIST: usize = (1 << 20) / HASH_BYTES;

/// A piece, list or bitmap does not fit the item that it is said to belong to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// The list has more or fewer hashes than the item has pieces.
    #[error("piece list of {found} bytes does not fit an item of {size} bytes")]
    ListLength {
        /// Bytes of the list.
        found: usize,
        /// Bytes of the item.
        size: u64,
    },
    /// There is no such piece.
    #[error("piece {piece} is beyond the item's {count}")]
    Beyond {
        /// Number asked for.
        piece: u64,
        /// Pieces of the item.
        count: u64,
    },
    /// The bytes are not those of the list.
    #[error("piece {piece} does not match its hash")]
    Mismatch {
        /// Number of the piece.
        piece: u64,
    },
    /// A bitmap has other bytes than its count of pieces asks for, or a bit set beyond it.
    #[error("bitmap of {found} bytes does not fit {count} pieces")]
    Bitmap {
        /// Bytes found.
        found: usize,
        /// Pieces of the item.
        count: u64,
    },
}

/// How many pieces an item of `size` bytes has.
#[must_use]
pub fn count_pieces(size: u64) -> u64 {
    size.div_ceil(PIECE_BYTES as u64)
}

/// Where piece `piece` of an item of `size` bytes stands, or `None` beyond its end.
#[must_use]
pub fn piece_range(piece: u64, size: u64) -> Option<Range<u64>> {
    let start = piece.checked_mul(PIECE_BYTES as u64).filter(|&start| start < size)?;
    Some(start..size.min(start + PIECE_BYTES as u64))
}

/// The hashes of one item's pieces, known to fit its size.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceList {
    size: u64,
    hashes: Vec<u8>,
}

impl PieceList {
    /// Takes the concatenation of an item's list blobs, each already verified by its digest.
    ///
    /// # Errors
    /// [`PieceError::ListLength`] when they do not fit an item of `size` bytes.
    pub fn new(size: u64, hashes: Vec<u8>) -> Result<Self, PieceError> {
        let fits = count_pieces(size).checked_mul(HASH_BYTES as u64) == Some(hashes.len() as u64);
        if fits {
            Ok(Self { size, hashes })
        } else {
            Err(PieceError::ListLength { found: hashes.len(), size })
        }
    }

    /// Bytes of the item.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many pieces the item has.
    #[must_use]
    pub fn count(&self) -> u64 {
        count_pieces(self.size)
    }

    /// The hash of piece `piece`, or `None` beyond the end.
    #[must_use]
    pub fn hash(&self, piece: u64) -> Option<Blake3Digest> {
        let start = usize::try_from(piece).ok()?.checked_mul(HASH_BYTES)?;
        let bytes = self.hashes.get(start..start.checked_add(HASH_BYTES)?)?;
        bytes.try_into().ok().map(Blake3Digest::from_bytes)
    }

    /// Checks that `bytes` are exactly piece `piece`.
    ///
    /// # Errors
    /// [`PieceError`] when there is no such piece, or its length or hash differs.
    pub fn verify_piece(&self, piece: u64, bytes: &[u8]) -> Result<(), PieceError> {
        let beyond = PieceError::Beyond { piece, count: self.count() };
        let (Some(range), Some(hash)) = (piece_range(piece, self.size), self.hash(piece)) else {
            return Err(beyond);
        };
        let fits = bytes.len() as u64 == range.end - range.start && Blake3Digest::of(bytes) == hash;
        if fits { Ok(()) } else { Err(PieceError::Mismatch { piece }) }
    }

    /// The list as blobs of at most 1 MiB, in order; an empty item has one empty list.
    #[must_use]
    pub fn to_blobs(&self) -> Vec<&[u8]> {
        if self.hashes.is_empty() {
            return vec![&[]];
        }
        self.hashes.chunks(HASHES_PER_LIST * HASH_BYTES).collect()
    }
}

impl std::fmt::Debug for PieceList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceList").field("size", &self.size).field("count", &self.count()).finish()
    }
}

/// Makes a piece list while an item's bytes go by.
#[derive(Debug, Default)]
pub struct PieceHasher {
    hashes: Vec<u8>,
    current: blake3::Hasher,
    current_bytes: usize,
    size: u64,
}

impl PieceHasher {
    /// Takes the next bytes of the item.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = bytes.len().min(PIECE_BYTES - self.current_bytes);
            self.current.update(&bytes[..take]);
            self.current_bytes += take;
            self.size += take as u64;
            bytes = &bytes[take..];
            if self.current_bytes == PIECE_BYTES {
                self.close_piece();
            }
        }
    }

    /// Ends the item.
    #[must_use]
    pub fn finish(mut self) -> PieceList {
        if self.current_bytes > 0 {
            self.close_piece();
        }
        PieceList { size: self.size, hashes: self.hashes }
    }

    fn close_piece(&mut self) {
        self.hashes.extend_from_slice(self.current.finalize().as_bytes());
        self.current.reset();
        self.current_bytes = 0;
    }
}

/// Which pieces of an item are here: piece n is bit n mod 8, least significant first, of byte n / 8.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitmap {
    count: u64,
    bytes: Vec<u8>,
}

impl Bitmap {
    /// Starts with nothing here; `count` comes from a size that the caller has bounded.
    #[must_use]
    pub fn empty(count: u64) -> Self {
        Self { count, bytes: vec![0; usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX)] }
    }

    /// Reads stored or received bytes.
    ///
    /// # Errors
    /// [`PieceError::Bitmap`] when the length differs or a bit beyond the last piece is set.
    pub fn from_bytes(count: u64, bytes: &[u8]) -> Result<Self, PieceError> {
        let fits = bytes.len() as u64 == count.div_ceil(8);
        let spare = count % 8;
        let clean = spare == 0 || bytes.last().is_none_or(|last| last >> spare == 0);
        if fits && clean {
            Ok(Self { count, bytes: bytes.to_vec() })
        } else {
            Err(PieceError::Bitmap { found: bytes.len(), count })
        }
    }

    /// The bytes to store or send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces the item has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether piece `piece` is here; a piece beyond the end never is.
    #[must_use]
    pub fn has(&self, piece: u64) -> bool {
        let byte = usize::try_from(piece / 8).ok().and_then(|at| self.bytes.get(at));
        piece < self.count && byte.is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// Marks piece `piece` as here, and says whether that is news; a piece beyond the end changes nothing.
    pub fn set(&mut self, piece: u64) -> bool {
        if piece >= self.count || self.has(piece) {
            return false;
        }
        let byte = usize::try_from(piece / 8).ok().and_then(|at| self.bytes.get_mut(at));
        byte.map(|byte| *byte |= 1 << (piece % 8)).is_some()
    }

    /// How many pieces are here.
    #[must_use]
    pub fn count_here(&self) -> u64 {
        self.bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Whether every piece is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.count_here() == self.count
    }

    /// The runs of pieces that are not here, in order.
    pub fn missing(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = (next..self.count).find(|&piece| !self.has(piece))?;
            let end = (start..self.count).find(|&piece| self.has(piece)).unwrap_or(self.count);
            next = end;
            Some(start..end)
        })
    }
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitmap({}/{})", self.count_here(), self.count)
    }
}

#[cfg(test)]
mod tests;
