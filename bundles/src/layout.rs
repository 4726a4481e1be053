//! The bundle as an OCI image layout: read and checked from the digest of its `index.json` on (FORMAT.md,
//! section 4).
//!
//! Nothing here opens a path: blobs come by digest from whatever holds them. Each is verified before it is
//! parsed, and what is not here yet is said, so that a transfer can go on in the order of the tree.

pub mod app;
pub mod descriptor;
pub mod objects;
pub(crate) mod read;
pub mod reference;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use app::AppDescriptor;
use descriptor::Packing;
use reference::ImageReference;

use crate::code::Code;
use crate::document::release::Platform;
use crate::ids::{Name, Sha256Digest};
use crate::pieces::{PieceError, PieceList};

/// Whatever holds blobs by digest: a layout's directory, the agent's store, the hub's.
pub trait Blobs {
    /// Reads a whole blob of at most `limit` bytes, or `None` while it is not (completely) here.
    ///
    /// # Errors
    /// [`io::Error`] of the disk; `InvalidData` when the blob is larger than `limit`.
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>>;
}

/// The blobs of a layout's directory.
#[derive(Debug, Clone)]
pub struct LayoutDir(pub PathBuf);

impl LayoutDir {
    /// Where a blob is, made from its digest alone.
    #[must_use]
    pub fn blob_path(&self, digest: &Sha256Digest) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.to_hex())
    }
}

impl Blobs for LayoutDir {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match std::fs::File::open(self.blob_path(digest)) {
            Ok(file) => read_bounded(file, limit).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads to the end, but no more than `limit` bytes.
pub(crate) fn read_bounded(source: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut source.take(limit.saturating_add(1)), &mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// A blob by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobRef {
    /// Its digest.
    pub digest: Sha256Digest,
    /// Its bytes; `None` only for the `index.json` that a release names.
    pub size: Option<u64>,
}

/// A blob's bytes once unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSize {
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub diff_id: Sha256Digest,
}

/// What the bundle says of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its bytes.
    pub size: u64,
    /// What it unpacks to, where that was counted.
    pub raw: Option<RawSize>,
    /// Its piece list, split in order; empty where the digest alone verifies it, which is never over 1 MiB.
    pub lists: Vec<BlobRef>,
}

/// One image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleImage {
    /// Names that pods use for it, each with a tag.
    pub names: BTreeSet<ImageReference>,
    /// Its index, or its one manifest: what pods are pinned to.
    pub target: BlobRef,
    /// Media type of that.
    pub media_type: String,
    /// Its manifests of the bundle's platforms.
    pub manifests: Vec<ImageManifest>,
}

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The platform, from the image's configuration.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: BlobRef,
    /// Media type of that.
    pub media_type: String,
    /// Its configuration.
    pub config: BlobRef,
    /// Its layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The packed bytes.
    pub blob: BlobRef,
    /// Media type of them.
    pub media_type: String,
    /// How they are packed.
    pub packing: Packing,
    /// Digest of the unpacked bytes.
    pub diff_id: Sha256Digest,
}

/// A bundle whose tree of manifests has been read and checked, every part against its digest.
///
/// Only [`Bundle::read`] makes one. Content blobs (objects, layers) need not be here yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    index: Sha256Digest,
    app: AppDescriptor,
    objects: BlobRef,
    objects_raw: RawSize,
    overlays: BTreeMap<Name, BlobRef>,
    images: Vec<BundleImage>,
    items: BTreeMap<Sha256Digest, Item>,
    platforms: BTreeMap<Sha256Digest, BTreeSet<Platform>>,
}

/// A bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Parts are not here yet; nothing is wrong.
    #[error("{} parts of the bundle are not here yet", .0.len())]
    Missing(Vec<BlobRef>),
    /// A part's bytes do not match its digest.
    #[error("bytes of {0} do not match their digest")]
    Digest(Sha256Digest),
    /// A part is larger than allowed, or has another size than its parent says.
    #[error("size of {digest} is not {expected}")]
    Size {
        /// The part.
        digest: Sha256Digest,
        /// What its size must be.
        expected: String,
    },
    /// A part contradicts the format.
    #[error("{part}: {fault}")]
    Malformed {
        /// Which part.
        part: String,
        /// What is wrong.
        fault: String,
    },
    /// A piece list does not fit its blob.
    #[error("piece list of {digest}")]
    Pieces {
        /// The blob.
        digest: Sha256Digest,
        /// How it fails to fit.
        #[source]
        source: PieceError,
    },
    /// The store of blobs failed.
    #[error("bundle cannot be read")]
    Io(#[source] io::Error),
}

impl LayoutError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::ContentMissing,
            Self::Digest(_) => Code::BlobDigest,
            Self::Size { .. } => Code::TooLarge,
            Self::Malformed { .. } | Self::Pieces { .. } => Code::BundleMalformed,
            Self::Io(_) => Code::StoreFailed,
        }
    }
}

impl Bundle {
    /// Digest of the bundle's `index.json`, which the release names.
    #[must_use]
    pub fn index(&self) -> &Sha256Digest {
        &self.index
    }

    /// The app descriptor.
    #[must_use]
    pub fn app(&self) -> &AppDescriptor {
        &self.app
    }

    /// The objects layer.
    #[must_use]
    pub fn objects(&self) -> &BlobRef {
        &self.objects
    }

    /// The objects layer unpacked; its size bounds [`objects::ObjectsReader`].
    #[must_use]
    pub fn objects_raw(&self) -> &RawSize {
        &self.objects_raw
    }

    /// The overlays by name; the app descriptor has their order.
    #[must_use]
    pub fn overlays(&self) -> &BTreeMap<Name, BlobRef> {
        &self.overlays
    }

    /// The images.
    #[must_use]
    pub fn images(&self) -> &[BundleImage] {
        &self.images
    }

    /// Every blob of the bundle but `index.json` itself, with its size and piece list.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<Sha256Digest, Item> {
        &self.items
    }

    /// The blobs that a site of `node`'s platform needs: all but the parts of images for other platforms.
    pub fn items_for<'b>(&'b self, node: &'b Platform) -> impl Iterator<Item = (&'b Sha256Digest, &'b Item)> {
        self.items.iter().filter(|(digest, _)| {
            let platforms = self.platforms.get(digest);
            platforms.is_none_or(|platforms| platforms.iter().any(|platform| platform.fits(node)))
        })
    }

    /// The piece list of a blob; a small one may have none and is verified by its digest.
    ///
    /// # Errors
    /// [`LayoutError::Missing`] while a part of the list is not here, else as for reading.
    pub fn piece_list(
        &self,
        digest: &Sha256Digest,
        blobs: &impl Blobs,
    ) -> Result<Option<PieceList>, LayoutError> {
        let Some(item) = self.items.get(digest).filter(|item| !item.lists.is_empty()) else {
            return Ok(None);
        };
        let mut hashes = Vec::new();
        for part in read::read_all(blobs, &item.lists, 1 << 20)? {
            hashes.extend_from_slice(&part);
        }
        let list = PieceList::new(item.size, hashes);
        list.map(Some).map_err(|source| LayoutError::Pieces { digest: *digest, source })
    }
}
