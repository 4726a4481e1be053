//! Receipts, their chains, and the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::ids::{AppName, RandomId, SiteId};
use axum::Json;
use axum::extract::{Query, State};
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::problem::ApiError;
use super::types::{AuditLog, ChainInfo, Page, ReceiptInfo, ReceiptLink};
use super::view::{Paging, cut};
use crate::db::DbError;
use crate::db::rows::audit;
use crate::db::rows::receipts::{self, ChainRow, ReceiptRow};
use crate::server::Hub;

#[derive(Debug, Deserialize)]
pub(super) struct ReceiptQuery {
    site: Option<SiteId>,
    app: Option<AppName>,
    #[serde(default)]
    envelopes: bool,
    limit: Option<u32>,
    cursor: Option<u64>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<ReceiptQuery>,
) -> Result<Json<Page<ReceiptInfo>>, ApiError> {
    let limit = Paging { limit: query.limit, cursor: None }.limit();
    let before = query.cursor.unwrap_or(i64::MAX.unsigned_abs());
    let found = hub.db.read(move |connection| {
        let (site, app) = (query.site.as_ref(), query.app.as_ref());
        let mut rows = receipts::list(connection, site, app, before, limit + 1)?;
        let more = cut(&mut rows, limit);
        let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
        let mut chains: BTreeMap<(SiteId, RandomId), Option<ChainRow>> = BTreeMap::new();
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let key = (row.site.clone(), row.chain_id.clone());
            if !chains.contains_key(&key) {
                chains.insert(key.clone(), receipts::chain(connection, &key.0, &key.1)?);
            }
            let link = link(chains.get(&key).and_then(Option::as_ref), row.seq);
            items.push(info(row, link, query.envelopes)?);
        }
        Ok::<_, ApiError>(Page { items, next })
    });
    found.await.map(Json)
}

/// How a receipt hangs in its chain: as far as the head reaches, it is chained; from a fork on nobody can say.
fn link(chain: Option<&ChainRow>, seq: u64) -> ReceiptLink {
    match chain {
        Some(chain) if chain.fork.is_some_and(|fork| seq >= fork) => ReceiptLink::Forked,
        Some(chain) if seq <= chain.head => ReceiptLink::Chained,
        _ => ReceiptLink::AfterGap,
    }
}

fn info(row: ReceiptRow, link: ReceiptLink, with_envelope: bool) -> Result<ReceiptInfo, ApiError> {
    let envelope = with_envelope.then(|| {
        let text = String::from_utf8_lossy(&row.envelope).into_owned();
        RawValue::from_string(text).map_err(|error| DbError::Broken(error.to_string()))
    });
    Ok(ReceiptInfo {
        site: row.site,
        chain_id: row.chain_id,
        receipt_seq: row.seq,
        sha256: row.sha256,
        keyid: row.keyid,
        link,
        outcome: row.outcome,
        app: row.app,
        version: row.version,
        seq: row.release_seq,
        reason: row.reason,
        known_time: row.known_time,
        received_at: row.received_at,
        carrier: row.carrier,
        envelope: envelope.transpose()?,
    })
}

/// A chain with its first gap.
pub(super) fn chain_info(
    connection: &Connection,
    site: SiteId,
    chain: ChainRow,
) -> Result<ChainInfo, ApiError> {
    let gap = receipts::gap(connection, &site, &chain)?;
    let ChainRow { chain_id, head, highest, fork, .. } = chain;
    Ok(ChainInfo { site, chain_id, head, highest, gap, fork })
}

#[derive(Debug, Deserialize)]
pub(super) struct ChainQuery {
    site: Option<SiteId>,
}

pub(super) async fn chains(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<ChainQuery>,
) -> Result<Json<Page<ChainInfo>>, ApiError> {
    let found = hub.db.read(move |connection| {
        let chains = receipts::chains(connection, query.site.as_ref())?;
        chains.into_iter().map(|(site, chain)| chain_info(connection, site, chain)).collect()
    });
    let items: Result<Vec<ChainInfo>, ApiError> = found.await;
    Ok(Json(Page { items: items?, next: None }))
}

#[derive(Debug, Deserialize)]
pub(super) struct AuditQuery {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

pub(super) async fn audit(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditLog>, ApiError> {
    let limit = Paging { limit: query.limit, cursor: None }.limit();
    let entries =
        hub.db.read(move |connection| Ok::<_, ApiError>(audit::list(connection, query.after, limit)?));
    let entries = entries.await?;
    let intact = audit::is_intact(&entries);
    Ok(Json(AuditLog { entries, intact }))
}
