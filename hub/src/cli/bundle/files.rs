//! A bundle's files, whichever form they have: an OCI layout's folder, a tar, or a stick.

use std::io::{self, Read};
use std::path::Path;

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::layout::{Blobs, Bundle, LayoutDir};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{
    self, MediaError, MediaKind, MediaSource, OpenBlob, OpenError, copy_verified, release_file,
};
use airlift_bundles::render::object::ObjectId;
use serde_json::Value;

use crate::cli::client::content::BlobSource;
use crate::cli::envelope_file;
use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::Progress;

/// Where blobs are; what goes wrong with them is a command's failure.
pub(crate) struct BundleFiles(media::BundleFiles);

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

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => error.into(),
            OpenError::Media(error) => error.into(),
        }
    }
}

impl BundleFiles {
    /// Opens a layout's folder, a stick or a tar.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self(media::BundleFiles::open(path)?))
    }

    /// The files of a layout that was just written.
    pub(crate) fn of_layout(folder: &Path) -> Self {
        Self(media::BundleFiles::Layout(LayoutDir(folder.to_owned())))
    }

    /// The files of a stick or a tar.
    pub(crate) fn of_media(media: Box<dyn MediaSource + Send + Sync>) -> Self {
        Self(media::BundleFiles::Media(media))
    }

    /// The stick or the tar, where they are on one.
    pub(crate) fn media(&self) -> Option<&(dyn MediaSource + Send + Sync)> {
        match &self.0 {
            media::BundleFiles::Media(media) => Some(&**media),
            media::BundleFiles::Layout(_) => None,
        }
    }

    /// Opens a blob, unverified.
    pub(crate) fn open_blob(&self, digest: &Sha256Digest) -> Result<Option<OpenBlob<'_>>, Failure> {
        Ok(self.0.open_blob(digest)?)
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
        if let Some(media) = self.media() {
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
        self.0.read_blob(digest, limit)
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
