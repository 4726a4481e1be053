//! The one thread that writes content: verify, write, sync, and only then commit the bits.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;
use airlift_bundles::pieces::{Bitmap, PieceList};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::judge::{Finished, judge_finished};
use super::wants::Want;
use super::{Shared, Transfer, from_io, refused, store_failed};
use crate::core::write::{BlobRow, TransferRow, Write};
use crate::ports::Store;
use crate::ports::content::{ContentError, Part, PutOutcome};

/// Unsynced bytes after which the data is synced and the bits are committed: what a kill may cost.
const SYNC_BYTES: u64 = 8 << 20;
/// Time after which they are, however few.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// What the writer is asked.
pub(super) enum Command {
    Put { part: Part, reply: oneshot::Sender<Result<PutOutcome, ContentError>> },
    Drop { digests: Vec<Sha256Digest>, reply: oneshot::Sender<Result<u64, ContentError>> },
}

/// Starts the thread; it ends when the last sender is gone.
pub(super) fn spawn(
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let writer = Writer { shared, store, unsynced: BTreeSet::new(), unsynced_bytes: 0 };
    let thread = std::thread::Builder::new().name("content".into());
    thread.spawn(move || runtime.block_on(writer.run(commands))).map(drop)
}

struct Writer {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    /// Transfers with pieces that are written and not yet synced. Their bits are set in memory, so that nobody
    /// brings a piece twice, and reach the database after the sync.
    unsynced: BTreeSet<Sha256Digest>,
    unsynced_bytes: u64,
}

impl Writer {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut sync_at: Option<Instant> = None;
        loop {
            let timer = async {
                match sync_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let command = tokio::select! {
                biased;
                () = timer => None,
                command = commands.recv() => match command {
                    Some(command) => Some(command),
                    None => break,
                },
            };
            match command {
                Some(Command::Put { part, reply }) => {
                    let outcome = self.put(part).await;
                    let _ = reply.send(outcome); // a carrier that left does not want the answer
                }
                Some(Command::Drop { digests, reply }) => {
                    let freed = self.drop_blobs(digests).await;
                    let _ = reply.send(freed); // as above
                }
                None => {}
            }
            let due = self.unsynced_bytes >= SYNC_BYTES || sync_at.is_some_and(|at| at <= Instant::now());
            if due && let Err(fault) = self.sync().await {
                self.fail(fault);
            }
            sync_at = match (self.unsynced.is_empty(), sync_at) {
                (true, _) => None,
                (false, at) => at.or_else(|| Some(Instant::now() + SYNC_AFTER)),
            };
        }
        if let Err(fault) = self.sync().await {
            tracing::warn!(%fault, "last pieces were not synced and will be fetched again");
        }
    }

    fn fail(&self, fault: ContentError) {
        self.shared.lock().fault = Some(fault);
        self.shared.changed.notify_waiters();
    }

    async fn put(&mut self, part: Part) -> Result<PutOutcome, ContentError> {
        let (sha256, piece, bytes) = match part {
            Part::Whole { sha256, bytes } => (sha256, None, bytes),
            Part::Piece { sha256, number, bytes } => (sha256, Some(u64::from(number)), bytes),
            Part::Encoded { .. } => return Ok(PutOutcome::Unneeded),
        };
        let want: Option<Want> = {
            let state = self.shared.lock();
            state.wants.get(&sha256).filter(|_| !state.held.contains_key(&sha256)).cloned()
        };
        let Some(want) = want else { return Ok(PutOutcome::Unneeded) };
        let outcome = match piece {
            None => self.put_whole(&want, &bytes).await,
            Some(piece) => self.put_piece(&want, piece, &bytes).await,
        };
        if let Err(fault) = &outcome {
            self.fail(fault.clone());
        }
        outcome
    }

    async fn put_whole(&mut self, want: &Want, bytes: &[u8]) -> Result<PutOutcome, ContentError> {
        if bytes.len() as u64 > Limits::DEFAULT.whole_item_bytes || Sha256Digest::of(bytes) != want.sha256 {
            return Ok(PutOutcome::Wrong);
        }
        self.shared.files.write_whole(&want.sha256, bytes).map_err(|error| from_io(&error))?;
        self.name(want.sha256, bytes.len() as u64).await?;
        Ok(PutOutcome::Taken)
    }

    async fn put_piece(&mut self, want: &Want, piece: u64, bytes: &[u8]) -> Result<PutOutcome, ContentError> {
        let Some(list) = &want.list else { return Ok(PutOutcome::Unneeded) };
        {
            let mut state = self.shared.lock();
            let fresh = || Transfer { size: list.size(), bitmap: Bitmap::empty(list.count()) };
            let transfer = state.transfers.entry(want.sha256).or_insert_with(fresh);
            if transfer.bitmap.has(piece) {
                return Ok(PutOutcome::Unneeded);
            }
        }
        if list.verify_piece(piece, bytes).is_err() {
            return Ok(PutOutcome::Wrong);
        }
        self.shared.files.write_piece(&want.sha256, piece, bytes).map_err(|error| from_io(&error))?;
        self.unsynced.insert(want.sha256);
        self.unsynced_bytes += bytes.len() as u64;
        let complete = {
            let mut state = self.shared.lock();
            let transfer = state.transfers.get_mut(&want.sha256);
            transfer.is_some_and(|transfer| transfer.bitmap.set(piece) && transfer.bitmap.is_complete())
        };
        if complete {
            self.finish(want.sha256, list).await?;
        }
        Ok(PutOutcome::Taken)
    }

    async fn finish(&mut self, sha256: Sha256Digest, list: &PieceList) -> Result<(), ContentError> {
        self.unsynced.remove(&sha256);
        let (files, size) = (&self.shared.files, list.size());
        let found = files.digest_of_partial(&sha256, size).map_err(|error| from_io(&error))?;
        let fits = || files.partial_fits(&sha256, list).map_err(|error| from_io(&error));
        let finished = judge_finished(&sha256, found.as_ref(), fits)?;
        if finished == Finished::Whole {
            files.finish(&sha256).map_err(|error| from_io(&error))?;
            return self.name(sha256, size).await;
        }
        files.drop_partial(&sha256);
        self.shared.lock().transfers.remove(&sha256);
        self.commit(vec![Write::DropTransfer(sha256)]).await?;
        if finished == Finished::Contradiction {
            return Err(refused(
                Code::BlobDigest,
                format!("{sha256} fits its piece list and not its digest"),
            ));
        }
        tracing::warn!(%sha256, "synced pieces were not on this disk after all, and are fetched again");
        self.shared.wanted.notify_one();
        Ok(())
    }

    async fn name(&mut self, sha256: Sha256Digest, size: u64) -> Result<(), ContentError> {
        self.commit(vec![Write::PutBlob(BlobRow { sha256, size }), Write::DropTransfer(sha256)]).await?;
        {
            let mut state = self.shared.lock();
            state.transfers.remove(&sha256);
            state.held.insert(sha256, size);
            state.tidy_with = None;
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Syncs what was written since the last time, then commits the bits that stand for it.
    async fn sync(&mut self) -> Result<(), ContentError> {
        let digests: Vec<Sha256Digest> = std::mem::take(&mut self.unsynced).into_iter().collect();
        self.unsynced_bytes = 0;
        let mut writes = Vec::new();
        for sha256 in digests {
            let row = {
                let state = self.shared.lock();
                state.transfers.get(&sha256).map(|transfer| TransferRow {
                    sha256,
                    size: transfer.size,
                    bitmap: transfer.bitmap.as_bytes().into(),
                })
            };
            if let Some(row) = row {
                self.shared.files.sync_partial(&sha256).map_err(|error| from_io(&error))?;
                writes.push(Write::PutTransfer(row));
            }
        }
        if writes.is_empty() { Ok(()) } else { self.commit(writes).await }
    }

    async fn drop_blobs(&mut self, digests: Vec<Sha256Digest>) -> Result<u64, ContentError> {
        let mut freed = 0;
        {
            let mut state = self.shared.lock();
            for digest in &digests {
                freed += state.held.remove(digest).unwrap_or(0);
            }
        }
        // Rows first: a file without a row is waste, a row without a file is a lie.
        self.commit(digests.iter().copied().map(Write::DropBlob).collect()).await?;
        for digest in &digests {
            self.shared.files.drop_blob(digest).map_err(|error| from_io(&error))?;
        }
        Ok(freed)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), ContentError> {
        self.store.commit(writes).await.map_err(|error| store_failed(&error))
    }
}
