//! A bundle's files, whichever form they have: an OCI layout's folder, a tar, or a stick.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{DIRECTORY, MediaArchive, MediaDirectory, MediaError, MediaSource, OpenBlob};
use crate::ids::Sha256Digest;
use crate::layout::{Blobs, LayoutDir};
use crate::limits::Limits;

/// Where a bundle's blobs are.
pub enum BundleFiles {
    /// An OCI layout's folder.
    Layout(LayoutDir),
    /// A tar or a stick.
    Media(Box<dyn MediaSource + Send + Sync>),
}

impl BundleFiles {
    /// Opens a layout's folder, a stick or a tar.
    ///
    /// # Errors
    /// [`MediaError`] of [`open_media`].
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let stick = path.file_name().is_some_and(|name| name == DIRECTORY);
        if path.join("blobs").is_dir() && path.join("index.json").is_file() && !stick {
            return Ok(Self::Layout(LayoutDir(path.to_owned())));
        }
        open_media(path).map(Self::Media)
    }

    /// Opens a blob, unverified, or `None` where there is none.
    ///
    /// # Errors
    /// [`io::Error`] of the disk, or with a [`MediaError`] inside.
    pub fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, OpenError> {
        let layout = match self {
            Self::Media(media) => return Ok(media.open_blob(digest)?),
            Self::Layout(layout) => layout,
        };
        match File::open(layout.blob_path(digest)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some(OpenBlob { reader: Box::new(file), size }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A blob that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// In a layout's folder.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// On a stick or in a tar.
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl Blobs for BundleFiles {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let media = match self {
            Self::Layout(layout) => return layout.read_blob(digest, limit),
            Self::Media(media) => media,
        };
        let Some(blob) = media.open_blob(digest).map_err(io::Error::other)? else { return Ok(None) };
        if blob.size > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        blob.reader.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Opens a stick or a tar.
///
/// # Errors
/// [`MediaError`] where it is neither, or cannot be read.
pub fn open_media(path: &Path) -> Result<Box<dyn MediaSource + Send + Sync>, MediaError> {
    if path.is_dir() {
        return Ok(Box::new(MediaDirectory::open(path, &Limits::DEFAULT)?));
    }
    Ok(Box::new(MediaArchive::open(path, &Limits::DEFAULT)?))
}

/// Where the release of a bundle stands: `shop-1.tar` and `shop-1/` have `shop-1.release.json` beside them.
#[must_use]
pub fn release_file(bundle: &Path) -> PathBuf {
    let stem = match bundle.extension() {
        Some(ending) if ending == "tar" => bundle.with_extension(""),
        _ => bundle.to_owned(),
    };
    let mut name = stem.file_name().unwrap_or_default().to_owned();
    name.push(".release.json");
    stem.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_stands_beside_its_bundle() {
        assert_eq!(release_file(Path::new("out/shop-1.4.tar")), Path::new("out/shop-1.4.release.json"));
        assert_eq!(release_file(Path::new("out/shop-1.4/")), Path::new("out/shop-1.4.release.json"));
    }
}
