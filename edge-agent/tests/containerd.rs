//! Import against a real containerd with its Kubernetes side, in scratch folders of the test's own.

#[path = "containerd/cri.rs"]
mod cri;
#[path = "containerd/image.rs"]
mod image;
#[path = "containerd/node.rs"]
mod node;
#[path = "containerd/protection.rs"]
mod protection;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use airlift_agent::core::event::FailureClass;
use airlift_agent::import::Containerd;
use airlift_agent::ports::cancel::CancelFlag;
use airlift_agent::ports::images::{Change, ImageToImport, Images, ImportError, ImportedImage, Removal};
use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use image::{Blobs, Layer, Packing, index, manifest, noise, to_import};
use node::{Node, Release};
use protection::{
    images_of_kube_system_outlive_their_removal_and_go_when_superseded,
    names_that_imports_made_are_owned_until_they_go,
    what_the_kubelet_or_crictl_removes_is_told_and_imported_again,
};

/// Makes two tests of each story, one against each containerd.
macro_rules! on_each_containerd {
    ($($story:ident,)+) => {
        mod of_the_distribution { on_each_containerd!(Distribution: $($story,)+); }
        mod newer { on_each_containerd!(Newer: $($story,)+); }
    };
    ($release:ident: $($story:ident,)+) => {$(
        #[tokio::test(flavor = "current_thread")]
        async fn $story() {
            let release = super::Release::$release;
            match release.cannot_run() {
                Some(reason) => println!("SKIPPED: {reason}"),
                None => super::$story(release).await,
            }
        }
    )+};
}

on_each_containerd! {
    an_index_with_an_absent_platform_lives_through_collection_restart_and_removal,
    the_same_holds_on_overlayfs,
    docker_media_types_and_a_short_name_are_adopted,
    a_killed_import_resumes_where_it_ended,
    a_killed_containerd_is_the_environments_fault_and_the_import_goes_on_after_it,
    an_import_killed_while_unpacking_leaves_nothing_that_blocks_the_next,
    a_cancelled_import_ends_and_can_be_taken_up_again,
    bad_content_is_told_from_a_bad_node_and_a_lost_blob,
    a_tag_moves_with_our_images_but_never_from_somebody_elses,
    what_the_kubelet_or_crictl_removes_is_told_and_imported_again,
    names_that_imports_made_are_owned_until_they_go,
    images_of_kube_system_outlive_their_removal_and_go_when_superseded,
}

async fn import(containerd: &Containerd, image: &ImageToImport) -> Result<ImportedImage, ImportError> {
    containerd.import(image, &mut |_| {}, &CancelFlag::new()).await
}

/// An image of one gzip layer with a random file, and its reference by tag and digest.
fn one_layer(node: &Node, tag: &str, len: usize) -> (ImageToImport, String) {
    let top = manifest(&Blobs(node.blobs()), &[Layer::random("data", len, Packing::Gzip)], false).0;
    let reference = format!("registry.example/team/app:{tag}@{top}");
    (to_import(&node.blobs(), top, &reference), reference)
}

/// Life of an index whose other platform is absent, with a layer of each packing.
async fn index_lives(release: Release, snapshotter: &'static str) {
    let mut node = Node::start(release, snapshotter).await;
    let content = noise(300_000);
    let layers = [
        Layer::of(&BTreeMap::from([("data", noise(10)), ("plain", noise(100_000))]), Packing::Plain),
        Layer::of(&BTreeMap::from([("data", content.clone())]), Packing::Gzip),
        Layer::random("zstd", 700_000, Packing::Zstd),
    ];
    let blobs = Blobs(node.blobs());
    let chosen = manifest(&blobs, &layers, false);
    let top = index(&blobs, chosen);
    let reference = format!("registry.example/team/app:1@{top}");
    let references = [reference.clone()];
    let image = to_import(&node.blobs(), top, &reference);
    let containerd = node.containerd();
    assert_eq!(containerd.missing(&references).await.expect("containerd answers"), references);

    let mut watch = containerd.watch_changes().await.expect("containerd answers");
    let mut seen = Vec::new();
    let imported = containerd.import(&image, &mut |bytes| seen.push(bytes), &CancelFlag::new()).await;
    let imported = imported.expect("the image is good");
    assert!(seen.is_sorted() && seen.last() == Some(&imported.bytes), "{seen:?}");
    let found = containerd.present(&references).await.expect("containerd answers");
    assert_eq!(found, [Some(imported.config)]);

    let tag = "registry.example/team/app:1";
    let by_digest = format!("registry.example/team/app@{top}");
    let records = node.ctr(&["images", "ls"]);
    for name in [tag, &by_digest, &imported.config.to_string()] {
        let line = records.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no record {name} in\n{records}"));
        assert!(line.contains("io.cri-containerd.image=managed"), "{line}");
        assert!(line.contains("io.cri-containerd.pinned=pinned"), "{line}");
    }
    let check = node.ctr(&["images", "check", "--snapshotter", snapshotter, &format!("name=={tag}")]);
    assert!(check.contains("complete (4/4)") && check.trim_end().ends_with("true"), "{check}");

    let line_of = |listing: &str, digest: Sha256Digest| {
        let digest = digest.to_string();
        listing.lines().find(|line| line.starts_with(&digest)).map(str::to_owned).expect("the blob is there")
    };
    let listing = node.ctr(&["content", "ls"]);
    let packed = Sha256Digest::of(&layers[1].blob);
    assert!(line_of(&listing, top).contains(&format!("containerd.io/gc.ref.content.m.1={}", chosen.0)));
    assert!(
        line_of(&listing, chosen.0)
            .contains(&format!("containerd.io/gc.ref.content.config={}", imported.config))
    );
    assert!(line_of(&listing, chosen.0).contains(&format!("containerd.io/gc.ref.content.l.1={packed}")));
    assert!(line_of(&listing, packed).contains(&format!("containerd.io/uncompressed={}", layers[1].diff_id)));
    assert!(
        line_of(&listing, packed).contains("containerd.io/distribution.source.registry.example=team/app")
    );
    assert!(!line_of(&listing, layers[0].diff_id).contains("containerd.io/uncompressed"));
    let snapshot = format!("containerd.io/gc.ref.snapshot.{snapshotter}=");
    assert!(line_of(&listing, imported.config).contains(&snapshot));
    assert_eq!(node.file_in(tag, "data"), content, "the upper layer's file covers the lower one's");

    // The collector takes what nothing refers to: the import's lease is gone, so only labels hold the image.
    let leases = node.ctr(&["leases", "ls", "-q"]);
    assert!(!leases.contains("airlift"), "{leases}");
    collect(&node);
    assert_eq!(node.ctr(&["content", "ls", "-q"]).lines().count(), 6);
    assert_eq!(node.file_in(tag, "data"), content);

    node.kill();
    node.launch().await;
    let found = containerd.present(&references).await.expect("containerd answers again");
    assert_eq!(found, [Some(imported.config)], "the names outlive a restart of containerd");
    let ended = watch.next().await.expect_err("a watch ends with its containerd");
    assert_eq!(ended.class(), FailureClass::Environment);

    // Again: everything is there, so nothing is written and nothing changes.
    assert_eq!(import(&containerd, &image).await.as_ref(), Ok(&imported));

    let mut watch = containerd.watch_changes().await.expect("containerd answers");
    node.ctr(&["images", "rm", tag, &by_digest, &imported.config.to_string()]);
    let mut gone =
        [watch.next().await, watch.next().await, watch.next().await].map(|it| it.expect("an event"));
    gone.sort_by_key(|it| format!("{it:?}"));
    let expected = [tag, &by_digest, &imported.config.to_string()]
        .map(|name: &str| Change::ImageRemoved(name.to_owned()));
    assert_eq!(gone, expected);
    collect(&node);
    assert_eq!(containerd.missing(&references).await.expect("containerd answers"), references);
    assert_eq!(node.ctr(&["content", "ls", "-q"]).lines().count(), 0, "the collector took all");
    assert_eq!(import(&containerd, &image).await.as_ref(), Ok(&imported));
    assert_eq!(node.file_in(tag, "data"), content);
}

/// Makes containerd collect now: it does so when a lease is removed synchronously.
fn collect(node: &Node) {
    let lease = node.ctr(&["leases", "create"]);
    node.ctr(&["leases", "rm", "--sync", lease.trim()]);
}

async fn an_index_with_an_absent_platform_lives_through_collection_restart_and_removal(release: Release) {
    index_lives(release, "native").await;
}

async fn the_same_holds_on_overlayfs(release: Release) {
    index_lives(release, "overlayfs").await;
}

async fn docker_media_types_and_a_short_name_are_adopted(release: Release) {
    let node = Node::start(release, "native").await;
    let content = noise(5_000);
    let layers = [
        Layer::random("lower", 1_000, Packing::Plain),
        Layer::of(&BTreeMap::from([("data", content.clone())]), Packing::Gzip),
    ];
    let top = manifest(&Blobs(node.blobs()), &layers, true).0;
    let image = to_import(&node.blobs(), top, "app:1");
    let containerd = node.containerd();
    let imported = import(&containerd, &image).await.expect("the image is good");
    let asked = [
        "app:1".to_owned(),
        format!("docker.io/library/app@{top}"),
        format!("app:9@{top}"),
        "app:2".to_owned(),
    ];
    let found = containerd.present(&asked).await.expect("containerd answers");
    assert_eq!(found, [Some(imported.config), Some(imported.config), Some(imported.config), None]);
    assert_eq!(node.file_in("docker.io/library/app:1", "data"), content);
    assert!(!node.ctr(&["content", "ls"]).contains("distribution.source"), "no registry was named");
}

async fn a_killed_import_resumes_where_it_ended(release: Release) {
    let node = Node::start(release, "native").await;
    let (image, reference) = one_layer(&node, "1", 48 << 20);
    let reached = Arc::new(Mutex::new(0));
    let killed = std::thread::spawn({
        let (image, reached, containerd) = (image.clone(), reached.clone(), node_socket(&node));
        move || {
            // A runtime of its own, dropped with its connections in mid-write, as a kill would.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let enough = CancelFlag::new();
            runtime.block_on(async {
                let containerd = Containerd::new(&containerd, None).expect("a socket's path");
                let never = CancelFlag::new();
                let mut report = |bytes| {
                    *reached.lock().expect("nobody panics") = bytes;
                    if bytes > 20 << 20 {
                        enough.raise();
                    }
                };
                tokio::select! {
                    ended = containerd.import(&image, &mut report, &never) => panic!("ended early: {ended:?}"),
                    () = enough.raised() => {}
                }
            });
        }
    });
    killed.join().expect("the import was under way");
    let reached = *reached.lock().expect("nobody panics");
    let containerd = node.containerd();
    assert_eq!(
        containerd.missing(std::slice::from_ref(&reference)).await.expect("containerd answers").len(),
        1
    );
    collect(&node);

    let mut first = None;
    let resumed =
        containerd.import(&image, &mut |bytes| _ = first.get_or_insert(bytes), &CancelFlag::new()).await;
    let imported = resumed.expect("the image is good");
    assert!(first.is_some_and(|first| first >= reached), "began at {first:?} after reaching {reached}");
    assert_eq!(containerd.present(&[reference]).await.expect("containerd answers"), [Some(imported.config)]);
}

async fn a_killed_containerd_is_the_environments_fault_and_the_import_goes_on_after_it(release: Release) {
    let mut node = Node::start(release, "native").await;
    let (image, reference) = one_layer(&node, "1", 32 << 20);
    let containerd = node.containerd();
    let far = CancelFlag::new();
    let (never, mut failed) = (CancelFlag::new(), None);
    {
        let mut report = |bytes: u64| {
            if bytes > 10 << 20 {
                far.raise();
            }
        };
        let mut importing = containerd.import(&image, &mut report, &never);
        tokio::select! {
            ended = &mut importing => panic!("ended early: {ended:?}"),
            () = far.raised() => node.kill(),
        }
        failed.replace(importing.await.expect_err("containerd is dead"));
    }
    assert_eq!(failed.map(|error| error.class()), Some(FailureClass::Environment));
    node.launch().await;
    let imported = import(&containerd, &image).await.expect("the image is good");
    assert_eq!(containerd.present(&[reference]).await.expect("containerd answers"), [Some(imported.config)]);
}

async fn an_import_killed_while_unpacking_leaves_nothing_that_blocks_the_next(release: Release) {
    let node = Node::start(release, "native").await;
    let (image, reference) = one_layer(&node, "1", 100_000);
    // What a killed import leaves: its snapshot, prepared and half unpacked, held by its lease.
    let chain = {
        let top = std::fs::read(node.blobs().join(image.top.to_hex())).expect("the manifest");
        let top: serde_json::Value = serde_json::from_slice(&top).expect("the manifest");
        let config: Sha256Digest =
            top["config"]["digest"].as_str().expect("a digest").parse().expect("a digest");
        let config = std::fs::read(node.blobs().join(config.to_hex())).expect("the configuration");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("the configuration");
        config["rootfs"]["diff_ids"][0].as_str().expect("a digest").to_owned()
    };
    node.ctr(&["snapshots", "--snapshotter", "native", "prepare", &format!("extract-airlift {chain}")]);
    let containerd = node.containerd();
    let imported = import(&containerd, &image).await.expect("the image is good");
    assert_eq!(containerd.present(&[reference]).await.expect("containerd answers"), [Some(imported.config)]);
    let snapshots = node.ctr(&["snapshots", "--snapshotter", "native", "ls"]);
    assert!(!snapshots.contains("extract-") && snapshots.contains(&chain), "{snapshots}");
}

async fn a_cancelled_import_ends_and_can_be_taken_up_again(release: Release) {
    let node = Node::start(release, "native").await;
    let (image, _) = one_layer(&node, "1", 24 << 20);
    let containerd = node.containerd();
    let cancel = CancelFlag::new();
    let mut report = |bytes: u64| {
        if bytes > 8 << 20 {
            cancel.raise();
        }
    };
    assert_eq!(containerd.import(&image, &mut report, &cancel).await, Err(ImportError::Cancelled));
    assert_eq!(containerd.import(&image, &mut |_| {}, &cancel).await, Err(ImportError::Cancelled));
    import(&containerd, &image).await.expect("the image is good");
}

async fn bad_content_is_told_from_a_bad_node_and_a_lost_blob(release: Release) {
    let node = Node::start(release, "native").await;
    let containerd = node.containerd();
    let refused = async |image: &ImageToImport| {
        let error = import(&containerd, image).await.expect_err("the image is bad");
        assert_eq!(error.class(), FailureClass::App, "{error}");
        assert_eq!(
            containerd.missing(&image.references).await.expect("containerd answers"),
            image.references
        );
        error
    };
    let of = |layer: Layer| {
        let top = manifest(&Blobs(node.blobs()), &[layer], false).0;
        to_import(&node.blobs(), top, &format!("registry.example/bad@{top}"))
    };

    let mut lying = Layer::random("data", 1_000, Packing::Gzip);
    lying.diff_id = Sha256Digest::of(b"another tar");
    assert!(matches!(refused(&of(lying)).await, ImportError::Malformed { .. }));

    let mut cut = Layer::random("data", 100_000, Packing::Gzip);
    cut.blob.truncate(50_000);
    let cut = refused(&of(cut)).await;
    assert!(matches!(cut, ImportError::Malformed { .. }), "{cut}");

    let layer = Layer::random("data", 1_000_000, Packing::Gzip);
    let digest = Sha256Digest::of(&layer.blob);
    let mut flipped = layer.blob.clone();
    flipped[500_000] ^= 1;
    let good = layer.blob.clone();
    let image = of(layer);
    std::fs::write(node.blobs().join(digest.to_hex()), flipped).expect("the scratch folder is writable");
    let leases = node.ctr(&["leases", "ls", "-q"]);
    assert!(!leases.contains("airlift"), "content that will not come back is not held: {leases}");
    let damaged = import(&containerd, &image).await.expect_err("the blob is damaged");
    assert_eq!(damaged, ImportError::BlobDamaged { digest });
    std::fs::remove_file(node.blobs().join(digest.to_hex())).expect("the scratch folder is writable");
    let missing = import(&containerd, &image).await.expect_err("the blob is missing");
    assert_eq!(missing, ImportError::BlobMissing { digest });
    assert_eq!((missing.class(), missing.wants_blob()), (FailureClass::Environment, Some(digest)));
    let codes = [cut.code(), damaged.code(), missing.code()];
    assert_eq!(codes, [Code::BundleMalformed, Code::BlobDigest, Code::ContentMissing]);
    std::fs::write(node.blobs().join(digest.to_hex()), good).expect("the scratch folder is writable");
    import(&containerd, &image).await.expect("the blob was fetched again");

    let nobody = Containerd::new(Path::new("/nonexistent/containerd.sock"), None).expect("a socket's path");
    let (good, _) = one_layer(&node, "1", 1_000);
    let error = import(&nobody, &good).await.expect_err("there is no socket");
    assert!(matches!(error, ImportError::Unreachable { .. }), "{error}");
}

async fn a_tag_moves_with_our_images_but_never_from_somebody_elses(release: Release) {
    let node = Node::start(release, "native").await;
    let containerd = node.containerd();
    let (first, first_reference) = one_layer(&node, "stable", 10_000);
    let (second, second_reference) = one_layer(&node, "stable", 10_000);
    let one = import(&containerd, &first).await.expect("the image is good");
    let two = import(&containerd, &second).await.expect("the image is good");
    let tag = "registry.example/team/app:stable".to_owned();
    let asked = [first_reference.clone(), second_reference.clone(), tag.clone()];
    let found = containerd.present(&asked).await.expect("containerd answers");
    assert_eq!(found, [Some(one.config), Some(two.config), Some(two.config)]);

    assert_eq!(containerd.remove(&first_reference).await, Ok(Removal::Removed));
    assert_eq!(containerd.remove(&first_reference).await, Ok(Removal::NotOurs));
    collect(&node);
    let kept = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        loop {
            let found = containerd.present(&asked).await.expect("containerd answers");
            if found[0].is_none() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    assert_eq!(kept.await.expect("the name goes"), [None, Some(two.config), Some(two.config)]);
    let listing = node.ctr(&["content", "ls", "-q"]);
    assert!(
        !listing.contains(&one.config.to_string()) && listing.contains(&two.config.to_string()),
        "{listing}"
    );

    node.ctr(&["images", "rm", &tag]);
    node.ctr(&[
        "images",
        "tag",
        &format!("registry.example/team/app@{}", two.top),
        "registry.example/team/app:other",
    ]);
    let (third, _) = one_layer(&node, "other", 10_000);
    let error = import(&containerd, &third).await.expect_err("the tag is somebody else's");
    let holder = two.top.to_string();
    let reference = "registry.example/team/app:other".to_owned();
    assert_eq!(error, ImportError::NameTaken { reference: reference.clone(), holder });
    assert_eq!(containerd.present(&[reference]).await.expect("containerd answers"), [Some(two.config)]);
}

fn node_socket(node: &Node) -> std::path::PathBuf {
    node.path().join("containerd.sock")
}
