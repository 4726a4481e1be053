//! The audit log: each entry holds the digest of the one before, so that none can be changed or taken out unseen.

use airlift_bundles::ids::{Sha256Digest, Timestamp};
use rusqlite::{Connection, Result, Row, params};

use super::{all, execute, one, parsed, parsed_option};
use crate::api::types::AuditEntry;

/// Appends an entry.
pub fn append(
    connection: &Connection,
    at: Timestamp,
    actor: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<()> {
    let last = one(connection, &format!("{SELECT} ORDER BY seq DESC LIMIT 1"), [], read)?;
    let mut entry = AuditEntry {
        seq: last.as_ref().map_or(1, |last| last.seq + 1),
        at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
        prev_sha256: last.map(|last| last.sha256),
        sha256: Sha256Digest::from_bytes([0; 32]),
    };
    entry.sha256 = digest(&entry);
    let sql = "INSERT INTO audit (seq, at, actor, action, subject, detail, prev_sha256, sha256)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let parameters = params![
        entry.seq,
        entry.at.unix_s(),
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail,
        entry.prev_sha256.map(|digest| digest.to_string()),
        entry.sha256.to_string()
    ];
    execute(connection, sql, parameters).map(drop)
}

const SELECT: &str = "SELECT seq, at, actor, action, subject, detail, prev_sha256, sha256 FROM audit";

fn read(row: &Row<'_>) -> Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.get(0)?,
        at: Timestamp::from_unix_s(row.get(1)?),
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        detail: row.get(5)?,
        prev_sha256: parsed_option(row, 6)?,
        sha256: parsed(row, 7)?,
    })
}

/// Entries after number `after`, ascending.
pub fn list(connection: &Connection, after: u64, limit: u32) -> Result<Vec<AuditEntry>> {
    all(connection, &format!("{SELECT} WHERE seq > ?1 ORDER BY seq LIMIT ?2"), params![after, limit], read)
}

/// The digest of an entry: SHA-256 over the JSON array of everything but the digest itself.
#[must_use]
pub fn digest(entry: &AuditEntry) -> Sha256Digest {
    let AuditEntry { seq, at, actor, action, subject, detail, prev_sha256, .. } = entry;
    let all = (seq, at, actor, action, subject, detail, prev_sha256);
    Sha256Digest::of(&serde_json::to_vec(&all).expect("text and numbers serialise without failure"))
}

/// Whether every entry has its own digest and names the one before it.
#[must_use]
pub fn is_intact(entries: &[AuditEntry]) -> bool {
    let hangs =
        |pair: &[AuditEntry]| pair[1].prev_sha256 == Some(pair[0].sha256) && pair[1].seq == pair[0].seq + 1;
    entries.iter().all(|entry| digest(entry) == entry.sha256) && entries.windows(2).all(hangs)
}
