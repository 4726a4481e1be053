//! The labels that keep an image alive in containerd and make Kubernetes' side see it.

use airlift_bundles::ids::Sha256Digest;

use super::manifest::Kind;
use super::messages::Labels;
use super::name::ImageName;

/// Marks image records that Kubernetes' side manages.
pub(super) const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Keeps the kubelet from collecting the image; versions before 1.7.3 do not know it.
pub(super) const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
/// Marks image records that Airlift made, with their own name: tools that copy a record copy its labels too.
pub(super) const RECORD: &str = "airlift.dev/record";
/// The image id that a record means, so that records of one image find each other.
pub(super) const CONFIG: &str = "airlift.dev/config";
/// Marks leases that Airlift made, with the image that they protect.
pub(super) const LEASE: &str = "airlift.dev/import";
/// Marks leases that keep an image of kube-system, with its digest; with a suffix: its type, size and names.
pub(super) const KEPT: &str = "airlift.dev/kept";
/// The digest of a layer's tar, on the compressed blob.
pub(super) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The chain that a snapshot in the making will be.
pub(super) const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";

/// containerd refuses a label whose key and value are longer together.
const LABEL_BYTES_MAX: usize = 4096;

/// The references from a manifest or index to its parts, numbered as containerd numbers them.
///
/// Parts that are not here are named too: that is what a pull of one platform leaves.
pub(super) fn of_children<'a>(children: impl IntoIterator<Item = (Kind, &'a Sha256Digest)>) -> Labels {
    let mut counts = [0_usize; 3];
    let mut next = |family: usize| {
        counts[family] += 1;
        counts[family] - 1
    };
    let mut labels = Labels::new();
    for (kind, digest) in children {
        let key = match kind {
            Kind::Config => "config".to_owned(),
            Kind::Manifest => format!("m.{}", next(0)),
            Kind::Layer => format!("l.{}", next(1)),
            Kind::Index => next(2).to_string(),
        };
        labels.insert(format!("containerd.io/gc.ref.content.{key}"), digest.to_string());
    }
    labels
}

/// The reference from a configuration to the unpacked layers.
pub(super) fn of_snapshot(snapshotter: &str, chain: &Sha256Digest) -> (String, String) {
    (format!("containerd.io/gc.ref.snapshot.{snapshotter}"), chain.to_string())
}

/// The registries that the content is said to come from, as a pull would note them.
pub(super) fn of_sources(names: &[ImageName]) -> Labels {
    let mut labels = Labels::new();
    for name in names.iter().filter(|name| name.host_written) {
        let key = format!("containerd.io/distribution.source.{}", name.host);
        let merged = merged_source(labels.get(&key).map(String::as_str), &name.path);
        if key.len() + merged.len() <= LABEL_BYTES_MAX {
            labels.insert(key, merged);
        }
    }
    labels
}

/// What is missing on a blob that is already there; sources are added to, all else replaced.
pub(super) fn missing(present: &Labels, wanted: &Labels) -> Labels {
    let mut changed = Labels::new();
    for (key, value) in wanted {
        let old = present.get(key);
        let new = match old {
            Some(old) if key.starts_with("containerd.io/distribution.source.") => {
                value.split(',').fold(old.clone(), |merged, path| merged_source(Some(&merged), path))
            }
            _ => value.clone(),
        };
        if old != Some(&new) && key.len() + new.len() <= LABEL_BYTES_MAX {
            changed.insert(key.clone(), new);
        }
    }
    changed
}

/// A sorted list of repositories without repetition, as containerd writes it.
fn merged_source(list: Option<&str>, path: &str) -> String {
    let mut paths: Vec<&str> = list.map(|list| list.split(',').collect()).unwrap_or_default();
    paths.push(path);
    paths.sort_unstable();
    paths.dedup();
    paths.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_numbered_by_family() {
        let digests: Vec<Sha256Digest> = (0..5_u8).map(|n| Sha256Digest::of(&[n])).collect();
        let manifest = of_children([
            (Kind::Config, &digests[0]),
            (Kind::Layer, &digests[1]),
            (Kind::Layer, &digests[2]),
        ]);
        let written = |labels: &Labels| labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
        assert_eq!(
            written(&manifest),
            [
                format!("containerd.io/gc.ref.content.config={}", digests[0]),
                format!("containerd.io/gc.ref.content.l.0={}", digests[1]),
                format!("containerd.io/gc.ref.content.l.1={}", digests[2]),
            ]
        );
        let index = of_children([
            (Kind::Manifest, &digests[3]),
            (Kind::Index, &digests[1]),
            (Kind::Manifest, &digests[4]),
        ]);
        assert_eq!(
            written(&index),
            [
                format!("containerd.io/gc.ref.content.0={}", digests[1]),
                format!("containerd.io/gc.ref.content.m.0={}", digests[3]),
                format!("containerd.io/gc.ref.content.m.1={}", digests[4]),
            ]
        );
    }

    #[test]
    fn sources_name_written_hosts_only_and_are_merged_with_those_that_are_there() {
        let names: Vec<ImageName> = ["ghcr.io/b/app:1", "app:1", "ghcr.io/a/app:1"]
            .iter()
            .map(|name| ImageName::parse(name).expect("a valid name"))
            .collect();
        let wanted = of_sources(&names);
        let key = "containerd.io/distribution.source.ghcr.io".to_owned();
        assert_eq!(wanted, Labels::from([(key.clone(), "a/app,b/app".to_owned())]));
        let present =
            Labels::from([(key.clone(), "b/app,c/app".to_owned()), ("other".into(), "kept".into())]);
        assert_eq!(missing(&present, &wanted), Labels::from([(key, "a/app,b/app,c/app".to_owned())]));
        assert_eq!(missing(&wanted, &wanted), Labels::new());
    }

    #[test]
    fn a_source_list_beyond_the_label_limit_is_left_as_it_is() {
        let key = "containerd.io/distribution.source.ghcr.io".to_owned();
        let full = Labels::from([(key.clone(), "x".repeat(LABEL_BYTES_MAX - key.len()))]);
        assert_eq!(missing(&full, &Labels::from([(key, "y".to_owned())])), Labels::new());
    }
}
