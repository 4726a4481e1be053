//! Opens what a site wants, after checking that its assignment needs it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use airlift_bundles::ids::{Sha256Digest, SiteId};
use airlift_bundles::wire::{Part, WantedItem};

use crate::db::DbError;
use crate::db::rows::{assignments, releases, roots};
use crate::server::Hub;

/// An item cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("file of the item cannot be read")]
    Io(#[from] io::Error),
}

/// Bytes to send from.
pub(super) enum Source {
    Document(Vec<u8>),
    Blob { file: Arc<File>, size: u64 },
}

/// The size of a blob of an app that the site is assigned, in this or an older release; `None` for any other.
pub(super) async fn size_for_site(
    hub: &Hub,
    site: &SiteId,
    digest: &Sha256Digest,
) -> Result<Option<u64>, DbError> {
    let (site, digest) = (site.clone(), *digest);
    let find = move |connection: &rusqlite::Connection| {
        let blob = releases::blob_for_site(connection, site.as_str(), &digest)?;
        Ok::<_, DbError>(blob.map(|blob| blob.size))
    };
    hub.db.read(find).await
}

impl Source {
    /// Opens an item for one site; `None` where it is not the site's to have, or not here.
    pub(super) async fn open(hub: &Hub, site: &SiteId, item: &WantedItem) -> Result<Option<Self>, LoadError> {
        match item {
            WantedItem::Root(version) => {
                let version = *version;
                let find = move |connection: &rusqlite::Connection| {
                    Ok::<_, DbError>(roots::envelope(connection, version)?)
                };
                Ok(hub.db.read(find).await?.map(Self::Document))
            }
            WantedItem::Document(sha256) => {
                let (site, sha256) = (site.clone(), *sha256);
                let find = move |connection: &rusqlite::Connection| {
                    Ok::<_, DbError>(assignments::document_for_site(connection, &site, &sha256)?)
                };
                Ok(hub.db.read(find).await?.map(Self::Document))
            }
            WantedItem::Blob(digest) => match size_for_site(hub, site, digest).await? {
                Some(_) => Self::blob(hub, digest).await,
                None => Ok(None),
            },
            // No encoding is made yet, and none is offered in assignments.
            WantedItem::Encoding(_) => Ok(None),
        }
    }

    /// Opens a blob; the caller has checked that somebody may have it.
    pub(super) async fn blob(hub: &Hub, digest: &Sha256Digest) -> Result<Option<Self>, LoadError> {
        let path = hub.data.blobs().join(digest.to_hex());
        let opened = tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok(Self::Blob { file: Arc::new(file), size })
        });
        match opened.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(source) => Ok(Some(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Document(bytes) => bytes.len() as u64,
            Self::Blob { size, .. } => *size,
        }
    }

    /// Reads the 64 KiB at number `part`, or what there is of them.
    pub(super) async fn read(&self, part: u64) -> io::Result<Vec<u8>> {
        let start = part.saturating_mul(Part::BYTES as u64).min(self.size());
        let length = usize::try_from((self.size() - start).min(Part::BYTES as u64)).unwrap_or(Part::BYTES);
        match self {
            Self::Document(bytes) => {
                let start = usize::try_from(start).unwrap_or(bytes.len());
                Ok(bytes[start..start + length].to_vec())
            }
            Self::Blob { file, .. } => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, start).map(|()| bytes)
                });
                read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
        }
    }
}
