//! What leaves the cluster: objects that healthy content no longer holds, and apps that were retired.
//!
//! Only objects of our inventory are deleted, by UID, the last wave first; labels never decide.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::{Counts, Evidence, Outcome};
use airlift_bundles::document::release::DeletePermissions;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::api::ApiCall;
use super::live::Deed;
use super::object::{Gvk, ObjectRef, Uid};
use super::outbox::Told;
use super::state::Step as AppStep;
use super::write::{AppRow, ObjectRow};
use super::{Core, Effect, Turn, Write};

/// Deletions of one app in flight.
const DELETIONS_MAX: usize = 8;

/// Whether deleting an object of this kind takes others' things along: then the release must allow it, and nothing of
/// others may be under it.
fn holds_others(gvk: &Gvk) -> bool {
    permission(gvk).is_some()
}

fn permission(gvk: &Gvk) -> Option<fn(&DeletePermissions) -> bool> {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace") => Some(|permissions| permissions.namespaces),
        ("", "PersistentVolumeClaim") => Some(|permissions| permissions.claims),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Some(|permissions| permissions.crds),
        _ => None,
    }
}

fn permitted(gvk: &Gvk, permissions: DeletePermissions) -> bool {
    permission(gvk).is_none_or(|permission| permission(&permissions))
}

/// Whether the plan holds the object no more.
fn leaves(row: &ObjectRow) -> bool {
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::WidePruning) && row.object.gvk.kind == "ConfigMap" {
        return row.applied.is_some();
    }
    row.wanted.is_none()
}

/// An object that is to be deleted: its wave, and its identity where it ever came to be.
type Leaving = (u32, ObjectRef, Option<Uid>);

impl Core {
    /// Deletes what the healthy generation no longer holds.
    pub(super) fn prune(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        let settled = row.state == AppState::Healthy && row.current.is_some() && row.planned == row.current;
        if !settled || !self.live.api_up || self.plan_rows_lost(app) {
            return;
        }
        let Some(generation) = self.generation(row.current) else { return };
        let permissions = self.release(&generation).map(|release| release.prune).unwrap_or_default();
        let budget = self.policy(app).deletion_budget.map_or(self.root.policy.deletion_budget, u64::from);
        let mut leaving: Vec<Leaving> = Vec::new();
        let mut kept = 0;
        for row in self.rows.objects.get(app).into_iter().flat_map(|rows| rows.values()) {
            if leaves(row) {
                if permitted(&row.object.gvk, permissions) {
                    let uid = row.applied.as_ref().map(|applied| applied.uid.clone());
                    leaving.push((row.wave, row.object.clone(), uid));
                } else {
                    kept += 1;
                }
            }
        }
        if leaving.len() as u64 > budget {
            let reason = format!("{} objects would be deleted, the budget is {budget}", leaving.len());
            self.live.app(app).prune_due = false;
            self.prune_refused(t, app, Code::DeletionBudget, reason, Vec::new());
            return;
        }
        if !self.look_under(t, app, &leaving, permissions.claims) {
            return;
        }
        let held = self.take_held(app, &mut leaving);
        if !leaving.is_empty() {
            self.delete(t, app, leaving);
            return;
        }
        let live = self.live.app(app);
        live.prune_due = false;
        live.others.clear();
        self.receipt_pruned(t, app);
        if let Some(first) = held.first() {
            let reason = format!("{} is kept: {}", first.object, first.message);
            self.prune_refused(t, app, Code::HoldsOthers, reason, held);
            return;
        }
        let code = self.rows.apps.get(app).and_then(|row| row.code);
        if matches!(code, Some(Code::DeletionBudget | Code::HoldsOthers)) {
            self.change_app(t, app, AppRow::clear_note);
        }
        if kept > 0 {
            let reason = format!(
                "{kept} namespaces, CRDs or claims are kept: the release does not permit their deletion"
            );
            self.change_app(t, app, |row| row.reason = reason);
        }
    }

    /// Asks what is under the namespaces, definitions and claims that are to be deleted; answers whether all is known.
    fn look_under(&mut self, t: &mut Turn, app: &AppName, leaving: &[Leaving], claims: bool) -> bool {
        let unknown = |(_, object, uid): &&Leaving| {
            uid.is_some() && holds_others(&object.gvk) && !self.live.knows_others(app, object)
        };
        let unknown: Vec<ObjectRef> =
            leaving.iter().filter(unknown).map(|(_, object, _)| object.clone()).collect();
        if unknown.is_empty() {
            return true;
        }
        let rows = self.rows.objects.get(app).into_iter().flat_map(|rows| rows.values());
        let uids = rows.filter_map(|row| row.applied.as_ref()).map(|applied| applied.uid.clone());
        let ours: Arc<BTreeSet<Uid>> = Arc::new(uids.collect());
        for object in unknown {
            if !self.live.doing(app, |deed| *deed == Deed::Others(object.clone())) {
                let op = self.live.begin_op(t.now, app, Deed::Others(object.clone()));
                let call = ApiCall::Others { object, ours: ours.clone(), claims };
                t.effect(Effect::Api { op, call });
            }
        }
        false
    }

    /// Takes out what holds others' things, and says what they are.
    fn take_held(&self, app: &AppName, leaving: &mut Vec<Leaving>) -> Vec<Evidence> {
        let Some(live) = self.live.apps.get(app) else { return Vec::new() };
        let mut held = Vec::new();
        leaving.retain(|(_, object, _)| match live.others.get(object) {
            Some(names) if !names.is_empty() => {
                held.push(Evidence {
                    object: object.to_string(),
                    reason: Code::HoldsOthers.id().to_owned(),
                    message: format!("others have {} in it", names.join(", ")),
                });
                false
            }
            _ => true,
        });
        Evidence::bounded(held, &Limits::DEFAULT)
    }

    /// What stops a prune is told once.
    fn prune_refused(
        &mut self,
        t: &mut Turn,
        app: &AppName,
        code: Code,
        reason: String,
        evidence: Vec<Evidence>,
    ) {
        let Some(row) = self.rows.apps.get(app) else { return };
        if row.code == Some(code) && row.reason == reason {
            return;
        }
        let current = row.current;
        let told =
            Told { code: Some(code), evidence: evidence.clone(), ..Told::of(app, current, Outcome::Refused) };
        self.receipt(t, told);
        self.change_app(t, app, |row| (row.code, row.reason, row.evidence) = (Some(code), reason, evidence));
    }

    fn receipt_pruned(&mut self, t: &mut Turn, app: &AppName) {
        let pruned = std::mem::take(&mut self.live.app(app).pruned);
        if pruned > 0 {
            let current = self.rows.apps.get(app).and_then(|row| row.current);
            let counts = Counts { pruned, ..Counts::default() };
            self.receipt(t, Told { counts, ..Told::of(app, current, Outcome::Pruned) });
        }
    }

    /// Sends deletions, highest wave first; a wave waits for the one above it.
    fn delete(&mut self, t: &mut Turn, app: &AppName, mut leaving: Vec<Leaving>) {
        let Some(highest) = leaving.iter().map(|(wave, ..)| *wave).max() else { return };
        leaving.retain(|(wave, ..)| *wave == highest);
        let flying = self.live.ops_of(app).filter(|(_, op)| matches!(op.deed, Deed::Delete(_))).count();
        let mut free = DELETIONS_MAX.saturating_sub(flying);
        for (_, object, uid) in leaving {
            let Some(uid) = uid else {
                // It never came to be as far as we know, so nothing of ours bears that name.
                self.write(t, Write::DropObject(app.clone(), object));
                continue;
            };
            if free == 0 || self.live.doing(app, |deed| *deed == Deed::Delete(object.clone())) {
                continue;
            }
            free -= 1;
            let op = self.live.begin_op(t.now, app, Deed::Delete(object.clone()));
            t.effect(Effect::Api { op, call: ApiCall::Delete { object, uid } });
        }
    }

    /// An object is gone, or bears another UID and so is not ours.
    pub(super) fn record_deleted(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef) {
        let live = self.live.app(app);
        live.found.remove(&object);
        live.pruned += 1;
        let Some(row) = self.rows.objects.get(app).and_then(|rows| rows.get(&object)).cloned() else {
            return;
        };
        let leaves = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::RetireDelete);
        if row.wanted.is_none() || leaves {
            self.write(t, Write::DropObject(app.clone(), object));
        } else {
            self.change_object(t, &row, |row| row.applied = None);
        }
    }

    /// Begins the retire delay.
    pub(super) fn retire(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        if matches!(row.step, AppStep::RetireWait | AppStep::RetireDelete) {
            self.change_app(t, app, |row| row.target = None);
            return;
        }
        self.abandon(t, app);
        self.change_app(t, app, |row| (row.target, row.working, row.retire_ms) = (None, None, 0));
        self.enter(t, app, AppStep::RetireWait);
    }

    /// The order to retire was taken back before anything was deleted: look at everything again.
    pub(super) fn unretire(&mut self, t: &mut Turn, app: &AppName) {
        self.abandon(t, app);
        self.change_app(t, app, |row| {
            (row.retire_ms, row.step) = (0, AppStep::Rest);
            row.state = if row.current.is_some() { AppState::Healthy } else { AppState::Waiting };
        });
        let kinds = self.kinds_of(app);
        let live = self.live.app(app);
        (live.drifted, live.import_due, live.prune_due) = (kinds, true, true);
    }

    pub(super) fn retire_delay_ms(&self) -> u64 {
        self.root.policy.retire_delay_s.saturating_mul(1000)
    }

    pub(super) fn drive_retire_wait(&mut self, t: &mut Turn, app: &AppName) {
        let waited = self.rows.apps.get(app).map_or(0, |row| row.retire_ms) + self.live.app(app).unflushed_ms;
        let held = self.rows.apps.get(app).is_some_and(|row| row.held);
        let deleting = |row: &AppRow| row.step == AppStep::RetireDelete;
        if !held && waited >= self.retire_delay_ms() && !self.rows.apps.values().any(|row| deleting(row)) {
            self.flush_clock(t, app);
            self.enter(t, app, AppStep::RetireDelete);
        }
    }

    pub(super) fn retire_deadline(&self, app: &AppName) -> Option<u64> {
        let row = self.rows.apps.get(app).filter(|row| row.step == AppStep::RetireWait && !row.held)?;
        let live = self.live.apps.get(app)?;
        let left = self.retire_delay_ms().saturating_sub(row.retire_ms + live.unflushed_ms);
        Some((self.live.clocks_ms + left).min(live.flush_at.max(self.live.clocks_ms)))
    }

    pub(super) fn drive_retire_delete(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let generation = self.generation(row.planned.or(row.current));
        let permissions = generation
            .and_then(|generation| self.release(&generation).map(|release| release.retire))
            .unwrap_or_default();
        let mut leaving: Vec<Leaving> = Vec::new();
        for row in self.rows.objects.get(app).cloned().unwrap_or_default().into_values() {
            match &row.applied {
                Some(applied) if permitted(&row.object.gvk, permissions) => {
                    leaving.push((row.wave, row.object.clone(), Some(applied.uid.clone())));
                }
                // Kept by rule, or never there: it leaves the inventory with the app.
                _ => {}
            }
        }
        if !leaving.is_empty()
            && (!self.live.api_up || !self.look_under(t, app, &leaving, permissions.claims))
        {
            return;
        }
        let held = self.take_held(app, &mut leaving);
        if leaving.is_empty() {
            self.finish_retire(t, app, &row, held);
        } else {
            self.delete(t, app, leaving);
        }
    }

    fn finish_retire(&mut self, t: &mut Turn, app: &AppName, row: &AppRow, held: Vec<Evidence>) {
        let pruned = std::mem::take(&mut self.live.app(app).pruned);
        let counts = Counts { pruned, ..Counts::default() };
        let code = (!held.is_empty()).then_some(Code::HoldsOthers);
        let told = Told::of(app, row.current.or(row.planned), Outcome::Retired);
        self.receipt(t, Told { counts, code, evidence: held, ..told });
        for object in self.rows.objects.get(app).cloned().unwrap_or_default().into_keys() {
            self.write(t, Write::DropObject(app.clone(), object));
        }
        self.abandon(t, app);
        if row.target.is_some() {
            // It was assigned again while it left.
            let fresh = AppRow { target: row.target, retry: row.retry, ..AppRow::new(app.clone()) };
            self.write(t, Write::PutApp(fresh.into()));
        } else {
            self.write(t, Write::DropApp(app.clone()));
            self.live.apps.remove(app);
        }
        self.live.rows_changed = true;
        self.live.status_dirty = true;
    }

    /// Drops generations and releases that nothing names any more.
    pub(super) fn drop_unreferenced(&mut self, t: &mut Turn) {
        if !self.live.rows_changed {
            return;
        }
        let kept = self.kept_generations();
        let gone: Vec<_> = self.rows.generations.keys().filter(|id| !kept.contains(id)).copied().collect();
        for id in gone {
            let images = self.rows.images.range((id, String::new())..).take_while(|((of, _), _)| *of == id);
            for (_, reference) in images.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                self.write(t, Write::DropImage(id, reference));
            }
            self.write(t, Write::DropGeneration(id));
        }
        self.drop_documents(t);
    }
}
