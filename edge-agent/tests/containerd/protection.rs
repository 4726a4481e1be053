//! What others remove comes back; what nobody needs goes.

use std::time::Duration;

use airlift_agent::import::Containerd;
use airlift_agent::ports::images::{Change, Images, Removal};

use crate::node::{Node, Release};
use crate::{collect, cri, import, one_layer};

/// Waits until a pod would find the name, or not.
async fn wait_for(containerd: &Containerd, reference: &str, wanted: bool) {
    for _ in 0..100 {
        let missing = containerd.missing(&[reference.to_owned()]).await.expect("containerd answers");
        if missing.is_empty() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{reference}: a pod finds it: {}", !wanted);
}

pub(crate) async fn what_the_kubelet_or_crictl_removes_is_told_and_imported_again(release: Release) {
    let node = Node::start(release, "native").await;
    let containerd = node.containerd();
    let (image, reference) = one_layer(&node, "1", 300_000);
    let imported = import(&containerd, &image).await.expect("the image is good");
    let shown = cri::list_images(&node.socket()).await;
    let shown = shown.iter().find(|shown| shown.id == imported.config.to_string()).expect("it is listed");
    assert_eq!(shown.pinned, release == Release::Newer, "1.6 does not know the label");

    cri::prune(&node.socket()).await;
    wait_for(&containerd, &reference, release == Release::Newer).await;

    import(&containerd, &image).await.expect("the image is good");
    let mut changes = containerd.watch_changes().await.expect("containerd answers");
    cri::remove_image(&node.socket(), &imported.config.to_string()).await;
    let mut gone = Vec::new();
    while gone.len() < 3 {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        if let Change::ImageRemoved(name) = change.expect("removals are told").expect("containerd runs") {
            gone.push(name);
        }
    }
    assert!(gone.contains(&"registry.example/team/app:1".to_owned()), "{gone:?}");
    assert_eq!(node.ctr(&["content", "ls", "-q"]).lines().count(), 0, "nothing of it is left");
    assert_eq!(import(&containerd, &image).await, Ok(imported));
    wait_for(&containerd, &reference, true).await;
    assert_eq!(node.file_in("registry.example/team/app:1", "data").len(), 300_000);
}

pub(crate) async fn names_that_imports_made_are_owned_until_they_go(release: Release) {
    let node = Node::start(release, "native").await;
    let containerd = node.containerd();
    assert_eq!(containerd.owned().await.expect("containerd answers"), [""; 0]);
    let (image, reference) = one_layer(&node, "1", 1_000);
    import(&containerd, &image).await.expect("the image is good");
    let by_digest = format!("registry.example/team/app@{}", image.top);
    node.ctr(&["images", "tag", "registry.example/team/app:1", "registry.example/team/theirs:1"]);
    let mut owned = containerd.owned().await.expect("containerd answers");
    owned.sort();
    assert_eq!(owned, ["registry.example/team/app:1", &by_digest]);
    make_container(&node, "registry.example/team/app:1", "default", "user");
    for name in &owned {
        assert_eq!(containerd.remove(name).await, Ok(Removal::Removed), "only pods of Kubernetes count");
    }
    wait_for(&containerd, &reference, false).await;
    wait_for(&containerd, "registry.example/team/theirs:1", true).await;
}

/// Puts an image there as K3s would: with names that no import of ours made.
async fn put_foreign(node: &Node, name: &str, tag: &str, len: usize) -> String {
    let containerd = node.containerd();
    let (image, reference) = one_layer(node, tag, len);
    let imported = import(&containerd, &image).await.expect("the image is good");
    node.ctr(&["images", "tag", &format!("registry.example/team/app:{tag}"), name]);
    assert_eq!(containerd.remove(&reference).await, Ok(Removal::Removed));
    wait_for(&containerd, name, true).await;
    imported.config.to_string()
}

fn make_container(node: &Node, image: &str, namespace: &str, id: &str) {
    let label = format!("io.kubernetes.pod.namespace={namespace}");
    node.ctr(&["containers", "create", "--snapshotter", "native", "--label", &label, image, id]);
}

pub(crate) async fn images_of_kube_system_outlive_their_removal_and_go_when_superseded(release: Release) {
    let mut node = Node::start(release, "native").await;
    let containerd = node.containerd();
    let (first, second) = ("docker.io/rancher/dns:1", "docker.io/rancher/dns:2");
    let id = put_foreign(&node, first, "1", 200_000).await;
    put_foreign(&node, "docker.io/team/app:1", "app", 100_000).await;
    make_container(&node, first, "kube-system", "dns-1");
    make_container(&node, "docker.io/team/app:1", "default", "app");
    assert_eq!(containerd.keep_system().await.expect("containerd answers"), [""; 0]);
    let content = node.file_in(first, "data");

    // All names and the container go, containerd collects, and even restarts.
    node.ctr(&["containers", "rm", "dns-1"]);
    cri::remove_image(&node.socket(), &id).await;
    node.ctr(&["images", "rm", "docker.io/team/app:1"]);
    collect(&node);
    wait_for(&containerd, first, false).await;
    node.kill();
    node.launch().await;
    let restored = containerd.keep_system().await.expect("containerd answers");
    // Whether the record of the image id was there to be kept is Kubernetes' side's affair.
    let own = [first, &id];
    assert!(restored.iter().all(|name| own.contains(&name.as_str())), "nothing of others: {restored:?}");
    assert!(restored.iter().any(|name| name == first), "{restored:?}");
    wait_for(&containerd, first, true).await;
    assert_eq!(node.file_in(first, "data"), content);
    assert_eq!(containerd.keep_system().await.expect("containerd answers"), [""; 0]);

    put_foreign(&node, second, "2", 100_000).await;
    make_container(&node, second, "kube-system", "dns-2");
    assert_eq!(containerd.keep_system().await.expect("containerd answers"), [""; 0]);
    let leases = node.ctr(&["leases", "ls", "-q"]);
    assert_eq!(leases.lines().filter(|lease| lease.starts_with("airlift-kept-")).count(), 1, "{leases}");
    node.ctr(&["images", "rm", first, &id]);
    collect(&node);
    assert_eq!(containerd.keep_system().await.expect("containerd answers"), [""; 0]);
    wait_for(&containerd, first, false).await;
    assert!(!node.ctr(&["content", "ls", "-q"]).contains(&id), "its space is free");
}
