use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

struct Blobs(tempfile::TempDir);

impl BlobSource for Blobs {
    fn path(&self, digest: &Sha256Digest) -> Option<PathBuf> {
        let path = self.0.path().join(digest.to_hex());
        path.exists().then_some(path)
    }
}

impl Blobs {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a scratch folder"))
    }

    fn put(&self, bytes: &[u8]) -> Sha256Digest {
        let digest = Sha256Digest::of(bytes);
        self.write(digest, bytes);
        digest
    }

    fn write(&self, digest: Sha256Digest, bytes: &[u8]) {
        let path: &Path = self.0.path();
        std::fs::write(path.join(digest.to_hex()), bytes).expect("the scratch folder is writable");
    }

    fn put_json(&self, value: &Value) -> Value {
        let bytes = serde_json::to_vec(value).expect("a value is always JSON");
        json!({"digest": self.put(&bytes), "size": bytes.len()})
    }

    fn config(&self, architecture: &str, diff_ids: &[Sha256Digest]) -> Value {
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": diff_ids}});
        typed(self.put_json(&config), OCI_CONFIG)
    }

    fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let document = json!({"mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        typed(self.put_json(&document), OCI_MANIFEST)
    }

    /// An image of one layer for the architecture.
    fn image(&self, architecture: &str) -> Value {
        let layer = self.put(b"a layer");
        let config = self.config(architecture, &[Sha256Digest::of(b"its tar")]);
        self.manifest(&config, &[layer_of(layer, "application/vnd.oci.image.layer.v1.tar+gzip")])
    }

    fn index(&self, entries: &[Value]) -> Value {
        typed(self.put_json(&json!({"mediaType": OCI_INDEX, "manifests": entries})), OCI_INDEX)
    }
}

fn layer_of(digest: Sha256Digest, media_type: &str) -> Value {
    json!({"digest": digest, "size": 7, "mediaType": media_type})
}

fn typed(mut descriptor: Value, media_type: &str) -> Value {
    descriptor["mediaType"] = media_type.into();
    descriptor
}

fn on(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

fn digest_of(descriptor: &Value) -> Sha256Digest {
    descriptor["digest"].as_str().expect("a digest").parse().expect("a digest")
}

fn plan_on(blobs: Blobs, top: &Value, architecture: &str) -> Result<ImagePlan, ImportError> {
    plan(&ImageToImport {
        references: vec!["app:1".to_owned()],
        top: digest_of(top),
        platform: Platform { os: "linux".into(), architecture: architecture.into(), variant: None },
        blobs: Arc::new(blobs),
    })
}

#[test]
fn chain_ids_are_those_of_the_specification() {
    let digests: Vec<Sha256Digest> =
        [b"a", b"b", b"c"].iter().map(|bytes| Sha256Digest::of(*bytes)).collect();
    let chains = chain_ids(&digests);
    assert_eq!(chains[0], digests[0]);
    assert_eq!(chains[1], Sha256Digest::of(format!("{} {}", digests[0], digests[1]).as_bytes()));
    // Computed apart from this code, with `sha256sum`.
    let third = "sha256:2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106";
    assert_eq!(chains[2].to_string(), third);
    assert!(chain_ids(&[]).is_empty());
}

#[test]
fn the_nodes_manifest_is_planned_and_absent_ones_are_only_named() {
    let blobs = Blobs::new();
    let here = on(blobs.image("arm64"), "arm64");
    let absent = on(typed(json!({"digest": Sha256Digest::of(b"absent"), "size": 9}), OCI_MANIFEST), "amd64");
    let top = blobs.index(&[absent.clone(), here.clone()]);
    let plan = plan_on(blobs, &top, "arm64").expect("the image is good");
    let written: Vec<_> = plan.document_blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(written, [plan.config, digest_of(&here), digest_of(&top)], "what is named is written first");
    let labels = &plan.document_blobs[2].labels;
    assert_eq!(labels["containerd.io/gc.ref.content.m.0"], digest_of(&absent).to_string());
    assert_eq!(labels["containerd.io/gc.ref.content.m.1"], digest_of(&here).to_string());
    assert_eq!(plan.layers[0].chain, Sha256Digest::of(b"its tar"));
    assert_eq!(plan.top.media_type, OCI_INDEX);
}

#[test]
fn a_top_that_does_not_say_what_it_is_is_known_by_its_shape() {
    let blobs = Blobs::new();
    let config = blobs.config("amd64", &[]);
    let manifest = blobs.put_json(&json!({"config": config, "layers": []}));
    assert_eq!(plan_on(blobs, &manifest, "amd64").expect("good").top.media_type, OCI_MANIFEST);
    let blobs = Blobs::new();
    let config = typed(blobs.config("amd64", &[]), DOCKER_CONFIG);
    let manifest = blobs.put_json(&json!({"config": config, "layers": []}));
    assert_eq!(plan_on(blobs, &manifest, "amd64").expect("good").top.media_type, DOCKER_MANIFEST);
    let blobs = Blobs::new();
    let neither = blobs.put_json(&json!({"schemaVersion": 1, "fsLayers": []}));
    assert!(matches!(plan_on(blobs, &neither, "amd64"), Err(ImportError::Malformed { .. })));
}

#[test]
fn one_layer_twice_is_written_once_and_unpacked_twice() {
    let blobs = Blobs::new();
    let layer = layer_of(blobs.put(b"a layer"), "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let tar = Sha256Digest::of(b"its tar");
    let top = blobs.manifest(&blobs.config("amd64", &[tar, tar]), &[layer.clone(), layer]);
    let plan = plan_on(blobs, &top, "amd64").expect("the image is good");
    assert_eq!((plan.layer_blobs.len(), plan.layers.len()), (1, 2));
    assert_ne!(plan.layers[0].chain, plan.layers[1].chain);
    assert!(plan.layers[0].is_compressed());
}

#[test]
fn another_machines_image_is_refused_before_anything_is_written() {
    let absent =
        |found: Result<ImagePlan, ImportError>| matches!(found, Err(ImportError::PlatformAbsent { .. }));
    let blobs = Blobs::new();
    let top = blobs.image("amd64");
    assert!(absent(plan_on(blobs, &top, "arm64")), "a single manifest is checked by its configuration");
    let blobs = Blobs::new();
    let top = blobs.index(&[on(blobs.image("amd64"), "amd64")]);
    assert!(absent(plan_on(blobs, &top, "arm64")));
    let blobs = Blobs::new();
    let top = blobs.index(&[blobs.image("amd64")]);
    assert!(absent(plan_on(blobs, &top, "arm64")), "an entry without a platform is checked too");
    let blobs = Blobs::new();
    let top = blobs.index(&[]);
    assert!(absent(plan_on(blobs, &top, "arm64")));
}

#[test]
fn every_flaw_of_a_document_is_told() {
    let flaw = |make: &dyn Fn(&Blobs) -> Value| {
        let blobs = Blobs::new();
        let top = make(&blobs);
        match plan_on(blobs, &top, "amd64") {
            Err(ImportError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let tar = Sha256Digest::of(b"its tar");
    let layer = |blobs: &Blobs, media_type: &str| layer_of(blobs.put(b"a layer"), media_type);

    let reason = flaw(&|blobs| blobs.manifest(&blobs.config("amd64", &[]), &[layer(blobs, gzip)]));
    assert!(reason.contains("1 layers, but 0 diff ids"), "{reason}");
    let reason = flaw(&|blobs| blobs.manifest(&blobs.config("amd64", &[tar]), &[layer(blobs, "text/plain")]));
    assert!(reason.contains("not a layer's"), "{reason}");
    let reason = flaw(&|blobs| blobs.manifest(&typed(blobs.config("amd64", &[]), "text/plain"), &[]));
    assert!(reason.contains("not a configuration"), "{reason}");
    let reason = flaw(&|blobs| {
        let many = vec![layer(blobs, gzip); LAYERS_MAX + 1];
        blobs.manifest(&blobs.config("amd64", &vec![tar; LAYERS_MAX + 1]), &many)
    });
    assert!(reason.contains("more than 500 layers"), "{reason}");
    let reason = flaw(&|blobs| {
        let config = blobs.config("amd64", &[]);
        typed(blobs.put_json(&json!({"mediaType": OCI_INDEX, "manifests": [], "config": config})), OCI_INDEX)
    });
    assert!(reason.contains("nothing of a manifest"), "{reason}");
    let reason =
        flaw(&|blobs| (0..=INDEX_DEPTH_MAX).fold(blobs.image("amd64"), |inner, _| blobs.index(&[inner])));
    assert!(reason.contains("inside each other"), "{reason}");
    let reason = flaw(&|blobs| {
        let mut config = blobs.config("amd64", &[]);
        config["size"] = 1.into();
        blobs.manifest(&config, &[])
    });
    assert!(reason.contains("size"), "{reason}");
    let reason = flaw(&|blobs| {
        let bytes = vec![b' '; Limits::DEFAULT.manifest_bytes + 1];
        json!({"digest": blobs.put(&bytes)})
    });
    assert!(reason.contains("more than 4194304 bytes"), "{reason}");
}

#[test]
fn missing_and_damaged_documents_name_the_blob_to_fetch_again() {
    let blobs = Blobs::new();
    let top = blobs.image("amd64");
    let digest = digest_of(&top);
    blobs.write(digest, b"{}");
    let error = plan_on(blobs, &top, "amd64").expect_err("the bytes are others");
    assert_eq!((error.clone(), error.wants_blob()), (ImportError::BlobDamaged { digest }, Some(digest)));
    let error = plan_on(Blobs::new(), &top, "amd64").expect_err("there is nothing");
    assert_eq!((error.clone(), error.wants_blob()), (ImportError::BlobMissing { digest }, Some(digest)));
}
