//! Writes the directory form of media so that a stick may be pulled at any moment: temporary file, sync, rename.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::directory::{MediaDirectory, open_directory, open_plain_file, split_stick};
use super::{
    DIRECTORY, MediaEntry, MediaError, MediaName, MediaSink, MediaSource, PART_BYTES, PARTS_MAX,
    copy_verified,
};
use crate::ids::Sha256Digest;
use crate::limits::Limits;

/// The name of a file that is being written; whatever has it is left over from a pulled stick and overwritten.
const PARTIAL: &str = ".airlift-partial";

/// A stick's `airlift-media/`, being written or topped up.
#[derive(Debug)]
pub struct MediaDirectoryWriter {
    root: OwnedFd,
    device: u64,
    path: PathBuf,
    part_bytes: u64,
}

impl MediaDirectoryWriter {
    /// Opens the media on a stick, or starts it; `path` is the stick or its `airlift-media` directory.
    ///
    /// # Errors
    /// [`MediaError::NotMedia`] where there is no such directory, else of the disk.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let (stick, path) = split_stick(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above =
            fs::open(&stick, flags, Mode::empty()).map_err(|_| MediaError::NotMedia(stick.clone()))?;
        let root = make_directory(&above, DIRECTORY, None, DIRECTORY)?;
        let device = fs::fstat(&root).map_err(|error| MediaError::io(&path)(error.into()))?.st_dev;
        Ok(Self { root, device, path, part_bytes: PART_BYTES })
    }

    #[cfg(test)]
    pub(super) fn with_part_bytes(self, part_bytes: u64) -> Self {
        Self { part_bytes, ..self }
    }

    /// Writes the two files by which OCI tools find the images; readers of Airlift trust them for nothing.
    ///
    /// # Errors
    /// [`MediaError`] of the disk.
    pub fn put_oci_index(&mut self, index: &[u8]) -> Result<(), MediaError> {
        let root = self.root.try_clone().map_err(MediaError::io(&self.path))?;
        for (name, bytes) in
            [("oci-layout", crate::layout::write::OCI_LAYOUT.as_bytes()), ("index.json", index)]
        {
            let partial = self.start(&root)?;
            self.finish(&root, partial, bytes, name)?;
        }
        Ok(())
    }

    fn make_parent(&self, name: &str) -> Result<OwnedFd, MediaError> {
        let mut at = self.root.try_clone().map_err(MediaError::io(&self.path))?;
        if let Some((parents, _)) = name.rsplit_once('/') {
            for part in parents.split('/') {
                at = make_directory(&at, part, Some(self.device), name)?;
            }
        }
        Ok(at)
    }

    /// Starts the partial file anew; a leftover, whatever it is, is unlinked rather than opened.
    fn start(&self, at: &OwnedFd) -> Result<File, MediaError> {
        let failed = |error: Errno| MediaError::io(self.path.join(PARTIAL))(error.into());
        match fs::unlinkat(at, PARTIAL, fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(at, PARTIAL, flags, Mode::from_raw_mode(0o644)).map(File::from).map_err(failed)
    }

    fn finish(&self, at: &OwnedFd, mut partial: File, bytes: &[u8], last: &str) -> Result<(), MediaError> {
        partial.write_all(bytes).map_err(MediaError::io(self.path.join(last)))?;
        self.settle(at, partial, last)
    }

    /// Syncs the partial file, gives it its name, and syncs the directory.
    fn settle(&self, at: &OwnedFd, partial: File, last: &str) -> Result<(), MediaError> {
        let failed = |error: Errno| MediaError::io(self.path.join(last))(error.into());
        partial.sync_all().map_err(MediaError::io(self.path.join(last)))?;
        drop(partial);
        fs::renameat(at, PARTIAL, at, last).map_err(failed)?;
        fs::fsync(at).map_err(failed)
    }

    /// Whether a blob is here, complete and with the right bytes.
    fn holds(&self, digest: &Sha256Digest, size: u64) -> Result<bool, MediaError> {
        let media = MediaDirectory::open(&self.path, &Limits::DEFAULT)?;
        let Some(mut blob) = media.open_blob(digest)?.filter(|blob| blob.size == size) else {
            return Ok(false);
        };
        match copy_verified(&mut blob.reader, digest, size, &mut std::io::sink()) {
            Ok(()) => Ok(true),
            Err(MediaError::Digest { .. } | MediaError::CutShort { .. } | MediaError::TooLarge { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes what stands under a blob's names, so that a whole file and parts never stand side by side.
    fn remove_blob(&self, at: &OwnedFd, name: &MediaName) -> Result<(), MediaError> {
        let parts = (0..PARTS_MAX).map(Some);
        for part in std::iter::once(None).chain(parts) {
            let entry = MediaEntry { name: name.clone(), part }.to_string();
            let last = entry.rsplit('/').next().unwrap_or(&entry);
            match fs::unlinkat(at, last, fs::AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOENT) if part.is_none() => {}
                Err(Errno::NOENT) => break,
                Err(error) => return Err(MediaError::io(self.path.join(&entry))(error.into())),
            }
        }
        Ok(())
    }
}

impl MediaSink for MediaDirectoryWriter {
    fn put_document(&mut self, name: &MediaName, bytes: &[u8]) -> Result<(), MediaError> {
        let text = name.to_string();
        let parent = self.make_parent(&text)?;
        let last = text.rsplit('/').next().unwrap_or(&text);
        if let Some((file, size)) = open_plain_file(&parent, last, self.device, &text)?
            && size == bytes.len() as u64
        {
            let mut known = Vec::with_capacity(bytes.len());
            let read = file.take(size).read_to_end(&mut known);
            if read.is_ok() && known == bytes {
                return Ok(());
            }
        }
        let partial = self.start(&parent)?;
        self.finish(&parent, partial, bytes, last)
    }

    fn put_blob(
        &mut self,
        digest: &Sha256Digest,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<bool, MediaError> {
        if self.holds(digest, size)? {
            return Ok(false);
        }
        let name = MediaName::Blob(*digest);
        let parent = self.make_parent(&name.to_string())?;
        self.remove_blob(&parent, &name)?;
        if size <= self.part_bytes {
            let mut partial = self.start(&parent)?;
            copy_verified(source, digest, size, &mut partial)?;
            self.settle(&parent, partial, &digest.to_hex())?;
            return Ok(true);
        }
        // The digest is known only after the last part; until then what stands there is a blob cut short.
        let mut hashing = Hashing { source, sha256: Sha256::new() };
        let mut left = size;
        for part in 0..PARTS_MAX {
            let take = left.min(self.part_bytes);
            let entry = MediaEntry { name: name.clone(), part: Some(part) }.to_string();
            let mut partial = self.start(&parent)?;
            let copied = std::io::copy(&mut hashing.by_ref().take(take), &mut partial);
            let copied = copied.map_err(MediaError::io(self.path.join(&entry)))?;
            left -= copied;
            if copied < take {
                return Err(MediaError::CutShort {
                    name: name.to_string(),
                    found: size - left,
                    expected: size,
                });
            }
            let last_part = left == 0;
            if last_part && Sha256Digest::from_bytes(hashing.sha256.clone().finalize().into()) != *digest {
                return Err(MediaError::Digest { name: name.to_string() });
            }
            self.settle(&parent, partial, entry.rsplit('/').next().unwrap_or(&entry))?;
            if last_part {
                return Ok(true);
            }
        }
        Err(MediaError::TooLarge { name: name.to_string(), limit: u64::from(PARTS_MAX) * self.part_bytes })
    }
}

struct Hashing<'s> {
    source: &'s mut dyn Read,
    sha256: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.sha256.update(&buffer[..read]);
        Ok(read)
    }
}

/// Opens a directory by one plain name, and makes it where it is missing.
fn make_directory(at: &OwnedFd, part: &str, device: Option<u64>, name: &str) -> Result<OwnedFd, MediaError> {
    let failed = |error: Errno| MediaError::io(name)(error.into());
    if let Some(found) = open_directory(at, part, device, name)? {
        return Ok(found);
    }
    match fs::mkdirat(at, part, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    fs::fsync(at).map_err(failed)?;
    open_directory(at, part, device, name)?.ok_or_else(|| failed(Errno::NOENT))
}
