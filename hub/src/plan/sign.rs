//! The planner's edge: loads a site's rows, composes its next assignment, signs and stores it.

use std::sync::Arc;

use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{Counter, FleetId, RandomId, SiteId};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use rusqlite::Connection;

use super::compose::{Director, Renewal, SitePlan, compose};
use crate::clock::Now;
use crate::collect::take::receipt_mark;
use crate::db::DbError;
use crate::db::rows::assignments::{self, AssignmentRow};
use crate::db::rows::{meta, roots, sites};
use crate::server::newest_root;

/// The hub's right to direct at one moment: its key, under the root that was the newest then.
pub struct Directing<'a> {
    /// The director key.
    pub key: &'a SecretKey,
    /// The fleet.
    pub fleet: &'a FleetId,
    /// Which life of the hub.
    pub hub_incarnation: &'a RandomId,
    /// The newest root.
    pub root: Option<Arc<TrustedRoot>>,
}

impl Directing<'_> {
    /// Whether the newest root lets this hub sign alone.
    #[must_use]
    pub fn may_direct(&self) -> bool {
        self.root.as_ref().is_some_and(|root| {
            let role = &root.roles.director;
            role.threshold == 1 && role.keyids.contains(&self.key.public().key_id())
        })
    }

    /// The newest root inside a transaction: as a rule the one that is open, which is then not verified again.
    ///
    /// # Errors
    /// [`DbError`].
    pub fn newest_root(&self, connection: &Connection) -> Result<Option<Arc<TrustedRoot>>, DbError> {
        match (&self.root, roots::newest(connection)?) {
            (Some(open), Some(newest)) if open.envelope() == newest => Ok(Some(Arc::clone(open))),
            _ => Ok(newest_root(connection)?.map(Arc::new)),
        }
    }

    /// Who signs, under the newest root.
    #[must_use]
    pub fn director(&self) -> Director {
        let epoch = self.root.as_ref().map_or(0, |root| root.roles.director.epoch);
        Director { fleet_id: self.fleet.clone(), hub_incarnation: self.hub_incarnation.clone(), epoch }
    }

    /// Reads an assignment in force, where this key signed it: what another key signed is nobody's word to a site that
    /// has the root with this one.
    fn read_in_force(&self, envelope: &[u8]) -> Option<Assignment> {
        let keyid = self.key.public().key_id();
        let envelope = Envelope::parse(envelope, &Limits::DEFAULT).ok()?;
        let ours = envelope.signatures().iter().any(|signature| signature.keyid.as_ref() == Some(&keyid));
        if ours { envelope.read_unverified(&Limits::DEFAULT).ok() } else { None }
    }

    /// Signs a document with the director key; its envelope.
    #[must_use]
    pub fn sign<D: Document>(&self, document: &D) -> Envelope {
        Envelope::signed(document, self.key)
    }
}

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
    directing: &Directing<'_>,
    site: &SiteId,
    renewal: Renewal,
    now: &Now,
) -> Result<Option<Counter>, DbError> {
    let Some(plan) = load_plan(connection, site)? else { return Ok(None) };
    let stored = assignments::newest(connection, site)?;
    let in_force = stored.as_ref().map(|stored| stored.counter);
    if !directing.may_direct() || meta::must_reconcile(connection)? {
        return Ok(in_force);
    }
    let current = stored.as_ref().and_then(|stored| directing.read_in_force(&stored.envelope));
    let Some(next) = compose(&directing.director(), &plan, current.as_ref(), renewal, now) else {
        return Ok(in_force);
    };
    let (counter, envelope) = (next.counter(), directing.sign(&next));
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

#[cfg(test)]
mod tests {
    use super::*;
    use airlift_bundles::ids::Timestamp;

    fn assignment() -> Assignment {
        Assignment {
            fleet_id: FleetId::new("fleet").unwrap(),
            site: SiteId::new("ship").unwrap(),
            incarnation: 1,
            epoch: 0,
            assignment_seq: 7,
            hub_incarnation: RandomId::from_bytes([2; 16]),
            desired: Vec::new(),
            retire: Vec::new(),
            receipts_acked: None,
            offers: Vec::new(),
            issued_at: Timestamp::from_unix_s(1),
            stale_after_s: None,
            crit: Vec::new(),
        }
    }

    #[test]
    fn what_another_director_key_signed_is_no_longer_in_force() {
        let (fleet, life, assignment) = (assignment().fleet_id, assignment().hub_incarnation, assignment());
        let [key, other] = [[1; 32], [2; 32]].map(|seed| SecretKey::from_seed(&seed));
        let directing = |key| Directing { key, fleet: &fleet, hub_incarnation: &life, root: None };
        let envelope = directing(&key).sign(&assignment).to_json();
        assert_eq!(directing(&key).read_in_force(&envelope), Some(assignment));
        assert_eq!(directing(&other).read_in_force(&envelope), None);
    }
}
