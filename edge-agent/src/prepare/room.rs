//! Whether a generation's images fit on the node above what its kubelet keeps free, before anything is changed.

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::{Bundle, BundleImage};
use tracing::debug;

use super::{Bodies, surroundings};
use crate::core::event::Failure;
use crate::core::object::{Generation, Predecessors};
use crate::ports::cluster::Room;
use crate::ports::{Cluster, Images};

impl Bodies {
    /// Refuses for now what the node has no room for, with the numbers. Where nobody can tell them, the import will.
    ///
    /// # Errors
    /// A failure of the surroundings: the disk is too full.
    pub async fn check_room(
        &self,
        generation: &Generation,
        before: &Predecessors,
        images: &dyn Images,
        cluster: &dyn Cluster,
    ) -> Result<(), Failure> {
        let bundle = self.bundle(generation)?;
        let mut missing = Vec::new();
        for image in bundle.images() {
            let names: Vec<String> =
                image.names.iter().map(|name| name.pin(image.target.digest).to_string()).collect();
            match images.missing(&names).await {
                Ok(absent) if absent.is_empty() => {}
                Ok(_) => missing.push(image),
                Err(error) => {
                    debug!(%error, "room for images is not known");
                    return Ok(());
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut needed = self.layers(&bundle, missing.into_iter());
        for other in before.all().filter_map(|other| self.bundle(other).ok()) {
            let held = self.layers(&other, other.images().iter());
            needed.retain(|digest, _| !held.contains_key(digest));
        }
        let needed_bytes = needed.values().sum();
        match cluster.image_room().await {
            Ok(Some(room)) => check(&room, needed_bytes),
            Ok(None) => Ok(()),
            Err(error) => {
                debug!(%error, "room for images is not known");
                Ok(())
            }
        }
    }

    /// What each layer of some images takes: as it travelled, and unpacked.
    fn layers<'b>(
        &self,
        bundle: &Bundle,
        images: impl Iterator<Item = &'b BundleImage>,
    ) -> BTreeMap<Sha256Digest, u64> {
        let platform = self.content.platform();
        let manifests = images.flat_map(|image| &image.manifests);
        let layers = manifests.filter(|manifest| manifest.platform.fits(platform));
        let layers = layers.flat_map(|manifest| &manifest.layers);
        layers
            .filter_map(|layer| {
                let item = bundle.items().get(&layer.blob.digest)?;
                let unpacked = item.raw.map_or(item.size, |raw| raw.size);
                Some((layer.blob.digest, item.size.saturating_add(unpacked)))
            })
            .collect()
    }
}

fn check(room: &Room, needed_bytes: u64) -> Result<(), Failure> {
    let Room { node, free_bytes, keep_bytes } = room;
    let spare = free_bytes.saturating_sub(*keep_bytes);
    if needed_bytes <= spare {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let reason = format!(
        "images need {} MiB on node {node}, which has {} MiB free, and its kubelet keeps {} MiB of that",
        mib(needed_bytes),
        mib(*free_bytes),
        mib(*keep_bytes)
    );
    Err(Failure { code: Code::DiskFull, ..surroundings(reason) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::FailureClass;

    #[test]
    fn what_the_kubelet_keeps_free_is_not_ours_to_fill() {
        let room = Room { node: "ship".into(), free_bytes: 20 << 20, keep_bytes: 15 << 20 };
        assert_eq!(check(&room, 5 << 20), Ok(()));
        let failure = check(&room, 6 << 20).expect_err("it does not fit");
        assert_eq!((failure.class, failure.code), (FailureClass::Environment, Code::DiskFull));
        assert_eq!(
            failure.reason,
            "images need 6 MiB on node ship, which has 20 MiB free, and its kubelet keeps 15 MiB of that"
        );
        let full = Room { free_bytes: 1 << 20, ..room };
        assert!(check(&full, 1).is_err());
        assert_eq!(check(&full, 0), Ok(()));
    }
}
