//! The content store on disk: blobs named by digest, transfers that survive a kill, one thread that writes.
//!
//! A piece is checked against the bundle's list before it is written. Bits reach the database only after the
//! data was synced, every 8 MiB or second, so a kill costs at most that much again, whoever carried it. A blob
//! takes its name only after its whole digest was seen to be right, and is used only after it was seen to be right still.

mod files;
pub mod judge;
mod wants;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::document::release::Platform;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::layout::{BlobRef, Blobs, Bundle, LayoutError};
use airlift_bundles::limits::Limits;
use airlift_bundles::pieces::Bitmap;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::core::effect::FetchLimits;
use crate::core::event::FailureClass;
use crate::core::object::Generation;
use crate::ports::content::{Blob, Content, ContentError, Part, PutOutcome, WantedItem};
use crate::ports::images::BlobSource;
use crate::ports::{Boxed, Store};
use files::Files;
use wants::{Want, Wants};
use writer::Command;

/// Parts that wait for the writer; with 64 KiB each, 2 MiB.
const QUEUE: usize = 32;
/// Bytes that content leaves free: the database and the rendered objects of a rollout need a part of it.
const ROOM_BYTES: u64 = 8 << 20;
/// How often a fetch tells its progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The content store of one state directory.
pub struct DiskContent {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Command>,
    platform: Platform,
}

/// What the fetches, the carriers and the writer share.
struct Shared {
    files: Files,
    state: Mutex<State>,
    /// Rung at every change that a fetch may wait for.
    changed: Notify,
    /// Rung when something comes to be wanted.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    held: BTreeMap<Sha256Digest, u64>,
    wants: Wants,
    transfers: BTreeMap<Sha256Digest, Transfer>,
    fault: Option<ContentError>,
    /// Bundles beside which nothing was here when it was last looked. Unknown again as soon as something comes.
    tidy_with: Option<BTreeSet<Sha256Digest>>,
}

/// An item of which pieces are here.
struct Transfer {
    size: u64,
    bitmap: Bitmap,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskContent {
    /// Opens the store of `state_dir`, reads which blobs and transfers it holds, and starts its writer.
    ///
    /// # Errors
    /// [`ContentError`] where directories or rows cannot be read.
    pub async fn open(
        state_dir: PathBuf,
        platform: Platform,
        store: Arc<dyn Store>,
    ) -> Result<Self, ContentError> {
        let files = Files::open(state_dir).map_err(|error| from_io(&error))?;
        let rows = store.content().await.map_err(|error| store_failed(&error))?;
        let mut state = State::default();
        for blob in rows.0 {
            // A row without its file is a blob that somebody removed: it is fetched again.
            if files.size_of(&blob.sha256) == Some(blob.size) {
                state.held.insert(blob.sha256, blob.size);
            }
        }
        for row in rows.1 {
            let count = airlift_bundles::pieces::count_pieces(row.size);
            if let Ok(bitmap) = Bitmap::from_bytes(count, &row.bitmap)
                && files.has_partial(&row.sha256)
            {
                state.transfers.insert(row.sha256, Transfer { size: row.size, bitmap });
            }
        }
        let shared = Arc::new(Shared {
            files,
            state: Mutex::new(state),
            changed: Notify::new(),
            wanted: Notify::new(),
        });
        let (writer, commands) = mpsc::channel(QUEUE);
        writer::spawn(Arc::clone(&shared), store, commands).map_err(|error| from_io(&error))?;
        Ok(Self { shared, writer, platform })
    }

    /// Reads a bundle's tree from what is here; a part that was damaged since it came counts as missing from then on.
    ///
    /// # Errors
    /// As [`Bundle::read`].
    pub fn bundle(&self, index: &Sha256Digest) -> Result<Bundle, LayoutError> {
        self.forgetting(Bundle::read(index, self, &Limits::DEFAULT))
    }

    fn forgetting<T>(&self, read: Result<T, LayoutError>) -> Result<T, LayoutError> {
        read.inspect_err(|error| {
            if let LayoutError::Digest(damaged) = error {
                self.forget(damaged);
            }
        })
    }

    /// Opens a complete blob that was hashed just now, so that what is read of it is what was signed.
    ///
    /// # Errors
    /// [`ContentError`] where it is not here, damaged, or not readable.
    pub fn open_checked(&self, sha256: &Sha256Digest) -> Result<std::fs::File, ContentError> {
        if !self.held(sha256) {
            let reason = format!("{sha256} is not complete");
            return Err(ContentError {
                class: FailureClass::Environment,
                code: Code::ContentMissing,
                reason,
            });
        }
        let (file, found) = self.shared.files.open_hashed(sha256).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                self.forget(sha256);
            }
            from_io(&error)
        })?;
        judge::judge_blob(sha256, &found).inspect_err(|_| self.forget(sha256))?;
        Ok(file)
    }

    /// The platform whose parts of a bundle are fetched.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Where a complete blob is on disk.
    #[must_use]
    pub fn blob_path(&self, sha256: &Sha256Digest) -> Option<PathBuf> {
        self.held(sha256).then(|| self.shared.files.blob(sha256))
    }

    /// Makes these items complete, in order of urgency; they are wanted until then, or until the future is dropped.
    async fn complete(&self, wants: Vec<Want>, progress: &mut Progress) -> Result<(), ContentError> {
        let digests: Vec<Sha256Digest> = wants.iter().map(|want| want.sha256).collect();
        self.shared.lock().wants.add(wants);
        self.shared.wanted.notify_one();
        let _guard = WantGuard { shared: &self.shared, digests: &digests };
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if let Some(fault) = state.fault.take() {
                    return Err(fault);
                }
                if digests.iter().all(|digest| state.held.contains_key(digest)) {
                    return Ok(());
                }
                progress.tell(&state);
            }
            let _ = tokio::time::timeout(PROGRESS_EVERY, changed).await; // either way it looks again
        }
    }

    fn missing(&self, blobs: impl IntoIterator<Item = BlobRef>) -> Vec<BlobRef> {
        let state = self.shared.lock();
        blobs.into_iter().filter(|blob| !state.held.contains_key(&blob.digest)).collect()
    }

    /// Wants small parts whole; a part that says it is larger than a carrier may bring whole is refused.
    async fn complete_whole(&self, parts: Vec<BlobRef>, progress: &mut Progress) -> Result<(), ContentError> {
        let limit = Limits::DEFAULT.whole_item_bytes;
        if let Some(large) = parts.iter().find(|part| part.size.is_some_and(|size| size > limit)) {
            return Err(refused(
                Code::TooLarge,
                format!("{} has no piece list and is over {limit} bytes", large.digest),
            ));
        }
        let wants = parts.into_iter().map(|part| Want::whole(part.digest, part.size)).collect();
        self.complete(wants, progress).await
    }

    async fn fetch_bundle(
        &self,
        generation: &Generation,
        limits: FetchLimits,
        progress: &mut Progress,
    ) -> Result<(), ContentError> {
        let bundle = loop {
            match self.bundle(&generation.bundle) {
                Ok(bundle) => break bundle,
                Err(LayoutError::Missing(parts)) => self.complete_whole(parts, progress).await?,
                Err(error) => return Err(from_layout(&error)),
            }
        };
        let items: Vec<(Sha256Digest, u64)> =
            bundle.items_for(&self.platform).map(|(digest, item)| (*digest, item.size)).collect();
        let total_bytes: u64 = items.iter().map(|(_, size)| size).sum();
        if total_bytes > limits.packed_bytes {
            let reason =
                format!("bundle holds {total_bytes} bytes, its release says {}", limits.packed_bytes);
            return Err(refused(Code::TooLarge, reason));
        }
        progress.items.clone_from(&items);
        let lists = items
            .iter()
            .filter_map(|(digest, _)| bundle.items().get(digest))
            .flat_map(|item| item.lists.clone());
        self.complete_whole(self.missing(lists), progress).await?;
        let mut wants = Vec::new();
        for (digest, size) in items {
            if self.held(&digest) {
                continue;
            }
            let list = self.forgetting(bundle.piece_list(&digest, self));
            wants.push(match list.map_err(|error| from_layout(&error))? {
                Some(list) => Want::pieces(digest, Arc::new(list)),
                None if size <= Limits::DEFAULT.whole_item_bytes => Want::whole(digest, Some(size)),
                None => return Err(refused(Code::BundleMalformed, format!("{digest} has no piece list"))),
            });
        }
        self.check_room(&wants)?;
        self.complete(wants, progress).await
    }

    /// Refuses to begin what cannot be completed: a disk that is filled to the last byte takes the database along.
    fn check_room(&self, wants: &[Want]) -> Result<(), ContentError> {
        let here = |want: &Want, state: &State| {
            let transfer = state.transfers.get(&want.sha256);
            transfer.map_or(0, |transfer| {
                transfer.bitmap.count_here() * airlift_bundles::pieces::PIECE_BYTES as u64
            })
        };
        let coming_bytes: u64 = {
            let state = self.shared.lock();
            wants.iter().map(|want| want.size().unwrap_or(0).saturating_sub(here(want, &state))).sum()
        };
        let free_bytes = self.shared.files.free_bytes().map_err(|error| from_io(&error))?;
        if wants.is_empty() || coming_bytes.saturating_add(ROOM_BYTES) <= free_bytes {
            return Ok(());
        }
        let reason = format!(
            "{coming_bytes} bytes are to come and {ROOM_BYTES} must stay free, but only {free_bytes} are free in the \
             state directory"
        );
        Err(ContentError { class: FailureClass::Environment, code: Code::DiskFull, reason })
    }
}

impl Content for DiskContent {
    fn fetch(
        &self,
        generation: Arc<Generation>,
        limits: FetchLimits,
        progress: mpsc::Sender<(u64, u64)>,
    ) -> Boxed<'_, Result<(), ContentError>> {
        Box::pin(async move {
            let mut progress = Progress { sender: progress, items: Vec::new(), told: None };
            self.fetch_bundle(&generation, limits, &mut progress).await
        })
    }

    fn wanted(&self, count: usize) -> Vec<WantedItem> {
        let state = self.shared.lock();
        let item = |want: &Want| {
            let transfer = state.transfers.get(&want.sha256);
            let bits = transfer.map(|transfer| transfer.bitmap.as_bytes().to_vec());
            WantedItem {
                sha256: want.sha256,
                size: want.size(),
                bitmap: bits.unwrap_or_default(),
                pieces: want.list.as_ref().map_or(0, |list| u32::try_from(list.count()).unwrap_or(u32::MAX)),
            }
        };
        state
            .wants
            .iter()
            .filter(|want| !state.held.contains_key(&want.sha256))
            .take(count)
            .map(item)
            .collect()
    }

    fn more_wanted(&self) -> Boxed<'_, ()> {
        Box::pin(self.shared.wanted.notified())
    }

    fn put(&self, part: Part) -> Boxed<'_, Result<PutOutcome, ContentError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.writer.send(Command::Put { part, reply }).await.map_err(|_| writer_ended())?;
            answer.await.map_err(|_| writer_ended())?
        })
    }

    fn held(&self, sha256: &Sha256Digest) -> bool {
        self.shared.lock().held.contains_key(sha256)
    }

    fn open(&self, sha256: &Sha256Digest) -> Result<Box<dyn Blob>, ContentError> {
        Ok(Box::new(self.open_checked(sha256)?))
    }

    fn forget(&self, sha256: &Sha256Digest) {
        self.shared.lock().held.remove(sha256);
        // A row without its file counts for nothing; a file that stays is overwritten when its bytes come again.
        let _ = self.shared.files.drop_blob(sha256);
    }

    fn keep(&self, generations: Vec<Arc<Generation>>) -> Boxed<'_, Result<u64, ContentError>> {
        Box::pin(async move {
            let bundles: BTreeSet<Sha256Digest> =
                generations.iter().map(|generation| generation.bundle).collect();
            if self.shared.lock().tidy_with.as_ref() == Some(&bundles) {
                return Ok(0);
            }
            let mut needed = bundles.clone();
            for bundle in &bundles {
                match self.bundle(bundle) {
                    Ok(bundle) => needed.extend(bundle.items().keys().copied()),
                    // While a tree is not whole nobody can say what it needs: nothing is dropped.
                    Err(_) => return Ok(0),
                }
            }
            let spare: Vec<Sha256Digest> = {
                let mut state = self.shared.lock();
                let wanted = |digest| state.wants.iter().any(|want| want.sha256 == digest);
                let spare: Vec<Sha256Digest> = state
                    .held
                    .keys()
                    .copied()
                    .filter(|digest| !needed.contains(digest) && !wanted(*digest))
                    .collect();
                if spare.is_empty() && state.wants.iter().next().is_none() {
                    state.tidy_with = Some(bundles);
                }
                spare
            };
            if spare.is_empty() {
                return Ok(0);
            }
            let (reply, answer) = oneshot::channel();
            self.writer.send(Command::Drop { digests: spare, reply }).await.map_err(|_| writer_ended())?;
            answer.await.map_err(|_| writer_ended())?
        })
    }
}

impl BlobSource for DiskContent {
    fn path(&self, digest: &Sha256Digest) -> Option<PathBuf> {
        self.blob_path(digest)
    }
}

impl Blobs for DiskContent {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if !self.held(digest) { Ok(None) } else { self.shared.files.read(digest, limit) }
    }
}

/// Takes a fetch's wants back when it ends or is dropped.
struct WantGuard<'a> {
    shared: &'a Shared,
    digests: &'a [Sha256Digest],
}

impl Drop for WantGuard<'_> {
    fn drop(&mut self) {
        self.shared.lock().wants.remove(self.digests);
    }
}

/// Tells how far a fetch is, when that has changed.
struct Progress {
    sender: mpsc::Sender<(u64, u64)>,
    items: Vec<(Sha256Digest, u64)>,
    told: Option<(u64, u64)>,
}

impl Progress {
    fn tell(&mut self, state: &State) {
        let have = |(digest, size): &(Sha256Digest, u64)| match state.transfers.get(digest) {
            _ if state.held.contains_key(digest) => *size,
            Some(transfer) => {
                (transfer.bitmap.count_here() * airlift_bundles::pieces::PIECE_BYTES as u64).min(*size)
            }
            None => 0,
        };
        let now = (self.items.iter().map(have).sum(), self.items.iter().map(|(_, size)| size).sum());
        if self.told != Some(now) && self.sender.try_send(now).is_ok() {
            self.told = Some(now);
        }
    }
}

fn writer_ended() -> ContentError {
    let reason = "the content writer has ended".into();
    ContentError { class: FailureClass::Environment, code: Code::StoreFailed, reason }
}

fn refused(code: Code, reason: String) -> ContentError {
    ContentError { class: FailureClass::App, code, reason }
}

/// A disk that fails is the surroundings' fault, and a full one has a code of its own.
pub(crate) fn from_io(error: &io::Error) -> ContentError {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { Code::DiskFull } else { Code::StoreFailed };
    ContentError { class: FailureClass::Environment, code, reason: error.to_string() }
}

fn store_failed(error: &crate::ports::store::StoreError) -> ContentError {
    ContentError { class: FailureClass::Environment, code: error.code(), reason: error.to_string() }
}

fn from_layout(error: &LayoutError) -> ContentError {
    match error {
        LayoutError::Io(error) => from_io(error),
        // Every part was seen to be right when it came: the disk has changed it since.
        LayoutError::Digest(_) => ContentError {
            class: FailureClass::Environment,
            code: error.code(),
            reason: format!("{error}; it was damaged on this disk and is fetched again"),
        },
        _ => refused(error.code(), error.to_string()),
    }
}

#[cfg(test)]
mod tests;
