//! What the API shows of rows: one place, so that a word or count means the same on every page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, SiteId};
use rusqlite::Connection;
use serde::Deserialize;

use super::problem::ApiError;
use super::types::{DesiredInfo, Freshness, SiteApp, SiteInfo};
use crate::clock::Now;
use crate::collect::freshness::freshness;
use crate::db::rows::sites::SiteRow;
use crate::db::rows::status::SiteAppRow;
use crate::db::rows::{assignments, releases, sites, status};
use crate::plan::select::Selector;

/// Rows of a page where none were asked for, and the most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// The part of a query that every list understands.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Paging {
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

impl Paging {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}

/// Cuts a page out of rows of which one more than the limit was asked for; says whether more follow.
pub(crate) fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    more
}

/// Who is connected, and what time it is.
#[derive(Clone)]
pub struct Moment {
    /// The time.
    pub now: Now,
    /// The sites that are connected, and whether they were heard of within two and a half keep-alives.
    pub connected: Arc<BTreeMap<SiteId, bool>>,
}

impl Moment {
    pub(crate) fn of(hub: &crate::server::Hub) -> Self {
        Self { now: hub.clock.now(), connected: Arc::new(hub.connected()) }
    }

    fn is_connected(&self, site: &SiteId) -> bool {
        self.connected.get(site).copied().unwrap_or(false)
    }
}

/// A site as lists show it.
///
/// # Errors
/// [`ApiError`].
pub fn site_info(connection: &Connection, row: SiteRow, moment: &Moment) -> Result<SiteInfo, ApiError> {
    let connected = moment.is_connected(&row.site);
    let freshness = freshness(row.contact, row.seen.as_ref(), connected, &moment.now);
    let desired = assignments::desired(connection, &row.site)?;
    let retiring: BTreeSet<AppName> = assignments::retirements(connection, &row.site)?.into_iter().collect();
    let reported = status::apps(connection, &row.site)?;
    let names: BTreeSet<&AppName> = desired.keys().chain(reported.keys()).collect();
    let mut apps = Vec::with_capacity(names.len());
    for app in names {
        let wanted = desired.get(app).map(|wanted| desired_info(connection, wanted)).transpose()?;
        let done = desired.get(app).is_some_and(|wanted| is_done(wanted, reported.get(app), freshness));
        apps.push(site_app(app, wanted, retiring.contains(app), reported.get(app), done));
    }
    let assignment = assignments::newest(connection, &row.site)?.map(|newest| newest.counter);
    let assignment_reported =
        status::find(connection, &row.site)?.and_then(|status| status.document.assignment);
    Ok(SiteInfo {
        labels: sites::labels(connection, &row.site)?,
        site: row.site,
        incarnation: row.incarnation,
        standing: row.standing,
        contact: row.contact,
        connected,
        freshness,
        last_seen: row.seen.map(|seen| seen.at),
        assignment,
        assignment_reported,
        apps,
    })
}

/// The one meaning of "done": fresh, healthy, and at the desired generation.
fn is_done(wanted: &DesiredApp, reported: Option<&SiteAppRow>, freshness: Freshness) -> bool {
    freshness == Freshness::Fresh
        && reported.is_some_and(|reported| {
            reported.state == AppState::Healthy && reported.generation == Some(wanted.generation())
        })
}

fn site_app(
    app: &AppName,
    desired: Option<DesiredInfo>,
    retiring: bool,
    reported: Option<&SiteAppRow>,
    done: bool,
) -> SiteApp {
    SiteApp {
        app: app.clone(),
        desired,
        retiring,
        state: reported.map(|reported| reported.state),
        running: reported.and_then(|reported| reported.version.clone()),
        running_seq: reported.and_then(|reported| reported.seq),
        generation: reported.and_then(|reported| reported.generation),
        reason: reported.and_then(|reported| reported.reason),
        done,
    }
}

fn desired_info(connection: &Connection, wanted: &DesiredApp) -> Result<DesiredInfo, ApiError> {
    let release = releases::find(connection, &wanted.release)?;
    let version = release.map(|release| release.version).ok_or_else(|| {
        crate::db::DbError::Broken(format!("release {} is desired and not stored", wanted.release))
    })?;
    Ok(DesiredInfo {
        release: wanted.release,
        epoch: wanted.epoch,
        seq: wanted.seq,
        version,
        parameters: wanted.parameters.clone(),
        overlays: wanted.overlays.clone(),
        retry: wanted.retry,
    })
}

/// The sites that a selection names, by name; revoked ones are never among them.
pub(crate) fn resolve(
    connection: &Connection,
    selection: &super::types::SiteSelection,
) -> Result<Vec<SiteRow>, ApiError> {
    use super::types::Standing;
    use airlift_bundles::code::Code;
    let selector = selection.selector.as_deref().map(str::parse::<Selector>).transpose()?;
    if selection.names.is_empty() && selector.is_none() {
        return Err(ApiError::invalid("name sites or give a selector; `*` is every site"));
    }
    let mut rows = Vec::new();
    if selection.names.is_empty() {
        rows = sites::list(connection, "", u32::MAX)?;
        rows.retain(|row| row.standing != Standing::Revoked);
    } else {
        for name in selection.names.iter().collect::<BTreeSet<_>>() {
            let row = sites::find(connection, name)?.filter(|row| row.standing != Standing::Revoked);
            rows.push(row.ok_or_else(|| ApiError::new(Code::NotFound, format!("site {name}")))?);
        }
    }
    if let Some(selector) = selector {
        let mut chosen = Vec::new();
        for row in rows {
            if selector.matches(&sites::labels(connection, &row.site)?) {
                chosen.push(row);
            }
        }
        rows = chosen;
    }
    Ok(rows)
}
