//! Reconciling: a hub that was restored from a backup takes up what sites were told after the backup was made.

use std::sync::Arc;

use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::status::AppStatus;
use airlift_bundles::ids::{AppName, FleetId, SiteId};
use axum::extract::State;
use axum::{Extension, Json};
use rusqlite::Connection;

use super::Actor;
use super::problem::{ApiError, Body};
use super::roots::sign_all;
use super::types::{Reconcile, Reconciled, SiteDifference};
use crate::clock::Now;
use crate::db::rows::assignments::{self, ReturnedRow};
use crate::db::rows::{audit, meta, releases, sites, status};
use crate::plan::sign::read_own;
use crate::server::Hub;

/// What adopting does to a site's rows, with the line that tells a person.
enum Change {
    Desire(DesiredApp, String),
    Retire(AppName, String),
    /// Cannot be adopted: the release is not here.
    Unknown(String),
}

pub(super) async fn reconcile(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<Reconcile>,
) -> Result<Json<Reconciled>, ApiError> {
    let hub_in = Arc::clone(&hub);
    let done = hub.db.write(move |connection| {
        reconcile_rows(connection, &hub_in.fleet, wanted.adopt, &actor.0, &hub_in.clock.now())
    });
    let reconciled = done.await?;
    if reconciled.adopted {
        sign_all(&hub).await?;
    }
    Ok(Json(reconciled))
}

/// Says what sites returned, and takes it over where that is wanted; inside one transaction. What it makes due is
/// signed by [`sign_rows`](super::roots::sign_rows) afterwards.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn reconcile_rows(
    connection: &Connection,
    fleet: &FleetId,
    adopt: bool,
    actor: &str,
    now: &Now,
) -> Result<Reconciled, ApiError> {
    let mut differences = Vec::new();
    for returned in assignments::returned(connection)? {
        differences.push(reconcile_site(connection, &returned, adopt)?);
    }
    if adopt && meta::must_reconcile(connection)? {
        assignments::clear_returned(connection)?;
        meta::clear_restored(connection)?;
        let detail = format!("{} sites", differences.len());
        audit::append(connection, now.time(), actor, "hub.reconcile", fleet.as_str(), &detail)?;
    }
    Ok(Reconciled { sites: differences, adopted: adopt })
}

fn reconcile_site(
    connection: &Connection,
    returned: &ReturnedRow,
    adopt: bool,
) -> Result<SiteDifference, ApiError> {
    let site = &returned.site;
    let changes = match returned.envelope.as_deref().and_then(read_own) {
        Some(assignment) => changes_of_assignment(connection, site, &assignment)?,
        None => changes_of_status(connection, site)?,
    };
    let known = sites::find(connection, site)?.map(|row| row.last);
    if adopt {
        for change in &changes {
            match change {
                Change::Desire(desired, _) => assignments::set_desired(connection, site, desired)?,
                Change::Retire(app, _) => assignments::retire(connection, site, app)?,
                Change::Unknown(_) => {}
            }
        }
        sites::set_last(connection, site, returned.counter)?;
    }
    let line = |change: Change| match change {
        Change::Desire(_, line) | Change::Retire(_, line) | Change::Unknown(line) => line,
    };
    let changes = changes.into_iter().map(line).collect();
    Ok(SiteDifference { site: site.clone(), known, returned: returned.counter, changes })
}

/// The returned assignment says all: every app with its parameters, and what retires.
fn changes_of_assignment(
    connection: &Connection,
    site: &SiteId,
    assignment: &Assignment,
) -> Result<Vec<Change>, ApiError> {
    let desired = assignments::desired(connection, site)?;
    let retiring = assignments::retirements(connection, site)?;
    let mut changes = Vec::new();
    for entry in assignment.desired.iter().filter(|entry| desired.get(&entry.app) != Some(*entry)) {
        changes.push(match releases::find(connection, &entry.release)? {
            Some(row) => Change::Desire(entry.clone(), format!("{} is at {}", entry.app, row.version)),
            None => unknown(&entry.app, &entry.release.to_string()),
        });
    }
    for app in assignment.retire.iter().filter(|app| !retiring.contains(app)) {
        changes.push(Change::Retire(app.clone(), format!("{app} retires")));
    }
    Ok(changes)
}

fn unknown(app: &AppName, release: &str) -> Change {
    let line = format!("{app} is at release {release}, which is not here: publish it again, then assign it");
    Change::Unknown(line)
}

/// Without the assignment, the site's own status says which releases it was told to run. Their parameters are
/// known only where the generation that it names is the one that the hub's own parameters give.
fn changes_of_status(connection: &Connection, site: &SiteId) -> Result<Vec<Change>, ApiError> {
    let desired = assignments::desired(connection, site)?;
    let Some(status) = status::find(connection, site)? else { return Ok(Vec::new()) };
    let mut changes = Vec::new();
    for (app, says) in &status.document.apps {
        if let Some(change) = change_of_app(connection, desired.get(app), app, says)? {
            changes.push(change);
        }
    }
    Ok(changes)
}

fn change_of_app(
    connection: &Connection,
    ours: Option<&DesiredApp>,
    app: &AppName,
    says: &AppStatus,
) -> Result<Option<Change>, ApiError> {
    let Some(release) = says.target.as_ref().or(says.running.as_ref()) else { return Ok(None) };
    if ours.is_some_and(|ours| ours.release == release.sha256) {
        return Ok(None);
    }
    if releases::find(connection, &release.sha256)?.is_none() {
        return Ok(Some(unknown(app, &release.sha256.to_string())));
    }
    let adopted = DesiredApp {
        app: app.clone(),
        release: release.sha256,
        epoch: release.epoch,
        seq: release.seq,
        parameters: ours.map(|ours| ours.parameters.clone()).unwrap_or_default(),
        overlays: ours.map(|ours| ours.overlays.clone()).unwrap_or_default(),
        secrets: ours.map(|ours| ours.secrets.clone()).unwrap_or_default(),
        retry: ours.map_or(0, |ours| ours.retry),
    };
    let certain = says.generation == Some(adopted.generation());
    let parameters = if certain { "" } else { "; its parameters are not known here, check them" };
    let line = format!("{app} is at {}{parameters}", release.version);
    Ok(Some(Change::Desire(adopted, line)))
}
