//! Backups of the database, the check at a start that follows a crash, and the way back.
//!
//! A hub does not go back by itself: from an older database it would sign assignments under numbers that its sites
//! have seen. A person restores, and a hub that was restored publishes nothing until a person has reconciled it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::migrate::{self, MigrateError};
use super::{open_reader, rows::meta};

/// The database is damaged, or was not copied or replaced.
#[derive(Debug, thiserror::Error)]
pub enum DamageError {
    /// SQLite's check found something.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which database.
        path: PathBuf,
        /// The first thing that is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("{path} cannot be used")]
    Sqlite {
        /// Which database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// It is no database of a hub, or of a newer one.
    #[error(transparent)]
    Foreign(#[from] Box<MigrateError>),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DamageError {
    let path = path.to_owned();
    move |source| DamageError::Io { path, source }
}

fn sqlite_at(path: &Path) -> impl FnOnce(rusqlite::Error) -> DamageError {
    let path = path.to_owned();
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            DamageError::Damaged { path, reason: source.to_string() }
        }
        _ => DamageError::Sqlite { path, source },
    }
}

/// `hub.db` and an ending.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Where a database's own backup is kept.
#[must_use]
pub fn backup_of(database: &Path) -> PathBuf {
    beside(database, ".backup")
}

/// Checks a database that nobody closed: what is in its log may have met a fault of the disk.
///
/// One that was cut off while it was made has a rollback journal, and is left to SQLite.
pub(super) fn look(path: &Path) -> Result<(), DamageError> {
    let is_open_ended = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    if !is_open_ended || beside(path, "-journal").exists() {
        return Ok(());
    }
    check(path, &open_reader(path).map_err(sqlite_at(path))?)
}

fn check(path: &Path, connection: &Connection) -> Result<(), DamageError> {
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match said.map_err(sqlite_at(path))? {
        said if said == "ok" => Ok(()),
        reason => Err(DamageError::Damaged { path: path.to_owned(), reason }),
    }
}

/// Copies what is committed to a file, while the hub may be serving; the file is whole at any time.
///
/// # Errors
/// [`DamageError`]; then a file that was there before is unchanged.
pub fn back_up(database: &Path, to: &Path) -> Result<(), DamageError> {
    let new = beside(to, ".new");
    remove(&new)?;
    let connection = open_reader(database).map_err(sqlite_at(database))?;
    let copy = connection.execute("VACUUM INTO ?1", params![new.to_string_lossy()]);
    copy.map_err(sqlite_at(database))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io_at(&new))?;
    rename(&new, to)
}

/// Puts the database aside, whole, and a checked copy of `from` in its place; gives where it was put.
///
/// The hub must not be running. The copy is marked: its hub publishes nothing until it is reconciled.
///
/// # Errors
/// [`DamageError`]; until the copy is whole nothing was changed, and after that the same call goes on.
pub fn restore(database: &Path, from: &Path) -> Result<Option<PathBuf>, DamageError> {
    let copy = beside(database, ".restoring");
    for ending in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(&copy, ending))?;
    }
    fs::copy(from, &copy).map_err(io_at(from))?;
    mark(&copy)?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(io_at(&copy))?;
    let aside = (1..)
        .map(|number| beside(database, &format!(".damaged-{number}")))
        .find(|path| !path.exists())
        .expect("a number is free");
    // The log goes before the database that it belongs to: it must not be taken for the copy's.
    for ending in ["-wal", "-journal", ""] {
        let (old, new) = (beside(database, ending), beside(&aside, ending));
        if old.exists() {
            rename(&old, &new)?;
        }
    }
    remove(&beside(database, "-shm"))?;
    rename(&copy, database)?;
    Ok(aside.exists().then_some(aside))
}

/// Checks a copy, and says in it that it is one.
fn mark(copy: &Path) -> Result<(), DamageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(sqlite_at(copy))?;
    check(copy, &connection)?;
    migrate::check_ours(&connection, copy).map_err(Box::new)?;
    // A copy has no log beside it, and gets none.
    connection.pragma_update(None, "journal_mode", "DELETE").map_err(sqlite_at(copy))?;
    meta::put_restored(&connection).map_err(sqlite_at(copy))?;
    connection.close().map_err(|(_, source)| sqlite_at(copy)(source))
}

fn rename(from: &Path, to: &Path) -> Result<(), DamageError> {
    fs::rename(from, to).map_err(io_at(to))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at(folder))
}

fn remove(path: &Path) -> Result<(), DamageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
