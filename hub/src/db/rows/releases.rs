//! Releases, and the blobs that their bundles consist of.

use airlift_bundles::ids::{AppName, Counter, Sha256Digest, Timestamp, Version};
use rusqlite::{Connection, Result, Row, params};

use super::{all, execute, first, one, parsed};

/// One release as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// Its app.
    pub app: AppName,
    /// Its place among the app's releases.
    pub counter: Counter,
    /// Its version.
    pub version: Version,
    /// Digest of the bundle's `index.json`.
    pub bundle: Sha256Digest,
    /// The signed bytes.
    pub envelope: Vec<u8>,
    /// When it was published.
    pub published_at: Timestamp,
}

/// One blob of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseBlob {
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its size.
    pub size: u64,
}

const COLUMNS: &str = "sha256, app, epoch, seq, version, bundle, envelope, published_at";

fn read(row: &Row<'_>) -> Result<ReleaseRow> {
    Ok(ReleaseRow {
        sha256: parsed(row, 0)?,
        app: parsed(row, 1)?,
        counter: Counter { epoch: row.get(2)?, seq: row.get(3)? },
        version: parsed(row, 4)?,
        bundle: parsed(row, 5)?,
        envelope: row.get(6)?,
        published_at: Timestamp::from_unix_s(row.get(7)?),
    })
}

/// Adds a release with its blobs, in the order in which a site wants them.
pub fn add(connection: &Connection, release: &ReleaseRow, blobs: &[ReleaseBlob]) -> Result<()> {
    let sha256 = release.sha256.to_string();
    let sql = format!("INSERT INTO release ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let parameters = params![
        sha256,
        release.app.as_str(),
        release.counter.epoch,
        release.counter.seq,
        release.version.as_str(),
        release.bundle.to_string(),
        release.envelope,
        release.published_at.unix_s(),
    ];
    execute(connection, &sql, parameters)?;
    for (place, blob) in blobs.iter().enumerate() {
        let sql = "INSERT OR IGNORE INTO release_blob (release, sha256, size, place)
                   VALUES (?1, ?2, ?3, ?4)";
        execute(connection, sql, params![sha256, blob.sha256.to_string(), blob.size, place])?;
    }
    Ok(())
}

/// Replaces the signatures of a release.
pub fn set_envelope(connection: &Connection, sha256: &Sha256Digest, envelope: &[u8]) -> Result<()> {
    let sql = "UPDATE release SET envelope = ?2 WHERE sha256 = ?1";
    execute(connection, sql, params![sha256.to_string(), envelope]).map(drop)
}

/// The release of this digest.
pub fn find(connection: &Connection, sha256: &Sha256Digest) -> Result<Option<ReleaseRow>> {
    let sql = format!("SELECT {COLUMNS} FROM release WHERE sha256 = ?1");
    one(connection, &sql, [sha256.to_string()], read)
}

/// The release of this number.
pub fn at(connection: &Connection, app: &AppName, counter: Counter) -> Result<Option<ReleaseRow>> {
    let sql = format!("SELECT {COLUMNS} FROM release WHERE app = ?1 AND epoch = ?2 AND seq = ?3");
    one(connection, &sql, params![app.as_str(), counter.epoch, counter.seq], read)
}

/// The newest release of an app, or the newest of its version or number where one is given.
pub fn newest(
    connection: &Connection,
    app: &AppName,
    version: Option<&Version>,
    seq: Option<u64>,
) -> Result<Option<ReleaseRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM release WHERE app = ?1 AND (?2 IS NULL OR version = ?2)
         AND (?3 IS NULL OR seq = ?3) ORDER BY epoch DESC, seq DESC LIMIT 1"
    );
    one(connection, &sql, params![app.as_str(), version.map(Version::as_str), seq], read)
}

/// Releases, newest first within each app; `after` is the last row of the page before.
pub fn list(
    connection: &Connection,
    app: Option<&AppName>,
    after: Option<(&AppName, Counter)>,
    limit: u32,
) -> Result<Vec<ReleaseRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM release WHERE (?1 IS NULL OR app = ?1)
         AND (?2 IS NULL OR app > ?2 OR (app = ?2 AND (epoch, seq) < (?3, ?4)))
         ORDER BY app, epoch DESC, seq DESC LIMIT ?5"
    );
    let (after_app, after_counter) = after.map_or((None, None), |(app, counter)| (Some(app), Some(counter)));
    let parameters = params![
        app.map(AppName::as_str),
        after_app.map(AppName::as_str),
        after_counter.map(|counter| counter.epoch),
        after_counter.map(|counter| counter.seq),
        limit
    ];
    all(connection, &sql, parameters, read)
}

/// How many sites are assigned a release.
pub fn count_sites(connection: &Connection, sha256: &Sha256Digest) -> Result<u64> {
    let sql = "SELECT count(*) FROM desired WHERE release = ?1";
    Ok(first(connection, sql, [sha256.to_string()])?.unwrap_or(0))
}

/// The blobs of a release, in the order in which a site wants them.
pub fn blobs(connection: &Connection, sha256: &Sha256Digest) -> Result<Vec<ReleaseBlob>> {
    let sql = "SELECT sha256, size FROM release_blob WHERE release = ?1 ORDER BY place";
    all(connection, sql, [sha256.to_string()], |row| {
        Ok(ReleaseBlob { sha256: parsed(row, 0)?, size: row.get(1)? })
    })
}

/// A blob, where a release of an app that this site is assigned needs it: also an older one, to which the site goes
/// back and of which its disk may have lost something.
pub fn blob_for_site(
    connection: &Connection,
    site: &str,
    sha256: &Sha256Digest,
) -> Result<Option<ReleaseBlob>> {
    let sql = "SELECT b.size FROM release_blob b JOIN release r ON r.sha256 = b.release
               JOIN desired d ON d.app = r.app WHERE b.sha256 = ?2 AND d.site = ?1 LIMIT 1";
    one(connection, sql, [site, &sha256.to_string()], |row| {
        Ok(ReleaseBlob { sha256: *sha256, size: row.get(0)? })
    })
}

/// The size of a blob that is whole.
pub fn blob_size(connection: &Connection, sha256: &Sha256Digest) -> Result<Option<u64>> {
    first(connection, "SELECT size FROM blob WHERE sha256 = ?1", [sha256.to_string()])
}

/// Records that a blob is whole.
pub fn add_blob(connection: &Connection, sha256: &Sha256Digest, size: u64) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO blob (sha256, size) VALUES (?1, ?2)";
    execute(connection, sql, params![sha256.to_string(), size]).map(drop)
}
