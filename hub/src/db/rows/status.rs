//! What sites say of themselves, and how far their outboxes are held.

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::document::status::{AppState, SiteStatus};
use airlift_bundles::ids::{AppName, RandomId, Sha256Digest, SiteId, Timestamp, Version};
use rusqlite::{Connection, Result, params};

use super::{all, execute, first, json, one, parsed, parsed_option, to_json, word};

/// The newest status of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// The outbox that it came from.
    pub outbox_epoch: RandomId,
    /// Its number there.
    pub seq: u64,
    /// Boots before its own, newest first.
    pub boots: Vec<RandomId>,
    /// What the site says.
    pub document: SiteStatus,
    /// When it came.
    pub received_at: Timestamp,
}

/// What decides whether a status is newer than the one that is held, without what the site says in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusHead {
    /// The outbox that it came from.
    pub outbox_epoch: RandomId,
    /// Its number there.
    pub seq: u64,
    /// Its boot.
    pub boot: RandomId,
    /// Boots before that, newest first.
    pub boots: Vec<RandomId>,
}

/// One app of a site as it last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteAppRow {
    /// Its state.
    pub state: AppState,
    /// The version that runs.
    pub version: Option<Version>,
    /// The number of the release that runs.
    pub seq: Option<u64>,
    /// The generation that runs or is gone to.
    pub generation: Option<Sha256Digest>,
    /// Why.
    pub reason: Option<Code>,
}

/// The newest status of a site.
pub fn find(connection: &Connection, site: &SiteId) -> Result<Option<StatusRow>> {
    let sql = "SELECT outbox_epoch, seq, boots, document, received_at FROM status WHERE site = ?1";
    one(connection, sql, [site.as_str()], |row| {
        Ok(StatusRow {
            outbox_epoch: parsed(row, 0)?,
            seq: row.get(1)?,
            boots: json(row, 2)?,
            document: json(row, 3)?,
            received_at: Timestamp::from_unix_s(row.get(4)?),
        })
    })
}

/// The same without reading its document: most of a status costs nothing to those who only ask whether it is old.
pub fn head(connection: &Connection, site: &SiteId) -> Result<Option<StatusHead>> {
    let sql = "SELECT outbox_epoch, seq, boot, boots FROM status WHERE site = ?1";
    one(connection, sql, [site.as_str()], |row| {
        Ok(StatusHead {
            outbox_epoch: parsed(row, 0)?,
            seq: row.get(1)?,
            boot: parsed(row, 2)?,
            boots: json(row, 3)?,
        })
    })
}

/// Stores the newest status of a site, and what it says of each app.
pub fn put(connection: &Connection, site: &SiteId, status: &StatusRow) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO status (site, outbox_epoch, seq, boot, boots, document, received_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let parameters = params![
        site.as_str(),
        status.outbox_epoch.as_str(),
        status.seq,
        status.document.boot.as_str(),
        to_json(&status.boots),
        to_json(&status.document),
        status.received_at.unix_s()
    ];
    execute(connection, sql, parameters)?;
    execute(connection, "DELETE FROM site_app WHERE site = ?1", [site.as_str()])?;
    for (app, says) in &status.document.apps {
        let sql = "INSERT INTO site_app (site, app, state, version, seq, generation, reason)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let parameters = params![
            site.as_str(),
            app.as_str(),
            says.state.word(),
            says.running.as_ref().map(|release| release.version.as_str()),
            says.running.as_ref().map(|release| release.seq),
            says.generation.map(|digest| digest.to_string()),
            says.reason.map(Code::id)
        ];
        execute(connection, sql, parameters)?;
    }
    Ok(())
}

/// The apps of a site as it last said.
pub fn apps(connection: &Connection, site: &SiteId) -> Result<BTreeMap<AppName, SiteAppRow>> {
    let sql = "SELECT app, state, version, seq, generation, reason FROM site_app WHERE site = ?1";
    let rows = all(connection, sql, [site.as_str()], |row| {
        let app = SiteAppRow {
            state: word(row, 1)?,
            version: parsed_option(row, 2)?,
            seq: row.get(3)?,
            generation: parsed_option(row, 4)?,
            reason: parsed_option(row, 5)?,
        };
        Ok((parsed(row, 0)?, app))
    })?;
    Ok(rows.into_iter().collect())
}

/// How far an outbox of a site is held.
pub fn upto(connection: &Connection, site: &SiteId, outbox_epoch: &RandomId) -> Result<u64> {
    let sql = "SELECT upto FROM ingest WHERE site = ?1 AND outbox_epoch = ?2";
    Ok(first(connection, sql, [site.as_str(), outbox_epoch.as_str()])?.unwrap_or(0))
}

/// Records how far an outbox of a site is held; it never goes back.
pub fn set_upto(connection: &Connection, site: &SiteId, outbox_epoch: &RandomId, upto: u64) -> Result<()> {
    let sql = "INSERT INTO ingest (site, outbox_epoch, upto) VALUES (?1, ?2, ?3)
               ON CONFLICT (site, outbox_epoch) DO UPDATE SET upto = max(upto, ?3)";
    execute(connection, sql, params![site.as_str(), outbox_epoch.as_str(), upto]).map(drop)
}
