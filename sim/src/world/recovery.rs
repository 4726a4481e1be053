//! What befalls the hub as a whole, and what its people and the key holders do about it: backups, restores,
//! reconciling, new roots and keys, sites that are sent away.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::accept::open_release;
use airlift_bundles::document::root::RevokeAction;
use airlift_bundles::ids::{AppName, SiteId};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use airlift_hub::api::ApiError;
use airlift_hub::api::reconcile::reconcile_rows;
use airlift_hub::api::releases::{read_bundle, store_release};
use airlift_hub::api::roots::{publish_rows, sign_rows};
use airlift_hub::api::sites::revoke_rows;
use airlift_hub::db::Db;
use airlift_hub::db::rows::{meta, receipts};
use airlift_hub::server::newest_root;
use rusqlite::Connection;

use super::World;
use super::WorldError;
use super::happening::{Happening, SiteNo};
use super::hub::ACTOR;
use super::trust::Change;
use crate::invariants::Invariant;
use crate::scenario::{Act, Action};

/// After a restore people look after the hub this often.
const PEOPLE_MS: (u64, u64) = (600_000, 2_400_000);

/// The hub's data directory as it once was: database with the endpoint's memory, and its key.
pub(super) struct Copy {
    db: Connection,
    key: Arc<SecretKey>,
    retained: BTreeMap<SiteNo, Arc<[u8]>>,
    /// Orders that were given since then may be missing in it.
    complete_until_ms: u64,
}

fn copy(from: &Connection, to: &mut Connection) -> Result<(), WorldError> {
    rusqlite::backup::Backup::new(from, to)?.step(-1)?;
    Ok(())
}

impl World {
    /// Makes a backup of the hub, in the place of the one before.
    pub(super) fn back_up(&mut self) {
        let copied = Db::in_memory().map_err(WorldError::from).and_then(|mut db| {
            copy(&self.hub.db, &mut db)?;
            Ok(db)
        });
        match copied {
            Ok(db) => {
                let (key, retained) = (Arc::clone(&self.hub.key), self.hub.retained.clone());
                // Who backs a restored hub up before its people have looked after it keeps what it lacks, too.
                let now_ms = self.timeline.now_ms();
                let complete_until_ms = if self.hub.unsettled { self.hub.complete_until_ms } else { now_ms };
                self.hub.copy = Some(Copy { db, key, retained, complete_until_ms });
            }
            Err(error) => self.violated(Invariant::Scenario, None, format!("no backup: {error}")),
        }
    }

    /// The hub's machine is lost, and another begins with the last backup; where there is none the hub stays.
    pub(super) fn restore_hub(&mut self) {
        self.lose_hub();
        if let Some(copy) = self.hub.copy.take() {
            if let Err(error) = self.put_back(&copy) {
                self.violated(Invariant::Scenario, None, format!("the backup is of no use: {error}"));
            }
            self.hub.copy = Some(copy);
        }
        self.return_hub();
    }

    fn put_back(&mut self, from: &Copy) -> Result<(), WorldError> {
        // What was acknowledged is lost with the disk that held it, which is no fault of the hub's.
        for (name, chain) in receipts::chains(&self.hub.db, None)? {
            if let Some(site) = self.names.get(&name) {
                let ledger = &mut self.ledgers[*site];
                ledger.lost_upto = ledger.lost_upto.max(chain.highest);
            }
        }
        let mut db = Db::in_memory()?;
        copy(&from.db, &mut db)?;
        self.hub.db = db;
        self.hub.key = Arc::clone(&from.key);
        self.hub.retained.clone_from(&from.retained);
        (self.hub.restored, self.hub.unsettled) = (true, true);
        self.hub.complete_until_ms = from.complete_until_ms;
        (0..self.sites.len()).for_each(|site| self.stir(site));
        self.reload_root()
    }

    fn reload_root(&mut self) -> Result<(), WorldError> {
        let newest = newest_root(&self.hub.db)?;
        self.hub.root = Arc::new(newest.ok_or_else(|| WorldError::Refused("it has no root".into()))?);
        Ok(())
    }

    /// The hub's people bring everything up to date that is in their hands: the key, the roots, the releases; then
    /// they take over what sites returned, and go through the orders that the backup may lack.
    pub(super) fn reconcile_hub(&mut self) {
        if let Err(error) = self.put_right() {
            return self.violated(Invariant::Scenario, None, format!("the hub is not reconciled: {error}"));
        }
        self.hub.unsettled = false;
        self.publish_waiting();
        let since_ms = if self.hub.restored { self.hub.complete_until_ms } else { u64::MAX };
        let mut orders: BTreeMap<(Option<AppName>, String), usize> = BTreeMap::new();
        for number in self.hub.orders_since(since_ms) {
            let order = &self.scenario.action[number];
            orders.insert((order.app.clone(), order.sites.clone()), number);
        }
        for number in orders.into_values() {
            let action = self.scenario.action[number].clone();
            self.act(number, &action);
        }
    }

    fn put_right(&mut self) -> Result<(), WorldError> {
        self.put_documents()?;
        let now = self.hub.now(self.timeline.now_ms());
        self.hub
            .within(|connection| reconcile_rows(connection, self.hub.fleet(), true, ACTOR, &now).map(drop))?;
        self.sign_due()?;
        self.tell_root();
        Ok(())
    }

    /// Signs what a new root, or what was adopted, makes due.
    fn sign_due(&mut self) -> Result<(), WorldError> {
        let now = self.hub.now(self.timeline.now_ms());
        let names: Vec<SiteId> = self.names.keys().cloned().collect();
        self.hub.within(|connection| sign_rows(connection, &self.hub.directing(), &names, &now))?;
        Ok(())
    }

    /// Hands every release to the hub, as it is signed now.
    pub(super) fn publish_releases(&mut self) -> Result<(), WorldError> {
        let now = self.hub.now(self.timeline.now_ms());
        let root = Arc::clone(&self.hub.root);
        self.hub.within(|connection| {
            for release in self.library.releases() {
                let opened = open_release(&release.envelope, &root, &Limits::DEFAULT)
                    .map_err(|refusal| WorldError::Refused(refusal.to_string()))?;
                let listed = read_bundle(&opened, self.library.content.as_ref())?;
                store_release(connection, &root, &opened, &listed, now.time(), ACTOR)?;
            }
            Ok::<_, WorldError>(())
        })
    }

    /// People look whether the hub waits for them, as they do while sites come back after a restore.
    pub(super) fn look_after_hub(&mut self) {
        let waits = self.hub.unsettled || meta::must_reconcile(&self.hub.db).unwrap_or(false);
        if self.hub.up && waits {
            self.reconcile_hub();
        }
        let again_ms = self.random.between(PEOPLE_MS.0, PEOPLE_MS.1);
        self.timeline.after(again_ms, Happening::People);
    }

    /// The first look after a restore: the people know what they did.
    pub(super) fn expect_people(&mut self) {
        let later_ms = self.random.between(PEOPLE_MS.0, PEOPLE_MS.1);
        let first = !std::mem::replace(&mut self.hub.looked_after, true);
        if first {
            self.timeline.after(later_ms, Happening::People);
        }
    }

    /// The holders sign a new root, and the hub's people publish it; after a theft with a new key in the hub.
    pub(super) fn change_root(&mut self, action: &Action) {
        let changed = self.changes(action).and_then(|changes| {
            for change in changes {
                self.trust.change(change, self.timeline.now_ms())?;
            }
            if action.act == Act::RotateReleases {
                self.library.sign_again(&self.trust);
            }
            self.put_root()
        });
        match changed {
            Ok(()) => self.publish_waiting(),
            Err(error) => self.violated(Invariant::Scenario, None, format!("no new root: {error}")),
        }
    }

    fn changes(&self, action: &Action) -> Result<Vec<Change>, WorldError> {
        let take_back = |action: &Action, how| {
            let named = action.app.as_ref().zip(action.version.as_ref());
            let release = named.and_then(|(app, version)| self.library.release(app, version));
            let release = release.ok_or_else(|| WorldError::Refused("there is no such release".into()))?;
            Ok::<_, WorldError>(Change::TakeBack(release.sha256, how))
        };
        Ok(vec![match action.act {
            Act::RotateRoot => Change::RootKeys,
            Act::RotateReleases => Change::ReleaseKeys,
            Act::RotateDirector => Change::DirectorKey,
            Act::ReplaceDirector => Change::StolenDirectorKey,
            Act::Block => take_back(action, RevokeAction::Block)?,
            Act::Stop => take_back(action, RevokeAction::Stop)?,
            _ => return Ok(Vec::new()),
        }])
    }

    fn put_root(&mut self) -> Result<(), WorldError> {
        self.put_documents()?;
        self.sign_due()?;
        self.tell_root();
        Ok(())
    }

    /// Brings the hub what its people hold: the director key, the roots, and the releases under them.
    fn put_documents(&mut self) -> Result<(), WorldError> {
        let now = self.hub.now(self.timeline.now_ms());
        self.hub.key = self.trust.director();
        self.hub.within(|connection| {
            publish_rows(connection, self.hub.fleet(), self.trust.roots(), ACTOR, &now).map(drop)
        })?;
        self.reload_root()?;
        self.publish_releases()
    }

    /// Takes the keys of sites back; they are on their own from then on.
    pub(super) fn revoke_sites(&mut self, sites: &[SiteNo]) {
        let now = self.hub.now(self.timeline.now_ms());
        for site in sites {
            let name = self.sites[*site].id.clone();
            let revoked = self.hub.within(|connection| {
                revoke_rows(connection, &name, "lost", ACTOR, &now)?;
                Ok::<_, ApiError>(())
            });
            if let Err(error) = revoked {
                return self.violated(Invariant::Scenario, Some(*site), error.to_string());
            }
            self.hub.revoked.insert(*site);
            self.hub.retained.remove(site);
            self.break_link(*site);
        }
    }
}
