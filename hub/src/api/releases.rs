//! Releases: verified under the newest root before anybody can be assigned them.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::accept::open_release;
use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;
use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::{Root, TrustedRoot};
use airlift_bundles::envelope::{Envelope, Verified};
use airlift_bundles::ids::{AppName, Counter, Sha256Digest};
use airlift_bundles::layout::{Blobs, Bundle, LayoutError};
use airlift_bundles::limits::Limits;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use rusqlite::Connection;
use serde::Deserialize;

use super::Actor;
use super::problem::ApiError;
use super::roots::envelope_response;
use super::types::{Page, ReleaseInfo};
use super::view::{Paging, cut};
use crate::db::DbError;
use crate::db::rows::audit;
use crate::db::rows::releases::{self, ReleaseBlob, ReleaseRow};
use crate::server::{Hub, newest_root};

/// Missing blobs that one answer names.
const MISSING_MAX: usize = 1000;

/// What a release says, from the row that the hub stored after verifying it.
pub(crate) fn statement(row: &ReleaseRow) -> Result<Statement, ApiError> {
    let read = Envelope::parse(&row.envelope, &Limits::DEFAULT)
        .and_then(|envelope| envelope.read_unverified::<Statement>(&Limits::DEFAULT));
    read.map_err(|error| DbError::Broken(format!("stored release {}: {error}", row.sha256)).into())
}

fn info(connection: &Connection, row: &ReleaseRow, root: Option<&Root>) -> Result<ReleaseInfo, ApiError> {
    let statement = statement(row)?;
    let envelope = Envelope::parse(&row.envelope, &Limits::DEFAULT);
    let signers = root.and_then(|root| {
        let role = root.release_role(&row.app)?;
        let signers =
            envelope.ok()?.valid_signers(root.release_keys(role)).into_iter().map(|key| key.key_id());
        Some(signers.collect())
    });
    Ok(ReleaseInfo {
        sha256: row.sha256,
        bundle: row.bundle,
        release: statement.predicate,
        signers: signers.unwrap_or_default(),
        revoked: root.and_then(|root| root.revocation(&row.sha256)),
        published_at: row.published_at,
        sites: releases::count_sites(connection, &row.sha256)?,
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct ReleaseQuery {
    app: Option<AppName>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// The last row of a page as its cursor: `APP:EPOCH:SEQ`.
fn parse_cursor(text: &str) -> Result<(AppName, Counter), ApiError> {
    let parts: Vec<&str> = text.split(':').collect();
    let read = || {
        let [app, epoch, seq] = parts.as_slice() else { return None };
        Some((AppName::new(app).ok()?, Counter { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? }))
    };
    read().ok_or_else(|| ApiError::invalid("cursor is not one that the hub gave"))
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<ReleaseQuery>,
) -> Result<Json<Page<ReleaseInfo>>, ApiError> {
    let limit = Paging { limit: query.limit, cursor: None }.limit();
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let root = hub.root();
    let found = hub.db.read(move |connection| {
        let after = after.as_ref().map(|(app, counter)| (app, *counter));
        let mut rows = releases::list(connection, query.app.as_ref(), after, limit + 1)?;
        let more = cut(&mut rows, limit);
        let cursor = |row: &ReleaseRow| format!("{}:{}:{}", row.app, row.counter.epoch, row.counter.seq);
        let next = rows.last().filter(|_| more).map(cursor);
        let root = root.as_ref().map(|root| -> &Root { root });
        let items = rows.iter().map(|row| info(connection, row, root)).collect::<Result<_, _>>()?;
        Ok::<_, ApiError>(Page { items, next })
    });
    found.await.map(Json)
}

async fn find(hub: &Hub, hex: &str) -> Result<ReleaseRow, ApiError> {
    let sha256 = Sha256Digest::from_hex(hex)?;
    let found = hub.db.read(move |connection| Ok::<_, ApiError>(releases::find(connection, &sha256)?));
    found.await?.ok_or_else(|| ApiError::new(Code::NotFound, format!("release {sha256}")))
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Path(hex): Path<String>,
) -> Result<Json<ReleaseInfo>, ApiError> {
    let (row, root) = (find(&hub, &hex).await?, hub.root());
    let shown =
        hub.db.read(move |connection| info(connection, &row, root.as_ref().map(|root| -> &Root { root })));
    shown.await.map(Json)
}

pub(super) async fn envelope(
    State(hub): State<Arc<Hub>>,
    Path(hex): Path<String>,
) -> Result<Response, ApiError> {
    find(&hub, &hex).await.map(|row| envelope_response(row.envelope))
}

/// The hub's whole blobs, as a bundle's reader wants them.
struct StoredBlobs(std::path::PathBuf);

impl Blobs for StoredBlobs {
    fn read_blob(&self, digest: &Sha256Digest, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let file = match std::fs::File::open(self.0.join(digest.to_hex())) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "blob is over its limit"));
        }
        Ok(Some(bytes))
    }
}

/// Reads the bundle's tree, checks it against the release, and lists its blobs.
///
/// # Errors
/// [`ApiError`], which names the blobs that are missing.
pub fn read_bundle(
    statement: &Verified<Statement>,
    blobs: &impl Blobs,
) -> Result<Vec<ReleaseBlob>, ApiError> {
    let index = statement.document().bundle();
    let bundle = Bundle::read(&index, blobs, &Limits::DEFAULT).map_err(|error| match error {
        LayoutError::Missing(missing) => missing_blobs(missing.into_iter().map(|blob| blob.digest).collect()),
        other => ApiError::new(other.code(), in_one_line(&other)),
    })?;
    let release = &statement.document().predicate;
    bundle.app().check_release(release).map_err(|field| {
        ApiError::new(Code::DescriptorDiffers, format!("release and app descriptor differ in {field}"))
    })?;
    let index_size =
        blobs.read_blob(&index, Limits::DEFAULT.whole_item_bytes)?.map_or(0, |bytes| bytes.len());
    let mut sizes = BTreeMap::from([(index, index_size as u64)]);
    for (digest, item) in bundle.items() {
        sizes.insert(*digest, item.size);
        for list in &item.lists {
            sizes.insert(list.digest, list.size.unwrap_or(0));
        }
    }
    let mut listed: Vec<_> = sizes.into_iter().map(|(sha256, size)| ReleaseBlob { sha256, size }).collect();
    // The small ones are the tree that leads to the large ones.
    listed.sort_by_key(|blob| (blob.sha256 != index, blob.size, blob.sha256));
    Ok(listed)
}

fn missing_blobs(mut missing: Vec<Sha256Digest>) -> ApiError {
    let detail = format!("{} blobs of the bundle have to be uploaded first", missing.len());
    missing.truncate(MISSING_MAX);
    ApiError::new(Code::ContentMissing, detail).missing(missing)
}

pub(super) async fn publish(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Result<Json<ReleaseInfo>, ApiError> {
    let root = hub.root().ok_or_else(|| {
        ApiError::new(Code::Conflict, "no root is published yet: run `airlift root publish`")
    })?;
    let opened = open_release(&body, &root, &Limits::DEFAULT);
    let statement = opened.map_err(|refusal| ApiError::new(refusal.code, refusal.detail))?;
    let blobs = StoredBlobs(hub.data.blobs());
    let of_bundle = statement.clone();
    let listed = tokio::task::spawn_blocking(move || read_bundle(&of_bundle, &blobs));
    let listed = listed.await.map_err(|error| DbError::Broken(error.to_string()))??;
    let now = hub.clock.now().time();
    let stored = hub.db.write(move |connection| {
        // The root may have moved on while the bundle was read: what counts is the newest at the commit.
        let root = newest_root(connection)?.ok_or_else(|| ApiError::new(Code::Conflict, "no root"))?;
        let opened = open_release(statement.envelope(), &root, &Limits::DEFAULT);
        opened.map_err(|refusal| ApiError::new(refusal.code, refusal.detail))?;
        let row = store_release(connection, &root, &statement, &listed, now, &actor.0)?;
        info(connection, &row, Some(&root))
    });
    stored.await.map(Json)
}

/// Keeps the newer signatures of a release whose first ones count for nothing under the newest root.
fn renew(
    connection: &Connection,
    root: &TrustedRoot,
    known: ReleaseRow,
    statement: &Verified<Statement>,
    now: airlift_bundles::ids::Timestamp,
    actor: &str,
) -> Result<ReleaseRow, ApiError> {
    if open_release(&known.envelope, root, &Limits::DEFAULT).is_ok() {
        return Ok(known);
    }
    let envelope = statement.envelope().to_vec();
    releases::set_envelope(connection, &known.sha256, &envelope)?;
    let subject = format!("{}@{}", known.app, known.version);
    audit::append(connection, now, actor, "release.sign", &subject, &known.sha256.to_string())?;
    Ok(ReleaseRow { envelope, ..known })
}

/// Stores a release that was opened under `root`, once all its blobs are here; the same again is a no-op,
/// unless its keys were replaced since.
///
/// # Errors
/// [`ApiError`].
pub fn store_release(
    connection: &Connection,
    root: &TrustedRoot,
    statement: &Verified<Statement>,
    listed: &[ReleaseBlob],
    now: airlift_bundles::ids::Timestamp,
    actor: &str,
) -> Result<ReleaseRow, ApiError> {
    let release = &statement.document().predicate;
    let (app, counter) = (&release.app, release.counter());
    if let Some(same) = releases::at(connection, app, counter)? {
        if same.sha256 == statement.digest() {
            return renew(connection, root, same, statement, now, actor);
        }
        let detail = format!("release {counter} of {app} is {}, not {}", same.sha256, statement.digest());
        audit::append(connection, now, actor, "release.refuse", app.as_str(), &detail)?;
        return Err(ApiError::new(Code::ReleaseEqualButDifferent, detail));
    }
    if release.fleet_id != root.fleet_id {
        return Err(ApiError::new(Code::OtherFleet, format!("release is of fleet {}", release.fleet_id)));
    }
    let floor = root.floor(app);
    if release.epoch != floor.epoch {
        let detail =
            format!("release is of epoch {}, the root's for {app} is {}", release.epoch, floor.epoch);
        return Err(ApiError::new(Code::ReleaseEpochOther, detail));
    }
    let mut missing = Vec::new();
    for blob in listed {
        match releases::blob_size(connection, &blob.sha256)? {
            Some(size) if size == blob.size => {}
            Some(size) => {
                let detail = format!("blob {} has {size} bytes, the bundle says {}", blob.sha256, blob.size);
                return Err(ApiError::new(Code::BundleMalformed, detail));
            }
            None => missing.push(blob.sha256),
        }
    }
    if !missing.is_empty() {
        return Err(missing_blobs(missing));
    }
    let row = ReleaseRow {
        sha256: statement.digest(),
        app: app.clone(),
        counter,
        version: release.version.clone(),
        bundle: statement.document().bundle(),
        envelope: statement.envelope().to_vec(),
        published_at: now,
    };
    releases::add(connection, &row, listed)?;
    let subject = format!("{app}@{}", row.version);
    audit::append(connection, now, actor, "release.publish", &subject, &row.sha256.to_string())?;
    Ok(row)
}
