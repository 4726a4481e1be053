//! Assigning and retiring: all chosen sites in one transaction, or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::accept::open_release;
use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::release::Requirement;
use airlift_bundles::ids::{AppName, Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;
use axum::extract::State;
use axum::{Extension, Json};
use rusqlite::Connection;

use super::Actor;
use super::problem::{ApiError, Body};
use super::releases::statement;
use super::types::{Assign, Assigned, ReleaseChoice, Retire, SiteAssigned};
use super::view::resolve;
use crate::clock::Now;
use crate::db::rows::releases::{self, ReleaseRow};
use crate::db::rows::{assignments, audit, meta};
use crate::plan::compose::Renewal;
use crate::plan::order::{AssignOrder, check_requires};
use crate::plan::sign::{Directing, sign_next};
use crate::publish;
use crate::server::Hub;

/// Names of sites in an entry of the audit log; the number of the rest follows.
const AUDIT_NAMES: usize = 20;

/// What releases require, read once for each.
#[derive(Default)]
struct Requirements(BTreeMap<Sha256Digest, Vec<Requirement>>);

impl Requirements {
    fn of(
        &mut self,
        connection: &Connection,
        desired: &BTreeMap<AppName, DesiredApp>,
    ) -> Result<BTreeMap<AppName, Vec<Requirement>>, ApiError> {
        let mut all = BTreeMap::new();
        for (app, entry) in desired {
            let requires = match self.0.get(&entry.release) {
                Some(requires) => requires.clone(),
                None => {
                    let row = releases::find(connection, &entry.release)?;
                    let statement = row.map(|row| statement(&row)).transpose()?;
                    let requires =
                        statement.map(|statement| statement.predicate.requires).unwrap_or_default();
                    self.0.insert(entry.release, requires.clone());
                    requires
                }
            };
            all.insert(app.clone(), requires);
        }
        Ok(all)
    }
}

fn choose(connection: &Connection, app: &AppName, choice: &ReleaseChoice) -> Result<ReleaseRow, ApiError> {
    let found = match choice {
        ReleaseChoice::Sha256(sha256) => releases::find(connection, sha256)?.filter(|row| row.app == *app),
        ReleaseChoice::Seq(seq) => releases::newest(connection, app, None, Some(*seq))?,
        ReleaseChoice::Version(version) => releases::newest(connection, app, Some(version), None)?,
        ReleaseChoice::Newest => releases::newest(connection, app, None, None)?,
    };
    found.ok_or_else(|| ApiError::new(Code::NotFound, format!("no such release of {app} is published")))
}

fn check_ready(connection: &Connection, directing: &Directing<'_>) -> Result<(), ApiError> {
    if meta::must_reconcile(connection)? {
        let detail = "sites have newer assignments than this hub: reconcile first";
        return Err(ApiError::new(Code::HubRestored, detail));
    }
    if directing.may_direct() {
        Ok(())
    } else {
        let detail = "the newest root does not name this hub's director key: publish one that does";
        Err(ApiError::new(Code::Conflict, detail))
    }
}

fn names(sites: &[SiteAssigned]) -> String {
    let changed: Vec<&str> =
        sites.iter().filter(|site| site.changed).map(|site| site.site.as_str()).collect();
    let shown = changed.iter().take(AUDIT_NAMES).copied().collect::<Vec<_>>().join(" ");
    match changed.len().saturating_sub(AUDIT_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

pub(super) async fn assign(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<Assign>,
) -> Result<Json<Assigned>, ApiError> {
    let hub_in = Arc::clone(&hub);
    let done = move |connection: &Connection| {
        assign_rows(connection, &hub_in.directing(), wanted, &actor.0, &hub_in.clock.now())
    };
    let assigned = hub.db.write(done).await?;
    publish::wake(&hub);
    Ok(Json(assigned))
}

/// Assigns a release to the chosen sites and signs what that makes due; inside one transaction.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn assign_rows(
    connection: &Connection,
    directing: &Directing<'_>,
    wanted: Assign,
    actor: &str,
    now: &Now,
) -> Result<Assigned, ApiError> {
    check_ready(connection, directing)?;
    let root = directing.newest_root(connection)?.ok_or_else(|| ApiError::new(Code::Conflict, "no root"))?;
    let row = choose(connection, &wanted.app, &wanted.release)?;
    let order = AssignOrder {
        sha256: row.sha256,
        release: statement(&row)?.predicate,
        parameters: wanted.parameters,
        overlays: wanted.overlays,
        retry: wanted.retry,
    };
    order.check(&root)?;
    open_release(&row.envelope, &root, &Limits::DEFAULT).map_err(|refusal| {
        let detail = format!(
            "the newest root does not know enough of those who signed {} {}: have it signed again, then publish it \
             again ({})",
            wanted.app, row.version, refusal.detail
        );
        ApiError::new(refusal.code, detail)
    })?;
    let mut requirements = Requirements::default();
    let mut sites = Vec::new();
    for site in resolve(connection, &wanted.sites)? {
        let mut desired = assignments::desired(connection, &site.site)?;
        let next = order.apply(desired.get(&wanted.app));
        if let Some(next) = &next {
            desired.insert(wanted.app.clone(), next.clone());
            check_requires(&desired, &requirements.of(connection, &desired)?)
                .map_err(|refused| ApiError::new(refused.code, format!("at {}: {refused}", site.site)))?;
            if desired.len() > Limits::DEFAULT.desired {
                return Err(ApiError::invalid(format!("site {} has too many apps", site.site)));
            }
        }
        sites.push((site.site, next));
    }
    let apply = |site: &SiteId, next: &DesiredApp| -> Result<(), ApiError> {
        Ok(assignments::set_desired(connection, site, next)?)
    };
    let sites = execute(connection, directing, sites, wanted.dry_run, now, apply)?;
    if !wanted.dry_run {
        let subject = format!("{}@{}", wanted.app, row.version);
        audit::append(connection, now.time(), actor, "site.assign", &subject, &names(&sites))?;
    }
    Ok(Assigned { release: Some(row.sha256), version: Some(row.version), sites })
}

pub(super) async fn retire(
    State(hub): State<Arc<Hub>>,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<Retire>,
) -> Result<Json<Assigned>, ApiError> {
    let hub_in = Arc::clone(&hub);
    let done = move |connection: &Connection| {
        retire_rows(connection, &hub_in.directing(), &wanted, &actor.0, &hub_in.clock.now())
    };
    let assigned = hub.db.write(done).await?;
    publish::wake(&hub);
    Ok(Json(assigned))
}

/// Tells an app to leave the chosen sites and signs what that makes due; inside one transaction.
///
/// # Errors
/// [`ApiError`]; then nothing may be committed.
pub fn retire_rows(
    connection: &Connection,
    directing: &Directing<'_>,
    wanted: &Retire,
    actor: &str,
    now: &Now,
) -> Result<Assigned, ApiError> {
    check_ready(connection, directing)?;
    let mut requirements = Requirements::default();
    let mut sites = Vec::new();
    for site in resolve(connection, &wanted.sites)? {
        let mut desired = assignments::desired(connection, &site.site)?;
        let leaves = desired.remove(&wanted.app).is_some()
            || !assignments::retirements(connection, &site.site)?.contains(&wanted.app);
        check_requires(&desired, &requirements.of(connection, &desired)?)
            .map_err(|refused| ApiError::new(refused.code, format!("at {}: {refused}", site.site)))?;
        sites.push((site.site, leaves.then(|| wanted.app.clone())));
    }
    let apply = |site: &SiteId, app: &AppName| -> Result<(), ApiError> {
        Ok(assignments::retire(connection, site, app)?)
    };
    let sites = execute(connection, directing, sites, wanted.dry_run, now, apply)?;
    if !wanted.dry_run {
        audit::append(connection, now.time(), actor, "site.retire", wanted.app.as_str(), &names(&sites))?;
    }
    Ok(Assigned { release: None, version: None, sites })
}

/// Does what was found good for every site, and signs; in a dry run only says it.
fn execute<C>(
    connection: &Connection,
    directing: &Directing<'_>,
    sites: Vec<(SiteId, Option<C>)>,
    dry_run: bool,
    now: &Now,
    apply: impl Fn(&SiteId, &C) -> Result<(), ApiError>,
) -> Result<Vec<SiteAssigned>, ApiError> {
    let mut done = Vec::with_capacity(sites.len());
    for (site, change) in sites {
        let mut assignment = None;
        if !dry_run {
            if let Some(change) = &change {
                apply(&site, change)?;
            }
            assignment = sign_next(connection, directing, &site, Renewal::OnChange, now)?;
        }
        done.push(SiteAssigned { site, changed: change.is_some(), assignment });
    }
    Ok(done)
}
