//! Sites, and the hub itself.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::fingerprint;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, SiteId};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use rusqlite::Connection;
use serde::Deserialize;

use super::Actor;
use super::problem::{ApiError, Body};
use super::receipts::chain_info;
use super::roots::envelope_response;
use super::types::{
    Freshness, HubInfo, LabelChange, Page, RevokeSite, SiteCounts, SiteDetail, SiteInfo, SiteKey, Standing,
};
use super::view::{Moment, Paging, cut, site_info};
use crate::clock::Now;
use crate::db::rows::sites::{SiteKeyRow, SiteRow};
use crate::db::rows::{assignments, audit, meta, receipts, roots, sites, status};
use crate::plan::select::{Selector, check_label};
use crate::publish;
use crate::server::Hub;

/// Labels of one site.
const LABELS_MAX: usize = 64;
/// Sites that are looked at in one transaction while a filter is applied.
const SCAN: u32 = 500;

pub(super) async fn hub_info(State(hub): State<Arc<Hub>>) -> Result<Json<HubInfo>, ApiError> {
    let counts = count_sites(&hub).await?;
    let facts = hub.db.read(|connection| {
        let first = roots::list(connection)?.into_iter().next();
        Ok::<_, ApiError>((first.map(|root| root.sha256), meta::must_reconcile(connection)?))
    });
    let (root_1_sha256, reconcile_needed) = facts.await?;
    let ports = hub.ports();
    Ok(Json(HubInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fleet_id: hub.fleet.clone(),
        hub_incarnation: hub.incarnation.clone(),
        hosts: hub.config.hosts.clone(),
        https_port: ports.https,
        mqtt_port: ports.mqtt,
        broker: hub.config.broker.as_ref().map(ToString::to_string),
        director_key: hub.director_key(),
        hub_key_sha256: hub.hub_ca.key_sha256(),
        root_1_sha256,
        root_version: hub.root().map(|root| root.version),
        director_in_root: hub.may_direct(),
        reconcile_needed,
        sites: counts,
    }))
}

/// Counts sites: the one count that pages, metrics and commands show.
pub(super) async fn count_sites(hub: &Hub) -> Result<SiteCounts, ApiError> {
    let moment = Moment::of(hub);
    let counted = hub.db.read(move |connection| {
        let mut counts = SiteCounts::default();
        for row in sites::list(connection, "", u32::MAX)? {
            if row.standing != Standing::Revoked {
                count_site(&mut counts, &site_info(connection, row, &moment)?);
            }
        }
        Ok::<_, ApiError>(counts)
    });
    counted.await
}

fn count_site(counts: &mut SiteCounts, site: &SiteInfo) {
    counts.total += 1;
    counts.connected += u64::from(site.connected);
    // What a site cannot see itself is unknown, and never counted as healthy.
    let troubled = |state| {
        use AppState::{Degraded, Failed, Held, Refused, Unknown};
        matches!(state, Refused | Failed | Degraded | Held | Unknown)
    };
    if site.standing == Standing::Quarantined {
        counts.quarantined += 1;
    } else if site.freshness != Freshness::Fresh {
        counts.stale += 1;
    } else if site.apps.iter().any(|app| app.state.is_some_and(troubled)) {
        counts.troubled += 1;
    } else if site.apps.iter().all(|app| app.done || app.desired.is_none()) {
        counts.healthy += 1;
    } else {
        counts.progressing += 1;
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SiteQuery {
    selector: Option<String>,
    app: Option<AppName>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<SiteQuery>,
) -> Result<Json<Page<SiteInfo>>, ApiError> {
    let selector = query.selector.as_deref().map(str::parse::<Selector>).transpose()?;
    let limit = Paging { limit: query.limit, cursor: None }.limit();
    let moment = Moment::of(&hub);
    let found = hub.db.read(move |connection| {
        let (mut items, mut after) = (Vec::new(), query.cursor.unwrap_or_default());
        while items.len() <= limit as usize {
            let rows = sites::list(connection, &after, SCAN)?;
            let Some(last) = rows.last() else { break };
            after = last.site.to_string();
            for row in rows {
                let labels = sites::labels(connection, &row.site)?;
                if selector.as_ref().is_some_and(|selector| !selector.matches(&labels)) {
                    continue;
                }
                let site = site_info(connection, row, &moment)?;
                if query.app.as_ref().is_none_or(|app| site.apps.iter().any(|entry| entry.app == *app)) {
                    items.push(site);
                }
            }
        }
        Ok::<_, ApiError>(items)
    });
    let mut items = found.await?;
    let more = cut(&mut items, limit);
    let next = items.last().filter(|_| more).map(|site| site.site.to_string());
    Ok(Json(Page { items, next }))
}

fn find(connection: &Connection, site: &SiteId) -> Result<SiteRow, ApiError> {
    sites::find(connection, site)?.ok_or_else(|| ApiError::new(Code::NotFound, format!("site {site}")))
}

fn key_info(row: SiteKeyRow) -> SiteKey {
    let fingerprint = fingerprint(&row.key);
    SiteKey { key: row.key, incarnation: row.incarnation, revoked: row.revoked, fingerprint }
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Path(site): Path<SiteId>,
) -> Result<Json<SiteDetail>, ApiError> {
    let moment = Moment::of(&hub);
    let found = hub.db.read(move |connection| {
        let row = find(connection, &site)?;
        let status = status::find(connection, &site)?;
        let chains = receipts::chains(connection, Some(&site))?;
        let chains = chains.into_iter().map(|(site, chain)| chain_info(connection, site, chain));
        let chains = chains.collect::<Result<_, _>>()?;
        let keys = sites::keys(connection, &site)?.into_iter().map(key_info).collect();
        let status_as_of = status.as_ref().map(|status| status.received_at);
        let status_age_s = status_as_of
            .and_then(|at| u64::try_from(moment.now.time().unix_s().checked_sub(at.unix_s())?).ok());
        let status = status.map(|status| status.document);
        Ok::<_, ApiError>(SiteDetail {
            site: site_info(connection, row, &moment)?,
            keys,
            status,
            status_as_of,
            status_age_s,
            chains,
        })
    });
    found.await.map(Json)
}

pub(super) async fn label(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Path(site): Path<SiteId>,
    Body(change): Body<LabelChange>,
) -> Result<Json<SiteInfo>, ApiError> {
    for (key, value) in &change.set {
        check_label(key, value)?;
    }
    let moment = Moment::of(&hub);
    let changed = hub.db.write(move |connection| {
        let row = find(connection, &site)?;
        for key in &change.remove {
            sites::remove_label(connection, &site, key)?;
        }
        for (key, value) in &change.set {
            sites::set_label(connection, &site, key, value)?;
        }
        if sites::labels(connection, &site)?.len() > LABELS_MAX {
            return Err(ApiError::invalid(format!("a site has at most {LABELS_MAX} labels")));
        }
        let set: Vec<String> = change.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let removed: Vec<String> = change.remove.iter().map(|key| format!("{key}-")).collect();
        let detail = [set, removed].concat().join(" ");
        audit::append(connection, moment.now.time(), &actor.0, "site.label", site.as_str(), &detail)?;
        site_info(connection, row, &moment)
    });
    changed.await.map(Json)
}

pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Path(site): Path<SiteId>,
    Body(given): Body<RevokeSite>,
) -> Result<Json<SiteInfo>, ApiError> {
    let (moment, name) = (Moment::of(&hub), site.clone());
    let revoked = hub.db.write(move |connection| {
        revoke_rows(connection, &name, &given.reason, &actor.0, &moment.now)?;
        site_info(connection, find(connection, &name)?, &moment)
    });
    let shown = revoked.await?;
    hub.reload_site(&site).await?;
    publish::forget(&hub, &site).await;
    Ok(Json(shown))
}

/// Takes a site's keys back; inside one transaction.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn revoke_rows(
    connection: &Connection,
    site: &SiteId,
    reason: &str,
    actor: &str,
    now: &Now,
) -> Result<(), ApiError> {
    find(connection, site)?;
    sites::revoke_keys(connection, site)?;
    sites::set_standing(connection, site, Standing::Revoked)?;
    let reason: String = reason.chars().take(500).collect();
    audit::append(connection, now.time(), actor, "site.revoke", site.as_str(), &reason)?;
    Ok(())
}

pub(super) async fn assignment(
    State(hub): State<Arc<Hub>>,
    Path(site): Path<SiteId>,
) -> Result<Response, ApiError> {
    let found = hub.db.read(move |connection| {
        find(connection, &site)?;
        let newest = assignments::newest(connection, &site)?;
        newest.ok_or_else(|| ApiError::new(Code::NotFound, format!("site {site} has no assignment yet")))
    });
    found.await.map(|newest| envelope_response(newest.envelope))
}
