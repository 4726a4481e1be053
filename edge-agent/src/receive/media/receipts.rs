//! Writes receipts onto media: the same signed batches as over the hub's link, as files that any hand can carry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::keys::SecretKey;
use airlift_bundles::media::{MediaArchiveWriter, MediaDirectoryWriter, MediaError, MediaName, MediaSink};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::control::desk::Desk;
use crate::core::Event;
use crate::core::event::MediaId;
use crate::core::outbox::{STATUS, seal_batch};
use crate::core::write::MetaRow;
use crate::ports::Store;
use crate::ports::store::StoreError;
use crate::run::WriteMedia;

/// Receipts read at once: one batch's worth.
const READ_BYTES: usize = 72 << 10;
/// Longest wait for a stick to take everything.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a media took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Receipts.
    pub receipts: u64,
    /// Files that hold them.
    pub files: u64,
    /// The site's request to be enrolled was written; its fingerprint.
    pub request: Option<String>,
}

/// Receipts could not be written; they stay where they are.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The media refused or failed.
    #[error("cannot write to the media")]
    Media(#[from] MediaError),
    /// The database failed.
    #[error("receipts cannot be read")]
    Store(#[from] StoreError),
    /// The agent ended meanwhile, or the media takes for ever.
    #[error("the receipts were not written in time")]
    Ended,
}

impl SaveError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Media(error) => error.code(),
            Self::Store(_) | Self::Ended => Code::StoreFailed,
        }
    }
}

type Answer = mpsc::Sender<Result<Saved, SaveError>>;

/// Media that may be written to, and whoever waits for it.
type Writable = Arc<Mutex<BTreeMap<MediaId, (PathBuf, Option<Answer>)>>>;

/// Writes what the core wants written.
#[derive(Clone)]
pub struct ReceiptWriter {
    key: Arc<SecretKey>,
    meta: Arc<MetaRow>,
    store: Arc<dyn Store>,
    writable: Writable,
}

impl ReceiptWriter {
    /// `meta` is only read for what enrolment fixed.
    #[must_use]
    pub fn new(key: Arc<SecretKey>, meta: MetaRow, store: Arc<dyn Store>) -> Self {
        Self { key, meta: Arc::new(meta), store, writable: Writable::default() }
    }

    /// Carries out requests until the agent ends.
    pub async fn run(self, mut requests: mpsc::Receiver<WriteMedia>) {
        while let Some(request) = requests.recv().await {
            let target = {
                let writable = self.writable.lock().unwrap_or_else(PoisonError::into_inner);
                writable.get(&request.media).cloned()
            };
            let Some((path, answer)) = target else {
                debug!(media = %request.media.0, "media left before its receipts were written");
                continue;
            };
            let outcome = self.write(&path, &request).await;
            match (&outcome, &answer) {
                (Ok(saved), _) if saved.receipts > 0 => {
                    info!(media = %request.media.0, receipts = saved.receipts, "receipts written to media");
                }
                (Err(fault), None) => {
                    warn!(media = %request.media.0, %fault, "receipts were not written to media and are kept");
                }
                _ => {}
            }
            if let Some(answer) = answer {
                let _ = answer.send(outcome).await; // whoever asked has left
            }
        }
    }

    /// Lets the core write to a media.
    pub(super) fn enter(&self, media: MediaId, path: PathBuf, answer: Option<Answer>) {
        self.writable.lock().unwrap_or_else(PoisonError::into_inner).insert(media, (path, answer));
    }

    /// Ends that.
    pub(super) fn leave(&self, media: &MediaId) {
        self.writable.lock().unwrap_or_else(PoisonError::into_inner).remove(media);
    }

    /// Writes every receipt that the hub has not acknowledged onto a stick, or into a new tar file where the path
    /// ends in `.tar`.
    ///
    /// # Errors
    /// [`SaveError`].
    pub async fn save(&self, desk: &Desk, media: MediaId, path: PathBuf) -> Result<Saved, SaveError> {
        let (sender, mut answer) = mpsc::channel(1);
        self.enter(media.clone(), path, Some(sender));
        let exchange = async {
            desk.events()
                .send(Event::MediaIn { media: media.clone() })
                .await
                .map_err(|_| SaveError::Ended)?;
            answer.recv().await.unwrap_or(Err(SaveError::Ended))
        };
        let outcome = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(SaveError::Ended));
        self.leave(&media);
        let _ = desk.events().send(Event::MediaOut { media }).await; // the agent is ending
        outcome
    }

    /// The same where no agent runs: the rows that this writer was made with say what is owed.
    ///
    /// # Errors
    /// [`SaveError`].
    pub async fn save_unacked(&self, path: &Path) -> Result<Saved, SaveError> {
        let (from, upto) = (self.meta.receipt_acked_next, self.meta.receipt_next - 1);
        let chain_id = self.meta.chain_id.clone();
        let media = MediaId(path.display().to_string());
        self.write(path, &WriteMedia { media, chain_id, from, upto }).await
    }

    async fn write(&self, path: &Path, request: &WriteMedia) -> Result<Saved, SaveError> {
        let mut saved = Saved::default();
        if request.from > request.upto {
            return Ok(saved);
        }
        let (documents, queue) = mpsc::channel(2);
        let path = path.to_owned();
        let writing = tokio::task::spawn_blocking(move || write_documents(&path, queue));
        let mut status = self.store.outbox(STATUS).await?;
        let mut from = request.from;
        while from <= request.upto {
            let chain_id = request.chain_id.clone();
            let receipts = self.store.receipts(chain_id.clone(), from, request.upto, READ_BYTES).await?;
            let (batch, taken, told) = seal_batch(&self.key, &self.meta, &receipts, status.as_ref());
            let Some((first, last)) = receipts.first().zip(receipts.get(taken.saturating_sub(1))) else {
                break; // acknowledged and dropped since
            };
            let name = MediaName::Receipts {
                site: self.meta.site.clone(),
                chain_id,
                from: first.seq,
                upto: last.seq,
            };
            saved.receipts += taken as u64;
            saved.files += 1;
            from = last.seq + 1;
            if told {
                status = None;
            }
            if documents.send((name, batch)).await.is_err() {
                break; // the writer says why
            }
        }
        drop(documents);
        writing.await.map_err(|_| SaveError::Ended)??;
        Ok(saved)
    }
}

/// The part that blocks: writes documents as they come, each whole or not at all.
fn write_documents(
    path: &Path,
    mut documents: mpsc::Receiver<(MediaName, Vec<u8>)>,
) -> Result<(), MediaError> {
    if path.extension().is_some_and(|extension| extension == "tar") {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| MediaError::Io { path, source }
        };
        let beside = path.with_extension("tar.new");
        let file = File::create(&beside).map_err(failed(&beside))?;
        let mut archive = MediaArchiveWriter::new(BufWriter::new(file));
        while let Some((name, bytes)) = documents.blocking_recv() {
            archive.put_document(&name, &bytes)?;
        }
        let file = archive.finish()?.into_inner().map_err(|error| failed(&beside)(error.into_error()))?;
        file.sync_all().map_err(failed(&beside))?;
        return std::fs::rename(&beside, path).map_err(failed(path));
    }
    let mut stick = MediaDirectoryWriter::open(path)?;
    while let Some((name, bytes)) = documents.blocking_recv() {
        stick.put_document(&name, &bytes)?;
    }
    Ok(())
}
