//! The steps of the work on one generation: begin, fetch, prepare, import; each is asked for once and asked for
//! again after a restart or a failure of the surroundings.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::release::RollbackRule;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;

use super::connect::backoff_ms;
use super::effect::FetchLimits;
use super::event::{Failure, FailureClass, OpId};
use super::live::{Deed, LiveApp, Op};
use super::object::{Generation, GenerationId, Gvk, ObjectRef, Plan, Predecessors};
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::write::{AppRow, AppliedRow, ImageRow, PreparedRow};
use super::{Core, Effect, Turn, Write};

/// Environment failures of one step are tried again after this, doubled each time.
pub(super) const RETRY_MS: u64 = 2_000;
/// And at the latest after this.
pub(super) const RETRY_MS_MAX: u64 = 300_000;
/// Looks for a kind that the cluster does not know, two minutes in all: a cluster that has just started learns its own
/// kinds one after the other.
const KIND_TRIES: u32 = 6;

impl Core {
    /// Picks an app's work up after a restart.
    pub(super) fn resume_app(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        match row.step {
            // What preparing found is committed when applying begins; before that it is found again.
            AppStep::Prepare | AppStep::Import if row.planned != row.working => {
                self.enter(t, app, AppStep::Prepare);
            }
            AppStep::Settle if self.start.process_start => self.count_settle_start(t, app),
            AppStep::Rest => {
                let kinds = self.kinds_of(app);
                let live = self.live.app(app);
                live.drifted = kinds;
                live.import_due = true;
                live.prune_due = true;
            }
            _ => {}
        }
        self.drive(t, app);
    }

    /// Asks for whatever the app needs next and has not asked for yet.
    pub(super) fn drive(&mut self, t: &mut Turn, app: &AppName) {
        if self.live.shutting_down {
            return;
        }
        // The loop runs once per step that needs no waiting; the steps themselves are few.
        for _ in 0..8 {
            let Some(row) = self.rows.apps.get(app) else { return };
            let step = row.step;
            if self.draining(app) {
                return;
            }
            if self.give_way(t, app) {
                continue;
            }
            #[cfg(feature = "mutations")]
            if crate::mutation::is(crate::mutation::Mutation::LeftLock)
                && matches!(step, AppStep::Fetch | AppStep::Prepare | AppStep::Import | AppStep::Apply)
                && self.live.app(app).work == 0
            {
                return;
            }
            if step == AppStep::Rest {
                self.watch(t, app);
                if self.rows.apps.get(app).is_none_or(|row| row.step != step) {
                    continue;
                }
            }
            if self.pausing(t, app) {
                return;
            }
            match step {
                AppStep::Rest => self.drive_rest(t, app),
                AppStep::Wait => self.drive_wait(t, app),
                AppStep::Fetch => self.drive_fetch(t, app),
                AppStep::Prepare => self.drive_prepare(t, app),
                AppStep::Import => self.drive_import(t, app),
                AppStep::Apply => self.drive_apply(t, app),
                AppStep::Settle => {
                    self.upkeep_images(t, app);
                    self.drive_settle(t, app);
                }
                AppStep::RetireWait => self.drive_retire_wait(t, app),
                AppStep::RetireDelete => self.drive_retire_delete(t, app),
            }
            if self.rows.apps.get(app).is_none_or(|row| row.step == step) {
                return;
            }
        }
    }

    /// Operations of an earlier piece of work must end first: one fetch, one import, one apply at a time.
    fn draining(&mut self, app: &AppName) -> bool {
        let work = self.live.app(app).work;
        self.live.ops_of(app).any(|(_, op)| op.work != work)
    }

    fn pausing(&mut self, t: &Turn, app: &AppName) -> bool {
        let live = self.live.app(app);
        match live.retry_at {
            Some(at) if at > t.now.mono_ms => true,
            _ => {
                live.retry_at = None;
                false
            }
        }
    }

    fn drive_rest(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        if let Some(target) = row.target
            && !row.held
            && self.wants_work(row, target)
            && let Some(generation) = self.generation(Some(target))
            && !self.refuse_revoked(t, app, target)
        {
            match self.unmet(&generation) {
                None => {
                    self.begin(t, app, target, Purpose::Install);
                    return;
                }
                Some(reason) => self.tell_unmet(t, app, reason),
            }
        }
        self.upkeep(t, app);
    }

    /// Whether the target is another than what stands, and may be tried.
    pub(super) fn wants_work(&self, row: &AppRow, target: GenerationId) -> bool {
        let Some(generation) = self.rows.generations.get(&target) else { return false };
        let may = matches!(generation.verdict, GenerationVerdict::Open | GenerationVerdict::Healthy);
        may && row.state != AppState::Refused && (row.current != Some(target) || row.planned != Some(target))
    }

    /// Begins the work on a generation; whatever was under way is called off.
    pub(super) fn begin(&mut self, t: &mut Turn, app: &AppName, id: GenerationId, purpose: Purpose) {
        self.abandon(t, app);
        let first = if purpose == Purpose::Repair { AppStep::Fetch } else { AppStep::Wait };
        self.change_app(t, app, |row| {
            row.working = Some(id);
            row.purpose = purpose;
            (row.settle_ms, row.soak_ms, row.starts, row.attempts) = (0, 0, 0, 0);
            if purpose == Purpose::Install {
                row.failed = None;
                row.clear_note();
            }
        });
        self.enter(t, app, first);
    }

    /// Enters a step of the work.
    pub(super) fn enter(&mut self, t: &mut Turn, app: &AppName, step: AppStep) {
        let live = self.live.app(app);
        live.retry_at = None;
        live.flush_at = 0;
        self.change_app(t, app, |row| {
            if row.step != step {
                row.attempts = 0;
            }
            row.step = step;
            row.state = match (row.purpose, step) {
                (_, AppStep::Rest) => row.state,
                (_, AppStep::RetireWait | AppStep::RetireDelete) => AppState::Retiring,
                (Purpose::RollBack, _) => AppState::RollingBack,
                (_, AppStep::Wait) => AppState::Waiting,
                (_, AppStep::Fetch) => AppState::Fetching,
                (_, AppStep::Prepare) => AppState::Prepared,
                (_, AppStep::Import) => AppState::Importing,
                (_, AppStep::Apply) => AppState::Applying,
                (_, AppStep::Settle) => AppState::Settling,
            };
        });
    }

    /// Calls off what is under way for an app: long operations are cancelled, short ones run out.
    pub(super) fn abandon(&mut self, t: &mut Turn, app: &AppName) {
        let cancelled: Vec<OpId> =
            self.live.ops_of(app).filter(|(_, op)| op.deed.is_long()).map(|(op, _)| *op).collect();
        for op in cancelled {
            t.effect(Effect::Cancel { op });
        }
        let live = self.live.app(app);
        // What was seen to be wrong is wrong still, where this ends before anything is listed again.
        let drifted = std::mem::take(&mut live.drifted);
        *live = LiveApp { work: live.work + 1, losses: live.losses, drifted, ..LiveApp::default() };
    }

    fn drive_fetch(&mut self, t: &mut Turn, app: &AppName) {
        let Some(generation) = self.working(app) else { return };
        if !self.fetch(t, app, generation) {
            let reason = "the release document is gone from the database".to_owned();
            self.refuse(t, app, Failure::app(Code::ContentMissing, reason));
        }
    }

    /// Asks for the content of a generation, unless that is under way; `false` where nobody knows its bounds.
    pub(super) fn fetch(&mut self, t: &mut Turn, app: &AppName, generation: Arc<Generation>) -> bool {
        let under_way = self.live.ops_of(app).find_map(|(op, known)| match known.deed {
            Deed::Fetch(other) => Some((*op, other)),
            _ => None,
        });
        if let Some((op, other)) = under_way {
            // Nobody may ever bring what a version to go back to has lost: that keeps nothing from what runs.
            if other != generation.id && self.is_planned(app, generation.id) {
                t.effect(Effect::Cancel { op });
            }
            return true;
        }
        let Some(sizes) = self.release(&generation).map(|release| release.sizes) else { return false };
        let limits =
            FetchLimits { packed_bytes: sizes.packed, unpacked_bytes: sizes.unpacked, files: sizes.files };
        let op = self.live.begin_op(t.now, app, Deed::Fetch(generation.id));
        t.effect(Effect::Fetch { op, generation, limits });
        true
    }

    fn is_planned(&self, app: &AppName, id: GenerationId) -> bool {
        self.rows.apps.get(app).is_some_and(|row| row.planned == Some(id))
    }

    fn drive_prepare(&mut self, t: &mut Turn, app: &AppName) {
        if self.live.app(app).plan.is_none() {
            let Some(generation) = self.working(app) else { return };
            if !self.live.doing(app, |deed| *deed == Deed::Prepare) {
                let healthy = self
                    .rows
                    .apps
                    .get(app)
                    .is_some_and(|row| [row.current, row.previous].contains(&Some(generation.id)));
                let role = self.root.release_role(&generation.app).filter(|_| !healthy);
                let scope = role.map(|role| Arc::new(role.scope.clone()));
                let before = self.predecessors(app, generation.id);
                let op = self.live.begin_op(t.now, app, Deed::Prepare);
                t.effect(Effect::Prepare { op, generation, scope, before });
            }
            return;
        }
        // Ownership is known before anything is tried, and what was tried before anything is changed.
        if self.live.app(app).trial.is_none() {
            if !self.survey_plan(t, app) {
                return;
            }
            if let Some(failure) = self.unknown_kind(app) {
                self.wait_for_kind(t, app, failure);
                return;
            }
            if let Some(failure) = self.plan_refusal(app).or_else(|| self.no_way_back(app)) {
                self.refuse(t, app, failure);
                return;
            }
        }
        if self.try_plan(t, app) {
            self.clear_wait(t, app);
            self.enter(t, app, AppStep::Import);
        }
    }

    fn wait_for_kind(&mut self, t: &mut Turn, app: &AppName, failure: Failure) {
        if self.rows.apps.get(app).is_some_and(|row| row.attempts >= KIND_TRIES) {
            self.refuse(t, app, failure);
        } else {
            self.live.app(app).surveyed.clear();
            self.pause(t, app, &failure);
        }
    }

    /// The generations whose content the app's objects may have now, but for the one that is worked on.
    fn predecessors(&self, app: &AppName, working: GenerationId) -> Predecessors {
        let Some(row) = self.rows.apps.get(app) else { return Predecessors::default() };
        let other = |id: Option<GenerationId>| self.generation(id.filter(|id| *id != working));
        let begun = row.planned.filter(|planned| row.current != Some(*planned));
        Predecessors { healthy: other(row.current), begun: other(begun) }
    }

    /// A kind that the cluster does not know and that the plan does not bring.
    fn unknown_kind(&self, app: &AppName) -> Option<Failure> {
        let live = self.live.apps.get(app)?;
        let plan = live.plan.as_ref()?;
        let brings = |gvk: &Gvk| {
            let suffix = format!(".{}", gvk.group);
            plan.objects.iter().any(|entry| {
                let kind = entry.object.gvk.kind.as_str();
                matches!(kind, "CustomResourceDefinition" | "APIService")
                    && entry.object.name.ends_with(&suffix)
            })
        };
        let gvk = live.unknown.iter().find(|gvk| !brings(gvk))?;
        Some(Failure::app(Code::KindUnknown, format!("the cluster does not know {gvk}; nothing was changed")))
    }

    /// Why a generation is not begun that the site could not come back from by itself, and should.
    fn no_way_back(&self, app: &AppName) -> Option<Failure> {
        let row = self.rows.apps.get(app).filter(|row| row.purpose == Purpose::Install)?;
        let reasons = &self.live.apps.get(app)?.plan.as_ref()?.irreversible;
        let (first, generation) = (reasons.first()?, self.generation(row.working)?);
        let reason = format!("{}: {}", first.object, first.message);
        let failure = Failure { evidence: reasons.clone(), ..Failure::app(Code::Irreversible, reason) };
        self.may_leave(&generation).then_some(failure)
    }

    fn drive_import(&mut self, t: &mut Turn, app: &AppName) {
        let Some(generation) = self.working(app) else { return };
        if !self.live.doing(app, |deed| *deed == Deed::Import) {
            let op = self.live.begin_op(t.now, app, Deed::Import);
            t.effect(Effect::Import { op, generation });
        }
    }

    /// The generation that the work is on.
    pub(super) fn working(&self, app: &AppName) -> Option<Arc<Generation>> {
        self.generation(self.rows.apps.get(app)?.working)
    }

    pub(super) fn on_progress(&mut self, op: OpId, have_bytes: u64, total_bytes: u64) {
        if let Some(Op { app, deed: Deed::Fetch(_), .. }) = self.live.ops.get(&op) {
            let (app, now_ms) = (app.clone(), self.live.clocks_ms);
            let live = self.live.app(&app);
            live.fetched = Some((have_bytes, total_bytes));
            live.pace.note(now_ms, have_bytes);
            self.live.status_dirty = true;
        }
    }

    /// Ends an operation; answers with its app where it belongs to the present piece of work.
    pub(super) fn end_op(&mut self, op: OpId) -> Option<Op> {
        let op = self.live.ops.remove(&op)?;
        (op.work == self.live.app(&op.app).work).then_some(op)
    }

    fn at(&self, app: &AppName, step: AppStep) -> bool {
        self.rows.apps.get(app).is_some_and(|row| row.step == step)
    }

    pub(super) fn on_content_ready(&mut self, t: &mut Turn, op: OpId) {
        let Some(Op { app, deed: Deed::Fetch(_), .. }) = self.end_op(op) else { return };
        if self.at(&app, AppStep::Fetch) {
            self.enter(t, &app, AppStep::Prepare);
        } else {
            self.regained_content(&app);
        }
    }

    pub(super) fn on_prepared(&mut self, _t: &mut Turn, op: OpId, plan: Plan) {
        if let Some(Op { app, deed: Deed::Prepare, .. }) = self.end_op(op)
            && self.at(&app, AppStep::Prepare)
        {
            self.live.app(&app).plan = Some(plan);
        }
    }

    pub(super) fn on_imported(&mut self, t: &mut Turn, op: OpId) {
        let Some(Op { app, deed: Deed::Import, .. }) = self.end_op(op) else { return };
        if self.at(&app, AppStep::Rest) {
            self.upkeep_succeeded(t, &app);
        }
        if !self.at(&app, AppStep::Import) {
            return;
        }
        if self.live.app(&app).plan.is_some() {
            self.commit_plan(t, &app);
            self.enter(t, &app, AppStep::Apply);
        } else {
            self.enter(t, &app, AppStep::Prepare);
        }
    }

    /// A long operation ended without its work.
    pub(super) fn on_op_failed(&mut self, t: &mut Turn, op: OpId, failure: Failure) {
        let Some(op) = self.end_op(op) else { return };
        let app = op.app;
        if failure.is_lost_content()
            && !matches!(op.deed, Deed::Fetch(_))
            && self.lost_content(t, &app, &failure)
        {
            return;
        }
        if self.at(&app, AppStep::Rest) || self.at(&app, AppStep::Settle) {
            // Only upkeep imports run here: the app may well run, so this is said and tried again.
            self.live.app(&app).import_due = true;
            self.pause(t, &app, &failure);
        } else if failure.class == FailureClass::App {
            self.refuse(t, &app, failure);
        } else {
            self.pause(t, &app, &failure);
        }
    }

    /// Lets the step wait for better surroundings, longer each time.
    pub(super) fn pause(&mut self, t: &mut Turn, app: &AppName, failure: &Failure) {
        let attempts = self.rows.apps.get(app).map_or(0, |row| row.attempts);
        let pause_ms = backoff_ms(&self.meta.site, RETRY_MS, RETRY_MS_MAX, attempts);
        self.live.app(app).retry_at = Some(t.now.mono_ms + pause_ms);
        self.note_failure(t, app, failure);
    }

    pub(super) fn note_failure(&mut self, t: &mut Turn, app: &AppName, failure: &Failure) {
        self.change_app(t, app, |row| {
            row.attempts = row.attempts.saturating_add(1);
            if row.purpose != Purpose::RollBack {
                row.code = Some(failure.code);
                row.reason.clone_from(&failure.reason);
            }
        });
    }

    /// Makes what preparing found the plan of the rows: the intent, committed before the first request.
    fn commit_plan(&mut self, t: &mut Turn, app: &AppName) {
        let Some(generation) = self.working(app) else { return };
        let live = self.live.app(app);
        let Some(plan) = live.plan.take() else { return };
        let objects = u32::try_from(plan.objects.len()).unwrap_or(u32::MAX);
        let before = self.rows.objects.get(app).cloned().unwrap_or_default();
        let repairs = self.rows.apps.get(app).is_some_and(|row| row.purpose == Purpose::Repair);
        let held = self.held_kinds(app);
        let planned: BTreeSet<&ObjectRef> = plan.objects.iter().map(|entry| &entry.object).collect();
        let kinds: BTreeSet<Arc<Gvk>> = planned.iter().map(|object| object.gvk.clone()).collect();
        for entry in &plan.objects {
            let mut row = self.planned_row(app, &held, entry);
            if repairs && row.traits.once && self.inventoried(app, &held, &row.object).is_none() {
                // The inventory was lost, not the cluster: what was healthy has run.
                row.applied = Some(AppliedRow::of_a_run(generation.id, entry.sha256));
            }
            if before.get(&row.object).is_none_or(|before| **before != row) {
                self.write(t, Write::PutObject(row.into()));
            }
        }
        for (object, row) in before {
            if planned.contains(&object) {
                continue;
            }
            // In another version of its API it is the same object still.
            let moved = object.in_other_versions(&kinds).any(|other| planned.contains(&other));
            if row.applied.is_none() || moved {
                self.write(t, Write::DropObject(app.clone(), object));
            } else if row.wanted.is_some() {
                self.change_object(t, &row, |row| row.wanted = None);
            }
        }
        for image in plan.images {
            let row = ImageRow { generation: generation.id, image };
            if self.rows.images.get(&(row.generation, row.image.reference.clone())) != Some(&row) {
                self.write(t, Write::PutImage(row));
            }
        }
        let prepared = Some(PreparedRow { policy: plan.policy, objects });
        self.change_generation(t, generation.id, |row| row.prepared = prepared);
        self.change_app(t, app, |row| row.planned = Some(generation.id));
        self.live.rows_changed = true;
    }

    /// Whether the site may leave this generation by itself.
    pub(super) fn may_leave(&self, generation: &Generation) -> bool {
        self.release(generation).is_none_or(|release| release.rollback == RollbackRule::Allowed)
    }
}

impl Failure {
    /// A failure of the generation itself.
    pub(super) fn app(code: Code, reason: String) -> Self {
        Self { class: FailureClass::App, code, reason, evidence: Vec::new() }
    }
}
