//! The chain of roots.

use airlift_bundles::ids::{Sha256Digest, Timestamp};
use rusqlite::{Connection, Result, params};

use super::{all, execute, first, parsed};

/// One root as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRow {
    /// Its version.
    pub version: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// When it was drafted.
    pub issued_at: Timestamp,
}

/// Adds the next root.
pub fn add(connection: &Connection, root: &RootRow, envelope: &[u8]) -> Result<()> {
    let sql = "INSERT INTO root (version, sha256, envelope, issued_at) VALUES (?1, ?2, ?3, ?4)";
    let sha256 = root.sha256.to_string();
    execute(connection, sql, params![root.version, sha256, envelope, root.issued_at.unix_s()]).map(drop)
}

/// All roots, ascending.
pub fn list(connection: &Connection) -> Result<Vec<RootRow>> {
    all(connection, "SELECT version, sha256, issued_at FROM root ORDER BY version", [], |row| {
        let issued_at = Timestamp::from_unix_s(row.get(2)?);
        Ok(RootRow { version: row.get(0)?, sha256: parsed(row, 1)?, issued_at })
    })
}

/// The envelope of one version.
pub fn envelope(connection: &Connection, version: u64) -> Result<Option<Vec<u8>>> {
    first(connection, "SELECT envelope FROM root WHERE version = ?1", [version])
}

/// The envelopes of all versions, ascending.
pub fn envelopes(connection: &Connection) -> Result<Vec<Vec<u8>>> {
    all(connection, "SELECT envelope FROM root ORDER BY version", [], |row| row.get(0))
}

/// The envelope of the newest.
pub fn newest(connection: &Connection) -> Result<Option<Vec<u8>>> {
    first(connection, "SELECT envelope FROM root ORDER BY version DESC LIMIT 1", [])
}
