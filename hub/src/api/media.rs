//! Sticks: what goes out on them, and what they bring back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::envelope::EnvelopeError;
use airlift_bundles::ids::{FleetId, Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{Fingerprint, MediaName};
use axum::extract::State;
use axum::{Extension, Json};
use rusqlite::Connection;
use serde_json::value::RawValue;

use super::Actor;
use super::problem::{ApiError, Body};
use super::types::{
    MediaBlob, MediaContent, MediaFile, MediaFileResult, MediaImport, MediaImported, MediaPlan,
};
use super::view::resolve;
use crate::clock::Now;
use crate::collect::take::{Taken, take_batch, take_receipts};
use crate::collect::verify::{VerifiedBatch, VerifiedReceipt, VerifyError, verify_batch, verify_receipt};
use crate::db::DbError;
use crate::db::rows::assignments::{self, ReturnedRow};
use crate::db::rows::enrolments::{self, EnrolmentRow, EnrolmentState};
use crate::db::rows::sites::SiteKeyRow;
use crate::db::rows::{audit, releases, roots, sites};
use crate::enrol::{EnrolError, read_request, receive};
use crate::plan::compose::Renewal;
use crate::plan::sign::{Directing, sign_next};
use crate::publish;
use crate::publish::ingest::tell;
use crate::server::{Hub, newest_root};

fn file(name: &MediaName, content: Vec<u8>) -> Result<MediaFile, ApiError> {
    let text = String::from_utf8(content).map_err(|error| DbError::Broken(error.to_string()))?;
    Ok(MediaFile { name: name.to_string(), text })
}

pub(super) async fn export(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(plan): Body<MediaPlan>,
) -> Result<Json<MediaContent>, ApiError> {
    let hub_in = Arc::clone(&hub);
    let content = hub.db.write(move |connection| {
        export_rows(connection, &hub_in.directing(), &plan, &actor.0, &hub_in.clock.now())
    });
    let content = content.await?;
    publish::wake(&hub);
    Ok(Json(content))
}

/// Says what goes onto a stick, and signs what that makes due; inside one transaction.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn export_rows(
    connection: &Connection,
    directing: &Directing<'_>,
    plan: &MediaPlan,
    actor: &str,
    now: &Now,
) -> Result<MediaContent, ApiError> {
    let chosen = if plan.sites.names.is_empty() && plan.sites.selector.is_none() {
        Vec::new()
    } else {
        resolve(connection, &plan.sites)?
    };
    let (mut documents, mut assigned, mut grants) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted: BTreeSet<Sha256Digest> = plan.releases.iter().copied().collect();
    for root in roots::list(connection)? {
        let envelope = roots::envelope(connection, root.version)?.unwrap_or_default();
        documents.push(file(&MediaName::Root(root.version), envelope)?);
    }
    for site in &chosen {
        // A stick also tells the site how many of its receipts are held, so that it may forget them.
        sign_next(connection, directing, &site.site, Renewal::OnReceipts, now)?;
        if let Some(newest) = assignments::newest(connection, &site.site)? {
            assigned.push(file(&MediaName::Assignment(site.site.clone()), newest.envelope)?);
        }
        let desired = assignments::desired(connection, &site.site)?;
        wanted.extend(desired.values().map(|entry| entry.release));
        grants.extend(enrolments::granted_to(connection, &site.site)?);
    }
    if chosen.is_empty() {
        grants = enrolments::granted(connection, 1000)?;
    }
    let mut blobs = BTreeMap::new();
    for sha256 in &wanted {
        let row = releases::find(connection, sha256)?;
        let row = row.ok_or_else(|| ApiError::new(Code::NotFound, format!("release {sha256}")))?;
        documents.push(file(&MediaName::Release(*sha256), row.envelope)?);
        blobs.extend(releases::blobs(connection, sha256)?.into_iter().map(|blob| (blob.sha256, blob.size)));
    }
    documents.extend(assigned);
    for row in grants {
        documents.extend(grant_file(row)?);
    }
    let sites: Vec<SiteId> = chosen.into_iter().map(|site| site.site).collect();
    let detail = format!("{} sites, {} releases, {} blobs", sites.len(), wanted.len(), blobs.len());
    audit::append(connection, now.time(), actor, "media.export", "", &detail)?;
    let blobs = blobs.into_iter().map(|(sha256, size)| MediaBlob { sha256, size }).collect();
    Ok(MediaContent { documents, blobs, sites })
}

fn grant_file(row: EnrolmentRow) -> Result<Option<MediaFile>, ApiError> {
    let request = read_request(&row).map_err(EnrolError::from)?;
    let EnrolmentState::Granted(_, grant) = row.state else { return Ok(None) };
    let fingerprint = Fingerprint::new(&request.fingerprint())?;
    file(&MediaName::Grant(fingerprint), grant).map(Some)
}

pub(super) async fn import(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(given): Body<MediaImport>,
) -> Result<Json<MediaImported>, ApiError> {
    let mut files = Vec::with_capacity(given.files.len());
    for file in given.files {
        files.push(import_file(&hub, file).await?);
    }
    let taken = files.iter().map(|file| file.new).sum::<u64>();
    let detail = format!("{} files, {taken} new", files.len());
    let now = hub.clock.now().time();
    let logged = hub.db.write(move |connection| {
        audit::append(connection, now, &actor.0, "media.import", "", &detail)?;
        Ok::<_, ApiError>(())
    });
    logged.await?;
    publish::wake(&hub);
    Ok(Json(MediaImported { files }))
}

/// What one file came to: new and known rows, or why it, or part of it, is refused.
struct Outcome {
    taken: Taken,
    refused: Option<(Code, String)>,
}

impl Outcome {
    fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self { taken: Taken::default(), refused: Some((code, detail.into())) }
    }
}

async fn import_file(hub: &Arc<Hub>, file: MediaFile) -> Result<MediaFileResult, ApiError> {
    let MediaFile { name, text } = file;
    let outcome = match name.parse::<MediaName>() {
        Ok(MediaName::Request(_)) => import_request(hub, text).await?,
        Ok(MediaName::Receipts { site, .. }) => import_receipts(hub, site, text).await?,
        Ok(MediaName::Assignment(site)) => import_assignment(hub, site, text).await?,
        _ => Outcome::refused(Code::MediaEntryRefused, "the hub takes requests/, receipts/ and assignments/"),
    };
    let (refused, detail) =
        outcome.refused.map_or((None, String::new()), |(code, detail)| (Some(code), detail));
    Ok(MediaFileResult { name, new: outcome.taken.new, known: outcome.taken.known, refused, detail })
}

async fn import_request(hub: &Arc<Hub>, text: String) -> Result<Outcome, ApiError> {
    let hub_in = Arc::clone(hub);
    let received = hub.db.write(move |connection| {
        let before = enrolments::count_all(connection)?;
        let row = receive(connection, &hub_in, text.as_bytes(), "media", &hub_in.clock.now())?;
        Ok::<_, EnrolError>((row, enrolments::count_all(connection)? > before))
    });
    match received.await {
        Ok((row, new)) => {
            super::enrol::learn(hub, &row).await?;
            let taken = Taken { new: u64::from(new), known: u64::from(!new), ..Taken::default() };
            Ok(Outcome { taken, refused: None })
        }
        Err(EnrolError::Db(error)) => Err(error.into()),
        Err(refused) => Ok(Outcome::refused(refused.code(), in_one_line(&refused))),
    }
}

/// The envelopes in a file of receipts: one, a JSON array of them, or one to a line.
fn split_envelopes(text: &str) -> Result<Vec<String>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        let envelopes: Vec<Box<RawValue>> = serde_json::from_str(text)?;
        return Ok(envelopes.into_iter().map(|envelope| envelope.get().to_owned()).collect());
    }
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
    stream.map(|envelope| envelope.map(|envelope| envelope.get().to_owned())).collect()
}

async fn import_receipts(hub: &Arc<Hub>, site: SiteId, text: String) -> Result<Outcome, ApiError> {
    let returned = match ReturnedFile::read(&text, &hub.fleet, &site, &hub.site_keys(&site)) {
        Ok(returned) => returned,
        Err(error) => return Ok(Outcome::refused(Code::EnvelopeMalformed, error.to_string())),
    };
    let refused = returned.refused.clone();
    let (name, now) = (site.clone(), hub.clock.now());
    let stored = hub.db.write(move |connection| returned.store(connection, &name, &now));
    let taken: Taken = stored.await?;
    tell(&site, &taken);
    Ok(Outcome { taken, refused })
}

/// What a file of receipts holds that its site signed.
pub struct ReturnedFile {
    batches: Vec<VerifiedBatch>,
    receipts: Vec<VerifiedReceipt>,
    refused: Option<(Code, String)>,
}

impl ReturnedFile {
    /// Verifies every envelope in it against the keys of its site; what is not good is left out.
    ///
    /// # Errors
    /// [`serde_json::Error`], where it holds no envelopes.
    pub fn read(
        text: &str,
        fleet: &FleetId,
        site: &SiteId,
        keys: &[SiteKeyRow],
    ) -> Result<Self, serde_json::Error> {
        let mut file = Self { batches: Vec::new(), receipts: Vec::new(), refused: None };
        for envelope in split_envelopes(text)? {
            let bytes = envelope.as_bytes();
            match verify_receipt(bytes, fleet, site, keys) {
                Ok(receipt) => file.receipts.push(receipt),
                Err(VerifyError::Envelope(EnvelopeError::PayloadType { .. })) => {
                    match verify_batch(bytes, fleet, site, keys) {
                        Ok(batch) => file.batches.push(batch),
                        Err(error) => file.refused = Some((error.code(), in_one_line(&error))),
                    }
                }
                Err(error) => file.refused = Some((error.code(), in_one_line(&error))),
            }
        }
        if let Some(error) = file.batches.iter().find_map(|batch| batch.refused().first()) {
            file.refused = Some((error.code(), in_one_line(error)));
        }
        Ok(file)
    }

    /// Stores what is new; inside one transaction.
    ///
    /// # Errors
    /// [`DbError`]; then nothing may be committed.
    pub fn store(&self, connection: &Connection, site: &SiteId, now: &Now) -> Result<Taken, DbError> {
        let Some(row) = sites::find(connection, site)? else { return Ok(Taken::default()) };
        let mut taken = take_receipts(connection, &row, &self.receipts, "media", now)?;
        for batch in &self.batches {
            let more = take_batch(connection, &row, batch, "media", now)?;
            taken.new += more.new;
            taken.known += more.known;
            taken.quarantined = taken.quarantined.or(more.quarantined);
            taken.hub_restored |= more.hub_restored;
        }
        Ok(taken)
    }
}

async fn import_assignment(hub: &Arc<Hub>, site: SiteId, text: String) -> Result<Outcome, ApiError> {
    let name = site.clone();
    let stored = hub.db.write(move |connection| returned_rows(connection, &name, text.as_bytes()));
    Ok(match stored.await? {
        Ok(taken) => {
            tell(&site, &taken);
            Outcome { taken, refused: None }
        }
        Err(refused) => Outcome { taken: Taken::default(), refused: Some(refused) },
    })
}

/// Takes an assignment that comes back, which shows a restored hub what it signed in its former life; inside one
/// transaction. What is not one is refused with its code.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn returned_rows(
    connection: &Connection,
    site: &SiteId,
    envelope: &[u8],
) -> Result<Result<Taken, (Code, String)>, ApiError> {
    let Some(root) = newest_root(connection)? else {
        return Ok(Err((Code::Conflict, "no root is published yet".into())));
    };
    let opened = match root.open_directed::<Assignment>(envelope, &Limits::DEFAULT) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err((error.code(), in_one_line(&error)))),
    };
    let assignment = opened.document();
    let row = sites::find(connection, site)?;
    let Some(row) = row.filter(|row| assignment.site == *site && assignment.incarnation == row.incarnation)
    else {
        return Ok(Err((Code::OtherSite, "it is for another site or enrolment".into())));
    };
    if assignment.counter() <= row.last {
        return Ok(Ok(Taken { known: 1, ..Taken::default() }));
    }
    let envelope = Some(opened.envelope().to_vec());
    let returned = ReturnedRow { site: site.clone(), counter: assignment.counter(), envelope };
    assignments::put_returned(connection, &returned)?;
    Ok(Ok(Taken { new: 1, hub_restored: true, ..Taken::default() }))
}
