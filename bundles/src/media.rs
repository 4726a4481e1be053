//! Media: bundles and the documents that travel with them, as files on a stick or as one tar (FORMAT.md,
//! section 6).
//!
//! A stick is hostile ground. Names are matched against the list of [`MediaName`], never turned into paths; links,
//! devices and other mounts are not followed; every byte is hashed while it is copied away, once.

mod archive;
mod bundle;
mod directory;
mod name;
mod write;

use std::io::{self, Read, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

pub use archive::{MediaArchive, MediaArchiveWriter};
pub use bundle::{BundleFiles, OpenError, open_media, release_file};
pub use directory::MediaDirectory;
pub use name::{Fingerprint, MediaEntry, MediaKind, MediaName};
pub use write::MediaDirectoryWriter;

use crate::code::Code;
use crate::ids::Sha256Digest;

/// The directory on a stick that holds everything of ours.
pub const DIRECTORY: &str = "airlift-media";
/// Files over this are split in numbered parts, since FAT holds none of 4 GiB: bytes.
pub const PART_BYTES: u64 = 3_900 << 20;
/// Entries of one directory or tar, more than any fleet's stick has.
const ENTRIES_MAX: usize = 200_000;
/// Parts of one file: more than the largest blob has.
const PARTS_MAX: u32 = 100;

/// Media cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// An entry is a link, a device, a directory in the place of a file, or stands there twice.
    #[error("{name:?} is refused: {fault}")]
    EntryRefused {
        /// Its name, as it stands there.
        name: String,
        /// Why.
        fault: &'static str,
    },
    /// A file ends before its content does.
    #[error("{name} is cut short: {found} of {expected} bytes")]
    CutShort {
        /// Its name.
        name: String,
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// A file is larger than its kind, or its signed size, allows.
    #[error("{name} is over {limit} bytes")]
    TooLarge {
        /// Its name.
        name: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// A blob's bytes are not those of its name.
    #[error("bytes of {name} do not match its digest")]
    Digest {
        /// Its name.
        name: String,
    },
    /// Files were to be written out of order.
    #[error("{name} must be written before blobs are")]
    OutOfOrder {
        /// Its name.
        name: String,
    },
    /// There is no media at this path.
    #[error("no {DIRECTORY} directory at {}", .0.display())]
    NotMedia(PathBuf),
    /// The stick, or the place that bytes are copied to, failed.
    #[error("media at {}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl MediaError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    fn refused(name: impl Into<String>, fault: &'static str) -> Self {
        Self::EntryRefused { name: name.into(), fault }
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::EntryRefused { .. } => Code::MediaEntryRefused,
            Self::CutShort { .. } | Self::Io { .. } => Code::MediaCutShort,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Digest { .. } => Code::BlobDigest,
            Self::OutOfOrder { .. } | Self::NotMedia(_) => Code::ContentMissing,
        }
    }
}

/// A blob that is open, with the bytes that the media says it has.
pub struct OpenBlob<'m> {
    /// Its bytes, unverified.
    pub reader: Box<dyn Read + Send + 'm>,
    /// How many there should be.
    pub size: u64,
}

/// Media of either form, opened for reading; nothing that it gives has been verified.
pub trait MediaSource {
    /// Reads a document of at most 1 MiB, or `None` where there is none of this name.
    ///
    /// # Errors
    /// [`MediaError`] when the entry is refused, too large, cut short or unreadable.
    fn read_document(&self, name: &MediaName) -> Result<Option<Vec<u8>>, MediaError>;

    /// Opens a blob, all of its parts after each other, or `None` where there is none.
    ///
    /// # Errors
    /// [`MediaError`] when the entry is refused or unreadable.
    fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, MediaError>;

    /// Names of one kind that are there, ascending; names that are on no list are left out.
    ///
    /// # Errors
    /// [`MediaError`] when the directory cannot be listed.
    fn list(&self, kind: MediaKind) -> Result<Vec<MediaName>, MediaError>;

    /// Shows every document that is there, in the order of the list, one at a time.
    ///
    /// A document that is refused or unreadable is shown as its error, so that the others are still seen.
    ///
    /// # Errors
    /// [`MediaError`] when a directory cannot be listed.
    fn for_each_document(
        &self,
        visit: &mut dyn FnMut(MediaName, Result<Vec<u8>, MediaError>),
    ) -> Result<(), MediaError> {
        for kind in MediaKind::DOCUMENTS {
            for name in self.list(kind)? {
                // What was taken away between listing and reading is left out.
                if let Some(bytes) = self.read_document(&name).transpose() {
                    visit(name, bytes);
                }
            }
        }
        Ok(())
    }
}

/// Media that is being written.
pub trait MediaSink {
    /// Writes a document.
    ///
    /// # Errors
    /// [`MediaError`] of the disk or the order.
    fn put_document(&mut self, name: &MediaName, bytes: &[u8]) -> Result<(), MediaError>;

    /// Writes a blob, and says whether it was new; one that is there with the right bytes is not written again.
    ///
    /// # Errors
    /// [`MediaError::Digest`] or [`MediaError::CutShort`] when `source` is not this blob, else of the disk.
    fn put_blob(
        &mut self,
        digest: &Sha256Digest,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<bool, MediaError>;
}

/// Copies a blob while hashing it; only `Ok` says that `target` has the bytes of `digest`, all `size` of them.
///
/// # Errors
/// [`MediaError`]: cut short, larger than `size`, other bytes, or a failing reader or writer.
pub fn copy_verified(
    source: &mut dyn Read,
    digest: &Sha256Digest,
    size: u64,
    target: &mut dyn Write,
) -> Result<(), MediaError> {
    let name = || MediaName::Blob(*digest).to_string();
    let (mut sha256, mut found, mut buffer) = (Sha256::new(), 0_u64, vec![0; 256 << 10]);
    loop {
        let read = source.read(&mut buffer).map_err(MediaError::io(name()))?;
        if read == 0 {
            break;
        }
        found += read as u64;
        if found > size {
            return Err(MediaError::TooLarge { name: name(), limit: size });
        }
        sha256.update(&buffer[..read]);
        target.write_all(&buffer[..read]).map_err(MediaError::io(name()))?;
    }
    if found < size {
        return Err(MediaError::CutShort { name: name(), found, expected: size });
    }
    let found = Sha256Digest::from_bytes(sha256.finalize().into());
    if found == *digest { Ok(()) } else { Err(MediaError::Digest { name: name() }) }
}

/// The tar header of a plain file, the same for the same name and size.
pub(crate) fn plain_header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests;
