//! The waiting room.

use std::sync::Arc;

use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::RandomId;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use rusqlite::Connection;

use super::Actor;
use super::problem::{ApiError, Body};
use super::types::{Approve, Approved, Page, Reject, RequestInfo};
use super::view::Paging;
use crate::db::rows::enrolments::{self, EnrolmentRow, EnrolmentState};
use crate::db::rows::{audit, sites};
use crate::enrol::{EnrolError, Terms, read_request, same_fingerprint};
use crate::plan::select::check_label;
use crate::server::Hub;

fn info(row: EnrolmentRow) -> Result<RequestInfo, ApiError> {
    let request = read_request(&row).map_err(EnrolError::from)?;
    Ok(RequestInfo {
        nonce: row.nonce,
        fingerprint: request.fingerprint(),
        site_keyid: row.site_keyid,
        site: request.site,
        machine: request.machine,
        carrier: row.carrier,
        received_at: row.received_at,
    })
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<RequestInfo>>, ApiError> {
    let limit = paging.limit();
    let rows = hub.db.read(move |connection| Ok::<_, ApiError>(enrolments::waiting(connection, limit)?));
    let items = rows.await?.into_iter().map(info).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next: None }))
}

fn find_waiting(connection: &Connection, nonce: &RandomId) -> Result<EnrolmentRow, EnrolError> {
    let row = enrolments::find(connection, nonce)?.filter(|row| row.state == EnrolmentState::Waiting);
    row.ok_or_else(|| EnrolError::NotFound(nonce.to_string()))
}

pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Path(nonce): Path<String>,
    Body(wanted): Body<Approve>,
) -> Result<Json<Approved>, ApiError> {
    let nonce = RandomId::new(&nonce)?;
    for (key, value) in &wanted.labels {
        check_label(key, value)?;
    }
    let hub_in = Arc::clone(&hub);
    let granted = hub.db.write(move |connection| {
        let waiting = find_waiting(connection, &nonce)?;
        let request = read_request(&waiting).map_err(EnrolError::from)?;
        if !same_fingerprint(&wanted.fingerprint, &request.fingerprint()) {
            return Err(EnrolError::Fingerprint(request.fingerprint()));
        }
        let site = wanted.site.or(request.site).ok_or_else(|| {
            EnrolError::Conflict("neither the request nor the approval names the site".into())
        })?;
        let by_carrier = if waiting.carrier == "media" { ContactClass::Media } else { ContactClass::Mqtt };
        let terms = Terms {
            site: site.clone(),
            labels: wanted.labels,
            contact: wanted.contact.unwrap_or(by_carrier),
            replace: wanted.replace,
            actor: actor.0,
        };
        let row = crate::enrol::approve(connection, &hub_in, waiting, &terms, &hub_in.clock.now())?;
        let incarnation = sites::find(connection, &site)?.map_or(0, |row| row.incarnation);
        Ok((row, Approved { site, incarnation }))
    });
    let (row, approved) = granted.await?;
    super::enrol::learn(&hub, &row).await?;
    Ok(Json(approved))
}

pub(super) async fn reject(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Path(nonce): Path<String>,
    Body(given): Body<Reject>,
) -> Result<StatusCode, ApiError> {
    let nonce = RandomId::new(&nonce)?;
    let now = hub.clock.now().time();
    let rejected = hub.db.write(move |connection| {
        let waiting = find_waiting(connection, &nonce)?;
        let reason: String = given.reason.chars().take(500).collect();
        audit::append(connection, now, &actor.0, "site.reject", nonce.as_str(), &reason)?;
        enrolments::put(connection, &EnrolmentRow { state: EnrolmentState::Rejected(reason), ..waiting })?;
        Ok::<_, EnrolError>(())
    });
    rejected.await?;
    Ok(StatusCode::NO_CONTENT)
}
