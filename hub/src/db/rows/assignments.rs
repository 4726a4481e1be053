//! What sites should run, the assignments that say so, and what sites returned.

use std::collections::BTreeMap;

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::ids::{AppName, Counter, Sha256Digest, SiteId};
use rusqlite::{Connection, Result, params};

use super::{all, execute, first, json, one, parsed, to_json};

/// One signed assignment as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Its place among the site's assignments.
    pub counter: Counter,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The signed bytes.
    pub envelope: Vec<u8>,
}

/// How many of each site are kept.
const KEPT: u32 = 8;

/// What a site should run, by app.
pub fn desired(connection: &Connection, site: &SiteId) -> Result<BTreeMap<AppName, DesiredApp>> {
    let sql = "SELECT d.app, d.release, r.epoch, r.seq, d.parameters, d.overlays, d.secrets, d.retry
               FROM desired d JOIN release r ON r.sha256 = d.release WHERE d.site = ?1";
    let rows = all(connection, sql, [site.as_str()], |row| {
        Ok(DesiredApp {
            app: parsed(row, 0)?,
            release: parsed(row, 1)?,
            epoch: row.get(2)?,
            seq: row.get(3)?,
            parameters: json(row, 4)?,
            overlays: json(row, 5)?,
            secrets: json(row, 6)?,
            retry: row.get(7)?,
        })
    })?;
    Ok(rows.into_iter().map(|desired| (desired.app.clone(), desired)).collect())
}

/// Sets what a site should run of an app.
pub fn set_desired(connection: &Connection, site: &SiteId, desired: &DesiredApp) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO desired (site, app, release, parameters, overlays, secrets, retry)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let parameters = params![
        site.as_str(),
        desired.app.as_str(),
        desired.release.to_string(),
        to_json(&desired.parameters),
        to_json(&desired.overlays),
        to_json(&desired.secrets),
        desired.retry
    ];
    execute(connection, sql, parameters)?;
    let sql = "DELETE FROM retirement WHERE site = ?1 AND app = ?2";
    execute(connection, sql, [site.as_str(), desired.app.as_str()]).map(drop)
}

/// The apps that were told to leave a site, ascending.
pub fn retirements(connection: &Connection, site: &SiteId) -> Result<Vec<AppName>> {
    all(connection, "SELECT app FROM retirement WHERE site = ?1 ORDER BY app", [site.as_str()], |row| {
        parsed(row, 0)
    })
}

/// Tells an app to leave a site.
pub fn retire(connection: &Connection, site: &SiteId, app: &AppName) -> Result<()> {
    let key = [site.as_str(), app.as_str()];
    execute(connection, "DELETE FROM desired WHERE site = ?1 AND app = ?2", key)?;
    execute(connection, "INSERT OR IGNORE INTO retirement (site, app) VALUES (?1, ?2)", key).map(drop)
}

/// Adds an assignment that is not published yet, and forgets the oldest of the site.
pub fn add(connection: &Connection, site: &SiteId, assignment: &AssignmentRow) -> Result<()> {
    let sql = "INSERT INTO assignment (site, epoch, seq, sha256, envelope, published)
               VALUES (?1, ?2, ?3, ?4, ?5, 0)";
    let Counter { epoch, seq } = assignment.counter;
    let sha256 = assignment.sha256.to_string();
    execute(connection, sql, params![site.as_str(), epoch, seq, sha256, assignment.envelope])?;
    let sql = "DELETE FROM assignment WHERE site = ?1 AND (epoch, seq) NOT IN
               (SELECT epoch, seq FROM assignment WHERE site = ?1 ORDER BY epoch DESC, seq DESC LIMIT ?2)";
    execute(connection, sql, params![site.as_str(), KEPT]).map(drop)
}

/// The assignment in force.
pub fn newest(connection: &Connection, site: &SiteId) -> Result<Option<AssignmentRow>> {
    let sql = "SELECT epoch, seq, sha256, envelope FROM assignment WHERE site = ?1
               ORDER BY epoch DESC, seq DESC LIMIT 1";
    one(connection, sql, [site.as_str()], |row| {
        let counter = Counter { epoch: row.get(0)?, seq: row.get(1)? };
        Ok(AssignmentRow { counter, sha256: parsed(row, 2)?, envelope: row.get(3)? })
    })
}

/// Sites whose newest assignment is not published yet.
pub fn unpublished(connection: &Connection) -> Result<Vec<SiteId>> {
    all(connection, "SELECT DISTINCT site FROM assignment WHERE published = 0", [], |row| parsed(row, 0))
}

/// Records that everything up to `counter` is published or overtaken.
pub fn mark_published(connection: &Connection, site: &SiteId, counter: Counter) -> Result<()> {
    let sql = "UPDATE assignment SET published = 1
               WHERE site = ?1 AND published = 0 AND (epoch, seq) <= (?2, ?3)";
    execute(connection, sql, params![site.as_str(), counter.epoch, counter.seq]).map(drop)
}

/// Records that a site's newest assignment has to be published again.
pub fn mark_unpublished(connection: &Connection, site: &SiteId) -> Result<()> {
    let sql = "UPDATE assignment SET published = 0 WHERE site = ?1 AND (epoch, seq) =
               (SELECT epoch, seq FROM assignment WHERE site = ?1 ORDER BY epoch DESC, seq DESC LIMIT 1)";
    execute(connection, sql, [site.as_str()]).map(drop)
}

/// A document that this site may have: an assignment of its own, or a release that it is assigned.
pub fn document_for_site(
    connection: &Connection,
    site: &SiteId,
    sha256: &Sha256Digest,
) -> Result<Option<Vec<u8>>> {
    let sha256 = sha256.to_string();
    let key = [site.as_str(), &sha256];
    let own = "SELECT envelope FROM assignment WHERE site = ?1 AND sha256 = ?2";
    if let Some(envelope) = first(connection, own, key)? {
        return Ok(Some(envelope));
    }
    let release = "SELECT r.envelope FROM release r JOIN desired d ON d.release = r.sha256
                   WHERE d.site = ?1 AND r.sha256 = ?2";
    first(connection, release, key)
}

/// A newer assignment than this hub knows, as a site returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedRow {
    /// The site.
    pub site: SiteId,
    /// The assignment's number.
    pub counter: Counter,
    /// The assignment, where a stick brought it.
    pub envelope: Option<Vec<u8>>,
}

/// Records a returned assignment, unless a greater one is recorded; one that brings its bytes wins over an equal.
/// Says whether it was news.
pub fn put_returned(connection: &Connection, returned: &ReturnedRow) -> Result<bool> {
    let sql = "INSERT INTO returned (site, epoch, seq, envelope) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (site) DO UPDATE SET epoch = ?2, seq = ?3, envelope = ?4
               WHERE (epoch, seq) < (?2, ?3) OR ((epoch, seq) = (?2, ?3) AND ?4 IS NOT NULL)";
    let Counter { epoch, seq } = returned.counter;
    Ok(execute(connection, sql, params![returned.site.as_str(), epoch, seq, returned.envelope])? > 0)
}

/// Everything returned, by site.
pub fn returned(connection: &Connection) -> Result<Vec<ReturnedRow>> {
    all(connection, "SELECT site, epoch, seq, envelope FROM returned ORDER BY site", [], |row| {
        let counter = Counter { epoch: row.get(1)?, seq: row.get(2)? };
        Ok(ReturnedRow { site: parsed(row, 0)?, counter, envelope: row.get(3)? })
    })
}

/// Forgets what was returned, once it is adopted.
pub fn clear_returned(connection: &Connection) -> Result<()> {
    execute(connection, "DELETE FROM returned", []).map(drop)
}

/// Forgets what was returned of the director's epochs before this one.
pub fn clear_returned_below(connection: &Connection, epoch: u64) -> Result<()> {
    execute(connection, "DELETE FROM returned WHERE epoch < ?1", [epoch]).map(drop)
}
