//! Requests to join.

use airlift_bundles::ids::{KeyId, RandomId, SiteId, Timestamp};
use rusqlite::{Connection, Result, Row, params};

use super::{all, execute, one, parsed, parsed_option};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentState {
    /// A person has to decide.
    Waiting,
    /// Granted: the site's name and the grant's envelope.
    Granted(SiteId, Vec<u8>),
    /// Refused, with a person's words.
    Rejected(String),
}

/// One request as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRow {
    /// Which.
    pub nonce: RandomId,
    /// The key that it brings.
    pub site_keyid: KeyId,
    /// The signed bytes.
    pub request: Vec<u8>,
    /// `https` or `media`.
    pub carrier: String,
    /// What became of it.
    pub state: EnrolmentState,
    /// When it came.
    pub received_at: Timestamp,
}

const COLUMNS: &str = "nonce, site_keyid, request, carrier, state, site, granted, reason, received_at";

fn read(row: &Row<'_>) -> Result<EnrolmentRow> {
    let state: String = row.get(4)?;
    let granted: Option<Vec<u8>> = row.get(6)?;
    let state = match (state.as_str(), parsed_option(row, 5)?, granted) {
        ("granted", Some(site), Some(grant)) => EnrolmentState::Granted(site, grant),
        ("rejected", ..) => EnrolmentState::Rejected(row.get::<_, Option<String>>(7)?.unwrap_or_default()),
        _ => EnrolmentState::Waiting,
    };
    Ok(EnrolmentRow {
        nonce: parsed(row, 0)?,
        site_keyid: parsed(row, 1)?,
        request: row.get(2)?,
        carrier: row.get(3)?,
        state,
        received_at: Timestamp::from_unix_s(row.get(8)?),
    })
}

/// Adds a request, or replaces what became of it.
pub fn put(connection: &Connection, enrolment: &EnrolmentRow) -> Result<()> {
    let (state, site, granted, reason) = match &enrolment.state {
        EnrolmentState::Waiting => ("waiting", None, None, None),
        EnrolmentState::Granted(site, grant) => ("granted", Some(site.as_str()), Some(grant), None),
        EnrolmentState::Rejected(reason) => ("rejected", None, None, Some(reason)),
    };
    let sql =
        format!("INSERT OR REPLACE INTO enrolment ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    let parameters = params![
        enrolment.nonce.as_str(),
        enrolment.site_keyid.as_str(),
        enrolment.request,
        enrolment.carrier,
        state,
        site,
        granted,
        reason,
        enrolment.received_at.unix_s()
    ];
    execute(connection, &sql, parameters).map(drop)
}

/// The request of this nonce.
pub fn find(connection: &Connection, nonce: &RandomId) -> Result<Option<EnrolmentRow>> {
    one(connection, &format!("SELECT {COLUMNS} FROM enrolment WHERE nonce = ?1"), [nonce.as_str()], read)
}

/// The waiting room, oldest first.
pub fn waiting(connection: &Connection, limit: u32) -> Result<Vec<EnrolmentRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM enrolment WHERE state = 'waiting' ORDER BY received_at, nonce LIMIT ?1"
    );
    all(connection, &sql, [limit], read)
}

/// How many wait.
pub fn count_waiting(connection: &Connection) -> Result<u64> {
    let sql = "SELECT count(*) FROM enrolment WHERE state = 'waiting'";
    Ok(super::first(connection, sql, [])?.unwrap_or(0))
}

/// How many there are in all.
pub fn count_all(connection: &Connection) -> Result<u64> {
    Ok(super::first(connection, "SELECT count(*) FROM enrolment", [])?.unwrap_or(0))
}

/// Granted requests of all sites, newest first.
pub fn granted(connection: &Connection, limit: u32) -> Result<Vec<EnrolmentRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM enrolment WHERE state = 'granted' ORDER BY received_at DESC, nonce LIMIT ?1"
    );
    all(connection, &sql, [limit], read)
}

/// The granted requests of a site, newest first, so that sticks carry the grant.
pub fn granted_to(connection: &Connection, site: &SiteId) -> Result<Vec<EnrolmentRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM enrolment WHERE state = 'granted' AND site = ?1
         ORDER BY received_at DESC LIMIT 4"
    );
    all(connection, &sql, [site.as_str()], read)
}
