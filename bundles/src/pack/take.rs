//! Takes images from their sources into the layout, as they are: same manifests, same layers, same digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::images::{Files, ImageStore, Refusal, RemoteImages, open_source};
use super::source::{ImageSource, PlatformText};
use crate::document::release::Platform;
use crate::ids::Sha256Digest;
use crate::layout::RawSize;
use crate::layout::descriptor::{
    CONFIG_TYPE, Descriptor, ImageConfig, Index, MANIFEST_TYPE, Manifest, Packing, ZSTD_LAYER_TYPE,
};
use crate::layout::objects::bounded_decoder;
use crate::layout::read::is_wanted;
use crate::layout::write::{LayoutWriter, WrittenBlob};
use crate::limits::Limits;
use crate::pieces::PieceList;

/// The zstd level for layers that come as plain tars.
const LAYER_LEVEL: i32 = 9;

/// A blob of the bundle, with what its piece list will say.
#[derive(Debug, Clone)]
pub(super) struct TakenBlob {
    pub(super) size: u64,
    pub(super) pieces: PieceList,
    pub(super) raw: Option<RawSize>,
}

/// An image source that was opened and looked at.
#[derive(Debug)]
pub(super) struct OpenImage {
    store: ImageStore,
    reference: Option<String>,
    platforms: BTreeSet<Platform>,
}

/// Opens an image's source and lists its platforms.
pub(super) fn open_image(
    folder: &Path,
    image: &ImageSource,
    remote: &dyn RemoteImages,
    limits: &Limits,
) -> Result<OpenImage, Refusal> {
    let (store, reference) = open_source(folder, &image.from, remote)?;
    let platforms = match &store {
        ImageStore::Oci(files) => {
            let target = files.find_oci(reference.as_deref(), limits)?;
            let bytes = files.read_blob(&target.digest, limits)?;
            if target.is_index() {
                let index: Index = parse("index", &bytes)?;
                let mut platforms = BTreeSet::new();
                for entry in index.manifests.iter().filter(|entry| entry.is_manifest()) {
                    if let Some(platform) = &entry.platform
                        && files.holds(&entry.digest)?
                    {
                        platforms.insert(normalise(platform));
                    }
                }
                platforms
            } else {
                let manifest: Manifest = parse("manifest", &bytes)?;
                let config: ImageConfig =
                    parse("configuration", &files.read_blob(&manifest.config.digest, limits)?)?;
                BTreeSet::from([normalise(&config.platform())])
            }
        }
        ImageStore::Docker(files) => {
            let found = files.find_docker(reference.as_deref(), limits)?;
            let config: ImageConfig = parse("configuration", &files.read_docker_config(&found, limits)?)?;
            BTreeSet::from([normalise(&config.platform())])
        }
    };
    // Attestations stand in indexes as manifests of an unknown platform.
    let platforms = platforms.into_iter().filter(|platform: &Platform| platform.os != "unknown").collect();
    Ok(OpenImage { store, reference, platforms })
}

/// The container runtime's spelling: 64-bit ARM has one variant, which is not written.
fn normalise(platform: &Platform) -> Platform {
    let mut platform = platform.clone();
    if platform.architecture == "arm64" && platform.variant.as_deref() == Some("v8") {
        platform.variant = None;
    }
    platform
}

/// The platforms of the bundle: the wanted ones, which every image must have, or those that all have.
pub(super) fn choose_platforms(
    wanted: &[PlatformText],
    images: &[(&ImageSource, OpenImage)],
) -> Result<Vec<Platform>, Refusal> {
    let mut chosen: BTreeSet<Platform> = wanted.iter().map(|platform| normalise(&platform.0)).collect();
    for (source, image) in images {
        let has = |platform: &Platform| image.platforms.iter().any(|own| platform.fits(own));
        if let Some(platform) = chosen.iter().filter(|_| !wanted.is_empty()).find(|platform| !has(platform)) {
            return Err(format!("image {} has no manifest for {platform}", source.name));
        }
    }
    if wanted.is_empty() {
        let mut all = images.iter().map(|(_, image)| image.platforms.clone());
        chosen = all.next().unwrap_or_default();
        chosen.retain(|platform| {
            images.iter().all(|(_, image)| image.platforms.iter().any(|own| platform.fits(own)))
        });
        if chosen.is_empty() && !images.is_empty() {
            return Err("the images have no platform in common".into());
        }
    }
    Ok(chosen.into_iter().collect())
}

/// Copies images into a layout.
pub(super) struct Taker<'a> {
    pub(super) layout: &'a LayoutWriter,
    pub(super) limits: &'a Limits,
    pub(super) platforms: &'a [Platform],
    pub(super) blobs: BTreeMap<Sha256Digest, TakenBlob>,
}

impl Taker<'_> {
    /// Copies one image, and describes what pods are to be pinned to.
    pub(super) fn take(&mut self, image: &OpenImage) -> Result<Descriptor, Refusal> {
        match &image.store {
            ImageStore::Oci(files) => {
                let found = files.find_oci(image.reference.as_deref(), self.limits)?;
                let bytes = files.read_blob(&found.digest, self.limits)?;
                self.keep_bytes(&bytes)?;
                if found.is_index() {
                    let index: Index = parse("index", &bytes)?;
                    for entry in index.manifests.iter().filter(|entry| is_wanted(entry, self.platforms)) {
                        let bytes = files.read_blob(&entry.digest, self.limits)?;
                        self.keep_bytes(&bytes)?;
                        self.take_manifest(files, &bytes)?;
                    }
                } else {
                    self.take_manifest(files, &bytes)?;
                }
                Ok(Descriptor::new(&found.media_type, found.digest, bytes.len() as u64))
            }
            ImageStore::Docker(files) => self.take_docker(files, image.reference.as_deref()),
        }
    }

    fn take_manifest(&mut self, files: &Files, bytes: &[u8]) -> Result<(), Refusal> {
        let manifest: Manifest = parse("manifest", bytes)?;
        let config = files.read_blob(&manifest.config.digest, self.limits)?;
        self.keep_bytes(&config)?;
        let config: ImageConfig = parse("configuration", &config)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err("the manifest's layers are not those of its configuration".into());
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let packing = Packing::of(&layer.media_type)
                .ok_or_else(|| format!("a layer of type {:?}, which is no tar", layer.media_type))?;
            if !self.blobs.contains_key(&layer.digest) {
                let source = files
                    .open_blob(&layer.digest)
                    .map_err(|error| format!("layer {}: {error}", layer.digest))?;
                let written = self.layout.put_stream(source.take(layer.size + 1)).map_err(in_words)?;
                if written.digest != layer.digest || written.size != layer.size {
                    return Err(format!("layer {} does not match its bytes", layer.digest));
                }
                self.keep(written);
            }
            self.measure(&layer.digest, packing, Some(diff_id))?;
        }
        Ok(())
    }

    /// Writes the manifest of a `docker save` image; its layers come unpacked and are packed here.
    fn take_docker(&mut self, files: &Files, reference: Option<&str>) -> Result<Descriptor, Refusal> {
        let found = files.find_docker(reference, self.limits)?;
        let config_bytes = files.read_docker_config(&found, self.limits)?;
        let config: ImageConfig = parse("configuration", &config_bytes)?;
        let mut layers = Vec::new();
        for layer in files.open_docker_layers(&found) {
            let mut layer = BufReader::with_capacity(256 << 10, layer?);
            let start = io::BufRead::fill_buf(&mut layer).map_err(in_words)?;
            let (written, packing, media_type) = if start.starts_with(&[0x1f, 0x8b]) {
                let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
                (self.layout.put_stream(layer), Packing::Gzip, media_type)
            } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                (self.layout.put_stream(layer), Packing::Zstd, ZSTD_LAYER_TYPE)
            } else {
                let packed = zstd::stream::read::Encoder::new(layer, LAYER_LEVEL).map_err(in_words)?;
                (self.layout.put_stream(packed), Packing::Zstd, ZSTD_LAYER_TYPE)
            };
            let written = written.map_err(in_words)?;
            let diff_id = config.rootfs.diff_ids.get(layers.len());
            layers.push(written.descriptor(media_type));
            let digest = written.digest;
            self.keep(written);
            self.measure(&digest, packing, diff_id)?;
        }
        if layers.len() != config.rootfs.diff_ids.len() {
            return Err("the archive's layers are not those of its configuration".into());
        }
        let config = self.keep_bytes(&config_bytes)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": layers,
        });
        let written = self.keep_bytes(manifest.to_string().as_bytes())?;
        Ok(written.descriptor(MANIFEST_TYPE))
    }

    fn keep_bytes(&mut self, bytes: &[u8]) -> Result<WrittenBlob, Refusal> {
        let written = self.layout.put(bytes).map_err(in_words)?;
        self.keep(written.clone());
        Ok(written)
    }

    fn keep(&mut self, written: WrittenBlob) {
        let taken = TakenBlob { size: written.size, pieces: written.pieces, raw: None };
        self.blobs.entry(written.digest).or_insert(taken);
    }

    /// Unpacks a layer once, to know its size and to be sure that it is what the configuration says.
    fn measure(
        &mut self,
        digest: &Sha256Digest,
        packing: Packing,
        diff_id: Option<&Sha256Digest>,
    ) -> Result<(), Refusal> {
        let blob = self.blobs.get_mut(digest).ok_or_else(|| format!("layer {digest} was not kept"))?;
        let raw = match blob.raw {
            Some(raw) => raw,
            None => {
                let file = File::open(self.layout.blob_path(digest)).map_err(in_words)?;
                let raw = measure_raw(file, packing, self.limits);
                *blob.raw.insert(raw.map_err(|error| format!("layer {digest} cannot be unpacked: {error}"))?)
            }
        };
        if diff_id == Some(&raw.diff_id) {
            Ok(())
        } else {
            Err(format!("layer {digest} unpacks to {}, which is not its diff_id", raw.diff_id))
        }
    }
}

fn measure_raw(file: File, packing: Packing, limits: &Limits) -> io::Result<RawSize> {
    let mut raw: Box<dyn Read> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(bounded_decoder(file, limits)?),
    };
    let (mut sha256, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 256 << 10]);
    loop {
        match raw.read(&mut buffer)? {
            0 => break,
            read => {
                sha256.update(&buffer[..read]);
                size += read as u64;
            }
        }
        if size > limits.blob_bytes {
            return Err(io::Error::other(format!("more than {} bytes", limits.blob_bytes)));
        }
    }
    Ok(RawSize { size, diff_id: Sha256Digest::from_bytes(sha256.finalize().into()) })
}

fn parse<T: serde::de::DeserializeOwned>(part: &str, bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| format!("{part}: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
fn in_words(error: io::Error) -> Refusal {
    error.to_string()
}
