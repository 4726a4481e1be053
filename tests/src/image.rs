//! Test images: one static program and random bytes, as OCI layout, oci-archive and docker-archive.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/image/program.c");

/// The program of all images, compiled once a run.
static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("airlift-test-program-{}", std::process::id()));
    let compiled = Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&path).arg(SOURCE).status();
    assert!(compiled.expect("gcc is installed").success(), "gcc refused {SOURCE}");
    let program = fs::read(&path).expect("gcc wrote it");
    fs::remove_file(&path).expect("what was just written can be removed");
    program
});

/// An image of one layer, whose bytes no run had before.
#[derive(Clone, Debug)]
pub struct TestImage {
    /// The name by which pods use it.
    pub name: String,
    /// The OCI layout, a directory.
    pub layout: PathBuf,
    /// The manifest's digest, `sha256:` and hex.
    pub digest: String,
    /// The first bytes of its `/content`: what its program answers.
    pub content: String,
    config: Vec<u8>,
    layer_tar: Vec<u8>,
}

impl TestImage {
    /// Makes an image of this name with so many incompressible bytes in the directory `layout`.
    ///
    /// # Panics
    /// When the directory is not writable.
    #[must_use]
    pub fn make(layout: &Path, name: &str, random_bytes: usize) -> Self {
        let mut random = vec![0; random_bytes];
        getrandom::fill(&mut random).expect("the system gives randomness");
        let mut marker = [0; 16];
        getrandom::fill(&mut marker).expect("the system gives randomness");
        let content = hex(&marker);
        let layer_tar = make_layer(&content, &random);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&layer_tar).expect("a vector takes all bytes");
        let layer = gzip.finish().expect("a vector takes all bytes");
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": ["/program"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer_tar)]},
        });
        let config = config.to_string().into_bytes();
        fs::create_dir_all(layout.join("blobs/sha256")).expect("the layout's directory is writable");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": write_blob(layout, "application/vnd.oci.image.config.v1+json", &config),
            "layers": [write_blob(layout, "application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut entry = write_blob(layout, media_type, manifest.to_string().as_bytes());
        let digest = entry["digest"].as_str().expect("a descriptor has a digest").to_owned();
        entry["annotations"] =
            json!({"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        write(&layout.join("index.json"), index.to_string().as_bytes());
        write(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
        Self { name: name.to_owned(), layout: layout.to_owned(), digest, content, config, layer_tar }
    }

    /// Writes the layout as one tar beside it.
    #[must_use]
    pub fn oci_archive(&self) -> PathBuf {
        let path = self.layout.with_extension("oci.tar");
        let mut tar = tar::Builder::new(File::create(&path).expect("the directory is writable"));
        tar.append_dir_all(".", &self.layout).expect("the layout can be read");
        tar.finish().expect("the directory is writable");
        path
    }

    /// Writes it beside the layout as `docker save` would.
    #[must_use]
    pub fn docker_archive(&self) -> PathBuf {
        let path = self.layout.with_extension("docker.tar");
        let mut tar = tar::Builder::new(File::create(&path).expect("the directory is writable"));
        let config = format!("{}.json", &digest(&self.config)[7..]);
        let layer = format!("{}.tar", &digest(&self.layer_tar)[7..]);
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": [layer]}]).to_string();
        append(&mut tar, &config, 0o644, &self.config);
        append(&mut tar, &layer, 0o644, &self.layer_tar);
        append(&mut tar, "manifest.json", 0o644, manifest.as_bytes());
        tar.finish().expect("the directory is writable");
        path
    }
}

fn make_layer(content: &str, random: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "program", 0o755, &PROGRAM);
    append(&mut tar, "content", 0o644, content.as_bytes());
    append(&mut tar, "random", 0o644, random);
    tar.into_inner().expect("a vector takes all bytes")
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, bytes).expect("the directory is writable");
}

fn write_blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    write(&layout.join("blobs/sha256").join(&digest[7..]), bytes);
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the layout's directory is writable");
}

/// Names bytes as OCI does.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
