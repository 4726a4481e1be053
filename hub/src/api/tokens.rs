//! Enrolment tokens.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::ids::{RandomId, Timestamp};
use airlift_bundles::join::EnrolmentToken;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::Actor;
use super::problem::{ApiError, Body};
use super::types::{Page, TokenCreate, TokenCreated, TokenInfo};
use super::view::{Paging, cut};
use crate::db::rows::tokens::TokenRow;
use crate::db::rows::{audit, roots, tokens};
use crate::init::{InitError, random};
use crate::plan::select::check_label;
use crate::server::Hub;

/// A day, and the most: 90 days.
const VALID_S: u64 = 86_400;
const VALID_S_MAX: u64 = 90 * 86_400;

fn info(row: TokenRow) -> TokenInfo {
    TokenInfo {
        id: row.id,
        site: row.site,
        labels: row.labels,
        contact: row.contact,
        created_at: row.created_at,
        expires_at: row.expires_at,
        used_by: row.used_by,
    }
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TokenInfo>>, ApiError> {
    let limit = paging.limit();
    let after = paging.cursor.unwrap_or_default();
    let rows = hub.db.read(move |connection| Ok::<_, ApiError>(tokens::list(connection, &after, limit + 1)?));
    let mut rows = rows.await?;
    let more = cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
    Ok(Json(Page { items: rows.into_iter().map(info).collect(), next }))
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<TokenCreate>,
) -> Result<Json<TokenCreated>, ApiError> {
    for (key, value) in &wanted.labels {
        check_label(key, value)?;
    }
    let failed = |error: InitError| ApiError::new(Code::StoreFailed, error.to_string());
    let (id, secret) = (random().map_err(failed)?, random().map_err(failed)?);
    let now = hub.clock.now().time();
    let valid_s = wanted.valid_s.unwrap_or(VALID_S).min(VALID_S_MAX);
    let until = now.unix_s().saturating_add(i64::try_from(valid_s).unwrap_or(i64::MAX));
    let row = TokenRow {
        id: RandomId::from_bytes(id),
        secret,
        site: wanted.site,
        labels: wanted.labels,
        contact: wanted.contact,
        created_at: now,
        expires_at: Timestamp::from_unix_s(until),
        used_by: None,
    };
    let stored = row.clone();
    let first_root = hub.db.write(move |connection| {
        let first = roots::list(connection)?.into_iter().next().ok_or_else(|| {
            ApiError::new(Code::Conflict, "no root is published yet, and a token names the first")
        })?;
        tokens::add(connection, &stored)?;
        let site = stored.site.map(|site| site.to_string()).unwrap_or_default();
        audit::append(connection, now, &actor.0, "token.create", stored.id.as_str(), &site)?;
        Ok::<_, ApiError>(first.sha256)
    });
    let token = EnrolmentToken {
        fleet_id: hub.fleet.clone(),
        root_sha256: first_root.await?,
        hub_key_sha256: hub.hub_ca.key_sha256(),
        id: row.id.clone(),
        secret: row.secret,
    };
    Ok(Json(TokenCreated { token: token.to_text(), info: info(row) }))
}

pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = RandomId::new(&id)?;
    let now = hub.clock.now().time();
    let removed = hub.db.write(move |connection| {
        if !tokens::delete(connection, &id)? {
            return Err(ApiError::new(Code::NotFound, format!("no unused token {id}")));
        }
        audit::append(connection, now, &actor.0, "token.remove", id.as_str(), "")?;
        Ok(())
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}
