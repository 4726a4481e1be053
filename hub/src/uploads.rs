//! Uploads that are under way: one writer for each blob.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use airlift_bundles::ids::Sha256Digest;

/// The blobs that somebody is uploading now.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<BTreeSet<Sha256Digest>>);

/// The right to write one blob's partial file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    uploads: &'a Uploads,
    digest: Sha256Digest,
}

impl Uploads {
    /// Begins an upload; `None` while another one of the same blob is under way.
    #[must_use]
    pub(crate) fn begin(&self, digest: Sha256Digest) -> Option<Turn<'_>> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        begun.then_some(Turn { uploads: self, digest })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.uploads.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}
