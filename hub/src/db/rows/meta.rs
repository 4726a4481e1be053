//! What there is one of: the fleet, the hub's life, whether it must be reconciled.

use airlift_bundles::ids::{FleetId, RandomId};
use rusqlite::{Connection, Result};

use super::{execute, first, one, parsed};

fn put(connection: &Connection, key: &str, value: &str) -> Result<()> {
    execute(connection, "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [key, value]).map(drop)
}

/// Stores who this hub is.
pub fn put_identity(connection: &Connection, fleet: &FleetId, incarnation: &RandomId) -> Result<()> {
    put(connection, "fleet_id", fleet.as_str())?;
    put(connection, "hub_incarnation", incarnation.as_str())
}

/// Who this hub is; `None` before it was initialised.
pub fn identity(connection: &Connection) -> Result<Option<(FleetId, RandomId)>> {
    let value = |key: &str| "SELECT value FROM meta WHERE key = '".to_owned() + key + "'";
    let fleet = one(connection, &value("fleet_id"), [], |row| parsed(row, 0))?;
    let incarnation = one(connection, &value("hub_incarnation"), [], |row| parsed(row, 0))?;
    Ok(fleet.zip(incarnation))
}

/// Whether sites returned newer assignments than this hub signed, or this is a backup's database.
pub fn must_reconcile(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM returned) OR EXISTS (SELECT 1 FROM meta WHERE key = 'restored')";
    Ok(first(connection, sql, [])?.unwrap_or(false))
}

/// Marks the database as a backup's.
pub fn put_restored(connection: &Connection) -> Result<()> {
    put(connection, "restored", "")
}

/// It is reconciled.
pub fn clear_restored(connection: &Connection) -> Result<()> {
    execute(connection, "DELETE FROM meta WHERE key = 'restored'", []).map(drop)
}
