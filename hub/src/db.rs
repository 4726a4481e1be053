//! The hub's store: SQLite with one writer that commits in groups, and readers that never wait for it.
//!
//! What a caller of [`Db::write`] is told has happened is on disk (invariant 4): its future resolves after the
//! commit that holds its request, and never for half of it.

mod damage;
mod migrate;
mod reader;
pub mod rows;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

pub use damage::{DamageError, back_up, backup_of, restore};
pub use migrate::{MigrateError, SCHEMA_VERSION};
use reader::Readers;
use writer::Writer;

/// A request could not be read or committed; nothing of it is in the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// SQLite refused: disk full, damaged file, broken constraint.
    #[error("the hub's database failed")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// The commit of the whole group failed.
    #[error("the hub's database could not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// The writer has ended, because the hub is shutting down.
    #[error("the hub's database is closed")]
    Closed,
    /// The request itself panicked; its part of the transaction was undone.
    #[error("a request to the hub's database broke an invariant: {0}")]
    Broken(String),
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// A handle on the store; clones share it.
#[derive(Clone, Debug)]
pub struct Db {
    writer: Writer,
    readers: Arc<Readers>,
}

impl Db {
    /// Opens the database, bringing its schema up to date; before a migration the file is copied aside. One that nobody
    /// closed is checked first.
    ///
    /// # Errors
    /// [`MigrateError`], where it cannot be opened, is damaged, belongs to something else, or is newer than this program.
    pub fn open(path: &Path) -> Result<Self, MigrateError> {
        damage::look(path)?;
        let mut connection = Connection::open(path)?;
        prepare(&connection)?;
        migrate::run(&mut connection, path)?;
        Ok(Self { writer: Writer::start(connection), readers: Arc::new(Readers::new(path)) })
    }

    /// A store in memory for a caller that has no threads: the simulator runs every request inline.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub fn in_memory() -> Result<Connection, MigrateError> {
        let mut connection = Connection::open_in_memory()?;
        // A status and an assignment fit the page of their row; in smaller pages each takes another to itself.
        connection.pragma_update(None, "page_size", 8192)?;
        prepare(&connection)?;
        migrate::run(&mut connection, Path::new(":memory:"))?;
        Ok(connection)
    }

    /// Runs a request that may write, inside the writer's transaction; resolves after the commit.
    ///
    /// An error from `request` undoes what it wrote and leaves the others of its group alone.
    ///
    /// # Errors
    /// The request's own, or a [`DbError`] where the commit failed: then nothing was written.
    pub async fn write<T, E>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.writer.run(request).await
    }

    /// Runs a request that only reads, on a snapshot of what is committed.
    ///
    /// # Errors
    /// The request's own, or a [`DbError`].
    pub async fn read<T, E>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let outcome = tokio::task::spawn_blocking(move || readers.with(request)).await;
        outcome.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Ends the writer after everything that was asked of it is committed.
    pub fn close(&self) {
        self.writer.close();
    }
}

/// Settings that every connection needs; measured in `facts` of the project: a commit is durable when it returns.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA busy_timeout = 5000;
         PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 16777216;",
    )?;
    keep_statements(connection)
}

/// Prepares each statement once. Without the guarantee of stable plans SQLite parses most queries with a join or an
/// order again whenever a parameter has another value, which costs more than to run them.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(128);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(
        "PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;",
    )?;
    keep_statements(&connection)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
