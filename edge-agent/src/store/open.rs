//! Opening the database: the directory's lock, pragmas, migrations.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use crate::ports::store::StoreError;

/// Says `airlift-agent` to `file(1)` and to whoever opens another program's database by mistake.
const APPLICATION_ID: i32 = 0x6169_6c61;

/// Numbered steps from an empty database to the present schema; published ones are never changed.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001-rows.sql")];

/// The state directory, taken for one process alone.
///
/// The kernel gives it free when the process ends, however it ends, so that a kill leaves nothing to clean up.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the directory, which is made where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let path = directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(directory.display().to_string())),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Opens the database as it is, with this access: nothing is made or migrated.
pub(super) fn open_as_it_is(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// Opens the database and brings it to the present schema.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let directory = path.parent().map_or_else(|| Ok(path.into()), std::fs::canonicalize);
    let directory = directory.map_err(|error| StoreError::Failed(error.to_string()))?;
    let path = path.file_name().map_or_else(|| path.to_owned(), |name| directory.join(name));
    let mut connection = Connection::open_with_flags(path, flags)?;
    // auto_vacuum counts only before the first table; FULL makes each commit survive a power cut.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA busy_timeout = 5000;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -512;
         PRAGMA journal_size_limit = 16777216;",
    )?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let number = |pragma: &str, connection: &Connection| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0))
    };
    let application = number("application_id", connection)?;
    let version = usize::try_from(number("user_version", connection)?).unwrap_or(usize::MAX);
    if application != APPLICATION_ID && (application, version) != (0, 0) {
        return Err(StoreError::Damaged { table: "database", reason: "it is another program's".to_owned() });
    }
    if version > MIGRATIONS.len() {
        let reason = format!("its version is {version}, this program knows {}", MIGRATIONS.len());
        return Err(StoreError::Damaged { table: "database", reason });
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};",
            at + 1
        ))?;
        transaction.commit()?;
    }
    Ok(())
}
