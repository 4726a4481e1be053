//! Writes the sample image as an OCI layout: one gzip layer with the program and some bytes that weigh something.
//!
//! The bytes follow from the version, so that the same version is the same image, and another version really has to
//! travel.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use airlift_bundles::document::release::Platform;
use airlift_bundles::ids::Sha256Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::program::executable;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Bytes of content: sixteen pieces of 64 KiB and a bit, so that every site has something to fetch.
const CONTENT_BYTES: usize = 1 << 20;

/// Writes the image of a version for a platform into an empty or absent directory.
///
/// # Errors
/// What the system said; [`io::ErrorKind::Unsupported`] where there is no program for the platform.
pub fn write_image(layout: &Path, name: &str, version: &str, platform: &Platform) -> io::Result<()> {
    let program = executable(&platform.architecture).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, format!("no sample program for {}", platform.architecture))
    })?;
    let raw = layer(&program, version)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&raw)?;
    let packed = gzip.finish()?;
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let mut config = serde_json::to_value(platform).map_err(io::Error::other)?;
    config["config"] = json!({"Entrypoint": ["/kiosk"]});
    config["rootfs"] = json!({"type": "layers", "diff_ids": [Sha256Digest::of(&raw)]});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": blob(layout, CONFIG_TYPE, config.to_string().as_bytes())?,
        "layers": [blob(layout, LAYER_TYPE, &packed)?],
    });
    let mut entry = blob(layout, MANIFEST_TYPE, manifest.to_string().as_bytes())?;
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// The layer as a tar, with times and owners of nobody.
fn layer(program: &[u8], version: &str) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let content = content(version);
    for (name, mode, bytes) in [("kiosk", 0o755, program), ("content", 0o644, content.as_slice())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, name, bytes)?;
    }
    tar.into_inner()
}

/// Bytes that no compression makes smaller, and that follow from the version.
fn content(version: &str) -> Vec<u8> {
    let block = |number: usize| *Sha256Digest::of(format!("{version}/{number}").as_bytes()).as_bytes();
    (0..CONTENT_BYTES / 32).flat_map(block).collect()
}

fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
    let digest = Sha256Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.to_hex()), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}
