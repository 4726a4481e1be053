//! Writes an OCI image layout: blobs named by their digest, then `index.json` last.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::descriptor::{Descriptor, Index};
use crate::ids::Sha256Digest;
use crate::pieces::{PieceHasher, PieceList};

/// The marker file of every OCI image layout.
pub const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// A blob that was written, with what was learnt while its bytes went by.
#[derive(Debug, Clone)]
pub struct WrittenBlob {
    /// Its digest.
    pub digest: Sha256Digest,
    /// Its bytes.
    pub size: u64,
    /// Hashes of its pieces.
    pub pieces: PieceList,
}

impl WrittenBlob {
    /// Describes the blob.
    #[must_use]
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::new(media_type, self.digest, self.size)
    }
}

/// A layout directory that is being written.
#[derive(Debug)]
pub struct LayoutWriter {
    dir: PathBuf,
}

impl LayoutWriter {
    /// Starts a layout in a directory that does not exist yet or is empty.
    ///
    /// # Errors
    /// [`io::Error`] when it cannot be made or holds something.
    pub fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        if fs::read_dir(dir)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the directory is not empty"));
        }
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where the layout is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a blob is, once written.
    #[must_use]
    pub fn blob_path(&self, digest: &Sha256Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.to_hex())
    }

    /// Writes bytes as a blob.
    ///
    /// # Errors
    /// [`io::Error`] of the disk.
    pub fn put(&self, bytes: &[u8]) -> io::Result<WrittenBlob> {
        self.put_stream(bytes)
    }

    /// Writes a stream as a blob; its digest is known only when it ends.
    ///
    /// # Errors
    /// [`io::Error`] of the source or the disk.
    pub fn put_stream(&self, mut source: impl Read) -> io::Result<WrittenBlob> {
        let part = self.dir.join("blobs/sha256/.part");
        let mut file = File::create(&part)?;
        let (mut sha256, mut pieces) = (Sha256::new(), PieceHasher::default());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            pieces.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
        }
        let digest = Sha256Digest::from_bytes(sha256.finalize().into());
        let pieces = pieces.finish();
        fs::rename(&part, self.blob_path(&digest))?;
        Ok(WrittenBlob { digest, size: pieces.size(), pieces })
    }

    /// Writes `index.json`, as a file and as the blob that releases name, and ends the layout.
    ///
    /// # Errors
    /// [`io::Error`] of the disk.
    pub fn finish(self, index: &Index) -> io::Result<WrittenBlob> {
        let bytes = serde_json::to_vec(index)?;
        let blob = self.put(&bytes)?;
        fs::write(self.dir.join("oci-layout"), OCI_LAYOUT)?;
        fs::write(self.dir.join("index.json"), &bytes)?;
        Ok(blob)
    }
}
