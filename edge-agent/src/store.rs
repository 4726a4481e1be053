//! The agent's rows in SQLite, behind one writer thread with group commit.
//!
//! A step's writes are never split and never reordered. Many steps share a transaction where they queue up while
//! the disk is busy, because a commit costs one flush of the disk, tens of milliseconds on an SD card. After a
//! failure nothing is written until the rows were loaded again: the core's picture and the disk's would differ.

mod damage;
mod floors;
#[cfg(debug_assertions)]
pub mod halt;
mod load;
mod memory;
mod open;
mod peek;
mod save;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use airlift_bundles::ids::{RandomId, Sha256Digest};
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use damage::{Restored, put_aside};
use floors::Floors;
pub use memory::MemoryStore;
pub use open::StateLock;
pub use peek::{DatabaseHealth, Peek};

use crate::clock::Clock;
use crate::core::write::{BlobRow, OutboxRow, ReceiptRow, Rows, TransferRow, Write};
use crate::ports::Boxed;
use crate::ports::store::{Store, StoreError};

/// The database's file in the state directory.
pub(crate) const DATABASE: &str = "agent.db";
/// Steps that may wait for the disk; at 4 KiB each the queue stays below 4 MiB.
const QUEUE_MAX: usize = 1024;
/// Steps of one transaction, so that the first of them does not wait for ever.
const GROUP_MAX: usize = 256;
/// Between two backups: a copy of some megabytes is nothing to a disk that takes images, but not every minute.
const BACKUP_EVERY_MS: u64 = 3_600_000;
/// A backup is made when nothing was written for so long.
const QUIET: Duration = Duration::from_secs(60);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Job {
    Commit(Vec<Write>, Answer<()>),
    Load(Answer<Rows>),
    Content(Answer<(Vec<BlobRow>, Vec<TransferRow>)>),
    Receipts { chain_id: RandomId, from: u64, upto: u64, bytes_max: usize, answer: Answer<Vec<ReceiptRow>> },
    Outbox(String, Answer<Option<OutboxRow>>),
    Document(Sha256Digest, Answer<Option<Vec<u8>>>),
}

/// The store on disk: `agent.db` in the state directory.
///
/// Dropping it writes what is queued, closes the database and only then gives the directory free.
#[derive(Debug)]
pub struct SqliteStore {
    jobs: Option<Sender<Job>>,
    queued: Arc<AtomicUsize>,
    writer: Option<JoinHandle<()>>,
    restored: Option<Restored>,
    _lock: StateLock,
}

impl SqliteStore {
    /// Takes the state directory for this process alone and opens the database in it, made or migrated as needed, or
    /// taken from its backup where it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process holds the directory; [`StoreError::Corrupt`] where a damaged
    /// database has no backup that can be believed; else what SQLite says.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let lock = StateLock::take(directory)?;
        let read = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", directory.display()));
        let floors = Floors::open(directory).map_err(read)?;
        let (connection, restored) = damage::open_sound(directory, &floors)?;
        let (jobs, queue) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let counted = queued.clone();
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn({
                let directory = directory.to_owned();
                move || Writer::new(connection, directory, floors, counted).run(&queue)
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), queued, writer: Some(writer), restored, _lock: lock })
    }

    /// What became of a damaged database when this one was opened.
    #[must_use]
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Boxed<'static, Result<T, StoreError>> {
        let (answer, reply) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // Where the writer has ended the answer is dropped with the job, and the reply says so.
            let _ = jobs.send(job(answer));
        }
        Box::pin(async move { reply.await.unwrap_or(Err(StoreError::Closed)) })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to close.
            let _ = writer.join();
        }
    }
}

impl Store for SqliteStore {
    fn commit(&self, writes: Vec<Write>) -> Boxed<'static, Result<(), StoreError>> {
        if self.queued.fetch_add(1, Ordering::AcqRel) >= QUEUE_MAX {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            return Box::pin(async { Err(StoreError::Busy) });
        }
        self.ask(|answer| Job::Commit(writes, answer))
    }

    fn load(&self) -> Boxed<'_, Result<Rows, StoreError>> {
        self.ask(Job::Load)
    }

    fn content(&self) -> Boxed<'_, Result<(Vec<BlobRow>, Vec<TransferRow>), StoreError>> {
        self.ask(Job::Content)
    }

    fn receipts(
        &self,
        chain_id: RandomId,
        from: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Boxed<'_, Result<Vec<ReceiptRow>, StoreError>> {
        self.ask(|answer| Job::Receipts { chain_id, from, upto, bytes_max, answer })
    }

    fn outbox(&self, key: &str) -> Boxed<'_, Result<Option<OutboxRow>, StoreError>> {
        let key = key.to_owned();
        self.ask(|answer| Job::Outbox(key, answer))
    }

    fn document(&self, sha256: Sha256Digest) -> Boxed<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.ask(|answer| Job::Document(sha256, answer))
    }
}

/// The thread that alone touches the database.
struct Writer {
    connection: Connection,
    queued: Arc<AtomicUsize>,
    /// A commit failed and nobody has loaded since.
    failed: bool,
    directory: PathBuf,
    floors: Floors,
    clock: Clock,
    /// Something was committed since the last backup.
    is_ahead: bool,
    backup_at_ms: u64,
}

impl Writer {
    fn new(connection: Connection, directory: PathBuf, floors: Floors, queued: Arc<AtomicUsize>) -> Self {
        let clock = Clock::system();
        let backup_at_ms = clock.now().mono_ms + BACKUP_EVERY_MS;
        Self { connection, queued, failed: false, directory, floors, clock, is_ahead: false, backup_at_ms }
    }

    /// The next job; while there is none and something is not in the backup, the time for that may come.
    fn receive(&mut self, queue: &Receiver<Job>) -> Option<Job> {
        while self.is_ahead {
            let left_ms = self.backup_at_ms.saturating_sub(self.clock.now().mono_ms);
            match queue.recv_timeout(Duration::from_millis(left_ms).max(QUIET)) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.back_up(),
            }
        }
        queue.recv().ok()
    }

    fn back_up(&mut self) {
        self.is_ahead = false;
        self.backup_at_ms = self.clock.now().mono_ms + BACKUP_EVERY_MS;
        if let Err(fault) = damage::back_up(&self.connection, &self.directory) {
            // The one before stays; the next commit brings the next try.
            tracing::warn!(%fault, "no backup of the database was made");
        }
    }

    fn run(mut self, queue: &Receiver<Job>) {
        let mut next = self.receive(queue);
        while let Some(job) = next.take() {
            match job {
                Job::Commit(writes, answer) => {
                    let mut group = vec![(writes, answer)];
                    while group.len() < GROUP_MAX {
                        match queue.try_recv() {
                            Ok(Job::Commit(writes, answer)) => group.push((writes, answer)),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                other => self.read(other),
            }
            if next.is_none() {
                next = self.receive(queue);
            }
        }
    }

    /// One transaction for all; all of it is answered after the commit, and alike.
    fn commit(&mut self, group: Vec<(Vec<Write>, Answer<()>)>) {
        let outcome = if self.failed {
            Err(StoreError::Failed("an earlier commit failed; load again first".to_owned()))
        } else {
            self.save(&group)
        };
        self.failed = outcome.is_err();
        self.suspect(&outcome);
        self.queued.fetch_sub(group.len(), Ordering::AcqRel);
        for (_, answer) in group {
            // Whoever does not wait for the answer does not miss it.
            let _ = answer.send(outcome.clone());
        }
    }

    fn suspect<T>(&self, outcome: &Result<T, StoreError>) {
        if matches!(outcome, Err(StoreError::Corrupt(_))) {
            damage::suspect(&self.directory);
        }
    }

    fn save(&mut self, group: &[(Vec<Write>, Answer<()>)]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for write in group.iter().flat_map(|(writes, _)| writes) {
            save::save(&transaction, write)?;
        }
        // A number that rose and was not committed is one that may come again.
        let noted = self.floors.note(group.iter().flat_map(|(writes, _)| writes));
        let is_rare = noted.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => StoreError::Full,
            _ => StoreError::Failed(format!("the journal of counters: {error}")),
        })?;
        transaction.commit()?;
        self.is_ahead = true;
        if is_rare && damage::has_backup(&self.directory) {
            self.back_up();
        }
        Ok(())
    }

    fn read(&mut self, job: Job) {
        let connection = &self.connection;
        // As above: an answer that nobody waits for is not missed.
        match job {
            Job::Commit(..) => {}
            Job::Load(answer) => {
                self.failed = false;
                let rows = load::load(connection);
                self.suspect(&rows);
                let _ = answer.send(rows);
            }
            Job::Content(answer) => drop(answer.send(load::content(connection))),
            Job::Receipts { chain_id, from, upto, bytes_max, answer } => {
                drop(answer.send(load::receipts(connection, &chain_id, (from, upto), bytes_max)));
            }
            Job::Outbox(key, answer) => drop(answer.send(load::outbox_row(connection, &key))),
            Job::Document(sha256, answer) => drop(answer.send(load::document(connection, sha256))),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            Some(rusqlite::ErrorCode::SystemIoFailure | rusqlite::ErrorCode::ReadOnly) => Self::Failed(
                format!("the disk cannot be written or read, it fails or is read-only ({error})"),
            ),
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
