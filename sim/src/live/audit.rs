//! Compares what sites hold for acknowledged with what the hub has on its disk.

use std::path::Path;

use airlift_hub::db::rows::receipts;
use rusqlite::{Connection, OpenFlags};

use super::LiveError;
use super::field::Field;
use super::fleet::site_number;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Receipts in the hub's database.
    pub(super) receipts: u64,
    /// Receipts that the hub acknowledged and does not have.
    pub(super) acknowledged_lost: u64,
    /// Receipts that a site has made and the hub does not have.
    pub(super) missing: u64,
    /// Chains with a gap, a fork, or another head than the site's.
    pub(super) broken_chains: u64,
}

/// Looks into the hub's database, which nobody writes meanwhile.
pub(super) fn compare(database: &Path, field: &Field) -> Result<Found, LiveError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Opened for writing so that a log which a kill has left is read as well; nothing is written.
    let connection = Connection::open_with_flags(database, flags).map_err(LiveError::failed)?;
    let health: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(LiveError::failed)?;
    if health != "ok" {
        return Err(LiveError::Failed(format!("the hub's database is damaged: {health}")));
    }
    let chains = receipts::chains(&connection, None).map_err(LiveError::failed)?;
    let mut found = Found::default();
    let mut heads = vec![None; field.sites.len()];
    for (site, chain) in chains {
        let place = site_number(&site).and_then(|number| heads.get_mut(number as usize));
        if let Some(place) = place {
            *place = Some((count(&connection, site.as_str(), chain.chain_id.as_str())?, chain));
        }
    }
    for (seen, head) in field.sites.iter().zip(heads) {
        let Some(told) = &seen.chain else { continue };
        let held = head.as_ref().map_or(0, |(_, chain)| chain.head);
        found.acknowledged_lost += told.acked.saturating_sub(held);
        found.missing += told.last.saturating_sub(held);
        let Some((rows, chain)) = head else { continue };
        found.receipts += rows;
        let whole = chain.fork.is_none() && rows == chain.head && chain.highest == chain.head;
        let same = chain.head != told.last || chain.head_sha256 == told.head;
        if !whole || !same {
            found.broken_chains += 1;
        }
    }
    Ok(found)
}

fn count(connection: &Connection, site: &str, chain_id: &str) -> Result<u64, LiveError> {
    let sql = "SELECT count(*) FROM receipt WHERE site = ?1 AND chain_id = ?2";
    connection.query_row(sql, [site, chain_id], |row| row.get(0)).map_err(LiveError::failed)
}
