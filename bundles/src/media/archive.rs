//! The tar form of media: read by a list of where each entry stands, written in the order of the list.
//!
//! The tar crate reads headers in raw mode only: long-name and PAX records, which it would read whole into memory,
//! are entries of a refused type here, because all names of the list fit a plain header.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{
    ENTRIES_MAX, MediaEntry, MediaError, MediaKind, MediaName, MediaSink, MediaSource, OpenBlob, PART_BYTES,
    PARTS_MAX, copy_verified, plain_header,
};
use crate::ids::Sha256Digest;
use crate::layout::read_bounded;
use crate::limits::Limits;

/// Where an entry's bytes stand.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    size: u64,
    /// Bytes of it that the file really has.
    found: u64,
}

/// Media in one tar file, opened.
#[derive(Debug)]
pub struct MediaArchive {
    file: File,
    path: PathBuf,
    entries: BTreeMap<MediaEntry, Extent>,
    cut_short: bool,
    document_bytes: u64,
}

impl MediaArchive {
    /// Opens a tar and lists its headers; content is not read. A tar cut short opens, for what it has.
    ///
    /// # Errors
    /// [`MediaError::EntryRefused`] for any entry that is no plain file or stands there twice, else of the disk.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, MediaError> {
        let failed = |error: io::Error| MediaError::io(path)(error);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut entries = BTreeMap::new();
        let (mut at, mut count, mut cut_short) = (0, 0, true);
        while at + 512 <= length {
            let mut header = tar::Header::new_old();
            file.read_exact_at(header.as_mut_bytes(), at).map_err(failed)?;
            if header.as_bytes().iter().all(|&byte| byte == 0) {
                cut_short = false;
                break;
            }
            count += 1;
            if count > ENTRIES_MAX {
                return Err(MediaError::refused(
                    path.display().to_string(),
                    "it holds more than 200,000 entries",
                ));
            }
            let (name, size) = read_header(&header)?;
            let offset = at + 512;
            let found = size.min(length - offset.min(length));
            if let Ok(entry) = name.parse::<MediaEntry>()
                && entries.insert(entry, Extent { offset, size, found }).is_some()
            {
                return Err(MediaError::refused(name, "it stands there twice"));
            }
            let padded = size.checked_next_multiple_of(512).and_then(|padded| offset.checked_add(padded));
            at = padded.ok_or_else(|| MediaError::refused(name, "its size is impossible"))?;
        }
        let document_bytes = limits.document_bytes as u64;
        Ok(Self { file, path: path.to_owned(), entries, cut_short, document_bytes })
    }

    /// Whether the file ends before its end mark: what is complete in it is still good.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Shows every entry of the list's kinds in the order of the list, each with a reader over its bytes.
    ///
    /// # Errors
    /// The visitor's own, which stops the walk.
    pub fn for_each<E>(
        &self,
        mut visit: impl FnMut(&MediaEntry, u64, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries
            .iter()
            .try_for_each(|(entry, extent)| visit(entry, extent.size, &mut self.reader(extent)))
    }

    fn reader(&self, extent: &Extent) -> ExtentReader<'_> {
        ExtentReader { file: &self.file, at: extent.offset, left: extent.found }
    }
}

impl MediaSource for MediaArchive {
    fn read_document(&self, name: &MediaName) -> Result<Option<Vec<u8>>, MediaError> {
        let Some(extent) = self.entries.get(&MediaEntry { name: name.clone(), part: None }) else {
            return Ok(None);
        };
        let limit = self.document_bytes;
        if extent.size > limit {
            return Err(MediaError::TooLarge { name: name.to_string(), limit });
        }
        if extent.found < extent.size {
            let (found, expected) = (extent.found, extent.size);
            return Err(MediaError::CutShort { name: name.to_string(), found, expected });
        }
        read_bounded(self.reader(extent), limit).map(Some).map_err(MediaError::io(&self.path))
    }

    fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, MediaError> {
        let name = MediaName::Blob(*digest);
        let entry = |part| self.entries.get(&MediaEntry { name: name.clone(), part });
        if let Some(extent) = entry(None) {
            return Ok(Some(OpenBlob { reader: Box::new(self.reader(extent)), size: extent.size }));
        }
        let mut parts: Option<OpenBlob<'_>> = None;
        for extent in (0..PARTS_MAX).map_while(|part| entry(Some(part))) {
            parts = Some(match parts {
                None => OpenBlob { reader: Box::new(self.reader(extent)), size: extent.size },
                Some(before) => OpenBlob {
                    reader: Box::new(before.reader.chain(self.reader(extent))),
                    size: before.size.saturating_add(extent.size),
                },
            });
        }
        Ok(parts)
    }

    fn list(&self, kind: MediaKind) -> Result<Vec<MediaName>, MediaError> {
        let names: BTreeSet<_> = self
            .entries
            .keys()
            .filter(|entry| entry.name.kind() == kind)
            .map(|entry| entry.name.clone())
            .collect();
        Ok(names.into_iter().collect())
    }
}

/// Checks a header and reads its name and size; only plain files are let in.
fn read_header(header: &tar::Header) -> Result<(String, u64), MediaError> {
    let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let bytes = header.as_bytes();
    let sum: u32 = (0..512)
        .map(|at| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(bytes[at]) })
        .sum();
    if header.cksum().ok() != Some(sum) {
        return Err(MediaError::refused(name, "its header is damaged"));
    }
    if !matches!(header.entry_type(), tar::EntryType::Regular) {
        return Err(MediaError::refused(name, "it is not a plain file"));
    }
    let size = header.entry_size().map_err(|_| MediaError::refused(name.clone(), "its size is damaged"))?;
    Ok((name, size))
}

struct ExtentReader<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..take], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Media in one tar, being written; documents first, then blobs, receipts last.
pub struct MediaArchiveWriter<W: Write> {
    tar: W,
    written: BTreeSet<MediaName>,
    last: Option<MediaKind>,
}

impl<W: Write> MediaArchiveWriter<W> {
    /// Starts a tar.
    pub fn new(tar: W) -> Self {
        Self { tar, written: BTreeSet::new(), last: None }
    }

    /// Writes the end mark and gives the writer back.
    ///
    /// # Errors
    /// [`MediaError`] of the disk.
    pub fn finish(mut self) -> Result<W, MediaError> {
        self.tar
            .write_all(&[0; 1024])
            .and_then(|()| self.tar.flush())
            .map_err(MediaError::io("media.tar"))?;
        Ok(self.tar)
    }

    /// Checks the order, and says whether the name is new.
    fn admit(&mut self, name: &MediaName) -> Result<bool, MediaError> {
        if self.last.is_some_and(|last| name.kind() < last) {
            return Err(MediaError::OutOfOrder { name: name.to_string() });
        }
        self.last = Some(name.kind());
        Ok(self.written.insert(name.clone()))
    }

    fn start(&mut self, entry: &MediaEntry, size: u64) -> Result<(), MediaError> {
        let name = entry.to_string();
        let header = plain_header(&name, size).map_err(MediaError::io(&name))?;
        self.tar.write_all(header.as_bytes()).map_err(MediaError::io(name))
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size % 512).unwrap_or_default();
        if rest == 0 { Ok(()) } else { self.tar.write_all(&[0; 512][rest..]) }
    }
}

impl<W: Write> MediaSink for MediaArchiveWriter<W> {
    fn put_document(&mut self, name: &MediaName, bytes: &[u8]) -> Result<(), MediaError> {
        if !self.admit(name)? {
            return Ok(());
        }
        self.start(&MediaEntry { name: name.clone(), part: None }, bytes.len() as u64)?;
        let written = self.tar.write_all(bytes).and_then(|()| self.pad(bytes.len() as u64));
        written.map_err(MediaError::io(name.to_string()))
    }

    fn put_blob(
        &mut self,
        digest: &Sha256Digest,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<bool, MediaError> {
        let name = MediaName::Blob(*digest);
        if !self.admit(&name)? {
            return Ok(false);
        }
        let mut splitting = Splitting { writer: self, name: name.clone(), size, done: 0 };
        splitting.start_part().map_err(MediaError::io(name.to_string()))?;
        copy_verified(source, digest, size, &mut splitting)?;
        self.pad(size % PART_BYTES).map_err(MediaError::io(name.to_string()))?;
        Ok(true)
    }
}

/// Starts a new entry at each boundary of parts.
struct Splitting<'w, W: Write> {
    writer: &'w mut MediaArchiveWriter<W>,
    name: MediaName,
    size: u64,
    done: u64,
}

impl<W: Write> Splitting<'_, W> {
    fn start_part(&mut self) -> io::Result<()> {
        let part =
            (self.size > PART_BYTES).then(|| u32::try_from(self.done / PART_BYTES).unwrap_or(u32::MAX));
        let entry = MediaEntry { name: self.name.clone(), part };
        let size = (self.size - self.done).min(PART_BYTES);
        self.writer.start(&entry, size).map_err(io::Error::other)
    }
}

impl<W: Write> Write for Splitting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.done > 0 && self.done.is_multiple_of(PART_BYTES) && !bytes.is_empty() {
            self.start_part()?; // PART_BYTES is a multiple of 512, so no padding stands between parts
        }
        let room = usize::try_from(PART_BYTES - self.done % PART_BYTES).unwrap_or(usize::MAX);
        let written = self.writer.tar.write(&bytes[..bytes.len().min(room)])?;
        self.done += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.tar.flush()
    }
}
