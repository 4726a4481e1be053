//! Enrolment tokens, and the tokens of the API.

use std::collections::BTreeMap;

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{RandomId, Sha256Digest, SiteId, Timestamp};
use rusqlite::{Connection, Result, Row, params};

use super::{all, execute, first, json, one, parsed, parsed_option, to_json, to_word, word};

/// An enrolment token as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Which.
    pub id: RandomId,
    /// What it proves with.
    pub secret: [u8; 32],
    /// The name that the site gets.
    pub site: Option<SiteId>,
    /// Labels that the site gets.
    pub labels: BTreeMap<String, String>,
    /// How the site is reached.
    pub contact: ContactClass,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The site that used it.
    pub used_by: Option<SiteId>,
}

const COLUMNS: &str = "id, secret, site, labels, contact, created_at, expires_at, used_by";

fn read(row: &Row<'_>) -> Result<TokenRow> {
    Ok(TokenRow {
        id: parsed(row, 0)?,
        secret: row.get(1)?,
        site: parsed_option(row, 2)?,
        labels: json(row, 3)?,
        contact: word(row, 4)?,
        created_at: Timestamp::from_unix_s(row.get(5)?),
        expires_at: Timestamp::from_unix_s(row.get(6)?),
        used_by: parsed_option(row, 7)?,
    })
}

/// Adds a token.
pub fn add(connection: &Connection, token: &TokenRow) -> Result<()> {
    let sql = format!("INSERT INTO token ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let parameters = params![
        token.id.as_str(),
        token.secret,
        token.site.as_ref().map(SiteId::as_str),
        to_json(&token.labels),
        to_word(&token.contact),
        token.created_at.unix_s(),
        token.expires_at.unix_s(),
        token.used_by.as_ref().map(SiteId::as_str)
    ];
    execute(connection, &sql, parameters).map(drop)
}

/// The token of this id.
pub fn find(connection: &Connection, id: &RandomId) -> Result<Option<TokenRow>> {
    one(connection, &format!("SELECT {COLUMNS} FROM token WHERE id = ?1"), [id.as_str()], read)
}

/// Tokens by id, those after `after` first.
pub fn list(connection: &Connection, after: &str, limit: u32) -> Result<Vec<TokenRow>> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE id > ?1 ORDER BY id LIMIT ?2");
    all(connection, &sql, params![after, limit], read)
}

/// Marks a token as used; false where it already was.
pub fn mark_used(connection: &Connection, id: &RandomId, site: &SiteId) -> Result<bool> {
    let sql = "UPDATE token SET used_by = ?2 WHERE id = ?1 AND used_by IS NULL";
    Ok(execute(connection, sql, [id.as_str(), site.as_str()])? == 1)
}

/// Deletes a token that was not used; false where there is none.
pub fn delete(connection: &Connection, id: &RandomId) -> Result<bool> {
    Ok(execute(connection, "DELETE FROM token WHERE id = ?1 AND used_by IS NULL", [id.as_str()])? == 1)
}

/// Adds an API token by its digest.
pub fn add_api(connection: &Connection, sha256: &Sha256Digest, name: &str, at: Timestamp) -> Result<()> {
    let sql = "INSERT INTO api_token (sha256, name, created_at, revoked) VALUES (?1, ?2, ?3, 0)";
    execute(connection, sql, params![sha256.to_string(), name, at.unix_s()]).map(drop)
}

/// The name of the API token of this digest, where it is good.
pub fn api_name(connection: &Connection, sha256: &Sha256Digest) -> Result<Option<String>> {
    let sql = "SELECT name FROM api_token WHERE sha256 = ?1 AND revoked = 0";
    first(connection, sql, [sha256.to_string()])
}
