//! Builds the bundle: reads the folder, takes the images, pins, writes the layout, drafts the release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::choices::{read_overlays, render_choices, settle_parameters};
use super::images::{NoRemote, RemoteImages};
use super::manifests::{SourceObject, read_file, read_manifests};
use super::pin::{ImageTable, pin_objects};
use super::source::AppSource;
use super::take::{TakenBlob, Taker, choose_platforms, open_image};
use super::yaml::Node;
use super::{Findings, PackError, Place, Warning};
use crate::document::release::{Release, Sizes, Statement};
use crate::ids::{Counter, FleetId, Name, Sha256Digest, Timestamp};
use crate::layout::RawSize;
use crate::layout::app::{AppDescriptor, HealthRule, IgnoreRule};
use crate::layout::descriptor::{
    APP_CONFIG_TYPE, APP_TYPE, CONTAINERD_NAME, DIFF_ID, Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE,
    OBJECTS_TYPE, OF_BLOB, OF_SIZE, OVERLAY_TYPE, PIECES_TYPE, RAW_SIZE, REF_NAME, TITLE,
};
use crate::layout::objects::write_objects;
use crate::layout::reference::ImageReference;
use crate::layout::write::LayoutWriter;
use crate::limits::Limits;
use crate::pieces::PIECE_BYTES;
use crate::render::object::ObjectId;
use crate::render::overlay::Overlay;

/// The source's own file.
pub(super) const SOURCE_FILE: &str = "airlift.yaml";
/// Name under which OCI tools find the app's artifact in the layout.
const APP_REF: &str = "airlift.app";

/// What a release says beyond its bundle; the operator decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// The fleet.
    pub fleet_id: FleetId,
    /// Epoch and number of the release.
    pub counter: Counter,
    /// Below this number nothing returns once the release is healthy.
    pub floor: u64,
    /// The release that it follows.
    pub prev: Option<Sha256Digest>,
    /// When it is drafted.
    pub issued_at: Timestamp,
}

/// A bundle that was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Digest of its `index.json`.
    pub index: Sha256Digest,
    /// Its app descriptor.
    pub app: AppDescriptor,
    /// What it costs.
    pub sizes: Sizes,
    /// What other readers might take otherwise.
    pub warnings: Vec<Warning>,
}

impl Packed {
    /// Drafts the release of this bundle; nothing is signed yet.
    #[must_use]
    pub fn draft(&self, facts: &ReleaseFacts) -> Statement {
        let app = &self.app;
        let mut overlays = app.overlays.clone();
        overlays.sort();
        let release = Release {
            fleet_id: facts.fleet_id.clone(),
            app: app.app.clone(),
            epoch: facts.counter.epoch,
            seq: facts.counter.seq,
            floor: facts.floor,
            version: app.version.clone(),
            prev: facts.prev,
            platforms: app.platforms.clone(),
            requires: app.requires.clone(),
            sizes: self.sizes,
            rollback: app.rollback,
            parameters: app.parameters.clone(),
            overlays,
            secret_slots: app.secret_slots.keys().cloned().collect(),
            prune: app.prune,
            retire: app.retire,
            issued_at: facts.issued_at,
            crit: Vec::new(),
        };
        Statement::new(&self.index, release)
    }
}

/// Packs `folder` into a new layout directory `out`; on failure `out` does not come to be.
///
/// # Errors
/// [`PackError::Invalid`] with every fault of the source, or [`PackError::Io`].
pub fn pack(folder: &Path, out: &Path, limits: &Limits) -> Result<Packed, PackError> {
    pack_with(folder, out, &NoRemote, limits)
}

/// The same for a folder whose images may come from places that only the caller can reach.
///
/// # Errors
/// As [`pack`].
pub fn pack_with(
    folder: &Path,
    out: &Path,
    remote: &dyn RemoteImages,
    limits: &Limits,
) -> Result<Packed, PackError> {
    let taken = |path: &Path| match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    };
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.is_empty() || taken(out) {
        let message = format!("{} is there already; choose a new directory", out.display());
        return Err(PackError::invalid(Place::new(&name, 0), message));
    }
    let part = out.with_file_name(format!(".{name}.airlift-part"));
    let remove = || match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PackError::io(&part)(error)),
        _ => Ok(()),
    };
    remove()?;
    let packed = Build { folder, remote, limits }.run(&part);
    match packed {
        Ok(packed) => {
            fs::rename(&part, out).map_err(PackError::io(out))?;
            Ok(packed)
        }
        Err(error) => {
            remove()?;
            Err(error)
        }
    }
}

struct Build<'a> {
    folder: &'a Path,
    remote: &'a dyn RemoteImages,
    limits: &'a Limits,
}

impl Build<'_> {
    fn run(&self, out: &Path) -> Result<Packed, PackError> {
        let mut findings = Findings::default();
        let yaml = read_file(self.folder, SOURCE_FILE, self.limits)?;
        findings.yaml_warnings(SOURCE_FILE, yaml.warnings);
        let [node] = yaml.documents.as_slice() else {
            return Err(PackError::invalid(Place::new(SOURCE_FILE, 1), "must hold exactly one document"));
        };
        let source = AppSource::read(node, SOURCE_FILE)?;
        let mut objects = read_manifests(self.folder, &source, self.limits, &mut findings)?;
        let layout = LayoutWriter::create(out).map_err(PackError::io(out))?;
        let images = self.take_images(&source, node, &layout, &mut findings)?;
        pin_objects(&mut objects, &images.table, &mut findings);
        warn_of_unused_images(&source, node, &objects, &mut findings);
        let mut app = describe(&source, &images, &objects);
        let overlays = read_overlays(self.folder, &source, node, &images.table, self.limits, &mut findings)?;
        settle_parameters(&mut app, node, &images.table, &mut findings);
        check_named_objects(&app, &objects, node, &mut findings);
        findings.stop_on_faults()?;
        render_choices(&app, &overlays, &objects, node, &images.table, self.limits, &mut findings);
        findings.stop_on_faults()?;
        app.check().map_err(|fault| PackError::invalid(Place::new(SOURCE_FILE, 0), fault))?;
        let index = self.write(layout, &app, images, &overlays, &objects).map_err(PackError::io(out))?;
        Ok(Packed { index: index.0, app, sizes: index.1, warnings: findings.warnings })
    }

    fn take_images(
        &self,
        source: &AppSource,
        node: &Node,
        layout: &LayoutWriter,
        findings: &mut Findings,
    ) -> Result<Images, PackError> {
        let mut images = Images::default();
        let mut opened = Vec::new();
        for (at, image) in source.images.iter().enumerate() {
            let place = entry_place(node, "images", at);
            if image.name.digest().is_some() {
                findings
                    .invalid(place, format!("{} must be a name with a tag, without a digest", image.name));
            } else if source.images[..at].iter().any(|other| other.name == image.name) {
                findings.invalid(place, format!("image {} stands twice", image.name));
            } else {
                match open_image(self.folder, image, self.remote, self.limits) {
                    Ok(open) => opened.push((image, open)),
                    Err(refusal) => findings.invalid(place, format!("image {}: {refusal}", image.name)),
                }
            }
        }
        findings.stop_on_faults()?;
        images.platforms = choose_platforms(&source.platforms, &opened).map_err(|refusal| {
            PackError::invalid(Place::new(SOURCE_FILE, node.line_at("/platforms")), refusal)
        })?;
        let blobs = BTreeMap::new();
        let mut taker = Taker { layout, limits: self.limits, platforms: &images.platforms, blobs };
        for (at, (image, open)) in opened.iter().enumerate() {
            match taker.take(open) {
                Ok(target) => {
                    images.table.insert(image.name.clone(), target.digest);
                    images.targets.push((image.name.clone(), target));
                }
                Err(refusal) => {
                    findings
                        .invalid(entry_place(node, "images", at), format!("image {}: {refusal}", image.name));
                }
            }
        }
        images.blobs = taker.blobs;
        for (at, preloaded) in source.preloaded.iter().enumerate() {
            if images.table.insert(preloaded.name.clone(), preloaded.digest).is_some() {
                let message = format!("image {} stands twice", preloaded.name);
                findings.invalid(entry_place(node, "preloaded", at), message);
            }
        }
        Ok(images)
    }

    fn write(
        &self,
        layout: LayoutWriter,
        app: &AppDescriptor,
        mut images: Images,
        overlays: &BTreeMap<Name, Overlay>,
        objects: &[SourceObject],
    ) -> std::io::Result<(Sha256Digest, Sizes)> {
        let (packed, raw) = write_objects(objects.iter().map(|object| &object.value))?;
        let written = layout.put(&packed)?;
        let raw = RawSize { size: raw.len() as u64, diff_id: Sha256Digest::of(&raw) };
        let mut layer = written.descriptor(OBJECTS_TYPE);
        layer.annotations = annotate_raw(&raw);
        let taken = TakenBlob { size: written.size, pieces: written.pieces, raw: Some(raw) };
        images.blobs.insert(layer.digest, taken);
        let mut layers = vec![layer];
        for (name, overlay) in overlays {
            let written = layout.put(&serde_json::to_vec(overlay)?)?;
            let mut layer = written.descriptor(OVERLAY_TYPE);
            layer.annotations.insert(TITLE.into(), name.to_string());
            layers.push(layer);
        }
        for (digest, blob) in images.blobs.iter().filter(|(_, blob)| blob.size > PIECE_BYTES as u64) {
            for part in blob.pieces.to_blobs() {
                let mut list = layout.put(part)?.descriptor(PIECES_TYPE);
                list.annotations = blob.raw.as_ref().map(annotate_raw).unwrap_or_default();
                list.annotations.insert(OF_BLOB.into(), digest.to_string());
                list.annotations.insert(OF_SIZE.into(), blob.size.to_string());
                layers.push(list);
            }
        }
        let config = layout.put(&serde_json::to_vec(app)?)?.descriptor(APP_CONFIG_TYPE);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": APP_TYPE,
            "config": config,
            "layers": layers,
        });
        let manifest = layout.put(manifest.to_string().as_bytes())?;
        let mut entry = manifest.descriptor(MANIFEST_TYPE);
        entry.artifact_type = Some(APP_TYPE.into());
        entry.annotations = BTreeMap::from([
            (REF_NAME.into(), APP_REF.into()),
            (TITLE.into(), format!("{}@{}", app.app, app.version)),
        ]);
        let mut manifests = vec![entry];
        images.targets.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, target) in &images.targets {
            let mut entry = target.clone();
            entry.annotations = BTreeMap::from([
                (REF_NAME.into(), name.to_string()),
                (CONTAINERD_NAME.into(), name.to_string()),
            ]);
            manifests.push(entry);
        }
        let index = Index { schema_version: 2, media_type: Some(INDEX_TYPE.into()), manifests };
        let dir = layout.dir().to_owned();
        let index = layout.finish(&index)?;
        let unpacked = images.blobs.values().map(|blob| blob.raw.map_or(0, |raw| raw.size)).sum();
        let mut sizes = Sizes { packed: 0, unpacked, files: 0 };
        for entry in fs::read_dir(dir.join("blobs/sha256"))? {
            sizes.packed += entry?.metadata()?.len();
            sizes.files += 1;
        }
        Ok((index.digest, sizes))
    }
}

/// The images of a bundle in the making.
#[derive(Debug, Default)]
struct Images {
    table: ImageTable,
    targets: Vec<(ImageReference, Descriptor)>,
    platforms: Vec<crate::document::release::Platform>,
    blobs: BTreeMap<Sha256Digest, TakenBlob>,
}

/// Where `airlift.yaml` speaks of entry `at` of a list.
fn entry_place(node: &Node, list: &str, at: usize) -> Place {
    Place::new(SOURCE_FILE, node.line_at(&format!("/{list}/{at}")))
}

fn annotate_raw(raw: &RawSize) -> BTreeMap<String, String> {
    BTreeMap::from([(RAW_SIZE.into(), raw.size.to_string()), (DIFF_ID.into(), raw.diff_id.to_string())])
}

fn warn_of_unused_images(source: &AppSource, node: &Node, objects: &[SourceObject], findings: &mut Findings) {
    let used: BTreeSet<ImageReference> = objects
        .iter()
        .flat_map(|object| crate::render::pods::find_images(&object.id, &object.value))
        .filter_map(|image| image.image.parse::<ImageReference>().ok()?.without_digest())
        .collect();
    for (at, image) in source.images.iter().enumerate().filter(|(_, image)| !used.contains(&image.name)) {
        let message = format!("no pod of a built-in kind names image {}", image.name);
        findings.warnings.push(Warning { place: entry_place(node, "images", at), message });
    }
}

/// Health rules, adoptions and ignored fields speak of objects of the bundle, or they would silently do nothing.
fn check_named_objects(app: &AppDescriptor, objects: &[SourceObject], node: &Node, findings: &mut Findings) {
    let known: BTreeSet<&ObjectId> = objects.iter().map(|object| &object.id).collect();
    let health = app.health.iter().map(HealthRule::object).enumerate().map(|(at, id)| ("health", at, id));
    let adopt = app.adopt.iter().cloned().enumerate().map(|(at, id)| ("adopt", at, id));
    let ignore = app.ignore.iter().map(IgnoreRule::object).enumerate().map(|(at, id)| ("ignore", at, id));
    for (list, at, id) in health.chain(adopt).chain(ignore).filter(|(_, _, id)| !known.contains(id)) {
        let place = entry_place(node, list, at);
        findings.invalid(place, format!("{list}: {} {id} is not in the bundle", id.api_version));
    }
}

fn describe(source: &AppSource, images: &Images, objects: &[SourceObject]) -> AppDescriptor {
    let mut requires: Vec<_> = source.requires.iter().cloned().map(Into::into).collect();
    requires.sort();
    let mut preloaded = source.preloaded.clone();
    preloaded.sort();
    AppDescriptor {
        app: source.name.clone(),
        version: source.version.clone(),
        platforms: images.platforms.clone(),
        requires,
        rollback: source.rollback,
        parameters: source.parameters.clone(),
        overlays: source.overlays.iter().map(|overlay| overlay.name.clone()).collect(),
        secret_slots: source.secret_slots.clone(),
        prune: source.prune,
        retire: source.retire,
        deletion_budget: source.deletion_budget,
        timeout_s: source.timeout.seconds,
        soak_s: source.soak.seconds,
        watch_s: source.watch.map(|watch| watch.seconds),
        health: source.health.clone(),
        adopt: source.adopt.clone(),
        recreate: source.recreate.clone(),
        ignore: source.ignore.clone(),
        preloaded,
        one_node: source.one_node,
        no_config_hash: !source.config_hash,
        objects: objects.len(),
        crit: Vec::new(),
    }
}

/// Writes a layout directory as one tar (an `oci-archive`), the same bytes for the same layout.
///
/// # Errors
/// [`std::io::Error`] of the disk.
pub fn write_archive(layout: &Path, archive: &mut impl Write) -> std::io::Result<()> {
    let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    let mut blobs = fs::read_dir(layout.join("blobs/sha256"))?
        .map(|entry| Ok(format!("blobs/sha256/{}", entry?.file_name().to_string_lossy())))
        .collect::<std::io::Result<Vec<_>>>()?;
    blobs.sort();
    names.append(&mut blobs);
    let mut archive = tar::Builder::new(archive);
    for name in names {
        let file = File::open(layout.join(&name))?;
        let header = crate::media::plain_header(&name, file.metadata()?.len())?;
        archive.append(&header, file)?;
    }
    archive.finish()
}
