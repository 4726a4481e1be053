//! What an image consists of on this node: its index, manifest, configuration and layers, read from disk and bounded.
//!
//! Nothing is written yet. Documents are small, and each is hashed before it is parsed; layers are only named, since
//! containerd hashes them while they are written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::labels;
use super::messages::Labels;
use super::platform;
use crate::ports::images::{BlobSource, ImageToImport, ImportError, Platform};

/// Indexes that stand inside each other; real images have one, rarely two.
const INDEX_DEPTH_MAX: usize = 4;
/// Manifests in one index, each of which becomes a label.
const INDEX_ENTRIES_MAX: usize = 1024;
/// Layers of one image: overlayfs takes no more directories.
const LAYERS_MAX: usize = 500;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a part of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Index,
    Manifest,
    Config,
    Layer,
}

impl Kind {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_INDEX | DOCKER_INDEX => Some(Self::Index),
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Manifest),
            OCI_CONFIG | DOCKER_CONFIG => Some(Self::Config),
            other => is_layer(other).then_some(Self::Layer),
        }
    }
}

/// Plain, gzip and zstd tars, in OCI's and docker's words, those once called foreign included.
fn is_layer(media_type: &str) -> bool {
    let oci =
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar"];
    let docker = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let with = |names: [&str; 2], compressions: [&str; 3]| {
        names.iter().any(|name| {
            media_type.strip_prefix(name).is_some_and(|compression| compressions.contains(&compression))
        })
    };
    with(oci, ["", "+gzip", "+zstd"]) || with(docker, ["", ".gzip", ".zstd"])
}

/// A reference to a blob, as documents write it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<WrittenPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct WrittenPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl WrittenPlatform {
    fn to_platform(&self) -> Platform {
        let Self { os, architecture, variant } = self.clone();
        Platform { os, architecture, variant }
    }
}

/// An index or a manifest: which of the two decides what it contains.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Sha256Digest>,
}

/// A blob to be written, with the labels that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedBlob {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    pub(super) labels: Labels,
    pub(super) path: PathBuf,
}

/// A layer to be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedLayer {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Sha256Digest,
    /// The snapshot that the layer makes on those below it.
    pub(super) chain: Sha256Digest,
}

impl PlannedLayer {
    /// Whether blob and tar differ.
    pub(super) fn is_compressed(&self) -> bool {
        !self.descriptor.media_type.ends_with(".tar")
    }
}

/// All that an import of one image writes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImagePlan {
    /// What the image records point to.
    pub(super) top: Descriptor,
    /// Layers, each once.
    pub(super) layer_blobs: Vec<PlannedBlob>,
    /// Configuration, manifest and indexes: a document stands after all that it names.
    pub(super) document_blobs: Vec<PlannedBlob>,
    /// Layers from the bottom.
    pub(super) layers: Vec<PlannedLayer>,
    /// The image id.
    pub(super) config: Sha256Digest,
}

impl ImagePlan {
    /// Bytes of all blobs.
    pub(super) fn bytes(&self) -> u64 {
        self.layer_blobs.iter().chain(&self.document_blobs).map(|blob| blob.size).sum()
    }
}

/// Reads the image's documents and lists what must be written.
///
/// # Errors
/// Content errors: a part that is missing, damaged, malformed, too large, or not for this platform.
pub(super) fn plan(image: &ImageToImport) -> Result<ImagePlan, ImportError> {
    let mut reader = Reader { blobs: image.blobs.as_ref(), parents: Vec::new() };
    let top = reader.top(image.top)?;
    let (manifest, picked_by_index) = reader.pick(top.clone(), image)?;
    reader.manifest(image, top, &manifest, picked_by_index)
}

struct Reader<'a> {
    blobs: &'a dyn BlobSource,
    /// Indexes on the way to the manifest, outermost first.
    parents: Vec<PlannedBlob>,
}

impl Reader<'_> {
    /// Finds out what the top is: its own words if it has any, else its shape.
    fn top(&self, digest: Sha256Digest) -> Result<Descriptor, ImportError> {
        let (document, size): (Document, u64) = self.document(digest, None)?;
        let media_type = match (document.media_type.as_deref(), &document.manifests, &document.config) {
            (Some(media_type), ..) => media_type.to_owned(),
            (None, Some(_), None) => OCI_INDEX.to_owned(),
            (None, None, Some(config)) if config.media_type == DOCKER_CONFIG => DOCKER_MANIFEST.to_owned(),
            (None, None, Some(_)) => OCI_MANIFEST.to_owned(),
            (None, ..) => return Err(malformed(digest, "it is neither an index nor a manifest")),
        };
        Ok(Descriptor { media_type, digest, size, platform: None })
    }

    /// Walks from the top to the manifest that the runtime will choose on this node.
    fn pick(&mut self, top: Descriptor, image: &ImageToImport) -> Result<(Descriptor, bool), ImportError> {
        let mut at = top;
        for depth in 0..=INDEX_DEPTH_MAX {
            match Kind::of(&at.media_type) {
                Some(Kind::Manifest) => return Ok((at, depth > 0)),
                Some(Kind::Index) => at = self.choose(&at, image)?,
                _ => {
                    return Err(malformed(
                        at.digest,
                        format!("media type `{}` is not an image's", at.media_type),
                    ));
                }
            }
        }
        Err(malformed(image.top, format!("more than {INDEX_DEPTH_MAX} indexes inside each other")))
    }

    /// The entry of an index that the runtime chooses: the best match, else the first that names no platform.
    fn choose(&mut self, index: &Descriptor, image: &ImageToImport) -> Result<Descriptor, ImportError> {
        let (document, size): (Document, u64) = self.document(index.digest, Some(index.size))?;
        let Document { manifests: Some(entries), config: None, layers: None, .. } = document else {
            return Err(malformed(
                index.digest,
                "an index holds a list of manifests and nothing of a manifest",
            ));
        };
        if entries.len() > INDEX_ENTRIES_MAX {
            return Err(malformed(
                index.digest,
                format!("more than {INDEX_ENTRIES_MAX} manifests in one index"),
            ));
        }
        let kind = |entry: &Descriptor| {
            if Kind::of(&entry.media_type) == Some(Kind::Index) { Kind::Index } else { Kind::Manifest }
        };
        let labels = labels::of_children(entries.iter().map(|entry| (kind(entry), &entry.digest)));
        self.parents.push(PlannedBlob { digest: index.digest, size, labels, path: self.path(index.digest)? });
        let ranked = entries.into_iter().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(written) => platform::rank(&image.platform, &written.to_platform())?,
                None => usize::MAX,
            };
            Some((rank, entry))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
        best.ok_or_else(|| ImportError::PlatformAbsent { top: image.top, platform: image.platform.clone() })
    }

    /// Lists the parts of the chosen manifest.
    fn manifest(
        self,
        image: &ImageToImport,
        top: Descriptor,
        manifest: &Descriptor,
        picked_by_index: bool,
    ) -> Result<ImagePlan, ImportError> {
        let (document, manifest_size): (Document, u64) =
            self.document(manifest.digest, Some(manifest.size))?;
        let Document { manifests: None, config: Some(config), layers: Some(layers), .. } = document else {
            return Err(malformed(
                manifest.digest,
                "a manifest holds a configuration and layers, and no manifests",
            ));
        };
        if Kind::of(&config.media_type) != Some(Kind::Config) {
            return Err(malformed(
                config.digest,
                format!("media type `{}` is not a configuration", config.media_type),
            ));
        }
        if layers.len() > LAYERS_MAX {
            return Err(malformed(manifest.digest, format!("more than {LAYERS_MAX} layers")));
        }
        let (configuration, config_size): (Configuration, u64) =
            self.document(config.digest, Some(config.size))?;
        let must_match = picked_by_index && manifest.platform.is_none();
        let diff_ids = self.check_platform(image, configuration, must_match)?.diff_ids;
        if diff_ids.len() != layers.len() {
            let counts =
                format!("{} layers, but {} diff ids in the configuration", layers.len(), diff_ids.len());
            return Err(malformed(manifest.digest, counts));
        }

        let children = [(Kind::Config, &config.digest)]
            .into_iter()
            .chain(layers.iter().map(|layer| (Kind::Layer, &layer.digest)));
        let manifest_labels = labels::of_children(children);
        let mut layer_blobs = Vec::with_capacity(layers.len());
        let mut seen = BTreeSet::new();
        for layer in &layers {
            if Kind::of(&layer.media_type) != Some(Kind::Layer) {
                return Err(malformed(
                    layer.digest,
                    format!("media type `{}` is not a layer's", layer.media_type),
                ));
            }
            if layer.size > Limits::DEFAULT.blob_bytes {
                return Err(malformed(layer.digest, "a layer beyond the size limit"));
            }
            if seen.insert(layer.digest) {
                layer_blobs.push(self.planned(layer, Labels::new())?);
            }
        }
        let mut document_blobs = vec![
            self.planned(&Descriptor { size: config_size, ..config.clone() }, Labels::new())?,
            self.planned(&Descriptor { size: manifest_size, ..manifest.clone() }, manifest_labels)?,
        ];
        document_blobs.extend(self.parents.into_iter().rev());
        let chains = chain_ids(&diff_ids);
        let layers = layers.into_iter().zip(diff_ids).zip(chains);
        let layers = layers
            .map(|((descriptor, diff_id), chain)| PlannedLayer { descriptor, diff_id, chain })
            .collect();
        Ok(ImagePlan { top, layer_blobs, document_blobs, layers, config: config.digest })
    }

    /// A configuration that names another machine would unpack and then fail in the pod.
    ///
    /// One that names none is the runtime's business, unless an index offered it without a platform either.
    fn check_platform(
        &self,
        image: &ImageToImport,
        configuration: Configuration,
        must_match: bool,
    ) -> Result<RootFs, ImportError> {
        let Configuration { os, architecture, variant, rootfs } = configuration;
        let written = Platform { os, architecture, variant };
        let unnamed = written.os.is_empty() || written.architecture.is_empty();
        if (unnamed && !must_match) || platform::rank(&image.platform, &written).is_some() {
            return Ok(rootfs);
        }
        Err(ImportError::PlatformAbsent { top: image.top, platform: image.platform.clone() })
    }

    fn planned(&self, descriptor: &Descriptor, labels: Labels) -> Result<PlannedBlob, ImportError> {
        let path = self.path(descriptor.digest)?;
        Ok(PlannedBlob { digest: descriptor.digest, size: descriptor.size, labels, path })
    }

    fn path(&self, digest: Sha256Digest) -> Result<PathBuf, ImportError> {
        self.blobs.path(&digest).ok_or(ImportError::BlobMissing { digest })
    }

    /// Reads one JSON document whole: bounded, hashed, then parsed.
    fn document<T: DeserializeOwned>(
        &self,
        digest: Sha256Digest,
        size: Option<u64>,
    ) -> Result<(T, u64), ImportError> {
        let bytes_max = Limits::DEFAULT.manifest_bytes;
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ImportError::BlobMissing { digest },
            _ => ImportError::BlobUnreadable { digest, reason: error.to_string() },
        };
        let file = File::open(self.path(digest)?).map_err(unreadable)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells the limit from the end.
        let mut bounded = file.take(u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1));
        bounded.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > bytes_max {
            return Err(malformed(digest, format!("a document of more than {bytes_max} bytes")));
        }
        if Sha256Digest::of(&bytes) != digest {
            return Err(ImportError::BlobDamaged { digest });
        }
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size.is_some_and(|size| size != found) {
            return Err(malformed(digest, "its size is not the one that its parent names"));
        }
        let document =
            serde_json::from_slice(&bytes).map_err(|error| malformed(digest, error.to_string()))?;
        Ok((document, found))
    }
}

/// The names of the snapshots that layers make on each other, from the bottom.
fn chain_ids(diff_ids: &[Sha256Digest]) -> Vec<Sha256Digest> {
    let mut chains: Vec<Sha256Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => *diff_id,
            Some(below) => Sha256Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chains
}

fn malformed(digest: Sha256Digest, reason: impl Into<String>) -> ImportError {
    ImportError::Malformed { digest, reason: reason.into() }
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
