//! A bundle's files, whichever form they have: an OCI layout's folder, a tar, or a stick.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::layout::{Blobs, Bundle, LayoutDir};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{
    MediaArchive, MediaDirectory, MediaError, MediaKind, MediaSource, OpenBlob, copy_verified,
};
use airlift_bundles::render::object::ObjectId;
use serde_json::Value;

use crate::cli::client::content::BlobSource;
use crate::cli::envelope_file;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::Progress;

/// Where blobs are.
pub(crate) enum BundleFiles {
    /// An OCI layout.
    Layout(LayoutDir),
    /// A tar or a stick.
    Media(Box<dyn MediaSource + Send + Sync>),
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        let code = error.code();
        let kind = match &error {
            MediaError::NotMedia(_) => Kind::NotFound,
            MediaError::Io { .. } => Kind::Runtime,
            _ => Kind::Refused,
        };
        Self::new(kind, error).code(code)
    }
}

impl BundleFiles {
    /// Opens a layout's folder, a stick or a tar.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.join("blobs").is_dir() && path.join("index.json").is_file() && !is_stick(path) {
            return Ok(Self::Layout(LayoutDir(path.to_owned())));
        }
        Ok(Self::Media(open_media(path)?))
    }

    /// Opens a blob, unverified.
    pub(crate) fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, Failure> {
        match self {
            Self::Media(media) => Ok(media.open_blob(digest)?),
            Self::Layout(layout) => match std::fs::File::open(layout.blob_path(digest)) {
                Ok(file) => {
                    let size = file.metadata()?.len();
                    Ok(Some(OpenBlob { reader: Box::new(file), size }))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Opens a blob that must be here.
    pub(crate) fn need_blob(&self, digest: &Sha256Digest) -> Result<OpenBlob<'_>, Failure> {
        self.open_blob(digest)?.ok_or_else(|| {
            let failure = Failure::new(Kind::Refused, format!("blob {digest} is not in the bundle"));
            failure.code(airlift_bundles::code::Code::ContentMissing)
        })
    }

    /// Reads and checks the tree of manifests under `index`.
    pub(crate) fn read_bundle(&self, index: &Sha256Digest) -> Result<Bundle, Failure> {
        Bundle::read(index, self, &Limits::DEFAULT).map_err(|error| {
            let code = error.code();
            Failure::new(Kind::Refused, error).code(code).during(format!("bundle {index} is not good"))
        })
    }

    /// Reads the objects of a bundle, one at a time.
    pub(crate) fn each_object(
        &self,
        bundle: &Bundle,
        mut visit: impl FnMut(ObjectId, Value),
    ) -> Result<(), Failure> {
        let refuse = |error: Box<dyn std::error::Error>| {
            Failure::new(Kind::Refused, error).code(airlift_bundles::code::Code::BundleMalformed)
        };
        let packed = self.need_blob(&bundle.objects().digest)?.reader;
        let objects = ObjectsReader::new(packed, bundle.objects_raw().size, &Limits::DEFAULT);
        for object in objects.map_err(|error| refuse(error.into()))? {
            let object = object.map_err(|error| refuse(error.into()))?;
            visit(ObjectId::of(&object).map_err(|error| refuse(error.into()))?, object);
        }
        Ok(())
    }

    /// Every blob of a bundle with its size, `index.json` first: the order in which a hub can use them.
    pub(crate) fn blobs(&self, bundle: &Bundle) -> Result<Vec<(Sha256Digest, u64)>, Failure> {
        let index = *bundle.index();
        let mut blobs = vec![(index, self.need_blob(&index)?.size)];
        blobs.extend(bundle.items().iter().map(|(digest, item)| (*digest, item.size)));
        Ok(blobs)
    }

    /// Reads a blob from end to end and checks it against its digest and size.
    pub(crate) fn check_blob(
        &self,
        digest: &Sha256Digest,
        size: u64,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut blob = self.need_blob(digest)?;
        copy_verified(&mut blob.reader, digest, size, &mut Counted(progress))?;
        Ok(())
    }

    /// The releases that go with the bundle at `path`: the named file, the one beside it, or those on the stick.
    pub(crate) fn releases(&self, path: &Path, named: Option<&Path>) -> Result<Vec<Vec<u8>>, Failure> {
        let beside = release_file(path);
        if let Some(file) = named.map(Path::to_owned).or_else(|| beside.exists().then(|| beside.clone())) {
            return Ok(vec![envelope_file::read_bytes(&file)?]);
        }
        let mut releases = Vec::new();
        if let Self::Media(media) = self {
            for name in media.list(MediaKind::Releases)? {
                releases.extend(media.read_document(&name)?);
            }
        }
        if releases.is_empty() {
            let message =
                format!("no release goes with {}: {} is not there", path.display(), beside.display());
            let failure = Failure::new(Kind::NotFound, message);
            return Err(failure.next("`airlift bundle build` writes it; or name it with --release-file."));
        }
        Ok(releases)
    }
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

/// One blob, for uploading.
pub(crate) struct OneBlob<'f> {
    pub(crate) files: &'f BundleFiles,
    pub(crate) digest: Sha256Digest,
}

impl BlobSource for OneBlob<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        let blob = self.files.need_blob(&self.digest);
        blob.map(|blob| blob.reader).map_err(|failure| io::Error::other(failure.to_string()))
    }
}

/// Takes bytes and counts them.
struct Counted<'p>(&'p Progress);

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.done(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a stick or a tar.
pub(crate) fn open_media(path: &Path) -> Result<Box<dyn MediaSource + Send + Sync>, Failure> {
    if path.is_dir() {
        return Ok(Box::new(MediaDirectory::open(path, &Limits::DEFAULT)?));
    }
    Ok(Box::new(MediaArchive::open(path, &Limits::DEFAULT)?))
}

fn is_stick(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == airlift_bundles::media::DIRECTORY)
}

/// Where the release of a bundle stands: `shop-1.tar` and `shop-1/` have `shop-1.release.json` beside them.
pub(crate) fn release_file(bundle: &Path) -> PathBuf {
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
