use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::document::release::Platform;
use crate::envelope::Document as _;
use crate::ids::{Counter, FleetId, Sha256Digest, Timestamp};
use crate::layout::descriptor::{CONFIG_TYPE, Index, MANIFEST_TYPE};
use crate::layout::objects::ObjectsReader;
use crate::layout::{Blobs as _, Bundle, LayoutDir, LayoutError};
use crate::limits::Limits;

/// A source folder in the making.
struct Folder {
    dir: tempfile::TempDir,
}

const APP: &str = "apiVersion: airlift.dev/v1alpha1
kind: App
name: shop
version: 1.4.2
images:
  - name: registry.example/web:1
    from: oci:web
";

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: registry.example/web:1
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        folder.write("airlift.yaml", APP);
        folder.write("manifests/web.yaml", WEB);
        folder.image("web", &[("amd64", b"one"), ("arm64", b"two")]);
        folder
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes an OCI layout with one image of one gzip layer a platform.
    fn image(&self, name: &str, platforms: &[(&str, &[u8])]) -> Sha256Digest {
        let root = self.path().join(name);
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Sha256Digest::of(bytes);
            fs::write(root.join("blobs/sha256").join(digest.to_hex()), bytes).unwrap();
            (digest, bytes.len())
        };
        let manifests: Vec<Value> = platforms
            .iter()
            .map(|(architecture, content)| {
                let (raw, packed) = layer(content);
                let (layer, layer_size) = put(&packed);
                let config = json!({"os": "linux", "architecture": architecture,
                    "rootfs": {"type": "layers", "diff_ids": [Sha256Digest::of(&raw)]}});
                let (config, config_size) = put(config.to_string().as_bytes());
                let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
                    "config": {"mediaType": CONFIG_TYPE, "digest": config, "size": config_size},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": layer, "size": layer_size}]});
                let (digest, size) = put(manifest.to_string().as_bytes());
                json!({"mediaType": MANIFEST_TYPE, "digest": digest, "size": size,
                    "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        let index_type = crate::layout::descriptor::INDEX_TYPE;
        let target = match manifests.as_slice() {
            [one] => one.clone(),
            many => {
                let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": many});
                let (digest, size) = put(index.to_string().as_bytes());
                json!({"mediaType": index_type, "digest": digest, "size": size})
            }
        };
        let top = json!({"schemaVersion": 2, "manifests": [target]});
        fs::write(root.join("index.json"), top.to_string()).unwrap();
        fs::write(root.join("oci-layout"), crate::layout::write::OCI_LAYOUT).unwrap();
        serde_json::from_value(target["digest"].clone()).unwrap()
    }

    fn pack(&self) -> Result<(Packed, LayoutDir), PackError> {
        let out = tempfile::tempdir_in(self.path()).unwrap().keep().join("bundle"); // goes with the folder
        pack(self.path(), &out, &Limits::DEFAULT).map(|packed| (packed, LayoutDir(out)))
    }

    fn faults(&self) -> Vec<Fault> {
        match self.pack() {
            Err(PackError::Invalid(faults)) => faults,
            other => panic!("expected faults, not {other:?}"),
        }
    }
}

fn layer(content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut tar = tar::Builder::new(Vec::new());
    let header = crate::media::plain_header("file", content.len() as u64).unwrap();
    tar.append(&header, content).unwrap();
    let raw = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&raw).unwrap();
    (raw, gzip.finish().unwrap())
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut stream = blake3::Hasher::new().finalize_xof();
    let mut noise = vec![0; bytes];
    stream.fill(&mut noise);
    noise
}

fn read_bundle(packed: &Packed, dir: &LayoutDir) -> Bundle {
    Bundle::read(&packed.index, dir, &Limits::DEFAULT).unwrap()
}

fn objects(bundle: &Bundle, dir: &LayoutDir) -> Vec<Value> {
    let packed = dir.read_blob(&bundle.objects().digest, 1 << 30).unwrap().unwrap();
    let reader = ObjectsReader::new(&packed[..], bundle.objects_raw().size, &Limits::DEFAULT).unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

#[test]
fn a_folder_becomes_a_bundle_that_reads_back() {
    let folder = Folder::new();
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    assert_eq!(bundle.app(), &packed.app);
    assert_eq!(packed.app.platforms.len(), 2);
    let [image] = bundle.images() else { panic!("one image") };
    assert_eq!(image.names.first().unwrap().to_string(), "registry.example/web:1");
    assert_eq!(image.manifests.len(), 2);
    let values = objects(&bundle, &dir);
    assert_eq!(values[0]["kind"], "Namespace");
    let pinned = format!("registry.example/web:1@{}", image.target.digest);
    assert_eq!(values[1].pointer("/spec/template/spec/containers/0/image"), Some(&json!(pinned)));
    for (digest, item) in bundle.items() {
        let bytes = dir.read_blob(digest, item.size).unwrap().unwrap();
        assert_eq!((Sha256Digest::of(&bytes), bytes.len() as u64), (*digest, item.size));
    }
    let on_disk = fs::read_dir(dir.0.join("blobs/sha256")).unwrap().count();
    assert_eq!(on_disk, bundle.items().len() + 1, "nothing but the bundle's blobs and its index");
    assert_eq!(packed.sizes.files, on_disk as u64);
}

#[test]
fn the_same_folder_gives_the_same_digest_and_archive() {
    let (first, second) = (Folder::new(), Folder::new());
    let (one, one_dir) = first.pack().unwrap();
    let (two, two_dir) = second.pack().unwrap();
    assert_eq!((one.index, &one.app, one.sizes), (two.index, &two.app, two.sizes));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    write_archive(&one_dir.0, &mut a).unwrap();
    write_archive(&two_dir.0, &mut b).unwrap();
    assert!(!a.is_empty() && a == b);
}

#[test]
fn the_draft_says_what_the_descriptor_says() {
    let (packed, _) = Folder::new().pack().unwrap();
    let facts = ReleaseFacts {
        fleet_id: FleetId::new("demo").unwrap(),
        counter: Counter { epoch: 1, seq: 7 },
        floor: 3,
        prev: None,
        issued_at: Timestamp::from_unix_s(1_800_000_000),
    };
    let statement = packed.draft(&facts);
    statement.check().unwrap();
    assert_eq!(statement.bundle(), packed.index);
    assert_eq!(packed.app.check_release(&statement.predicate), Ok(()));
    let mut other = statement.predicate;
    other.rollback = crate::document::release::RollbackRule::Never;
    assert_eq!(packed.app.check_release(&other), Err("rollback"));
}

#[test]
fn large_layers_have_piece_lists_that_verify_them() {
    let folder = Folder::new();
    folder.image("web", &[("amd64", &noise(300_000))]);
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    let layer = &bundle.images()[0].manifests[0].layers[0];
    let list = bundle.piece_list(&layer.blob.digest, &dir).unwrap().expect("a list");
    let bytes = dir.read_blob(&layer.blob.digest, 1 << 30).unwrap().unwrap();
    for (piece, bytes) in (0..).zip(bytes.chunks(crate::pieces::PIECE_BYTES)) {
        list.verify_piece(piece, bytes).unwrap();
    }
    let raw = bundle.items()[&layer.blob.digest].raw.unwrap();
    assert_eq!(raw.diff_id, layer.diff_id);
    let small = bundle.piece_list(&bundle.objects().digest, &dir).unwrap();
    assert!(small.is_none());
}

#[test]
fn a_platform_s_share_leaves_other_platforms_out() {
    let folder = Folder::new();
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    let share: Vec<_> = bundle.items_for(&amd64()).map(|(digest, _)| *digest).collect();
    let [image] = bundle.images() else { panic!("one image") };
    for manifest in &image.manifests {
        let ours = manifest.platform == amd64();
        for blob in [&manifest.manifest, &manifest.config, &manifest.layers[0].blob] {
            assert_eq!(share.contains(&blob.digest), ours, "{}", manifest.platform);
        }
    }
    assert!(share.contains(&bundle.objects().digest) && share.contains(&image.target.digest));
}

#[test]
fn only_wanted_platforms_are_taken() {
    let folder = Folder::new();
    folder.write("airlift.yaml", &format!("{APP}platforms: [linux/arm64]\n"));
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    assert_eq!(bundle.images()[0].manifests.len(), 1);
    folder.write("airlift.yaml", &format!("{APP}platforms: [linux/riscv64]\n"));
    assert!(
        folder.faults()[0]
            .to_string()
            .contains("airlift.yaml:8: image registry.example/web:1 has no manifest")
    );
}

#[test]
fn parts_that_are_missing_are_named_and_damaged_ones_refused() {
    let folder = Folder::new();
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    let config = bundle.images()[0].manifests[0].config.digest;
    let path = dir.blob_path(&config);
    let bytes = fs::read(&path).unwrap();
    let read = || Bundle::read(&packed.index, &dir, &Limits::DEFAULT);
    fs::remove_file(&path).unwrap();
    match read() {
        Err(LayoutError::Missing(missing)) => assert_eq!(missing[0].digest, config),
        other => panic!("{other:?}"),
    }
    let mut damaged = bytes.clone();
    damaged[5] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(read(), Err(LayoutError::Digest(digest)) if digest == config));
    fs::write(&path, [bytes.as_slice(), b" "].concat()).unwrap();
    assert!(matches!(read(), Err(LayoutError::Size { digest, .. }) if digest == config));
    fs::write(&path, &bytes).unwrap();
    read().unwrap();
}

/// The blobs of a bundle in one tar, read as they stand there.
struct ArchiveBlobs(crate::media::MediaArchive);

impl crate::layout::Blobs for ArchiveBlobs {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        use crate::media::MediaSource as _;
        let blob = self.0.open_blob(digest).map_err(io::Error::other)?;
        blob.map(|blob| crate::layout::read_bounded(blob.reader, limit)).transpose()
    }
}

/// Kept for ever: what was once built stays readable, whatever newer builds write.
#[test]
fn the_first_bundle_ever_built_is_still_read() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bundle-v1.tar"));
    let blobs = ArchiveBlobs(crate::media::MediaArchive::open(path, &Limits::DEFAULT).unwrap());
    let index: Sha256Digest =
        "sha256:55f86c02152d41acb199df8f3df249f37acb67451f3d3f44a5f8f2f7ce325f05".parse().unwrap();
    let bundle = Bundle::read(&index, &blobs, &Limits::DEFAULT).unwrap();
    assert_eq!((bundle.app().app.as_str(), bundle.app().version.as_str()), ("shop", "1.4.2"));
    assert_eq!(bundle.app().overlays.len(), 1);
    let layer = bundle.images()[0].manifests[0].layers[0].blob.digest;
    let list = bundle.piece_list(&layer, &blobs).unwrap().expect("a list");
    let bytes = blobs.read_blob(&layer, 1 << 30).unwrap().unwrap();
    for (piece, bytes) in (0..).zip(bytes.chunks(crate::pieces::PIECE_BYTES)) {
        list.verify_piece(piece, bytes).unwrap();
    }
    let packed = blobs.read_blob(&bundle.objects().digest, 1 << 20).unwrap().unwrap();
    let reader = ObjectsReader::new(&packed[..], bundle.objects_raw().size, &Limits::DEFAULT).unwrap();
    assert_eq!(reader.map(Result::unwrap).count(), bundle.app().objects);
}

#[test]
fn an_index_with_two_apps_is_refused() {
    let folder = Folder::new();
    let (packed, dir) = folder.pack().unwrap();
    let bytes = dir.read_blob(&packed.index, 1 << 20).unwrap().unwrap();
    let mut index: Index = serde_json::from_slice(&bytes).unwrap();
    index.manifests.push(index.manifests[0].clone());
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = Sha256Digest::of(&bytes);
    fs::write(dir.blob_path(&digest), &bytes).unwrap();
    let refused = Bundle::read(&digest, &dir, &Limits::DEFAULT);
    assert!(matches!(refused, Err(LayoutError::Malformed { .. })), "{refused:?}");
}

#[test]
fn archives_give_the_same_image_as_directories() {
    let folder = Folder::new();
    let expected = folder.pack().unwrap().0;
    let mut archive = fs::File::create(folder.path().join("web.tar")).unwrap();
    write_archive(&folder.path().join("web"), &mut archive).unwrap();
    folder.write("airlift.yaml", &APP.replace("oci:web", "oci-archive:web.tar"));
    assert_eq!(folder.pack().unwrap().0.index, expected.index);
}

#[test]
fn a_docker_archive_gets_a_manifest_with_its_own_configuration() {
    let folder = Folder::new();
    let (raw, _) = layer(b"content");
    let config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [Sha256Digest::of(&raw), Sha256Digest::of(&raw)]}});
    let manifest = json!([{"Config": "config.json", "RepoTags": ["registry.example/web:1"],
        "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("a/layer.tar", raw),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        tar.append(&crate::media::plain_header(name, bytes.len() as u64).unwrap(), &bytes[..]).unwrap();
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
    fs::write(folder.path().join("web.tar"), tar.into_inner().unwrap()).unwrap();
    folder.write("airlift.yaml", &APP.replace("oci:web", "docker-archive:web.tar"));
    let (packed, dir) = folder.pack().unwrap();
    let bundle = read_bundle(&packed, &dir);
    let manifest = &bundle.images()[0].manifests[0];
    assert_eq!(manifest.config.digest, Sha256Digest::of(config.to_string().as_bytes()));
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[0].packing, crate::layout::descriptor::Packing::Zstd);
    assert_eq!(folder.pack().unwrap().0.index, packed.index);
}

#[test]
fn images_that_cannot_be_taken_are_refused_with_their_line() {
    for (from, part) in [
        ("oci:nowhere", "nowhere/index.json"),
        ("oci:web:latest", "no image named \"latest\""),
        ("oci-archive:web.tar", "web.tar"),
        ("docker://registry.example/web:1", "only files are read here"),
        ("containerd:registry.example/web:1", "only files are read here"),
        ("web", "is not oci:DIR"),
    ] {
        let folder = Folder::new();
        folder.write("airlift.yaml", &APP.replace("oci:web", from));
        let fault = folder.faults()[0].to_string();
        assert!(fault.starts_with("airlift.yaml:6: ") && fault.contains(part), "{from}: {fault}");
    }
    let folder = Folder::new();
    let blobs = folder.path().join("web/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes[12] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
    let fault = folder.faults()[0].to_string();
    assert!(fault.contains("does not match its bytes"), "{fault}");
}

mod carried;
mod choices;
mod lint;
mod remote;
