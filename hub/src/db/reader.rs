//! Connections that only read, opened as they are needed and kept for the next.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::{DbError, open_reader};

/// Idle connections that are kept; more may be in use at once.
const KEPT: usize = 8;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    /// Runs `request` inside one read transaction, so that all its queries see one state.
    pub(super) fn with<T, E: From<DbError>>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(DbError::from)?,
        };
        let snapshot = connection.unchecked_transaction().map_err(DbError::from)?;
        let outcome = request(&snapshot);
        if snapshot.finish().is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT {
                idle.push(connection);
            }
        }
        outcome
    }
}
