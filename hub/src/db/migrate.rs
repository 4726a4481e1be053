//! Brings the schema up to date, one numbered file at a time, after a copy of the database was put aside.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, backup::Backup};

use super::damage::DamageError;

/// `AIRL` with the hub's number: another program's file is never touched.
const APPLICATION_ID: i32 = 0x4149_5201;

/// Each file once, in order; its place is its version.
const MIGRATIONS: &[&str] =
    &[include_str!("../../migrations/0001_hub.sql"), include_str!("../../migrations/0002_endpoint.sql")];

/// The version that this program's database has.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// The database cannot be used by this program.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// SQLite refused.
    #[error("the hub's database cannot be opened")]
    Sqlite(#[from] rusqlite::Error),
    /// It is damaged, and was left as it is.
    #[error("the hub's database was not opened")]
    Damage(#[from] DamageError),
    /// Another program's database.
    #[error("{0} is not the database of an Airlift hub")]
    Foreign(PathBuf),
    /// Written by a newer version.
    #[error("the hub's database has schema {found}, this program knows {known}: use the newer program")]
    Newer {
        /// In the file.
        found: usize,
        /// In this program.
        known: usize,
    },
}

/// Says whether it is a hub's database that this program knows, or an empty one; gives its schema's version.
pub(super) fn check_ours(connection: &Connection, path: &Path) -> Result<usize, MigrateError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID && (application != 0 || version != 0 || has_tables(connection)?) {
        return Err(MigrateError::Foreign(path.to_owned()));
    }
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > SCHEMA_VERSION {
        return Err(MigrateError::Newer { found, known: SCHEMA_VERSION });
    }
    Ok(found)
}

/// Migrates to [`SCHEMA_VERSION`]; each migration is one transaction with its version.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), MigrateError> {
    let found = check_ours(connection, path)?;
    if found > 0 && found < SCHEMA_VERSION {
        copy_aside(connection, &path.with_extension(format!("db.before-{SCHEMA_VERSION}")))?;
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

fn copy_aside(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(to)?;
    Backup::new(connection, &mut copy)?.run_to_completion(1024, std::time::Duration::ZERO, None)
}
