//! Walks a bundle's tree: index, artifact manifest, app descriptor, image indexes, manifests, configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::de::DeserializeOwned;

use super::app::AppDescriptor;
use super::descriptor::{
    APP_CONFIG_TYPE, APP_TYPE, DIFF_ID, Descriptor, ImageConfig, Index, MANIFEST_TYPE, Manifest,
    OBJECTS_TYPE, OF_BLOB, OF_SIZE, OVERLAY_TYPE, PIECES_TYPE, Packing, RAW_SIZE, REF_NAME, TITLE,
};
use super::reference::ImageReference;
use super::{BlobRef, Blobs, Bundle, BundleImage, ImageLayer, ImageManifest, Item, LayoutError, RawSize};
use crate::document::release::Platform;
use crate::ids::{Name, Sha256Digest};
use crate::json;
use crate::limits::Limits;
use crate::pieces::{HASHES_PER_LIST, count_pieces};

/// Images of one bundle, layers of one image: more than anything real has.
const IMAGES_MAX: usize = 1000;
const LAYERS_MAX: usize = 256;

impl Bundle {
    /// Reads the tree under `index`, verifying each part by its digest before it is parsed.
    ///
    /// # Errors
    /// [`LayoutError::Missing`] with every part that is known and not here; fetch these and read again. Any
    /// other [`LayoutError`] means that the bundle is to be rejected (or, for `Io`, the disk).
    pub fn read(index: &Sha256Digest, blobs: &impl Blobs, limits: &Limits) -> Result<Self, LayoutError> {
        let top = read_one(blobs, &BlobRef { digest: *index, size: None }, limits.whole_item_bytes)?;
        let top: Index = parse_oci("index.json", &top)?;
        let (apps, images): (Vec<_>, Vec<_>) =
            top.manifests.iter().partition(|entry| entry.artifact_type.as_deref() == Some(APP_TYPE));
        let [app] = apps.as_slice() else {
            return Err(malformed("index.json", format!("{} apps, not one", apps.len())));
        };
        let mut tree = Tree::new(limits, blobs);
        tree.add(app, None)?;
        let manifest = read_one(blobs, &blob_ref(app), limits.whole_item_bytes)?;
        let manifest: Manifest = parse_oci("artifact manifest", &manifest)?;
        let fits = app.media_type == MANIFEST_TYPE
            && manifest.artifact_type.as_deref() == Some(APP_TYPE)
            && manifest.config.media_type == APP_CONFIG_TYPE;
        if !fits {
            return Err(malformed("artifact manifest", "its types are not those of an app"));
        }
        tree.add(&manifest.config, None)?;
        let layers = tree.read_app_layers(&manifest)?;

        let descriptor = read_one(blobs, &blob_ref(&manifest.config), limits.whole_item_bytes)?;
        let descriptor: AppDescriptor = json::parse(&descriptor, limits)
            .map_err(|error| malformed("app descriptor", error.to_string()))?;
        descriptor.check().map_err(|fault| malformed("app descriptor", fault))?;
        let named: BTreeSet<_> = descriptor.overlays.iter().collect();
        if named.len() != descriptor.overlays.len() || !named.into_iter().eq(layers.overlays.keys()) {
            return Err(malformed("app descriptor", "its overlays are not those of the manifest"));
        }
        tree.wanted.clone_from(&descriptor.platforms);
        let images = tree.read_images(&images)?;
        tree.attach_lists(layers.lists)?;
        Ok(Self {
            index: *index,
            app: descriptor,
            objects: layers.objects,
            objects_raw: layers.objects_raw,
            overlays: layers.overlays,
            images,
            items: tree.items,
            platforms: tree.platforms.into_iter().filter_map(|(digest, of)| Some((digest, of?))).collect(),
        })
    }
}

struct AppLayers {
    objects: BlobRef,
    objects_raw: RawSize,
    overlays: BTreeMap<Name, BlobRef>,
    lists: Vec<PieceListEntry>,
}

struct PieceListEntry {
    of: Sha256Digest,
    size: u64,
    raw: Option<RawSize>,
    part: BlobRef,
}

struct Tree<'a, B> {
    limits: &'a Limits,
    blobs: &'a B,
    items: BTreeMap<Sha256Digest, Item>,
    /// Platforms that the bundle holds: says which manifests of an image's index are here.
    wanted: Vec<Platform>,
    /// Platforms that need a blob; `None` once something needs it on all.
    platforms: BTreeMap<Sha256Digest, Option<BTreeSet<Platform>>>,
}

impl<'a, B: Blobs> Tree<'a, B> {
    fn new(limits: &'a Limits, blobs: &'a B) -> Self {
        Self { limits, blobs, items: BTreeMap::new(), wanted: Vec::new(), platforms: BTreeMap::new() }
    }

    fn add(&mut self, blob: &Descriptor, platform: Option<&Platform>) -> Result<(), LayoutError> {
        if blob.size > self.limits.blob_bytes {
            let expected = format!("at most {} bytes", self.limits.blob_bytes);
            return Err(LayoutError::Size { digest: blob.digest, expected });
        }
        let item = Item { size: blob.size, raw: None, lists: Vec::new() };
        if self.items.entry(blob.digest).or_insert(item).size != blob.size {
            return Err(LayoutError::Size { digest: blob.digest, expected: "the same everywhere".into() });
        }
        let needed = self.platforms.entry(blob.digest).or_insert_with(|| Some(BTreeSet::new()));
        match platform {
            Some(platform) => needed.iter_mut().for_each(|set| _ = set.insert(platform.clone())),
            None => *needed = None,
        }
        Ok(())
    }

    fn read_app_layers(&mut self, manifest: &Manifest) -> Result<AppLayers, LayoutError> {
        let refuse = |fault: String| malformed("artifact manifest", fault);
        let [first, rest @ ..] = manifest.layers.as_slice() else {
            return Err(refuse("no objects layer".into()));
        };
        let objects_raw = read_raw(first).map_err(refuse)?;
        let objects_raw = objects_raw.filter(|_| first.media_type == OBJECTS_TYPE);
        let objects_raw = objects_raw.ok_or_else(|| refuse("the first layer is not the objects".into()))?;
        self.add(first, None)?;
        let mut layers =
            AppLayers { objects: blob_ref(first), objects_raw, overlays: BTreeMap::new(), lists: Vec::new() };
        for layer in rest {
            let note = |key: &str| layer.annotations.get(key).map(String::as_str).unwrap_or_default();
            self.add(layer, None)?;
            match layer.media_type.as_str() {
                OVERLAY_TYPE => {
                    let name = Name::new(note(TITLE)).map_err(|error| refuse(error.to_string()))?;
                    if layers.overlays.insert(name, blob_ref(layer)).is_some() {
                        return Err(refuse(format!("overlay {:?} twice", note(TITLE))));
                    }
                }
                PIECES_TYPE => {
                    let of: Sha256Digest =
                        note(OF_BLOB).parse().map_err(|error| refuse(format!("piece list: {error}")))?;
                    let size =
                        note(OF_SIZE).parse().map_err(|_| refuse("piece list without a size".into()))?;
                    let raw = read_raw(layer).map_err(refuse)?;
                    layers.lists.push(PieceListEntry { of, size, raw, part: blob_ref(layer) });
                }
                other => return Err(refuse(format!("a layer of type {other:?}"))),
            }
        }
        Ok(layers)
    }

    fn read_images(&mut self, entries: &[&Descriptor]) -> Result<Vec<BundleImage>, LayoutError> {
        if entries.len() > IMAGES_MAX {
            return Err(malformed("index.json", format!("more than {IMAGES_MAX} images")));
        }
        let mut targets: BTreeMap<Sha256Digest, (&Descriptor, BTreeSet<ImageReference>)> = BTreeMap::new();
        for entry in entries {
            let name = entry.annotations.get(REF_NAME).map(String::as_str).unwrap_or_default();
            let name: ImageReference =
                name.parse().map_err(|error| malformed("index.json", format!("image name: {error}")))?;
            let taken =
                targets.iter().any(|(digest, (_, names))| *digest != entry.digest && names.contains(&name));
            if taken || name.digest().is_some() {
                return Err(malformed("index.json", format!("image name {name} is pinned or stands twice")));
            }
            targets.entry(entry.digest).or_insert_with(|| (entry, BTreeSet::new())).1.insert(name);
        }
        gather(targets.into_values().map(|(target, names)| self.read_image(target, names)))
    }

    fn read_image(
        &mut self,
        target: &Descriptor,
        names: BTreeSet<ImageReference>,
    ) -> Result<BundleImage, LayoutError> {
        self.add(target, None)?;
        let limit = self.limits.manifest_bytes as u64;
        let bytes = read_one(self.blobs, &blob_ref(target), limit)?;
        let part = format!("image {}", target.digest);
        let manifests = if target.is_index() {
            let index: Index = parse_oci(&part, &bytes)?;
            self.read_platforms(&part, &index)?
        } else if target.is_manifest() {
            vec![self.read_manifest(target, &bytes, None)?]
        } else {
            return Err(malformed(
                part,
                format!("type {:?} is neither index nor manifest", target.media_type),
            ));
        };
        Ok(BundleImage { names, target: blob_ref(target), media_type: target.media_type.clone(), manifests })
    }

    /// Reads those manifests of an image's index that are of the bundle's platforms; the index itself lists
    /// whatever its source had.
    fn read_platforms(&mut self, part: &str, index: &Index) -> Result<Vec<ImageManifest>, LayoutError> {
        if index.manifests.len() > LAYERS_MAX {
            return Err(malformed(part, format!("more than {LAYERS_MAX} manifests")));
        }
        let wanted: Vec<_> = index.manifests.iter().filter(|entry| is_wanted(entry, &self.wanted)).collect();
        if wanted.is_empty() {
            return Err(malformed(part, "no manifest of the bundle's platforms"));
        }
        gather(wanted.into_iter().map(|entry| {
            self.add(entry, entry.platform.as_ref())?;
            let bytes = read_one(self.blobs, &blob_ref(entry), self.limits.manifest_bytes as u64)?;
            self.read_manifest(entry, &bytes, entry.platform.as_ref())
        }))
    }

    fn read_manifest(
        &mut self,
        entry: &Descriptor,
        bytes: &[u8],
        platform: Option<&Platform>,
    ) -> Result<ImageManifest, LayoutError> {
        let part = format!("image manifest {}", entry.digest);
        let manifest: Manifest = parse_oci(&part, bytes)?;
        let config = read_one(self.blobs, &blob_ref(&manifest.config), self.limits.manifest_bytes as u64)?;
        let config: ImageConfig = parse_oci(&format!("configuration of {part}"), &config)?;
        let platform = platform.cloned().unwrap_or_else(|| config.platform());
        if manifest.layers.len() != config.rootfs.diff_ids.len() || manifest.layers.len() > LAYERS_MAX {
            return Err(malformed(part, "its layers are not those of its configuration"));
        }
        self.add(&manifest.config, Some(&platform))?;
        let mut layers = Vec::new();
        for (layer, &diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let packing = Packing::of(&layer.media_type)
                .ok_or_else(|| malformed(part.clone(), format!("a layer of type {:?}", layer.media_type)))?;
            self.add(layer, Some(&platform))?;
            let media_type = layer.media_type.clone();
            layers.push(ImageLayer { blob: blob_ref(layer), media_type, packing, diff_id });
        }
        Ok(ImageManifest {
            platform,
            manifest: blob_ref(entry),
            media_type: entry.media_type.clone(),
            config: blob_ref(&manifest.config),
            layers,
        })
    }

    /// Gives each blob its piece list, and refuses a large blob without one.
    fn attach_lists(&mut self, lists: Vec<PieceListEntry>) -> Result<(), LayoutError> {
        let refuse = |of: &Sha256Digest, fault: &str| malformed(format!("piece list of {of}"), fault);
        for list in lists {
            let item = self.items.get_mut(&list.of).filter(|item| item.size == list.size);
            let item = item.ok_or_else(|| refuse(&list.of, "is for no blob of this bundle"))?;
            item.raw = item.raw.or(list.raw);
            item.lists.push(list.part);
        }
        for (digest, item) in &self.items {
            let hashes = count_pieces(item.size) * 32;
            let part_max = (HASHES_PER_LIST * 32) as u64;
            let expected = (0..hashes.div_ceil(part_max)).map(|at| (hashes - at * part_max).min(part_max));
            if item.lists.is_empty() && item.size > self.limits.whole_item_bytes {
                return Err(refuse(digest, "is missing, and the blob is over 1 MiB"));
            }
            if !item.lists.is_empty() && !item.lists.iter().filter_map(|part| part.size).eq(expected) {
                return Err(refuse(digest, "does not fit the blob"));
            }
        }
        Ok(())
    }
}

/// Whether a manifest of an image's index belongs to a bundle of `platforms`.
pub(crate) fn is_wanted(entry: &Descriptor, platforms: &[Platform]) -> bool {
    let fits = |platform: &Platform| platforms.iter().any(|wanted| wanted.fits(platform));
    entry.is_manifest() && entry.platform.as_ref().is_some_and(fits)
}

/// Collects results, and of several that miss something, all that is missing.
fn gather<T>(results: impl Iterator<Item = Result<T, LayoutError>>) -> Result<Vec<T>, LayoutError> {
    let (mut found, mut missing) = (Vec::new(), BTreeSet::new());
    for result in results {
        match result {
            Ok(value) => found.push(value),
            Err(LayoutError::Missing(blobs)) => missing.extend(blobs),
            Err(other) => return Err(other),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(LayoutError::Missing(missing.into_iter().collect())) }
}

/// Reads several blobs whole, each verified.
pub(super) fn read_all(
    blobs: &impl Blobs,
    wanted: &[BlobRef],
    limit: u64,
) -> Result<Vec<Vec<u8>>, LayoutError> {
    gather(wanted.iter().map(|blob| read_one(blobs, blob, limit)))
}

fn read_one(blobs: &impl Blobs, blob: &BlobRef, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let too_large =
        |limit: u64| LayoutError::Size { digest: blob.digest, expected: format!("at most {limit} bytes") };
    if blob.size.is_some_and(|size| size > limit) {
        return Err(too_large(limit));
    }
    let bytes = match blobs.read_blob(&blob.digest, limit) {
        Ok(bytes) => bytes.ok_or(LayoutError::Missing(vec![*blob]))?,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(too_large(limit)),
        Err(error) => return Err(LayoutError::Io(error)),
    };
    if let Some(size) = blob.size.filter(|&size| size != bytes.len() as u64) {
        return Err(LayoutError::Size { digest: blob.digest, expected: format!("{size} bytes") });
    }
    if Sha256Digest::of(&bytes) == blob.digest { Ok(bytes) } else { Err(LayoutError::Digest(blob.digest)) }
}

fn blob_ref(descriptor: &Descriptor) -> BlobRef {
    BlobRef { digest: descriptor.digest, size: Some(descriptor.size) }
}

fn read_raw(descriptor: &Descriptor) -> Result<Option<RawSize>, String> {
    let Some(size) = descriptor.annotations.get(RAW_SIZE) else { return Ok(None) };
    let size = size.parse().map_err(|_| format!("raw size {size:?} is not a number"))?;
    let diff_id = descriptor.annotations.get(DIFF_ID).ok_or("a raw size without its digest")?;
    let diff_id = diff_id.parse().map_err(|error| format!("raw digest: {error}"))?;
    Ok(Some(RawSize { size, diff_id }))
}

fn parse_oci<T: DeserializeOwned>(part: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|error| malformed(part, error.to_string()))
}

fn malformed(part: impl Into<String>, fault: impl Into<String>) -> LayoutError {
    LayoutError::Malformed { part: part.into(), fault: fault.into() }
}
