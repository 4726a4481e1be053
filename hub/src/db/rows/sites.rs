//! Sites, their keys and labels.

use std::collections::BTreeMap;

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{Counter, KeyId, RandomId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::keys::PublicKey;
use rusqlite::{Connection, Result, Row, params};

use super::{all, execute, first, one, parsed, parsed_option, to_word, word};
use crate::api::types::Standing;
use crate::clock::Now;

/// One site as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// Its name.
    pub site: SiteId,
    /// Which enrolment.
    pub incarnation: u64,
    /// How it is reached.
    pub contact: ContactClass,
    /// Where it stands.
    pub standing: Standing,
    /// The greatest number that any of its assignments may have had.
    pub last: Counter,
    /// When it was last heard of.
    pub seen: Option<Seen>,
}

/// When a site was heard of, on both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// By the wall clock.
    pub at: Timestamp,
    /// By the boot clock.
    pub mono_ms: u64,
    /// Of this boot.
    pub boot: RandomId,
}

/// A key of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKeyRow {
    /// The public half.
    pub key: PublicKey,
    /// Of which site.
    pub site: SiteId,
    /// For which enrolment.
    pub incarnation: u64,
    /// The chain of receipts that was made with it.
    pub chain_id: RandomId,
    /// SHA-256 of its TLS key's SubjectPublicKeyInfo.
    pub tls_sha256: Sha256Digest,
    /// Whether it is refused.
    pub revoked: bool,
}

const COLUMNS: &str =
    "site, incarnation, contact, standing, last_epoch, last_seq, last_seen, seen_mono_ms, seen_boot";

fn read(row: &Row<'_>) -> Result<SiteRow> {
    let (at, mono_ms): (Option<i64>, Option<u64>) = (row.get(6)?, row.get(7)?);
    let seen = match (at, mono_ms, parsed_option(row, 8)?) {
        (Some(at), Some(mono_ms), Some(boot)) => Some(Seen { at: Timestamp::from_unix_s(at), mono_ms, boot }),
        _ => None,
    };
    Ok(SiteRow {
        site: parsed(row, 0)?,
        incarnation: row.get(1)?,
        contact: word(row, 2)?,
        standing: word(row, 3)?,
        last: Counter { epoch: row.get(4)?, seq: row.get(5)? },
        seen,
    })
}

/// Adds a site, or replaces what is held of it but its last contact.
pub fn put(connection: &Connection, site: &SiteRow) -> Result<()> {
    let sql = "INSERT INTO site (site, incarnation, contact, standing, last_epoch, last_seq)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (site) DO UPDATE SET incarnation = ?2, contact = ?3, standing = ?4,
               last_epoch = ?5, last_seq = ?6";
    let parameters = params![
        site.site.as_str(),
        site.incarnation,
        to_word(&site.contact),
        to_word(&site.standing),
        site.last.epoch,
        site.last.seq
    ];
    execute(connection, sql, parameters).map(drop)
}

/// The site of this name.
pub fn find(connection: &Connection, site: &SiteId) -> Result<Option<SiteRow>> {
    one(connection, &format!("SELECT {COLUMNS} FROM site WHERE site = ?1"), [site.as_str()], read)
}

/// Sites by name, those after `after` first.
pub fn list(connection: &Connection, after: &str, limit: u32) -> Result<Vec<SiteRow>> {
    let sql = format!("SELECT {COLUMNS} FROM site WHERE site > ?1 ORDER BY site LIMIT ?2");
    all(connection, &sql, params![after, limit], read)
}

/// Sets where a site stands.
pub fn set_standing(connection: &Connection, site: &SiteId, standing: Standing) -> Result<()> {
    let sql = "UPDATE site SET standing = ?2 WHERE site = ?1";
    execute(connection, sql, params![site.as_str(), to_word(&standing)]).map(drop)
}

/// Records that a number was used for an assignment of the site.
pub fn set_last(connection: &Connection, site: &SiteId, last: Counter) -> Result<()> {
    let sql = "UPDATE site SET last_epoch = ?2, last_seq = ?3 WHERE site = ?1";
    execute(connection, sql, params![site.as_str(), last.epoch, last.seq]).map(drop)
}

/// Records that the site was heard of now.
pub fn set_seen(connection: &Connection, site: &SiteId, now: &Now) -> Result<()> {
    let sql = "UPDATE site SET last_seen = ?2, seen_mono_ms = ?3, seen_boot = ?4 WHERE site = ?1";
    let parameters = params![site.as_str(), now.time().unix_s(), now.mono_ms, now.boot.as_str()];
    execute(connection, sql, parameters).map(drop)
}

/// Records a presence message; false where a newer one of the same boot was recorded before (a late will).
pub fn set_presence(connection: &Connection, site: &SiteId, boot: &RandomId, conn_seq: u64) -> Result<bool> {
    let sql = "UPDATE site SET conn_boot = ?2, conn_seq = ?3
               WHERE site = ?1 AND (conn_boot IS NOT ?2 OR conn_seq <= ?3)";
    Ok(execute(connection, sql, params![site.as_str(), boot.as_str(), conn_seq])? > 0)
}

/// Adds a key.
pub fn add_key(connection: &Connection, key: &SiteKeyRow) -> Result<()> {
    let sql = "INSERT INTO site_key (keyid, site, incarnation, public_key, chain_id, tls_sha256, revoked)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let keyid = key.key.key_id();
    let parameters = params![
        keyid.as_str(),
        key.site.as_str(),
        key.incarnation,
        airlift_bundles::ids::encode_hex(key.key.as_bytes()),
        key.chain_id.as_str(),
        key.tls_sha256.to_string(),
        key.revoked
    ];
    execute(connection, sql, parameters).map(drop)
}

const KEY_COLUMNS: &str = "public_key, site, incarnation, chain_id, tls_sha256, revoked";

fn read_key(row: &Row<'_>) -> Result<SiteKeyRow> {
    let hex: String = row.get(0)?;
    let key = PublicKey::from_hex(&hex).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(SiteKeyRow {
        key,
        site: parsed(row, 1)?,
        incarnation: row.get(2)?,
        chain_id: parsed(row, 3)?,
        tls_sha256: parsed(row, 4)?,
        revoked: row.get(5)?,
    })
}

/// The keys of a site, newest enrolment first.
pub fn keys(connection: &Connection, site: &SiteId) -> Result<Vec<SiteKeyRow>> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM site_key WHERE site = ?1 ORDER BY incarnation DESC");
    all(connection, &sql, [site.as_str()], read_key)
}

/// The key of this id.
pub fn key(connection: &Connection, keyid: &KeyId) -> Result<Option<SiteKeyRow>> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM site_key WHERE keyid = ?1");
    one(connection, &sql, [keyid.as_str()], read_key)
}

/// The site whose certificate has this TLS key, where that key is not refused.
pub fn site_by_tls_key(connection: &Connection, tls_sha256: &Sha256Digest) -> Result<Option<SiteId>> {
    let sql = "SELECT k.site FROM site_key k JOIN site s ON s.site = k.site
               WHERE k.tls_sha256 = ?1 AND k.revoked = 0 AND s.standing != 'revoked'";
    one(connection, sql, [tls_sha256.to_string()], |row| parsed(row, 0))
}

/// Refuses all keys of a site from now on.
pub fn revoke_keys(connection: &Connection, site: &SiteId) -> Result<()> {
    execute(connection, "UPDATE site_key SET revoked = 1 WHERE site = ?1", [site.as_str()]).map(drop)
}

/// The labels of a site.
pub fn labels(connection: &Connection, site: &SiteId) -> Result<BTreeMap<String, String>> {
    let rows = all(connection, "SELECT key, value FROM label WHERE site = ?1", [site.as_str()], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.into_iter().collect())
}

/// Sets a label.
pub fn set_label(connection: &Connection, site: &SiteId, key: &str, value: &str) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO label (site, key, value) VALUES (?1, ?2, ?3)";
    execute(connection, sql, [site.as_str(), key, value]).map(drop)
}

/// Takes a label away.
pub fn remove_label(connection: &Connection, site: &SiteId, key: &str) -> Result<()> {
    execute(connection, "DELETE FROM label WHERE site = ?1 AND key = ?2", [site.as_str(), key]).map(drop)
}

/// How many sites there are that are not revoked.
pub fn count(connection: &Connection) -> Result<u64> {
    Ok(first(connection, "SELECT count(*) FROM site WHERE standing != 'revoked'", [])?.unwrap_or(0))
}
