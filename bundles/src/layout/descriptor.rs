//! The few OCI structures that a bundle uses, read leniently (images come as their source made them) and written
//! in one way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::release::Platform;
use crate::ids::Sha256Digest;

/// Media type of an OCI image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that the build compressed itself.
pub const ZSTD_LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's name for an index.
pub const DOCKER_INDEX_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's name for a manifest.
pub const DOCKER_MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Type of the artifact manifest.
pub const APP_TYPE: &str = "application/vnd.airlift.app.v1";
/// Media type of the app descriptor.
pub const APP_CONFIG_TYPE: &str = "application/vnd.airlift.app.config.v1+json";
/// Media type of the objects layer.
pub const OBJECTS_TYPE: &str = "application/vnd.airlift.objects.v1+zstd";
/// Media type of an overlay.
pub const OVERLAY_TYPE: &str = "application/vnd.airlift.overlay.v1+json";
/// Media type of a piece list.
pub const PIECES_TYPE: &str = "application/vnd.airlift.pieces.v1";

/// Annotation with the reference name of an image, as OCI layouts have it.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full name of an image, as containerd's import reads it.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Annotation of an overlay or artifact with its name.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Annotation of a piece list: digest of the blob whose pieces it lists.
pub const OF_BLOB: &str = "dev.airlift.blob";
/// Annotation of a piece list: bytes of that blob.
pub const OF_SIZE: &str = "dev.airlift.size";
/// Annotation of a piece list: bytes of that blob unpacked.
pub const RAW_SIZE: &str = "dev.airlift.raw-size";
/// Annotation of a piece list: digest of that blob unpacked.
pub const DIFF_ID: &str = "dev.airlift.diff-id";

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Sha256Digest,
    /// Its bytes.
    pub size: u64,
    /// Type of the artifact that it describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform of a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names and further facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes a blob without further facts.
    #[must_use]
    pub fn new(media_type: &str, digest: Sha256Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether it refers to an index of manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX_TYPE | DOCKER_INDEX_TYPE)
    }

    /// Whether it refers to a manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), MANIFEST_TYPE | DOCKER_MANIFEST_TYPE)
    }
}

/// An index: of a layout, or of the platforms of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// A manifest: of an image, or of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// The part of an image configuration that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7`.
    #[serde(default)]
    pub variant: Option<String>,
    /// Digests of the unpacked layers.
    pub rootfs: RootFs,
}

/// The layers of an image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<Sha256Digest>,
}

impl ImageConfig {
    /// The platform that the image runs on.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let variant = self.variant.clone().filter(|variant| !variant.is_empty());
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant }
    }
}

/// How a layer's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Packing {
    /// Reads it off a layer's media type, OCI's or Docker's.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type.rsplit_once('.').map(|(_, last)| last) {
            Some("tar+gzip" | "gzip") => Some(Self::Gzip),
            Some("tar+zstd" | "zstd") => Some(Self::Zstd),
            Some("tar") => Some(Self::Plain),
            _ => None,
        }
    }
}
