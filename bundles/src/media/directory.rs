//! Reads the directory form of media: a stick, which may be hostile, half copied or pulled at any moment.
//!
//! Each directory is opened from the one above it, by one plain name, without following links, and must lie on the
//! same device; so no path is ever resolved across what the stick holds, and another mount is not entered.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{
    DIRECTORY, ENTRIES_MAX, MediaEntry, MediaError, MediaKind, MediaName, MediaSource, OpenBlob, PARTS_MAX,
};
use crate::ids::Sha256Digest;
use crate::layout::read_bounded;
use crate::limits::Limits;

/// A stick's `airlift-media/`, opened.
#[derive(Debug)]
pub struct MediaDirectory {
    root: OwnedFd,
    device: u64,
    path: PathBuf,
    document_bytes: u64,
}

impl MediaDirectory {
    /// Opens the media on a stick; `path` is the stick or its `airlift-media` directory.
    ///
    /// # Errors
    /// [`MediaError::NotMedia`] where there is none, [`MediaError::EntryRefused`] where it is a link.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, MediaError> {
        let (stick, path) = split_stick(path);
        let not_media = |_| MediaError::NotMedia(stick.clone());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = fs::open(&stick, flags, Mode::empty()).map_err(not_media)?;
        let root = open_directory(&above, DIRECTORY, None, DIRECTORY)?
            .ok_or_else(|| MediaError::NotMedia(stick.clone()))?;
        let device = fs::fstat(&root).map_err(|error| MediaError::io(&path)(error.into()))?.st_dev;
        Ok(Self { root, device, path, document_bytes: limits.document_bytes as u64 })
    }

    /// Opens the directory of a name, one step at a time.
    fn open_parent(&self, name: &str) -> Result<Option<OwnedFd>, MediaError> {
        let mut at = self.root.try_clone().map_err(MediaError::io(&self.path))?;
        let Some((parents, _)) = name.rsplit_once('/') else { return Ok(Some(at)) };
        for part in parents.split('/') {
            match open_directory(&at, part, Some(self.device), name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn open_file(&self, entry: &MediaEntry) -> Result<Option<(File, u64)>, MediaError> {
        let name = entry.to_string();
        let Some(parent) = self.open_parent(&name)? else { return Ok(None) };
        let last = name.rsplit('/').next().unwrap_or(&name);
        open_plain_file(&parent, last, self.device, &name)
    }

    fn list_directory(&self, name: &str) -> Result<Vec<String>, MediaError> {
        let Some(parent) = self.open_parent(&format!("{name}/x"))? else { return Ok(Vec::new()) };
        let failed = |error: Errno| MediaError::io(self.path.join(name))(error.into());
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&parent).map_err(failed)? {
            if names.len() >= ENTRIES_MAX {
                return Err(MediaError::refused(name, "it holds more than 200,000 entries"));
            }
            if let Ok(own) = entry.map_err(failed)?.file_name().to_str() {
                names.push(own.to_owned());
            }
        }
        Ok(names)
    }
}

impl MediaSource for MediaDirectory {
    fn read_document(&self, name: &MediaName) -> Result<Option<Vec<u8>>, MediaError> {
        let Some((file, size)) = self.open_file(&MediaEntry { name: name.clone(), part: None })? else {
            return Ok(None);
        };
        let limit = self.document_bytes;
        if size > limit {
            return Err(MediaError::TooLarge { name: name.to_string(), limit });
        }
        let bytes = read_bounded(file, limit).map_err(MediaError::io(name.to_string()))?;
        let found = bytes.len() as u64;
        if found < size {
            return Err(MediaError::CutShort { name: name.to_string(), found, expected: size });
        }
        Ok(Some(bytes))
    }

    fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, MediaError> {
        let name = MediaName::Blob(*digest);
        if let Some((file, size)) = self.open_file(&MediaEntry { name: name.clone(), part: None })? {
            return Ok(Some(OpenBlob { reader: Box::new(file), size }));
        }
        let mut parts: Option<(Box<dyn Read + Send>, u64)> = None;
        for part in 0..PARTS_MAX {
            let Some((file, size)) = self.open_file(&MediaEntry { name: name.clone(), part: Some(part) })?
            else {
                break;
            };
            parts = Some(match parts {
                None => (Box::new(file), size),
                Some((reader, before)) => (Box::new(reader.chain(file)), before.saturating_add(size)),
            });
        }
        Ok(parts.map(|(reader, size)| OpenBlob { reader, size }))
    }

    fn list(&self, kind: MediaKind) -> Result<Vec<MediaName>, MediaError> {
        let directory = kind.directory();
        let mut files: Vec<String> = Vec::new();
        for own in self.list_directory(directory)? {
            if kind == MediaKind::Receipts {
                // Only a site's id is a directory of receipts; anything else there is left alone.
                if crate::ids::SiteId::new(&own).is_ok() {
                    let site = format!("{directory}/{own}");
                    files.extend(self.list_directory(&site)?.iter().map(|file| format!("{site}/{file}")));
                }
            } else {
                files.push(format!("{directory}/{own}"));
            }
        }
        let names: BTreeSet<MediaName> =
            files.iter().filter_map(|file| Some(file.parse::<MediaEntry>().ok()?.name)).collect();
        Ok(names.into_iter().filter(|name| name.kind() == kind).collect())
    }
}

/// Splits a path into the stick and its media directory, whichever of both was given.
pub(super) fn split_stick(path: &Path) -> (PathBuf, PathBuf) {
    if path.file_name().is_some_and(|name| name == DIRECTORY) {
        let stick = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (stick.to_owned(), path.to_owned())
    } else {
        (path.to_owned(), path.join(DIRECTORY))
    }
}

/// Opens a directory by one plain name, without following a link; it must lie on `device` where that is known.
pub(super) fn open_directory(
    at: &OwnedFd,
    part: &str,
    device: Option<u64>,
    name: &str,
) -> Result<Option<OwnedFd>, MediaError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match fs::openat(at, part, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(MediaError::refused(name, "a part of its path is no directory"));
        }
        Err(error) => return Err(MediaError::io(name)(error.into())),
    };
    let stat = fs::fstat(&found).map_err(|error| MediaError::io(name)(error.into()))?;
    if device.is_some_and(|device| device != stat.st_dev) {
        return Err(MediaError::refused(name, "it lies on another mount"));
    }
    Ok(Some(found))
}

/// Opens a plain file by one plain name; it is looked at first, since merely opening some devices acts on them.
pub(super) fn open_plain_file(
    at: &OwnedFd,
    part: &str,
    device: u64,
    name: &str,
) -> Result<Option<(File, u64)>, MediaError> {
    let failed = |error: Errno| MediaError::io(name)(io::Error::from(error));
    let check = |stat: &fs::Stat| {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            Err(MediaError::refused(name, "it is not a plain file"))
        } else if stat.st_dev != device {
            Err(MediaError::refused(name, "it lies on another mount"))
        } else {
            Ok(u64::try_from(stat.st_size).unwrap_or_default())
        }
    };
    match fs::statat(at, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => check(&stat)?,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match fs::openat(at, part, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let size = check(&fs::fstat(&file).map_err(failed)?)?;
    Ok(Some((File::from(file), size)))
}
