//! A site's way with a tar of media, from its first byte to what it takes: the product's own readers, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use airlift_bundles::accept::{Acceptance, Held, Identity, accept_assignment, open_release};
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::ids::{Counter, FleetId, Sha256Digest, SiteId};
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::layout::{BlobRef, Blobs, Bundle};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaArchive, MediaKind, MediaName, MediaSource as _, copy_verified};
use airlift_bundles::render::overlay::Overlay;

use crate::fleet::{SITE, root_sha256};

/// What a site took.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Digests of the payloads of documents that it accepted.
    pub payloads: BTreeSet<Sha256Digest>,
    /// Blobs that it would store: the digest that it asked for, and that of the bytes that it got.
    pub blobs: BTreeSet<(Sha256Digest, Sha256Digest)>,
    /// Objects that it would apply.
    pub objects: usize,
}

/// A file that is filled again and again: media are read by path.
pub struct Scratch {
    file: File,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scratch {
    /// Makes one, in memory where the system has a place for that.
    ///
    /// # Errors
    /// [`io::Error`] of the disk.
    pub fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        let path = dir.path().join("media.tar");
        Ok(Self { file: File::create(&path)?, path, _dir: dir })
    }

    /// Fills it with these bytes and nothing else.
    ///
    /// # Errors
    /// [`io::Error`] of the disk.
    pub fn fill(&mut self, bytes: &[u8]) -> io::Result<&Path> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(bytes)?;
        Ok(&self.path)
    }
}

/// Takes what a tar of media holds for the fleet's site, which knows nothing yet but its first root's digest.
///
/// # Errors
/// [`io::Error`] of the scratch file; whatever the bytes are is no error.
pub fn receive(scratch: &mut Scratch, bytes: &[u8]) -> io::Result<Taken> {
    let limits = &Limits::DEFAULT;
    let mut taken = Taken::default();
    let path = scratch.fill(bytes)?;
    if let Ok(media) = MediaArchive::open(path, limits)
        && let Some(root) = walk_roots(&media, &mut taken)
    {
        let releases = read_releases(&media, &root);
        for release in accept(&media, &root, &releases, &mut taken) {
            // What a site takes of a bundle hangs on the digest that the release has signed.
            let Some(index) = releases
                .get(&release)
                .and_then(|bytes| Some(open_release(bytes, &root, limits).ok()?.document().bundle()))
            else {
                continue;
            };
            take_bundle(&media, &index, &mut taken);
        }
    }
    Ok(taken)
}

fn document(media: &MediaArchive, name: &MediaName) -> Option<Vec<u8>> {
    media.read_document(name).ok().flatten()
}

fn walk_roots(media: &MediaArchive, taken: &mut Taken) -> Option<TrustedRoot> {
    let limits = &Limits::DEFAULT;
    let mut root = TrustedRoot::pin(&document(media, &MediaName::Root(1))?, &root_sha256(), limits).ok()?;
    taken.payloads.insert(root.digest());
    while let Some(bytes) = document(media, &MediaName::Root(root.version + 1)) {
        let Ok(next) = root.advance(&bytes, limits) else { break };
        taken.payloads.insert(next.digest());
        root = next;
    }
    Some(root)
}

/// Releases that verify, by the digest of their payloads.
fn read_releases(media: &MediaArchive, root: &TrustedRoot) -> BTreeMap<Sha256Digest, Vec<u8>> {
    let names = media.list(MediaKind::Releases).unwrap_or_default();
    let files = names.iter().filter_map(|name| document(media, name));
    let verified = files.filter_map(|bytes| {
        let statement = open_release(&bytes, root, &Limits::DEFAULT).ok()?;
        Some((statement.digest(), bytes))
    });
    verified.collect()
}

/// Judges the site's assignment; gives the releases of the entries that it accepts.
fn accept(
    media: &MediaArchive,
    root: &TrustedRoot,
    releases: &BTreeMap<Sha256Digest, Vec<u8>>,
    taken: &mut Taken,
) -> Vec<Sha256Digest> {
    let site = SiteId::new(SITE).expect("the sample's site is a DNS label");
    let Some(bytes) = document(media, &MediaName::Assignment(site.clone())) else { return Vec::new() };
    let fleet_id = FleetId::new("fleet").expect("the sample's fleet is a name");
    let identity = Identity { fleet_id, site, incarnation: 1, minimum: Counter::default() };
    let held = Held {
        identity: &identity,
        root,
        current: None,
        release: &|digest| releases.get(digest).cloned(),
        accepted: &BTreeMap::new(),
        running: &BTreeMap::new(),
        floors: &BTreeMap::new(),
        platforms: &[],
    };
    match accept_assignment(&bytes, &held, &Limits::DEFAULT) {
        Ok(Acceptance::Accepted(accepted)) => {
            taken.payloads.insert(accepted.assignment().digest());
            let entries = accepted.entries().iter();
            let digests: Vec<_> =
                entries.filter_map(|entry| Some(entry.verdict.as_ref().ok()?.statement().digest())).collect();
            taken.payloads.extend(&digests);
            digests
        }
        Ok(Acceptance::Parked { assignment, .. }) => {
            taken.payloads.insert(assignment.digest());
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// The blobs of a tar, each as it stands there.
struct Carried<'m>(&'m MediaArchive);

impl Blobs for Carried<'_> {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(mut open) = self.0.open_blob(digest).map_err(io::Error::other)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = io::copy(&mut io::Read::take(&mut open.reader, limit + 1), &mut bytes)?;
        if read > limit { Err(io::ErrorKind::InvalidData.into()) } else { Ok(Some(bytes)) }
    }
}

/// Reads a bundle from the digest of its index on, and copies each of its blobs as a site stores it.
fn take_bundle(media: &MediaArchive, index: &Sha256Digest, taken: &mut Taken) {
    let Ok(bundle) = Bundle::read(index, &Carried(media), &Limits::DEFAULT) else { return };
    let mut whole = true;
    for (digest, item) in bundle.items() {
        let list = bundle.piece_list(digest, &Carried(media));
        let Ok(Some(mut open)) = media.open_blob(digest) else {
            whole = false;
            continue;
        };
        let mut bytes = Vec::new();
        if list.is_ok() && copy_verified(&mut open.reader, digest, item.size, &mut bytes).is_ok() {
            taken.blobs.insert((*digest, Sha256Digest::of(&bytes)));
        } else {
            whole = false;
        }
    }
    if whole {
        read_content(&bundle, &Carried(media), taken);
    }
}

/// Unpacks what is applied.
fn read_content(bundle: &Bundle, blobs: &Carried<'_>, taken: &mut Taken) {
    let limits = &Limits::DEFAULT;
    let bytes = |blob: &BlobRef| blobs.read_blob(&blob.digest, limits.whole_item_bytes).ok().flatten();
    if let Some(packed) = bytes(bundle.objects())
        && let Ok(objects) = ObjectsReader::new(packed.as_slice(), bundle.objects_raw().size, limits)
    {
        taken.objects += objects.take_while(Result::is_ok).count();
    }
    for overlay in bundle.overlays().values().filter_map(bytes) {
        let _ = Overlay::parse(&overlay, limits); // whether it can be read is the release's own affair
    }
}
