//! An operator's own bundle in a simulated world: real objects, sizes and health expectations, from a layout, a tar or
//! a stick, as `airlift bundle build` and `airlift media save` leave them.
//!
//! Every byte that is used is checked against the digest that its release names. Layers of images are not used and not
//! read: only their sizes count. Whose signatures a release bears is another question, which [`OwnBundle::check`] asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use airlift_agent::core::object::Gvk;
use airlift_bundles::accept::open_release;
use airlift_bundles::causes::in_one_line;
use airlift_bundles::document::release::{Platform, Statement};
use airlift_bundles::document::root::{Root, TrustedRoot};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::layout::{Blobs as _, Bundle};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{BundleFiles, MediaKind, copy_verified, release_file};

use crate::cluster;

/// Packed objects that are read to count their kinds.
const OBJECTS_BYTES_MAX: u64 = 256 << 20;

/// A bundle that cannot be taken into a world.
#[derive(Debug, thiserror::Error)]
pub enum OwnBundleError {
    /// It, or what belongs to it, cannot be read.
    #[error("cannot read {}: {fault}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// It is not good.
    #[error("{} is refused: {fault}", path.display())]
    Refused {
        /// What.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// Its release is not there, or there are several.
    #[error("{} has {found} releases and needs one: sign and name one bundle, with its .release.json beside it", path.display())]
    Releases {
        /// Which bundle.
        path: PathBuf,
        /// How many.
        found: usize,
    },
}

/// A bundle with its release, read and checked against the digests that it names.
pub struct OwnBundle {
    path: PathBuf,
    files: BundleFiles,
    envelope: Vec<u8>,
    sha256: Sha256Digest,
    statement: Statement,
    bundle: Bundle,
}

/// What a document may weigh.
fn read_document(path: &Path) -> Result<Vec<u8>, OwnBundleError> {
    let unreadable = |fault: String| OwnBundleError::Unreadable { path: path.to_owned(), fault };
    let limit = Limits::DEFAULT.whole_item_bytes;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > limit { Err(unreadable(format!("over {limit} bytes"))) } else { Ok(bytes) }
}

impl OwnBundle {
    /// Opens a bundle with its one release.
    ///
    /// # Errors
    /// [`OwnBundleError`].
    pub fn open(path: &Path) -> Result<Self, OwnBundleError> {
        let refused = |fault: String| OwnBundleError::Refused { path: path.to_owned(), fault };
        let files = BundleFiles::open(path).map_err(|error| OwnBundleError::Unreadable {
            path: path.to_owned(),
            fault: in_one_line(&error),
        })?;
        let mut releases = Vec::new();
        let beside = release_file(path);
        if beside.is_file() {
            releases.push(read_document(&beside)?);
        } else if let BundleFiles::Media(media) = &files {
            for name in media.list(MediaKind::Releases).map_err(|error| refused(in_one_line(&error)))? {
                releases.extend(media.read_document(&name).map_err(|error| refused(in_one_line(&error)))?);
            }
        }
        let found = releases.len();
        let (Some(envelope), 1) = (releases.pop(), found) else {
            return Err(OwnBundleError::Releases { path: path.to_owned(), found });
        };
        let (sha256, statement) = Envelope::parse(&envelope, &Limits::DEFAULT)
            .and_then(|envelope| {
                Ok((envelope.digest(), envelope.read_unverified::<Statement>(&Limits::DEFAULT)?))
            })
            .map_err(|error| refused(in_one_line(&error)))?;
        let bundle = Bundle::read(&statement.bundle(), &files, &Limits::DEFAULT)
            .map_err(|error| refused(in_one_line(&error)))?;
        bundle
            .app()
            .check_release(&statement.predicate)
            .map_err(|field| refused(format!("release and bundle differ in {field}")))?;
        Ok(Self { path: path.to_owned(), files, envelope, sha256, statement, bundle })
    }

    /// What its release says.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The platform whose bytes a site takes: this one, or the bundle's first where it has none for it.
    #[must_use]
    pub fn platform(&self, wanted: &Platform) -> Platform {
        let platforms = &self.bundle.app().platforms;
        let fits = platforms.iter().any(|platform| platform.fits(wanted));
        if fits { wanted.clone() } else { platforms.first().unwrap_or(wanted).clone() }
    }

    /// What a site of this platform fetches.
    #[must_use]
    pub fn bytes(&self, platform: &Platform) -> u64 {
        self.bundle.items_for(platform).map(|(_, item)| item.size).sum()
    }

    /// Writes all but the layers of images into a folder of blobs; answers with what is there then.
    ///
    /// # Errors
    /// [`OwnBundleError`].
    pub fn unpack(&self, folder: &Path) -> Result<BTreeMap<Sha256Digest, u64>, OwnBundleError> {
        let refused = |fault: String| OwnBundleError::Refused { path: self.path.clone(), fault };
        let images = self.bundle.images().iter().flat_map(|image| &image.manifests);
        let layers: BTreeSet<_> =
            images.flat_map(|image| &image.layers).map(|layer| layer.blob.digest).collect();
        let index = *self.bundle.index();
        let whole = Limits::DEFAULT.whole_item_bytes;
        let read = self.files.read_blob(&index, whole).map_err(|error| refused(error.to_string()))?;
        let mut wanted = BTreeMap::from([(index, read.map_or(0, |bytes| bytes.len() as u64))]);
        let items = self.bundle.items().iter().filter(|(digest, _)| !layers.contains(*digest));
        wanted.extend(items.map(|(digest, item)| (*digest, item.size)));
        for (digest, size) in &wanted {
            let opened = self.files.open_blob(digest).map_err(|error| refused(in_one_line(&error)))?;
            let mut source = opened.ok_or_else(|| refused(format!("blob {digest} is not there")))?.reader;
            let written =
                File::create(folder.join(digest.to_hex())).map_err(|error| refused(error.to_string()));
            copy_verified(&mut source, digest, *size, &mut written?)
                .map_err(|error| refused(in_one_line(&error)))?;
        }
        Ok(wanted)
    }

    /// Asks whether the release is signed as a chain of roots demands.
    ///
    /// # Errors
    /// [`OwnBundleError::Refused`] where it is not.
    pub fn check(&self, root: &TrustedRoot) -> Result<(), OwnBundleError> {
        let refused = |fault: String| OwnBundleError::Refused { path: self.path.clone(), fault };
        open_release(&self.envelope, root, &Limits::DEFAULT)
            .map_err(|refusal| refused(format!("{}: {}", refusal.code, refusal.detail)))?;
        let release = &self.statement.predicate;
        if release.fleet_id != root.fleet_id {
            return Err(refused(format!(
                "it is for fleet {}, the root for {}",
                release.fleet_id, root.fleet_id
            )));
        }
        match root.revocation(&self.sha256) {
            Some(_) => Err(refused(format!("root {} has taken it back", root.version))),
            None => Ok(()),
        }
    }

    /// What a reader of its figures has to know: what was checked, and what the model cannot say of this app.
    ///
    /// # Errors
    /// [`OwnBundleError`] where its objects cannot be read.
    pub fn notes(&self, checked: Option<u64>) -> Result<Vec<String>, OwnBundleError> {
        let release = &self.statement.predicate;
        let name = format!("{} {}", release.app, release.version);
        let signatures = match checked {
            Some(version) => format!("its signatures are good under root {version}"),
            None => "its SIGNATURES WERE NOT CHECKED (--root checks them)".to_owned(),
        };
        let mut notes = vec![format!(
            "{name} comes from {}: {signatures}. Objects and manifests were checked by their digests; of image layers \
             only the sizes count, their bytes were not read. For the simulated sites it is signed with the simulator's \
             own keys.",
            self.path.display()
        )];
        let kinds = self.kinds()?;
        let workloads = kinds.keys().filter(|gvk| cluster::has_pods(gvk)).count();
        if workloads > 0 {
            notes.push(format!(
                "{name}: whether its programs run is not known. Pods become ready two seconds after they are written; \
                 the annotation `sim.airlift.dev/trouble: crash` (or `image`, `not-ready`) of a pod template shows what \
                 a bad version does."
            ));
        }
        let strange: Vec<String> = kinds
            .iter()
            .filter(|(gvk, _)| !cluster::knows(gvk))
            .map(|(gvk, count)| format!("{count} {} ({})", gvk.kind, gvk.api_version()))
            .collect();
        if !strange.is_empty() {
            notes.push(format!(
                "{name}: the model has no controller for {}. They need their CustomResourceDefinition in the bundle, and \
                 count as well once they are written.",
                strange.join(", ")
            ));
        }
        let rules = &self.bundle.app().health;
        let of_status: Vec<String> = rules
            .iter()
            .filter(|rule| rule.pointer.as_ref().is_none_or(|pointer| pointer.starts_with("/status")))
            .map(|rule| format!("{}/{}", rule.kind, rule.name))
            .collect();
        if !of_status.is_empty() {
            notes.push(format!(
                "{name}: its health rules ask for a status of {} that only its own controllers write; where the model \
                 does not, the app never becomes healthy here.",
                of_status.join(", ")
            ));
        }
        if !release.requires.is_empty() {
            let apps: Vec<String> = release.requires.iter().map(|other| other.app.to_string()).collect();
            notes.push(format!("{name} requires {}: without them it is refused here too.", apps.join(", ")));
        }
        Ok(notes)
    }

    /// Its kinds, and how many objects of each.
    fn kinds(&self) -> Result<BTreeMap<Gvk, usize>, OwnBundleError> {
        let refused = |fault: String| OwnBundleError::Refused { path: self.path.clone(), fault };
        let layer = self.bundle.objects();
        let limit = layer.size.unwrap_or(OBJECTS_BYTES_MAX).min(OBJECTS_BYTES_MAX);
        let packed =
            self.files.read_blob(&layer.digest, limit).map_err(|error| refused(error.to_string()))?;
        let packed = packed.ok_or_else(|| refused("its objects are not there".into()))?;
        if Sha256Digest::of(&packed) != layer.digest {
            return Err(refused("its objects do not match their digest".into()));
        }
        let objects = ObjectsReader::new(packed.as_slice(), self.bundle.objects_raw().size, &Limits::DEFAULT);
        let mut kinds = BTreeMap::new();
        for object in objects.map_err(|error| refused(in_one_line(&error)))? {
            let object = object.map_err(|error| refused(in_one_line(&error)))?;
            let text = |key: &str| object.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            *kinds.entry(Gvk::new(text("apiVersion"), text("kind"))).or_default() += 1;
        }
        Ok(kinds)
    }
}

/// Walks a chain of roots, as files or as folders of `VERSION.json`, to its newest.
///
/// # Errors
/// [`OwnBundleError`].
pub fn newest_root(paths: &[PathBuf]) -> Result<TrustedRoot, OwnBundleError> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable =
            |error: io::Error| OwnBundleError::Unreadable { path: path.clone(), fault: error.to_string() };
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let numbered = stem.is_some_and(|stem| stem.parse::<u64>().is_ok());
            files.extend(Some(path.clone()).filter(|_| numbered));
        }
    }
    let mut chain = Vec::new();
    for path in files {
        let bytes = read_document(&path)?;
        let root: Result<Root, _> = Envelope::parse(&bytes, &Limits::DEFAULT)
            .and_then(|envelope| envelope.read_unverified(&Limits::DEFAULT));
        let root =
            root.map_err(|error| OwnBundleError::Refused { path: path.clone(), fault: in_one_line(&error) })?;
        chain.push((root.version, path, bytes));
    }
    chain.sort();
    let mut newest: Option<TrustedRoot> = None;
    for (_, path, bytes) in chain {
        let next = match &newest {
            None => TrustedRoot::stored(&bytes, &Limits::DEFAULT),
            Some(before) => before.advance(&bytes, &Limits::DEFAULT),
        };
        newest = Some(next.map_err(|error| OwnBundleError::Refused { path, fault: in_one_line(&error) })?);
    }
    newest.ok_or_else(|| OwnBundleError::Unreadable {
        path: paths.first().cloned().unwrap_or_default(),
        fault: "no root is there".into(),
    })
}

#[cfg(test)]
mod tests;
