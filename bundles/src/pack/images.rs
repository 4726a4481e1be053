//! Opens the places where images come from: OCI layouts as directory or tar, what `docker save` writes, and what the
//! caller opens from a registry or a container runtime.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tar::EntryType;

use crate::ids::Sha256Digest;
use crate::layout::descriptor::{Descriptor, Index, REF_NAME};
use crate::layout::read_bounded;
use crate::limits::Limits;

/// Opens images that no file holds: the caller has a network or a container runtime, this crate has neither.
pub trait RemoteImages {
    /// Opens the image that a `docker://…` or `containerd:…` of `airlift.yaml` names.
    ///
    /// # Errors
    /// Words for the line in `airlift.yaml`.
    fn open(&self, from: &str) -> Result<Box<dyn RemoteImage>, String>;
}

/// An image that the caller opened; what it gives is checked against digests here.
pub trait RemoteImage: std::fmt::Debug {
    /// The index or manifest that was named.
    fn target(&self) -> Descriptor;

    /// Whether a manifest of the index is there at all; a runtime keeps only what its machine needs.
    ///
    /// # Errors
    /// [`io::Error`] when that cannot be found out.
    fn holds(&self, _digest: &Sha256Digest) -> io::Result<bool> {
        Ok(true)
    }

    /// Opens an index, manifest, configuration or layer.
    ///
    /// # Errors
    /// [`io::Error`] when it cannot be had.
    fn open(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>>;
}

/// For packing from files alone.
pub(super) struct NoRemote;

impl RemoteImages for NoRemote {
    fn open(&self, from: &str) -> Result<Box<dyn RemoteImage>, String> {
        Err(format!("{from} is no file, and only files are read here"))
    }
}

/// An image source, opened.
#[derive(Debug)]
pub(super) enum ImageStore {
    /// An OCI layout, or an image that comes in its form.
    Oci(Files),
    /// What `docker save` writes.
    Docker(Files),
}

/// Files by their name inside a layout: a directory, or a tar whose entries were listed once; or what takes their place.
#[derive(Debug)]
pub(super) enum Files {
    Directory(PathBuf),
    Remote(Box<dyn RemoteImage>),
    Archive { path: PathBuf, entries: BTreeMap<String, Place> },
}

/// Where an entry of a tar stands.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Bytes of the archive.
    At { offset: u64, size: u64 },
    /// Another entry: old `docker save` links equal layers.
    Link(String),
}

/// Why an image cannot be taken from its source, in words for the line in `airlift.yaml`.
pub(super) type Refusal = String;

impl Files {
    fn list_archive(path: &Path) -> io::Result<Self> {
        let mut archive = tar::Archive::new(File::open(path)?);
        let mut entries = BTreeMap::new();
        // Raw mode: long-name and PAX records are skipped unread, since every name of these formats is short.
        for entry in archive.entries_with_seek()?.raw(true) {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let place = Place::At { offset: entry.raw_file_position(), size: entry.size() };
                    entries.insert(name, place);
                }
                kind @ (EntryType::Symlink | EntryType::Link) => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let from = if kind == EntryType::Symlink {
                        name.rsplit_once('/').map_or("", |(dir, _)| dir)
                    } else {
                        ""
                    };
                    entries.insert(name.clone(), Place::Link(join_inside(from, &target)));
                }
                _ => {}
            }
        }
        Ok(Self::Archive { path: path.to_owned(), entries })
    }

    /// Opens a file by its name in the layout.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing"));
        match self {
            Self::Directory(root) => {
                let file = File::open(root.join(name))?;
                Ok(Box::new(file))
            }
            Self::Remote(_) => Err(missing()),
            Self::Archive { path, entries } => {
                let mut name = name.to_owned();
                for _ in 0..8 {
                    match entries.get(&name).ok_or_else(missing)? {
                        Place::Link(target) => name.clone_from(target),
                        Place::At { offset, size } => {
                            let mut file = File::open(path)?;
                            file.seek(SeekFrom::Start(*offset))?;
                            return Ok(Box::new(file.take(*size)));
                        }
                    }
                }
                Err(missing())
            }
        }
    }

    fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_bounded(self.open(name)?, limit as u64)
    }
}

/// Resolves a link inside an archive; what would leave it stays inside and then is not found.
fn join_inside(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Splits `oci:DIR:REFERENCE` and opens what it names, relative to the folder; what is no file the caller opens.
pub(super) fn open_source(
    folder: &Path,
    from: &str,
    remote: &dyn RemoteImages,
) -> Result<(ImageStore, Option<String>), Refusal> {
    if from.starts_with("docker://") || from.starts_with("containerd:") {
        return Ok((ImageStore::Oci(Files::Remote(remote.open(from)?)), None));
    }
    let (transport, rest) = from.split_once(':').unwrap_or((from, ""));
    let (path, reference) = match rest.split_once(':') {
        Some((path, reference)) => (path, Some(reference.to_owned())),
        None => (rest, None),
    };
    let at = folder.join(path);
    let failed = |error: io::Error| format!("{path}: {error}");
    let unknown = || {
        format!(
            "{from:?} is not oci:DIR, oci-archive:FILE, docker-archive:FILE, docker://IMAGE or containerd:IMAGE"
        )
    };
    if path.is_empty() {
        return Err(unknown());
    }
    let store = match transport {
        "oci" => {
            std::fs::metadata(at.join("index.json"))
                .map_err(|error| format!("{path}/index.json: {error}"))?;
            ImageStore::Oci(Files::Directory(at))
        }
        "oci-archive" => ImageStore::Oci(Files::list_archive(&at).map_err(failed)?),
        "docker-archive" => ImageStore::Docker(Files::list_archive(&at).map_err(failed)?),
        _ => return Err(unknown()),
    };
    Ok((store, reference))
}

/// One image of a `docker save` archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Files {
    /// Finds the one image that `reference` names, or the only one.
    pub(super) fn find_oci(&self, reference: Option<&str>, limits: &Limits) -> Result<Descriptor, Refusal> {
        if let Self::Remote(image) = self {
            let target = image.target();
            let usable = target.is_index() || target.is_manifest();
            return if usable { Ok(target) } else { Err(format!("is no image but {:?}", target.media_type)) };
        }
        let bytes = self.read("index.json", limits.manifest_bytes).map_err(|error| error.to_string())?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| format!("index.json: {error}"))?;
        let named = |entry: &&Descriptor| {
            let name = entry.annotations.get(REF_NAME).map(String::as_str);
            let digest = reference.and_then(|reference| reference.strip_prefix('@'));
            reference.is_none() || name == reference || digest == Some(&entry.digest.to_string())
        };
        let usable = |entry: &&Descriptor| entry.is_index() || entry.is_manifest();
        choose(index.manifests.iter().filter(usable).filter(named).cloned(), reference)
    }

    /// Opens a blob of an OCI layout.
    pub(super) fn open_blob(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>> {
        if let Self::Remote(image) = self {
            return image.open(digest);
        }
        self.open(&format!("blobs/sha256/{}", digest.to_hex()))
    }

    /// Whether a manifest that an index lists is there.
    pub(super) fn holds(&self, digest: &Sha256Digest) -> Result<bool, Refusal> {
        match self {
            Self::Remote(image) => image.holds(digest).map_err(|error| error.to_string()),
            // A layout that lacks what it lists is broken, and is told so when it is read.
            Self::Directory(_) | Self::Archive { .. } => Ok(true),
        }
    }

    /// Reads a small blob of an OCI layout, checked against its digest.
    pub(super) fn read_blob(&self, digest: &Sha256Digest, limits: &Limits) -> Result<Vec<u8>, Refusal> {
        let blob = self.open_blob(digest).map_err(|error| format!("{digest}: {error}"))?;
        let bytes =
            read_bounded(blob, limits.manifest_bytes as u64).map_err(|error| format!("{digest}: {error}"))?;
        if Sha256Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(format!("{digest} does not match its bytes"))
        }
    }

    /// Finds the one image of a `docker save` archive that `reference` names, or the only one.
    pub(super) fn find_docker(
        &self,
        reference: Option<&str>,
        limits: &Limits,
    ) -> Result<DockerImage, Refusal> {
        let bytes = self.read("manifest.json", limits.manifest_bytes).map_err(|error| error.to_string())?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&bytes).map_err(|error| format!("manifest.json: {error}"))?;
        let named = |image: &DockerImage| {
            let tags = image.repo_tags.iter().flatten();
            reference.is_none() || tags.into_iter().any(|tag| Some(tag.as_str()) == reference)
        };
        choose(images.into_iter().filter(named), reference)
    }

    /// Reads the configuration of a `docker save` image.
    pub(super) fn read_docker_config(
        &self,
        image: &DockerImage,
        limits: &Limits,
    ) -> Result<Vec<u8>, Refusal> {
        self.read(&image.config, limits.manifest_bytes).map_err(|error| format!("{}: {error}", image.config))
    }

    /// Opens the layers of a `docker save` image, lowest first, one after the other.
    pub(super) fn open_docker_layers<'f>(
        &'f self,
        image: &'f DockerImage,
    ) -> impl Iterator<Item = Result<Box<dyn Read + 'f>, Refusal>> + 'f {
        image.layers.iter().map(|layer| self.open(layer).map_err(|error| format!("{layer}: {error}")))
    }
}

fn choose<T>(found: impl Iterator<Item = T>, reference: Option<&str>) -> Result<T, Refusal> {
    let mut found: Vec<T> = found.collect();
    match (found.len(), found.pop()) {
        (1, Some(one)) => Ok(one),
        (0, _) => Err(match reference {
            Some(reference) => format!("holds no image named {reference:?}"),
            None => "holds no image".to_owned(),
        }),
        (count, _) => Err(format!("holds {count} images; say which: append :REFERENCE")),
    }
}
