//! The self-check at the start, backups, and what follows when the database is damaged.
//!
//! A process that ended without closing its database left a write-ahead log, and one to which SQLite told of damage
//! left a note: then SQLite checks the whole database first, for some seconds at most. A database that is damaged is
//! kept beside, whole, and the backup takes its place, with the numbers of [`Floors`] raised to what was accepted
//! since. A backup that is behind in roots or enrolment is not taken: nobody could say any more whom this site believes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use tracing::{error, info, warn};

use super::DATABASE;
use super::floors::{Floor, Floors, Height, sync_directory};
use super::open::{open, open_as_it_is};
use crate::ports::store::StoreError;

const BACKUP: &str = "agent.db.backup";
/// A backup on its way into the database's place; whole as soon as it has this name.
const NEXT: &str = "agent.db.next";
/// There while somebody has reason to think that the database is damaged.
const SUSPECT: &str = "agent.db.suspect";
/// The check of 100 MB takes about this long on a Raspberry Pi; what takes longer is not waited for.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// The database came back from its backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where the damaged one is.
    pub aside: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// Opens the database of a state directory, from its backup where it is damaged.
pub(super) fn open_sound(
    directory: &Path,
    floors: &Floors,
) -> Result<(Connection, Option<Restored>), StoreError> {
    finish_restoring(directory).map_err(|fault| failed(directory, &fault))?;
    match open_checked(directory, floors) {
        Err(StoreError::Corrupt(reason)) => {
            error!(reason, "the database is damaged");
            let restored = restore(directory, floors, reason)?;
            warn!(aside = %restored.aside.display(), "the backup took the damaged database's place");
            Ok((open_checked(directory, floors)?, Some(restored)))
        }
        outcome => Ok((outcome?, None)),
    }
}

fn failed(directory: &Path, fault: &std::io::Error) -> StoreError {
    StoreError::Failed(format!("{}: {fault}", directory.display()))
}

fn open_checked(directory: &Path, floors: &Floors) -> Result<Connection, StoreError> {
    let path = directory.join(DATABASE);
    let is_enrolled = path.exists() && look(directory, &path)?;
    if !is_enrolled && floors.heights().contains_key(&Floor::Assignment) {
        let reason = "it is empty or gone, and this site has accepted an assignment";
        return Err(StoreError::Corrupt(reason.to_owned()));
    }
    open(&path)
}

/// Looks at the database without changing a byte of it, since it may be damaged; answers whether a site is in it.
///
/// Only one that was cut off while it was made has a rollback journal, and of that nothing can be read before SQLite has
/// undone what the journal says.
fn look(directory: &Path, path: &Path) -> Result<bool, StoreError> {
    let suspect = directory.join(SUSPECT);
    let was_cut_off = fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0);
    let is_half_made = path.with_extension("db-journal").exists();
    let access =
        if is_half_made { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let connection = open_as_it_is(path, access)?;
    if was_cut_off || suspect.exists() {
        check(&connection)?;
        remove(&suspect).map_err(|fault| failed(directory, &fault))?;
    }
    let exists = |sql: &str| connection.query_row(&format!("SELECT EXISTS ({sql})"), [], |row| row.get(0));
    Ok(exists("SELECT 1 FROM sqlite_schema WHERE name = 'meta'")? && exists("SELECT 1 FROM meta")?)
}

/// Has the next start check the database, however this process ends.
pub(super) fn suspect(directory: &Path) {
    if let Err(fault) = File::create(directory.join(SUSPECT)).and_then(|file| file.sync_all()) {
        warn!(%fault, "the next start will not know that the database may be damaged");
    }
}

/// Damaged databases that were put aside.
#[must_use]
pub fn put_aside(directory: &Path) -> Vec<PathBuf> {
    let paths = (1..).map(|number| directory.join(format!("{DATABASE}.damaged-{number}")));
    paths.take_while(|path| path.exists()).collect()
}

/// SQLite's own check of every page; one that takes too long is given up, and says nothing.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let interrupt = connection.get_interrupt_handle();
    let (done, ended) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended
            .recv_timeout(CHECK_MAX)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            interrupt.interrupt();
        }
    });
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    // It only waits and interrupts.
    let _ = watch.join();
    match said {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => Err(StoreError::Corrupt(said)),
        Err(fault) if fault.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            info!("the database is too large to be checked at a start");
            Ok(())
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whether a backup was ever made.
pub(super) fn has_backup(directory: &Path) -> bool {
    directory.join(BACKUP).exists()
}

/// Copies what is committed to the backup's file, which is whole at any time.
pub(super) fn back_up(connection: &Connection, directory: &Path) -> Result<(), StoreError> {
    let (path, beside) = (directory.join(BACKUP), directory.join("agent.db.backup-new"));
    let io = |fault: std::io::Error| failed(directory, &fault);
    remove(&beside).map_err(io)?;
    connection.execute("VACUUM INTO ?", params![beside.to_string_lossy()])?;
    File::open(&beside).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&beside, &path).map_err(io)?;
    sync_directory(&path).map_err(io)
}

/// Puts the damaged database aside and the backup in its place; a kill at any point leaves one of the two there.
fn restore(directory: &Path, floors: &Floors, reason: String) -> Result<Restored, StoreError> {
    let io = |fault: std::io::Error| failed(directory, &fault);
    let copy = directory.join("agent.db.copy");
    remove(&copy).map_err(io)?;
    let unusable =
        |why: String| StoreError::Corrupt(format!("{reason}; and there is no backup to go back to: {why}"));
    fs::copy(directory.join(BACKUP), &copy).map_err(|fault| unusable(fault.to_string()))?;
    raise(&copy, floors).map_err(|fault| unusable(fault.to_string()))?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
    let aside = directory.join(format!("{DATABASE}.damaged-{}", put_aside(directory).len() + 1));
    // The log first: the database's own name is what counts as put aside.
    for ending in ["-wal", ""] {
        let (from, to) =
            (directory.join(format!("{DATABASE}{ending}")), format!("{}{ending}", aside.display()));
        // Whatever of it there is.
        if from.exists() {
            remove(Path::new(&to)).map_err(io)?;
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).map_err(io)?;
        }
    }
    sync_directory(&copy).map_err(io)?;
    fs::rename(&copy, directory.join(NEXT)).map_err(io)?;
    sync_directory(&copy).map_err(io)?;
    finish_restoring(directory).map_err(io)?;
    Ok(Restored { aside, reason })
}

/// The log goes before the database that it belongs to: it must not be taken for the new one's.
fn finish_restoring(directory: &Path) -> std::io::Result<()> {
    let next = directory.join(NEXT);
    if !next.exists() {
        return Ok(());
    }
    for ending in ["-wal", "-shm", ".suspect"] {
        remove(&directory.join(format!("{DATABASE}{ending}")))?;
    }
    fs::rename(&next, directory.join(DATABASE))?;
    sync_directory(&next)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

/// Checks a backup, and raises its counters to what was accepted since.
fn raise(path: &Path, floors: &Floors) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    check(&connection)?;
    let transaction = connection.transaction()?;
    for (floor, height) in floors.heights() {
        let number = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
        let behind = match floor {
            Floor::Enrolment => number("SELECT max(incarnation) FROM meta")? < Some(height.1),
            Floor::Root => number("SELECT max(version) FROM root")? < Some(height.1),
            Floor::Assignment => {
                // That very assignment is welcome again: it is not in the backup.
                raise_counter(&transaction, "assignment", "", *height, height.1.saturating_sub(1))?;
                false
            }
            Floor::App(app) => {
                raise_counter(&transaction, "floor", app, *height, height.1)?;
                false
            }
        };
        if behind {
            let reason = format!("the backup is older than the {floor:?} of {}", height.1);
            return Err(StoreError::Corrupt(reason));
        }
    }
    transaction.commit()?;
    connection.close().map_err(|(_, fault)| fault)?;
    Ok(())
}

/// Raises a counter that is below `height` to `seq` of its epoch.
fn raise_counter(
    connection: &Connection,
    kind: &str,
    name: &str,
    height: Height,
    seq: u64,
) -> Result<(), StoreError> {
    let (epoch, number) = height;
    connection.execute(
        "INSERT INTO counter VALUES (?1, ?2, ?3, ?4) ON CONFLICT (kind, name) DO UPDATE SET epoch = ?3, seq = ?4
         WHERE (epoch, seq) < (?3, ?5)",
        params![kind, name, epoch, seq, number],
    )?;
    Ok(())
}
