//! Images made by the test: random content, every compression, both families of media types.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlift_agent::ports::images::{BlobSource, ImageToImport, Platform};
use airlift_bundles::ids::Sha256Digest;
use serde_json::{Value, json};

/// How a layer's tar is packed.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A folder of blobs, as the agent's store is one.
pub(crate) struct Blobs(pub(crate) PathBuf);

impl BlobSource for Blobs {
    fn path(&self, digest: &Sha256Digest) -> Option<PathBuf> {
        let path = self.0.join(digest.to_hex());
        path.exists().then_some(path)
    }
}

impl Blobs {
    fn put(&self, bytes: &[u8]) -> Sha256Digest {
        let digest = Sha256Digest::of(bytes);
        std::fs::write(self.0.join(digest.to_hex()), bytes).expect("the scratch folder is writable");
        digest
    }

    fn put_json(&self, value: &Value) -> (Sha256Digest, usize) {
        let bytes = serde_json::to_vec(value).expect("a value is always JSON");
        (self.put(&bytes), bytes.len())
    }
}

/// The platform of the machine that runs the test.
pub(crate) fn here() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7".to_owned())),
        other => (other, None),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant }
}

/// Bytes that no other run has and no compressor shrinks.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A packed layer, and the diff id that its configuration names.
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: Sha256Digest,
    pub(crate) packing: Packing,
}

impl Layer {
    pub(crate) fn of(files: &BTreeMap<&str, Vec<u8>>, packing: Packing) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes.as_slice()).expect("memory takes all");
        }
        let tar = tar.into_inner().expect("memory takes all");
        let diff_id = Sha256Digest::of(&tar);
        let blob = match packing {
            Packing::Plain => tar,
            Packing::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&tar).expect("memory takes all");
                gzip.finish().expect("memory takes all")
            }
            Packing::Zstd => zstd::encode_all(tar.as_slice(), 1).expect("memory takes all"),
        };
        Self { blob, diff_id, packing }
    }

    /// One layer with one random file.
    pub(crate) fn random(name: &str, len: usize, packing: Packing) -> Self {
        Self::of(&BTreeMap::from([(name, noise(len))]), packing)
    }
}

/// Writes a manifest and all under it; `docker` chooses the family of media types.
pub(crate) fn manifest(blobs: &Blobs, layers: &[Layer], docker: bool) -> (Sha256Digest, usize) {
    let Platform { os, architecture, variant } = here();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let config = json!({
        "os": os, "architecture": architecture, "variant": variant,
        "config": {"Cmd": ["/app"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (config, config_size) = blobs.put_json(&config);
    let media_type = |packing: Packing| match (docker, packing) {
        (false, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
        (false, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (false, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (true, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
        (true, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (true, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
    };
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let digest = blobs.put(&layer.blob);
            json!({"mediaType": media_type(layer.packing), "digest": digest, "size": layer.blob.len()})
        })
        .collect();
    let (own, config_type) = match docker {
        true => (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
        ),
        false => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
    };
    blobs.put_json(&json!({
        "schemaVersion": 2, "mediaType": own,
        "config": {"mediaType": config_type, "digest": config, "size": config_size},
        "layers": layers,
    }))
}

/// Writes an index of a manifest that is here and one, for another machine, that is not.
pub(crate) fn index(blobs: &Blobs, here_manifest: (Sha256Digest, usize)) -> Sha256Digest {
    let Platform { os, architecture, .. } = here();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let absent = Sha256Digest::of(&noise(16));
    let index = json!({
        "schemaVersion": 2,
        "manifests": [
            {"mediaType": media_type, "digest": absent, "size": 512, "platform": {"os": "linux", "architecture": "s390x"}},
            {"mediaType": media_type, "digest": here_manifest.0, "size": here_manifest.1,
             "platform": {"os": os, "architecture": architecture}},
        ],
    });
    blobs.put_json(&index).0
}

/// What the agent is told to import.
pub(crate) fn to_import(blobs: &Path, top: Sha256Digest, reference: &str) -> ImageToImport {
    let references = vec![reference.to_owned()];
    ImageToImport { references, top, platform: here(), blobs: Arc::new(Blobs(blobs.to_path_buf())) }
}
