//! At rest: what watches tell, and putting right what others changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::document::receipt::{Counts, Evidence, Outcome};
use airlift_bundles::document::status::{AppState, NodeStatus};
use airlift_bundles::ids::{AppName, Blake3Digest};
use airlift_bundles::limits::Limits;

use super::api::Applied;
use super::live::{Deed, Op, Sight};
use super::object::{GenerationId, Gvk, ObjectRef, Uid};
use super::outbox::Told;
use super::state::{Purpose, Step as AppStep};
use super::write::ObjectRow;
use super::{Core, Effect, Turn};

/// Repairs of one app are told in one receipt per this time.
const REPAIRED_MS: u64 = 60_000;
/// Objects that a repair's receipt names.
const REPAIRED_NAMES: usize = 20;

impl Core {
    /// Keeps an app at rest right: its plan, its images, its objects, and then what it no longer holds.
    pub(super) fn upkeep(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        if row.current.is_none() || row.planned != row.current {
            return;
        }
        let current = row.current;
        self.upkeep_images(t, app);
        if !self.live.api_up || self.live.app(app).drifted.is_empty() && !self.live.app(app).prune_due {
            self.receipt_repaired(t, app);
            return;
        }
        if self.plan_rows_lost(app)
            && let Some(current) = current
        {
            self.begin(t, app, current, Purpose::Repair);
            return;
        }
        let drifted = self.live.app(app).drifted.clone();
        if !drifted.is_empty() {
            match self.reconcile(t, app, &drifted) {
                Ok(true) => {
                    self.end_reconcile(app);
                    self.upkeep_succeeded(t, app);
                    if !self.live.app(app).drifted.is_empty() {
                        // It was seen meanwhile; what is left is listed first, so this goes no deeper.
                        self.upkeep(t, app);
                        return;
                    }
                }
                Ok(false) => return,
                Err(failure) => {
                    // Somebody else's object bears our name: never adopted, shown, and looked at again.
                    self.live.app(app).todo = None;
                    self.live.app(app).surveyed.clear();
                    self.pause(t, app, &failure);
                    return;
                }
            }
        }
        self.receipt_repaired(t, app);
        if self.live.app(app).prune_due {
            self.prune(t, app);
        }
    }

    /// Everything of the scope is as it should be, but for what was seen since it was listed.
    pub(super) fn end_reconcile(&mut self, app: &AppName) {
        let kinds = self.kinds_of(app);
        let live = self.live.app(app);
        live.todo = None;
        live.drifted.retain(|gvk| {
            kinds.contains(gvk) && (!live.surveyed.contains(gvk) || live.overtaken.contains(gvk))
        });
        live.surveyed.clear();
        live.overtaken.clear();
        live.found.clear();
        (live.refused, live.stopped) = (None, None);
    }

    /// Imports what is due again, one generation at a time; the last is what runs, so that tags mean its images.
    pub(super) fn upkeep_images(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        let (planned, previous) = (row.planned, row.previous);
        if self.live.doing(app, |deed| *deed == Deed::Import) {
            return;
        }
        let live = self.live.app(app);
        let mut due = None;
        if std::mem::take(&mut live.import_previous_due) && previous.is_some() {
            live.import_due = true;
            due = previous;
        } else if std::mem::take(&mut live.import_due) {
            due = planned;
        }
        if let Some(generation) = self.generation(due) {
            self.live.app(app).importing = due;
            let op = self.live.begin_op(t.now, app, Deed::Import);
            t.effect(Effect::Import { op, generation });
        }
    }

    pub(super) fn on_images_lost(&mut self, references: &[String]) {
        for (generation, reference) in self.rows.images.keys() {
            if !references.contains(reference) {
                continue;
            }
            for (app, row) in &self.rows.apps {
                let live = self.live.apps.entry(app.clone()).or_default();
                live.import_due |= row.planned == Some(*generation);
                live.import_previous_due |= row.previous == Some(*generation);
            }
        }
    }

    /// Takes the nodes as they are; where one came or went, what runs on them is looked at again.
    pub(super) fn on_nodes(&mut self, t: &mut Turn, nodes: Vec<NodeStatus>) {
        let ready = |nodes: &[NodeStatus]| -> BTreeSet<String> {
            nodes.iter().filter(|node| node.ready).map(|node| node.name.clone()).collect()
        };
        let changed = ready(&self.live.nodes) != ready(&nodes);
        self.live.status_dirty |= self.live.nodes != nodes;
        self.live.nodes = nodes;
        self.live.count_absences(t.now.mono_ms);
        if changed {
            self.look_again();
        }
    }

    /// What was read of objects may be true no more.
    pub(super) fn look_again(&mut self) {
        self.live.status_dirty = true;
        for live in self.live.apps.values_mut() {
            let read: Vec<ObjectRef> = live.health.keys().cloned().collect();
            live.touched.extend(read);
        }
    }

    fn owner(&self, object: &ObjectRef) -> Option<AppName> {
        let owns = |app: &&AppName| self.rows.objects.get(*app).is_some_and(|rows| rows.contains_key(object));
        self.rows.objects.keys().find(owns).cloned()
    }

    /// A watch saw an object: another identity or another set of fields of ours is drift.
    pub(super) fn on_seen(&mut self, object: &ObjectRef, uid: &Uid, entry: Option<(AppName, Blake3Digest)>) {
        let Some(app) = self.owner(object) else { return };
        let live = self.live.app(&app);
        if live.health.contains_key(object) {
            live.touched.insert(object.clone());
        }
        let ours = entry.filter(|(owner, _)| *owner == app).map(|(_, hash)| hash);
        if self.note_sight(&app, object, || Sight::There { uid: uid.clone(), ours }) {
            return;
        }
        let Some(row) = self.rows.objects.get(&app).and_then(|rows| rows.get(object)) else { return };
        let Some(applied) = row.applied.as_ref().filter(|_| self.wants(row)) else { return };
        if ours != Some(applied.fields_hash) || applied.uid != *uid {
            self.mark_drifted(&app, object);
        }
    }

    pub(super) fn on_gone(&mut self, object: &ObjectRef, uid: &Uid) {
        let Some(app) = self.owner(object) else { return };
        if self.note_sight(&app, object, || Sight::Gone { uid: uid.clone() }) {
            return;
        }
        let Some(row) = self.rows.objects.get(&app).and_then(|rows| rows.get(object)) else { return };
        let ours = row.applied.as_ref().is_some_and(|applied| applied.uid == *uid);
        if ours && self.wants(row) && !row.traits.once {
            self.mark_drifted(&app, object);
        }
    }

    /// Whether the plan in force holds an object, or the one in the making does, for which it was listed already: going
    /// back, what only the version before held is wanted again.
    fn wants(&self, row: &ObjectRow) -> bool {
        let plan = || self.live.apps.get(&row.app).and_then(|live| live.plan.as_ref());
        row.wanted.is_some()
            || plan().is_some_and(|plan| plan.objects.iter().any(|entry| entry.object == row.object))
    }

    /// Of an object whose request is under way an event tells nothing yet: it is kept until the reply comes.
    fn note_sight(&mut self, app: &AppName, object: &ObjectRef, sight: impl FnOnce() -> Sight) -> bool {
        let writes =
            |op: &&mut Op| op.deed.writes().is_some_and(|(written, _)| written == object) && op.app == *app;
        let Some(op) = self.live.ops.values_mut().find(writes) else { return false };
        op.sight = Some(sight());
        true
    }

    /// Looks again at an object of which a watch told something else than the reply to its request.
    pub(super) fn weigh_sight(
        &mut self,
        app: &AppName,
        object: &ObjectRef,
        sight: &Sight,
        applied: &Applied,
    ) {
        let gone = matches!(sight, Sight::Gone { .. });
        if sight.contradicts(applied) && !(gone && self.is_once(app, object)) {
            self.mark_drifted(app, object);
        }
    }

    fn mark_drifted(&mut self, app: &AppName, object: &ObjectRef) {
        #[cfg(feature = "mutations")]
        if crate::mutation::is(crate::mutation::Mutation::BlindWatch) {
            return;
        }
        self.mark_kind(app, &object.gvk);
        let live = self.live.app(app);
        if live.todo.as_ref().is_some_and(|todo| todo.values().all(Vec::is_empty)) {
            live.todo = None;
        }
    }

    /// Something of a kind is to be looked at, and not in a listing that is older than what was seen.
    fn mark_kind(&mut self, app: &AppName, gvk: &Arc<Gvk>) {
        let listing = self.live.doing(app, |deed| matches!(deed, Deed::List(listed) if listed == gvk));
        let live = self.live.app(app);
        live.drifted.insert(gvk.clone());
        live.surveyed.remove(gvk);
        if listing {
            live.overtaken.insert(gvk.clone());
        }
    }

    /// A watch listed a kind afresh: what vanished while nobody watched is found by listing it again. What is being
    /// applied was begun after its watch was, so that only a later listing says anything new of it.
    pub(super) fn on_listed(&mut self, gvk: &Arc<Gvk>) {
        let again = !self.live.listed.insert(gvk.clone());
        for app in self.app_names() {
            let Some(row) = self.rows.apps.get(&app) else { continue };
            let tells = match row.step {
                AppStep::RetireWait | AppStep::RetireDelete => false,
                AppStep::Apply => again,
                _ => true,
            };
            let holds =
                |row: &Arc<ObjectRow>| row.object.gvk == *gvk && row.applied.is_some() && self.wants(row);
            if tells && self.rows.objects.get(&app).is_some_and(|rows| rows.values().any(holds)) {
                self.mark_kind(&app, gvk);
            }
        }
    }

    /// Tells of repairs: once, and then at most once a minute.
    fn receipt_repaired(&mut self, t: &mut Turn, app: &AppName) {
        let live = self.live.app(app);
        if live.repaired.is_empty() || live.repaired_at > t.now.mono_ms {
            return;
        }
        let repaired = std::mem::take(&mut live.repaired);
        live.repaired_at = t.now.mono_ms + REPAIRED_MS;
        let current = self.rows.apps.get(app).and_then(|row| row.current);
        let name = |object: &ObjectRef| Evidence {
            object: object.to_string(),
            reason: "Repaired".to_owned(),
            message: "others had changed or deleted it".to_owned(),
        };
        let evidence = repaired.iter().take(REPAIRED_NAMES).map(name).collect();
        let evidence = Evidence::bounded(evidence, &Limits::DEFAULT);
        let counts = Counts { applied: repaired.len() as u64, ..Counts::default() };
        self.receipt(t, Told { counts, evidence, ..Told::of(app, current, Outcome::Repaired) });
        if self.rows.apps.get(app).is_some_and(|row| row.state == AppState::Healthy) {
            self.live.status_dirty = true;
        }
    }

    /// Every kind of every app is watched; the set is sent when it changes. A kind that nobody watches yet is not
    /// while an app of it is being applied, since its events would tell of our own writes: the listing with which its
    /// watch begins afterwards tells what others did meanwhile.
    pub(super) fn request_watch(&mut self, t: &mut Turn) {
        if !self.live.rows_changed {
            return;
        }
        let mut kinds = BTreeSet::new();
        for (app, rows) in &self.rows.objects {
            let applying = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Apply);
            let of_app = rows.values().map(|row| &row.object.gvk);
            kinds.extend(of_app.filter(|gvk| !applying || self.live.watched.contains(*gvk)).cloned());
        }
        if kinds != self.live.watched {
            self.live.watched.clone_from(&kinds);
            self.live.listed.clear();
            t.effect(Effect::Watch { kinds });
        }
    }

    /// Generations that some app still names.
    pub(super) fn kept_generations(&self) -> BTreeSet<GenerationId> {
        let named = |row: &super::write::AppRow| {
            [row.target, row.working, row.planned, row.current, row.previous, row.failed]
        };
        self.rows.apps.values().flat_map(|row| named(row)).flatten().collect()
    }

    /// Tells the edges which content and images stay, when that changes.
    pub(super) fn request_keep(&mut self, t: &mut Turn) {
        if !std::mem::take(&mut self.live.rows_changed) {
            return;
        }
        let kept = self.kept_generations();
        if self.live.kept.as_ref() != Some(&kept) {
            let generations = kept.iter().filter_map(|id| self.generation(Some(*id))).collect();
            self.live.kept = Some(kept);
            t.effect(Effect::Keep { generations });
        }
    }
}
