//! Receipts and the chains that they form.

use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::ReceiptMark;
use airlift_bundles::document::receipt::{Outcome, Receipt};
use airlift_bundles::ids::{AppName, KeyId, RandomId, Sha256Digest, SiteId, Timestamp, Version};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::{all, execute, parsed, parsed_option, to_word, word};

/// A chain as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRow {
    /// The chain.
    pub chain_id: RandomId,
    /// Every receipt up to this number is held.
    pub head: u64,
    /// Digest of the receipt at the head.
    pub head_sha256: Option<Sha256Digest>,
    /// The greatest number that is held.
    pub highest: u64,
    /// Where two receipts contradicted each other first.
    pub fork: Option<u64>,
}

impl ChainRow {
    /// How far the hub can say that it holds the chain.
    #[must_use]
    pub fn mark(&self) -> Option<ReceiptMark> {
        let sha256 = self.head_sha256?;
        Some(ReceiptMark { chain_id: self.chain_id.clone(), upto: self.head, sha256 })
    }
}

/// A receipt as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Its place in the order in which the hub received them.
    pub id: u64,
    /// The site.
    pub site: SiteId,
    /// The chain.
    pub chain_id: RandomId,
    /// Its number in the chain.
    pub seq: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// Digest of the one before it.
    pub prev_sha256: Option<Sha256Digest>,
    /// Who signed it.
    pub keyid: KeyId,
    /// What happened.
    pub outcome: Outcome,
    /// The app.
    pub app: Option<AppName>,
    /// The release's version.
    pub version: Option<Version>,
    /// The release's number.
    pub release_seq: Option<u64>,
    /// Why.
    pub reason: Option<Code>,
    /// The site's time.
    pub known_time: Timestamp,
    /// The hub's time.
    pub received_at: Timestamp,
    /// `mqtt` or `media`.
    pub carrier: String,
    /// The signed bytes.
    pub envelope: Vec<u8>,
}

/// Where and how a receipt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Who signed it.
    pub keyid: &'a KeyId,
    /// `mqtt` or `media`.
    pub carrier: &'a str,
    /// The hub's time.
    pub at: Timestamp,
}

/// Stores a receipt; false where it is already held.
pub fn add(
    connection: &Connection,
    receipt: &Receipt,
    sha256: &Sha256Digest,
    envelope: &[u8],
    arrival: Arrival<'_>,
) -> Result<bool> {
    let sql = "INSERT OR IGNORE INTO receipt (site, chain_id, seq, sha256, prev_sha256, keyid, outcome, app,
               release_version, release_seq, reason, known_time, received_at, carrier, envelope)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    let parameters = params![
        receipt.site.as_str(),
        receipt.chain_id.as_str(),
        receipt.receipt_seq,
        sha256.to_string(),
        receipt.prev_sha256.map(|digest| digest.to_string()),
        arrival.keyid.as_str(),
        to_word(&receipt.outcome),
        receipt.app.as_ref().map(AppName::as_str),
        receipt.release.as_ref().map(|release| release.version.as_str()),
        receipt.release.as_ref().map(|release| release.seq),
        receipt.reason.map(Code::id),
        receipt.known_time.unix_s(),
        arrival.at.unix_s(),
        arrival.carrier,
        envelope
    ];
    Ok(execute(connection, sql, parameters)? == 1)
}

/// Digests and predecessors of what is held at one number of a chain: more than one where it forked.
pub fn at(
    connection: &Connection,
    site: &SiteId,
    chain_id: &RandomId,
    seq: u64,
) -> Result<Vec<(Sha256Digest, Option<Sha256Digest>)>> {
    let sql = "SELECT sha256, prev_sha256 FROM receipt WHERE site = ?1 AND chain_id = ?2 AND seq = ?3
               ORDER BY id";
    all(connection, sql, params![site.as_str(), chain_id.as_str(), seq], |row| {
        Ok((parsed(row, 0)?, parsed_option(row, 1)?))
    })
}

fn read_chain(row: &Row<'_>) -> Result<ChainRow> {
    Ok(ChainRow {
        chain_id: parsed(row, 1)?,
        head: row.get(2)?,
        head_sha256: parsed_option(row, 3)?,
        highest: row.get(4)?,
        fork: row.get(5)?,
    })
}

/// A chain of a site.
pub fn chain(connection: &Connection, site: &SiteId, chain_id: &RandomId) -> Result<Option<ChainRow>> {
    let sql = "SELECT site, chain_id, head, head_sha256, highest, fork FROM chain
               WHERE site = ?1 AND chain_id = ?2";
    connection.prepare_cached(sql)?.query_row([site.as_str(), chain_id.as_str()], read_chain).optional()
}

/// Chains of one site or of all, by site.
pub fn chains(connection: &Connection, site: Option<&SiteId>) -> Result<Vec<(SiteId, ChainRow)>> {
    let sql = "SELECT site, chain_id, head, head_sha256, highest, fork FROM chain
               WHERE ?1 IS NULL OR site = ?1 ORDER BY site, chain_id";
    all(connection, sql, [site.map(SiteId::as_str)], |row| Ok((parsed(row, 0)?, read_chain(row)?)))
}

/// Stores where a chain stands.
pub fn put_chain(connection: &Connection, site: &SiteId, chain: &ChainRow) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO chain (site, chain_id, head, head_sha256, highest, fork)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let head_sha256 = chain.head_sha256.map(|digest| digest.to_string());
    let parameters =
        params![site.as_str(), chain.chain_id.as_str(), chain.head, head_sha256, chain.highest, chain.fork];
    execute(connection, sql, parameters).map(drop)
}

/// The first missing number after the head and the last before the next that is held.
pub fn gap(connection: &Connection, site: &SiteId, chain: &ChainRow) -> Result<Option<(u64, u64)>> {
    let sql = "SELECT min(seq) FROM receipt WHERE site = ?1 AND chain_id = ?2 AND seq > ?3";
    let next: Option<u64> = connection
        .prepare_cached(sql)?
        .query_row(params![site.as_str(), chain.chain_id.as_str(), chain.head + 1], |row| row.get(0))?;
    Ok(next.filter(|_| chain.highest > chain.head).map(|next| (chain.head + 1, next - 1)))
}

/// Receipts, newest first, with ids below `before`.
pub fn list(
    connection: &Connection,
    site: Option<&SiteId>,
    app: Option<&AppName>,
    before: u64,
    limit: u32,
) -> Result<Vec<ReceiptRow>> {
    let sql = "SELECT id, site, chain_id, seq, sha256, prev_sha256, keyid, outcome, app, release_version,
               release_seq, reason, known_time, received_at, carrier, envelope FROM receipt
               WHERE (?1 IS NULL OR site = ?1) AND (?2 IS NULL OR app = ?2) AND id < ?3
               ORDER BY id DESC LIMIT ?4";
    let parameters = params![site.map(SiteId::as_str), app.map(AppName::as_str), before, limit];
    all(connection, sql, parameters, |row| {
        Ok(ReceiptRow {
            id: row.get(0)?,
            site: parsed(row, 1)?,
            chain_id: parsed(row, 2)?,
            seq: row.get(3)?,
            sha256: parsed(row, 4)?,
            prev_sha256: parsed_option(row, 5)?,
            keyid: parsed(row, 6)?,
            outcome: word(row, 7)?,
            app: parsed_option(row, 8)?,
            version: parsed_option(row, 9)?,
            release_seq: row.get(10)?,
            reason: parsed_option(row, 11)?,
            known_time: Timestamp::from_unix_s(row.get(12)?),
            received_at: Timestamp::from_unix_s(row.get(13)?),
            carrier: row.get(14)?,
            envelope: row.get(15)?,
        })
    })
}
