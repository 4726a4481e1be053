//! The chain of roots.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::ids::{FleetId, SiteId};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use rusqlite::Connection;

use super::Actor;
use super::problem::{ApiError, Body};
use super::types::{RootInfo, RootList, RootsPublish};
use crate::clock::Now;
use crate::db::DbError;
use crate::db::rows::{assignments, audit, roots, sites};
use crate::init::add_roots;
use crate::plan::compose::Renewal;
use crate::plan::sign::{Directing, sign_next};
use crate::publish;
use crate::server::Hub;

/// An envelope as the body of an answer, byte for byte.
pub(super) fn envelope_response(envelope: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], envelope).into_response()
}

pub(super) async fn list(State(hub): State<Arc<Hub>>) -> Result<Json<RootList>, ApiError> {
    let rows = hub.db.read(|connection| Ok::<_, ApiError>(roots::list(connection)?)).await?;
    let info =
        |row: roots::RootRow| RootInfo { version: row.version, sha256: row.sha256, issued_at: row.issued_at };
    let newest = hub.root().map(|root| (**root).clone());
    Ok(Json(RootList { roots: rows.into_iter().map(info).collect(), newest }))
}

pub(super) async fn envelope(
    State(hub): State<Arc<Hub>>,
    Path(version): Path<u64>,
) -> Result<Response, ApiError> {
    let found = hub.db.read(move |connection| Ok::<_, ApiError>(roots::envelope(connection, version)?));
    let found = found.await?.ok_or_else(|| ApiError::new(Code::NotFound, format!("root {version}")))?;
    Ok(envelope_response(found))
}

pub(super) async fn publish(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(given): Body<RootsPublish>,
) -> Result<Json<RootList>, ApiError> {
    let envelopes: Vec<Vec<u8>> = given.roots.iter().map(|root| root.get().as_bytes().to_vec()).collect();
    let (fleet, now) = (hub.fleet.clone(), hub.clock.now());
    let stored = hub.db.write(move |connection| publish_rows(connection, &fleet, &envelopes, &actor.0, &now));
    stored.await?;
    hub.reload_root().await?;
    publish::publish_hub_state(&hub).await;
    sign_all(&hub).await?;
    list(State(hub)).await
}

/// Stores roots that continue the chain; inside one transaction.
///
/// A root that raises the director's epoch leaves behind whatever was signed before: what sites returned of an older
/// epoch, which may be a thief's word, is nothing to adopt any more.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn publish_rows(
    connection: &Connection,
    fleet: &FleetId,
    envelopes: &[Vec<u8>],
    actor: &str,
    now: &Now,
) -> Result<TrustedRoot, ApiError> {
    let newest = add_roots(connection, fleet, envelopes)?;
    let newest = newest.ok_or_else(|| ApiError::invalid("no root was given"))?;
    assignments::clear_returned_below(connection, newest.roles.director.epoch)?;
    let detail = format!("newest is {}", newest.version);
    audit::append(connection, now.time(), actor, "root.publish", fleet.as_str(), &detail)?;
    Ok(newest)
}

/// Signs what a new root makes due: assignments of another epoch, and all that waited for the director's place.
pub(super) async fn sign_all(hub: &Arc<Hub>) -> Result<(), ApiError> {
    let names = hub.db.read(|connection| {
        let rows = sites::list(connection, "", u32::MAX)?;
        Ok::<Vec<SiteId>, ApiError>(rows.into_iter().map(|row| row.site).collect())
    });
    for some in names.await?.chunks(256) {
        let (hub_in, some) = (Arc::clone(hub), some.to_vec());
        let signed = hub
            .db
            .write(move |connection| sign_rows(connection, &hub_in.directing(), &some, &hub_in.clock.now()));
        signed.await?;
    }
    publish::wake(hub);
    Ok(())
}

/// Signs what is due for each of these sites; inside one transaction.
///
/// # Errors
/// [`DbError`]; then nothing may be committed.
pub fn sign_rows(
    connection: &Connection,
    directing: &Directing<'_>,
    sites: &[SiteId],
    now: &Now,
) -> Result<(), DbError> {
    for site in sites {
        sign_next(connection, directing, site, Renewal::OnChange, now)?;
    }
    Ok(())
}
