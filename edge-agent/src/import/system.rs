//! Keeps the images of kube-system: they are not ours and nobody sends them again, but without them no pod starts.
//!
//! Their bytes are on this disk already, in containerd's own store. A lease per image keeps them there when somebody
//! removes its names, and remembers these names, so that giving them back moves no byte and needs no other copy.

use std::collections::BTreeSet;

use airlift_bundles::ids::Sha256Digest;
use tonic::Status;
use tracing::{debug, warn};

use super::labels::{KEPT, MANAGED, PINNED};
use super::lease;
use super::messages::{ContainerRecords, Descriptor, Image, Labels, Lease, ListRequest};
use super::name::ImageName;
use super::records;
use super::socket::{CALL_TIMEOUT, Socket};
use crate::ports::images::ImportError;

/// Images that are kept at most: a K3s node runs about eight of its own.
const KEPT_MAX: usize = 64;
/// Names of one image that are remembered at most.
const NAMES_MAX: usize = 32;

/// Gives removed names back, and keeps what runs now; answers with the names that came back.
pub(super) async fn keep(socket: &Socket) -> Result<Vec<String>, ImportError> {
    let leases = lease::list(socket, KEPT).await;
    let leases = leases.map_err(|status| socket.failed("listing leases", &status))?;
    let mut kept: Vec<SystemImage> = leases.into_iter().filter_map(SystemImage::of_lease).collect();
    let containers = containers(socket).await?;
    if kept.is_empty() && containers.is_empty() {
        return Ok(Vec::new());
    }
    let mut records = records::list(socket, Vec::new()).await?;
    let mut restored = Vec::new();
    for image in &kept {
        for record in image.missing(&records) {
            if records::create(socket, record.clone()).await? {
                restored.push(record.name.clone());
            }
            records.push(record);
        }
    }
    let running = running(&containers, &records);
    for image in &running {
        if kept.iter().any(|known| known.covers(image)) {
            continue;
        }
        if kept.len() >= KEPT_MAX {
            warn!(image = %image.target.digest, "image of kube-system is not kept: there are too many");
            continue;
        }
        lease::create(socket, &image.lease, image.labels()).await?;
        lease::hold(socket, &image.lease, "content".to_owned(), image.target.digest.clone()).await?;
        // The new lease stands: those that remember fewer of its names have done their work.
        for older in kept.extract_if(.., |known| known.target.digest == image.target.digest) {
            lease::end(socket, &older.lease).await;
        }
        kept.push(image.clone());
    }
    for image in kept.iter().filter(|image| image.is_superseded(&running)) {
        debug!(image = %image.target.digest, "kube-system runs another version now");
        lease::end(socket, &image.lease).await;
    }
    Ok(restored)
}

/// The image names of kube-system's containers, those of their sandboxes included.
async fn containers(socket: &Socket) -> Result<BTreeSet<String>, ImportError> {
    let method = "/containerd.services.containers.v1.Containers/List";
    let filters = vec!["labels.\"io.kubernetes.pod.namespace\"==\"kube-system\"".to_owned()];
    let answer: Result<ContainerRecords, Status> =
        socket.call(method, None, CALL_TIMEOUT, ListRequest { filters }).await;
    let containers = answer.map_err(|status| socket.failed("listing containers", &status))?.containers;
    Ok(containers.into_iter().map(|container| container.image).collect())
}

/// The images of these containers that are not of a bundle: those are restored from the bundle.
fn running(containers: &BTreeSet<String>, records: &[Image]) -> Vec<SystemImage> {
    let used = |record: &&Image| containers.contains(&record.name);
    let targets: BTreeSet<&str> = records.iter().filter(used).map(records::target_of).collect();
    let image = |target: &str| {
        let same = records.iter().filter(|record| records::target_of(record) == target);
        let descriptor = same.clone().find_map(|record| record.target.clone())?;
        // The record named by the image id serves whoever has the image.
        let ours = same.clone().any(|record| records::is_ours(record) && !records::is_id(&record.name));
        let names = same.map(|record| record.name.clone()).take(NAMES_MAX).collect();
        (!ours).then(|| SystemImage::new(descriptor, names))
    };
    targets.into_iter().filter(|target| !target.is_empty()).filter_map(image).collect()
}

/// An image with all its names.
#[derive(Debug, Clone)]
struct SystemImage {
    lease: String,
    target: Descriptor,
    names: BTreeSet<String>,
}

impl SystemImage {
    fn new(target: Descriptor, names: BTreeSet<String>) -> Self {
        let mut all = target.digest.clone();
        for name in &names {
            all.push('\n');
            all.push_str(name);
        }
        // A lease cannot be changed, so other names are another lease.
        Self { lease: format!("airlift-kept-{}", Sha256Digest::of(all.as_bytes()).to_hex()), target, names }
    }

    fn of_lease(lease: Lease) -> Option<Self> {
        let label = |key: &str| lease.labels.get(&format!("{KEPT}.{key}"));
        let target = Descriptor {
            media_type: label("type")?.clone(),
            digest: lease.labels.get(KEPT)?.clone(),
            size: label("size")?.parse().ok()?,
        };
        let names = (0..NAMES_MAX).map_while(|at| label(&at.to_string())).cloned().collect();
        Some(Self { lease: lease.id, target, names })
    }

    fn labels(&self) -> Labels {
        let names = self.names.iter().enumerate().map(|(at, name)| (format!("{KEPT}.{at}"), name.clone()));
        let mut labels: Labels = names.collect();
        labels.insert(KEPT.to_owned(), self.target.digest.clone());
        labels.insert(format!("{KEPT}.type"), self.target.media_type.clone());
        labels.insert(format!("{KEPT}.size"), self.target.size.to_string());
        labels
    }

    fn covers(&self, other: &Self) -> bool {
        self.target.digest == other.target.digest && self.names.is_superset(&other.names)
    }

    /// The records that are gone; a name that means something else by now stays as it is.
    fn missing(&self, records: &[Image]) -> Vec<Image> {
        let gone = |name: &&String| !records.iter().any(|record| record.name == **name);
        let record = |name: &String| {
            let labels = [MANAGED, PINNED].map(|(key, value)| (key.to_owned(), value.to_owned()));
            Image { name: name.clone(), labels: labels.into(), target: Some(self.target.clone()) }
        };
        self.names.iter().filter(gone).map(record).collect()
    }

    fn repositories(&self) -> BTreeSet<String> {
        // An image id is written like a name and is none.
        let names = self.names.iter().filter(|name| !records::is_id(name));
        names.filter_map(|name| ImageName::parse(name).ok()).map(|name| name.repository()).collect()
    }

    /// Whether kube-system runs other versions of all that this image is: only then it is not needed again.
    ///
    /// That nothing runs it now proves nothing: its pod may just be waiting for it.
    fn is_superseded(&self, running: &[Self]) -> bool {
        if running.iter().any(|image| image.target.digest == self.target.digest) {
            return false;
        }
        let others: BTreeSet<String> = running.iter().flat_map(Self::repositories).collect();
        let own = self.repositories();
        !own.is_empty() && own.is_subset(&others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, content: &str) -> Image {
        let digest = Sha256Digest::of(content.as_bytes()).to_string();
        let target = Descriptor { media_type: "m".to_owned(), digest, size: 7 };
        Image { name: name.to_owned(), labels: Labels::new(), target: Some(target) }
    }

    fn images(containers: &[&str], records: &[Image]) -> Vec<SystemImage> {
        running(&containers.iter().map(|name| (*name).to_owned()).collect(), records)
    }

    #[test]
    fn an_image_is_kept_with_all_its_names_and_comes_back_from_its_lease() {
        let records = [
            record("docker.io/rancher/coredns:1", "coredns 1"),
            record("sha256:1234", "coredns 1"),
            record("docker.io/team/app:1", "app"),
        ];
        let found = images(&["sha256:1234", "gone:1", ""], &records);
        assert_eq!(found.len(), 1, "{found:?}");
        let lease = Lease { id: found[0].lease.clone(), labels: found[0].labels(), ..Lease::default() };
        let kept = SystemImage::of_lease(lease).expect("our own labels");
        assert!(kept.covers(&found[0]) && found[0].covers(&kept));
        assert_eq!(kept.missing(&records[1..]).len(), 1);
        assert_eq!(kept.missing(&records[1..])[0].target, records[0].target);
        let moved = [record("docker.io/rancher/coredns:1", "another"), records[1].clone()];
        assert!(kept.missing(&moved).is_empty(), "somebody moved the name on purpose");
    }

    #[test]
    fn images_of_bundles_are_left_to_the_bundle() {
        let mut ours = record("docker.io/team/app:1", "app");
        ours.labels.insert(super::super::labels::RECORD.to_owned(), ours.name.clone());
        assert!(images(&["docker.io/team/app:1"], &[ours]).is_empty());
    }

    #[test]
    fn an_image_is_let_go_only_when_another_version_of_it_runs() {
        let records =
            [record("docker.io/rancher/coredns:1", "one"), record("docker.io/rancher/coredns:2", "two")];
        let one = &images(&["docker.io/rancher/coredns:1"], &records)[0];
        let two = images(&["docker.io/rancher/coredns:2"], &records);
        assert!(!one.is_superseded(&[]), "its pod may wait for it");
        assert!(!one.is_superseded(std::slice::from_ref(one)));
        assert!(one.is_superseded(&two));
        let nameless = SystemImage::new(one.target.clone(), ["sha256:12".to_owned()].into());
        assert!(!nameless.is_superseded(&two));
    }
}
