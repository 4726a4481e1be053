//! The planner's edge: loads a site's rows, composes its next assignment, signs and stores it.

use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Counter, SiteId};
use airlift_bundles::limits::Limits;
use rusqlite::Connection;

use super::compose::{Renewal, SitePlan, compose};
use crate::clock::Now;
use crate::collect::take::receipt_mark;
use crate::db::DbError;
use crate::db::rows::assignments::{self, AssignmentRow};
use crate::db::rows::{meta, sites};
use crate::server::Hub;

/// Loads a site's rows; `None` for a stranger.
///
/// # Errors
/// [`DbError`].
pub fn load_plan(connection: &Connection, site: &SiteId) -> Result<Option<SitePlan>, DbError> {
    let Some(row) = sites::find(connection, site)? else { return Ok(None) };
    Ok(Some(SitePlan {
        site: site.clone(),
        incarnation: row.incarnation,
        last: row.last,
        desired: assignments::desired(connection, site)?,
        retire: assignments::retirements(connection, site)?,
        receipts_acked: receipt_mark(connection, site)?,
        contact: row.contact,
    }))
}

/// Signs a site's next assignment where one is due; returns the number of the one in force afterwards.
///
/// A hub that has to be reconciled signs nothing: the rows wait.
///
/// # Errors
/// [`DbError`].
pub fn sign_next(
    connection: &Connection,
    hub: &Hub,
    site: &SiteId,
    renewal: Renewal,
    now: &Now,
) -> Result<Option<Counter>, DbError> {
    let Some(plan) = load_plan(connection, site)? else { return Ok(None) };
    let stored = assignments::newest(connection, site)?;
    let in_force = stored.as_ref().map(|stored| stored.counter);
    if !hub.may_direct() || meta::must_reconcile(connection)? {
        return Ok(in_force);
    }
    let current = stored.as_ref().and_then(|stored| read_own(&stored.envelope));
    let Some(next) = compose(&hub.director(), &plan, current.as_ref(), renewal, now) else {
        return Ok(in_force);
    };
    let (counter, envelope) = (next.counter(), hub.sign(&next));
    let row = AssignmentRow { counter, sha256: envelope.digest(), envelope: envelope.to_json() };
    assignments::add(connection, site, &row)?;
    sites::set_last(connection, site, counter)?;
    Ok(Some(counter))
}

/// Reads an assignment that this hub signed and stored itself.
#[must_use]
pub fn read_own(envelope: &[u8]) -> Option<Assignment> {
    let envelope = Envelope::parse(envelope, &Limits::DEFAULT).ok()?;
    envelope.read_unverified(&Limits::DEFAULT).ok()
}
