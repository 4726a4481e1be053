//! Images: the node's container runtime, as far as the agent uses it.
//!
//! The product fills this port with [`crate::import::Containerd`]; the simulator with a model. The caller subscribes
//! with [`Images::watch_changes`] first and asks [`Images::missing`] afterwards, so that nothing falls between.

use std::path::PathBuf;
use std::sync::Arc;

use airlift_bundles::code::Code;
pub use airlift_bundles::document::release::Platform;
use airlift_bundles::ids::Sha256Digest;

use super::Boxed;
use super::cancel::CancelFlag;
use crate::core::event::FailureClass;

/// Where verified blobs lie, by digest.
pub trait BlobSource: Send + Sync {
    /// The file that holds the blob, or `None` when it is not here.
    fn path(&self, digest: &Sha256Digest) -> Option<PathBuf>;
}

/// One image, complete on disk, and the names that pods use for it.
#[derive(Clone)]
pub struct ImageToImport {
    /// The names as the pods write them: `name:tag@sha256:…`, `name:tag` or `name@sha256:…`.
    pub references: Vec<String>,
    /// The index or manifest that the names mean.
    pub top: Sha256Digest,
    /// The node's platform: only its manifest and layers need to be here.
    pub platform: Platform,
    /// Where the blobs are.
    pub blobs: Arc<dyn BlobSource>,
}

/// What an import put there, proven by the runtime's own answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// The index or manifest that the names mean.
    pub top: Sha256Digest,
    /// The configuration of the node's platform: the runtime's image id.
    pub config: Sha256Digest,
    /// Bytes of all blobs, those that were already there included.
    pub bytes: u64,
}

/// What became of a name that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Our records of the name are gone; the runtime frees the space by itself.
    Removed,
    /// A container still uses the image: nothing was removed.
    InUse,
    /// There is no such record, or another tool made it: nothing was removed.
    NotOurs,
}

/// Something that happened in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An image record is gone, by its normalised name.
    ImageRemoved(String),
    /// A blob is gone.
    BlobRemoved(Sha256Digest),
    /// A container came or went: other images may be in use than before.
    Containers,
}

/// A subscription to changes.
pub trait ChangeWatch: Send {
    /// Waits for the next change.
    ///
    /// An error ends the watch, and changes may have gone unseen: subscribe again, then ask [`Images::missing`].
    fn next(&mut self) -> Boxed<'_, Result<Change, ImportError>>;
}

/// The node's container runtime.
pub trait Images: Send + Sync {
    /// Puts an image into the runtime, unpacked and under its names, and proves that a pod would find it.
    ///
    /// `progress` gets the bytes done so far. A second call after any interruption continues where the first ended.
    fn import<'a>(
        &'a self,
        image: &'a ImageToImport,
        progress: &'a mut (dyn FnMut(u64) + Send),
        cancel: &'a CancelFlag,
    ) -> Boxed<'a, Result<ImportedImage, ImportError>>;

    /// For each name, the image id under which a pod would find it now, or `None`.
    fn present<'a>(
        &'a self,
        references: &'a [String],
    ) -> Boxed<'a, Result<Vec<Option<Sha256Digest>>, ImportError>>;

    /// Of these names, those that a pod would not find now.
    fn missing<'a>(&'a self, references: &'a [String]) -> Boxed<'a, Result<Vec<String>, ImportError>> {
        Box::pin(async move {
            let present = self.present(references).await?;
            let pairs = references.iter().zip(present);
            Ok(pairs.filter(|(_, found)| found.is_none()).map(|(reference, _)| reference.clone()).collect())
        })
    }

    /// Subscribes to losses of images and blobs, and to containers that come and go.
    fn watch_changes(&self) -> Boxed<'_, Result<Box<dyn ChangeWatch>, ImportError>>;

    /// The names that imports made and that are still theirs, as the runtime spells them.
    fn owned(&self) -> Boxed<'_, Result<Vec<String>, ImportError>>;

    /// Keeps the images that kube-system's pods run, and gives them back the names that somebody removed.
    ///
    /// Answers with these names.
    fn keep_system(&self) -> Boxed<'_, Result<Vec<String>, ImportError>>;

    /// Removes the records of a name, if this port made them and no container uses the image.
    fn remove<'a>(&'a self, reference: &'a str) -> Boxed<'a, Result<Removal, ImportError>>;
}

/// Why an image is not in the runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The runtime's socket does not answer.
    #[error(
        "container runtime does not answer at {socket}: {reason}; nothing was lost, the import goes on by itself"
    )]
    Unreachable {
        /// The socket.
        socket: String,
        /// What the connection said.
        reason: String,
    },
    /// The runtime found its disk full.
    #[error("no space left for {step}: {reason}; free space on the node, the import then goes on by itself")]
    DiskFull {
        /// What was being done.
        step: &'static str,
        /// What the runtime said.
        reason: String,
    },
    /// The runtime failed in a way that says nothing about the image.
    #[error("container runtime failed at {step}: {reason}")]
    Runtime {
        /// What was being done.
        step: &'static str,
        /// What the runtime said.
        reason: String,
    },
    /// Everything was put there, but the runtime's Kubernetes side does not answer for the name.
    #[error("container runtime holds {reference} but does not offer it to pods: {reason}")]
    NotAdopted {
        /// The name.
        reference: String,
        /// What it answered instead.
        reason: String,
    },
    /// A blob's file cannot be read.
    #[error("blob {digest} cannot be read: {reason}")]
    BlobUnreadable {
        /// The blob.
        digest: Sha256Digest,
        /// What the operating system said.
        reason: String,
    },
    /// A blob that the image needs is not on disk.
    #[error("blob {digest} is not here; it must be fetched again")]
    BlobMissing {
        /// The blob.
        digest: Sha256Digest,
    },
    /// A blob's bytes are not those of its digest.
    #[error("blob {digest} is damaged; it must be fetched again")]
    BlobDamaged {
        /// The blob.
        digest: Sha256Digest,
    },
    /// An index, manifest or configuration is not as OCI or docker define it, or beyond the limits.
    #[error("{digest} is not a usable part of an image: {reason}")]
    Malformed {
        /// The document or layer.
        digest: Sha256Digest,
        /// What is wrong.
        reason: String,
    },
    /// The image is not for this kind of machine.
    #[error("image {top} holds nothing for {platform}")]
    PlatformAbsent {
        /// The index or manifest.
        top: Sha256Digest,
        /// The node's platform.
        platform: Platform,
    },
    /// A name that no runtime would accept, or that contradicts the image.
    #[error("image name `{reference}` cannot be used: {reason}")]
    NameInvalid {
        /// The name as given.
        reference: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The name means another image here, and somebody else put it there.
    #[error(
        "image name {reference} already means {holder} here, and Airlift did not put it there; nothing was changed"
    )]
    NameTaken {
        /// The normalised name.
        reference: String,
        /// The digest that it means.
        holder: String,
    },
    /// The core took the import back; what was written is kept for the next try.
    #[error("import was cancelled")]
    Cancelled,
}

impl ImportError {
    /// Whose fault it is.
    ///
    /// A blob that is missing or damaged on our own disk is the surroundings' fault: it was verified when it came,
    /// and [`Self::wants_blob`] says what to fetch again.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Malformed { .. }
            | Self::PlatformAbsent { .. }
            | Self::NameInvalid { .. }
            | Self::NameTaken { .. } => FailureClass::App,
            Self::Unreachable { .. }
            | Self::DiskFull { .. }
            | Self::Runtime { .. }
            | Self::NotAdopted { .. }
            | Self::BlobUnreadable { .. }
            | Self::BlobMissing { .. }
            | Self::BlobDamaged { .. }
            | Self::Cancelled => FailureClass::Environment,
        }
    }

    /// The blob that must be fetched again, if that would help.
    #[must_use]
    pub fn wants_blob(&self) -> Option<Sha256Digest> {
        match self {
            Self::BlobMissing { digest } | Self::BlobDamaged { digest } => Some(*digest),
            _ => None,
        }
    }

    /// The stable code for receipts.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::ClusterUnavailable,
            Self::DiskFull { .. } => Code::DiskFull,
            Self::BlobMissing { .. } => Code::ContentMissing,
            Self::BlobDamaged { .. } => Code::BlobDigest,
            Self::Malformed { .. } => Code::BundleMalformed,
            Self::PlatformAbsent { .. } => Code::PlatformMissing,
            Self::NameTaken { .. } => Code::ImageNameTaken,
            Self::Runtime { .. }
            | Self::NotAdopted { .. }
            | Self::BlobUnreadable { .. }
            | Self::NameInvalid { .. }
            | Self::Cancelled => Code::ImportFailed,
        }
    }
}
