//! The one thread that writes: it takes what waits, runs it in one transaction, commits, and only then answers.
//!
//! An fsync costs the same for one request as for a hundred, so a hub under load commits hundreds at a time. Each
//! request runs in its own savepoint: one that fails is undone alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::DbError;

/// Requests that may wait: beyond it callers wait for a place, which slows the network down to the disk.
const QUEUE: usize = 1024;
/// Requests in one commit, so that the first of them does not wait for ever.
const GROUP: usize = 512;

/// Runs inside the transaction, or learns that there is none; what it returns is called with the commit's outcome.
type Request = Box<dyn FnOnce(Result<&Connection, DbError>) -> Answer + Send>;

struct Answer {
    keep: bool,
    send: Box<dyn FnOnce(Result<(), DbError>) + Send>,
}

#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
    ended: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let handle = thread::Builder::new()
            .name("hub-writer".into())
            .spawn(move || write_groups(&connection, receiver))
            .expect("a process that may not start one thread cannot run a hub");
        Self { queue: Arc::new(Mutex::new(Some(sender))), ended: Arc::new(Mutex::new(Some(handle))) }
    }

    pub(super) async fn run<T, E>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let request: Request = Box::new(move |connection| {
            let run = |connection| {
                catch_unwind(AssertUnwindSafe(|| request(connection)))
                    .unwrap_or_else(|panic| Err(DbError::Broken(panic_text(panic.as_ref())).into()))
            };
            let outcome = connection.map_err(E::from).and_then(run);
            let keep = outcome.is_ok();
            let send = move |commit: Result<(), DbError>| {
                // The caller may have gone away; the commit stands all the same.
                let _ = sender.send(match commit {
                    Ok(()) => outcome,
                    Err(error) => outcome.and(Err(error.into())),
                });
            };
            Answer { keep, send: Box::new(send) }
        });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = match queue {
            Some(queue) => queue.send(request).await.is_ok(),
            None => false,
        };
        if !sent {
            return Err(DbError::Closed.into());
        }
        receiver.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Stops taking requests, and waits until those that were taken are committed.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(handle) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread catches panics of requests; one of its own has already been printed.
            let _ = handle.join();
        }
    }
}

fn write_groups(connection: &Connection, mut queue: mpsc::Receiver<Request>) {
    let mut waiting = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        waiting.push(first);
        while waiting.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            waiting.push(next);
        }
        write_group(connection, &mut waiting);
    }
    // So that the file alone is a whole copy while no hub runs; what stays in the WAL is as safe.
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the database was not checkpointed at the end");
    }
}

fn write_group(connection: &Connection, waiting: &mut Vec<Request>) {
    let mut answers = Vec::with_capacity(waiting.len());
    let mut outcome = execute(connection, "BEGIN IMMEDIATE");
    for request in waiting.drain(..) {
        answers.push(run_in_savepoint(connection, request, &mut outcome));
    }
    if outcome.is_ok() {
        outcome = execute(connection, "COMMIT");
    }
    if !connection.is_autocommit() {
        // Where this fails too, the next group's BEGIN does, and nothing is acknowledged.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for answer in answers {
        (answer.send)(outcome.clone());
    }
}

/// Runs one request; once `outcome` is an error the transaction is lost, and what follows is not run at all.
fn run_in_savepoint(connection: &Connection, request: Request, outcome: &mut Result<(), DbError>) -> Answer {
    if outcome.is_ok() {
        *outcome = execute(connection, "SAVEPOINT request");
    }
    if let Err(lost) = outcome {
        return request(Err(lost.clone()));
    }
    let answer = request(Ok(connection));
    *outcome = if connection.is_autocommit() {
        // SQLite itself gives a transaction up when the disk is full or fails.
        Err(DbError::Commit(Arc::new(rusqlite::Error::InvalidQuery)))
    } else if answer.keep {
        execute(connection, "RELEASE request")
    } else {
        execute(connection, "ROLLBACK TO request; RELEASE request")
    };
    answer
}

fn execute(connection: &Connection, sql: &str) -> Result<(), DbError> {
    connection.execute_batch(sql).map_err(|error| DbError::Commit(Arc::new(error)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}
