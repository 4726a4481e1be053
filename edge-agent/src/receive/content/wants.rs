//! What running fetches miss, most wanted first. Two fetches may want one item.

use std::sync::Arc;

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::pieces::PieceList;

/// One missing item.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) sha256: Sha256Digest,
    /// Its pieces; `None` for a small item that comes whole.
    pub(super) list: Option<Arc<PieceList>>,
    size: Option<u64>,
    fetches: usize,
}

impl Want {
    pub(super) fn whole(sha256: Sha256Digest, size: Option<u64>) -> Self {
        Self { sha256, list: None, size, fetches: 1 }
    }

    pub(super) fn pieces(sha256: Sha256Digest, list: Arc<PieceList>) -> Self {
        Self { sha256, size: Some(list.size()), list: Some(list), fetches: 1 }
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }
}

/// The wants of all fetches.
#[derive(Debug, Default)]
pub(super) struct Wants(Vec<Want>);

impl Wants {
    pub(super) fn add(&mut self, wants: Vec<Want>) {
        for want in wants {
            match self.0.iter_mut().find(|have| have.sha256 == want.sha256) {
                Some(have) => {
                    have.fetches += 1;
                    have.list = have.list.take().or(want.list);
                    have.size = have.size.or(want.size);
                }
                None => self.0.push(want),
            }
        }
    }

    pub(super) fn remove(&mut self, digests: &[Sha256Digest]) {
        for want in &mut self.0 {
            want.fetches -= usize::from(digests.contains(&want.sha256));
        }
        self.0.retain(|want| want.fetches > 0);
    }

    pub(super) fn get(&self, sha256: &Sha256Digest) -> Option<&Want> {
        self.0.iter().find(|want| want.sha256 == *sha256)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Want> {
        self.0.iter()
    }
}
