//! Applying: look at what is there, then send what differs, wave by wave, as fast as the API server likes.
//!
//! The same machinery puts drift right at rest; only the scope differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Sha256Digest};

use super::api::{ApiCall, ApiError, ApiErrorClass, ApiReply, Applied, Found};
use super::event::{Failure, FailureClass, OpId};
use super::live::{Deed, Op};
use super::lost::LOST_PAUSE_MS;
use super::need::{Need, foreign, need};
use super::object::{GenerationId, Gvk, ObjectEntry, ObjectRef, Uid, Verdict};
use super::state::{Purpose, Step as AppStep};
use super::write::{AppRow, AppliedRow, ObjectRow, WantedRow};
use super::{Core, Effect, Turn, Write};

/// First pause before one object is tried again; doubled each time.
const OBJECT_PAUSE_MS: u64 = 250;
/// The longest pause of one object while a generation is applied.
const OBJECT_PAUSE_MS_MAX: u64 = 10_000;
/// The longest pause of one object that somebody keeps changing at rest.
const REPAIR_PAUSE_MS_MAX: u64 = 300_000;
/// Writes of one app that are handed out at once. How many of them are in flight is the edge's to say, which sees how
/// quickly the API server answers (`apply/pace.rs`); the others are there so that it never waits for this disk.
pub(super) const HANDED_OUT_MAX: usize = 64;
/// Gates (CRDs) are read again after this.
pub(super) const GATE_POLL_MS: u64 = 500;

impl Core {
    /// The kinds of an app's planned objects.
    pub(super) fn kinds_of(&self, app: &AppName) -> BTreeSet<Arc<Gvk>> {
        let rows = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values);
        rows.filter(|row| row.wanted.is_some()).map(|row| row.object.gvk.clone()).collect()
    }

    /// Whether listings are under way. Each event until their end would only find that again, and thousands of objects
    /// make thousands of events.
    fn is_listing(&self, app: &AppName) -> bool {
        self.live.doing(app, |deed| matches!(deed, Deed::List(_)))
    }

    /// Lists the kinds of the plan in the making; answers whether all are listed.
    pub(super) fn survey_plan(&mut self, t: &mut Turn, app: &AppName) -> bool {
        if self.is_listing(app) {
            return false;
        }
        let Some(plan) = &self.live.app(app).plan else { return false };
        let objects: Vec<ObjectRef> = plan.objects.iter().map(|entry| entry.object.clone()).collect();
        self.survey(t, app, objects)
    }

    fn survey(&mut self, t: &mut Turn, app: &AppName, objects: Vec<ObjectRef>) -> bool {
        if !self.live.api_up {
            return false;
        }
        let mut by_kind: BTreeMap<Arc<Gvk>, BTreeSet<ObjectRef>> = BTreeMap::new();
        for object in objects {
            if !self.live.app(app).surveyed.contains(&object.gvk) {
                by_kind.entry(object.gvk.clone()).or_default().insert(object);
            }
        }
        let done = by_kind.is_empty();
        for (gvk, only) in by_kind {
            self.live.app(app).found.retain(|object, _| object.gvk != gvk);
            let op = self.live.begin_op(t.now, app, Deed::List(gvk.clone()));
            let call = ApiCall::List { app: app.clone(), gvk, only: Arc::new(only) };
            t.effect(Effect::Api { op, call });
        }
        done
    }

    /// Why the plan in the making may not be applied here: somebody else's objects or image names.
    pub(super) fn plan_refusal(&self, app: &AppName) -> Option<Failure> {
        let live = self.live.apps.get(app)?;
        let plan = live.plan.as_ref()?;
        let (runs, held) = (self.runs_once(app), self.held_kinds(app));
        for entry in &plan.objects {
            let other = self
                .rows
                .objects
                .iter()
                .find(|(other, rows)| *other != app && rows.contains_key(&entry.object));
            if let Some((other, _)) = other {
                return Some(foreign(&entry.object, Some(format!("app {other}"))));
            }
            let row = self.planned_row(app, &held, entry);
            if let Need::Foreign(owner) = need(&row, live.found.get(&entry.object), runs) {
                return Some(foreign(&entry.object, owner));
            }
        }
        let taken = self.rows.images.values().find(|row| {
            let other =
                self.rows.generations.get(&row.generation).is_some_and(|held| held.generation.app != *app);
            let moves = plan
                .images
                .iter()
                .any(|image| image.reference == row.image.reference && image.digest != row.image.digest);
            other && moves
        })?;
        let reason = format!("image name {} stands for other content in another app", taken.image.reference);
        Some(Failure::app(Code::ImageNameTaken, reason))
    }

    /// All kinds of the inventory, those of objects that are to be pruned too.
    pub(super) fn held_kinds(&self, app: &AppName) -> BTreeSet<Arc<Gvk>> {
        let objects = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::keys);
        let mut kinds = BTreeSet::new();
        for object in objects {
            if !kinds.contains(&object.gvk) {
                kinds.insert(Arc::clone(&object.gvk));
            }
        }
        kinds
    }

    /// The row of a planned object, with what is in the cluster by our doing; `held` as from [`Core::held_kinds`].
    pub(super) fn planned_row(
        &self,
        app: &AppName,
        held: &BTreeSet<Arc<Gvk>>,
        entry: &ObjectEntry,
    ) -> ObjectRow {
        let applied = self.inventoried(app, held, &entry.object).and_then(|row| row.applied.clone());
        ObjectRow {
            app: app.clone(),
            object: entry.object.clone(),
            applied,
            wanted: Some(WantedRow { index: entry.index, sha256: entry.sha256 }),
            wave: entry.wave,
            traits: entry.traits,
        }
    }

    /// The row of an object, also where it was planned in another version of its API.
    pub(super) fn inventoried(
        &self,
        app: &AppName,
        held: &BTreeSet<Arc<Gvk>>,
        object: &ObjectRef,
    ) -> Option<&ObjectRow> {
        let rows = self.rows.objects.get(app)?;
        let other = || object.in_other_versions(held).find_map(|other| rows.get(&other));
        rows.get(object).or_else(other).map(Arc::as_ref)
    }

    pub(super) fn drive_apply(&mut self, t: &mut Turn, app: &AppName) {
        let mut kinds = BTreeSet::new();
        if self.live.app(app).todo.is_none() {
            if self.is_listing(app) {
                self.check_apply_time(t, app);
                return;
            }
            let Some(row) = self.rows.apps.get(app) else { return };
            if row.planned != row.working || self.plan_rows_lost(app) {
                self.change_app(t, app, |row| row.planned = None);
                self.enter(t, app, AppStep::Prepare);
                return;
            }
            kinds = self.kinds_of(app);
        }
        match self.reconcile(t, app, &kinds) {
            Err(failure) => self.fail(t, app, failure),
            Ok(true) => {
                self.live.app(app).todo = None;
                self.clear_wait(t, app);
                self.enter(t, app, AppStep::Settle);
                // Its kinds are watched from here on.
                self.live.rows_changed = true;
            }
            Ok(false) => self.check_apply_time(t, app),
        }
    }

    /// Fewer rows than the plan had objects: the inventory was lost, and the plan must be made anew.
    pub(super) fn plan_rows_lost(&self, app: &AppName) -> bool {
        let Some(id) = self.rows.apps.get(app).and_then(|row| row.planned) else { return false };
        let prepared = self.rows.generations.get(&id).and_then(|row| row.prepared);
        let rows = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values);
        let wanted = rows.filter(|row| row.wanted.is_some()).count();
        prepared.is_none_or(|prepared| wanted < prepared.objects as usize)
    }

    /// Brings the objects of some kinds to what the plan wants; answers whether all are.
    pub(super) fn reconcile(
        &mut self,
        t: &mut Turn,
        app: &AppName,
        kinds: &BTreeSet<Arc<Gvk>>,
    ) -> Result<bool, Failure> {
        if !self.live.api_up {
            return Ok(false);
        }
        if self.live.app(app).todo.is_none() {
            if self.is_listing(app) {
                return Ok(false);
            }
            let rows = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values);
            let objects = rows
                .filter(|row| row.wanted.is_some() && kinds.contains(&row.object.gvk))
                .map(|row| row.object.clone())
                .collect();
            if !self.survey(t, app, objects) {
                return Ok(false);
            }
            self.make_todo(t, app, kinds)?;
        }
        Ok(self.pump(t, app))
    }

    /// Notes what is to be sent, by wave.
    fn make_todo(&mut self, t: &mut Turn, app: &AppName, kinds: &BTreeSet<Arc<Gvk>>) -> Result<(), Failure> {
        let runs = self.runs_once(app);
        let flying: BTreeSet<ObjectRef> =
            self.live.ops_of(app).filter_map(|(_, op)| Some(op.deed.writes()?.0.clone())).collect();
        let Some(live) = self.live.apps.get_mut(app) else { return Ok(()) };
        let mut todo: BTreeMap<u32, Vec<ObjectRef>> = BTreeMap::new();
        let mut left = Vec::new();
        live.going.clear();
        for row in self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values) {
            if !kinds.contains(&row.object.gvk) || flying.contains(&row.object) {
                continue;
            }
            match need(row, live.found.get(&row.object), runs) {
                Need::Nothing => {}
                Need::Send | Need::Replace | Need::Remove => {
                    todo.entry(row.wave).or_default().push(row.object.clone());
                }
                Need::Leave => left.push(row.object.clone()),
                Need::Await => drop(live.going.insert(row.object.clone(), row.wave)),
                Need::Foreign(owner) => return Err(foreign(&row.object, owner)),
            }
        }
        let gates = self.rows.objects.get(app).into_iter().flat_map(BTreeMap::values);
        live.gates = gates
            .filter(|row| row.traits.gate && row.wanted.is_some())
            .map(|row| (row.wave, row.object.clone()))
            .collect();
        (live.todo, live.trial) = (Some(todo), None);
        for object in left {
            self.record_removed(t, app, &object);
        }
        if let Some(object) = self.live.app(app).going.keys().next().cloned() {
            let message = format!("{object} is being deleted; it is made again when it is gone");
            let error = ApiError { class: ApiErrorClass::Retryable, status: 0, message };
            self.note_wait(t, app, &object, &error);
        }
        Ok(())
    }

    /// Hands out what may be sent of the lowest wave; answers whether everything is done.
    fn pump(&mut self, t: &mut Turn, app: &AppName) -> bool {
        let resting = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Rest);
        loop {
            let waves = self.live.ops_of(app).filter_map(|(_, op)| Some(op.deed.writes()?.1));
            let (flying, lowest) =
                waves.fold((0, u32::MAX), |(count, lowest), wave| (count + 1, lowest.min(wave)));
            let live = self.live.app(app);
            let going = live.going.values().min().copied();
            let Some(todo) = &mut live.todo else { return false };
            todo.retain(|_, objects| !objects.is_empty());
            let wave = todo.keys().next().copied();
            let Some(wave) = wave.filter(|wave| resting || going.is_none_or(|going| *wave <= going)) else {
                if going.is_some() && flying == 0 {
                    self.list_again(t, app);
                }
                return going.is_none() && flying == 0 && self.gates_open(t, app, u32::MAX);
            };
            if flying >= HANDED_OUT_MAX || lowest < wave || !self.gates_open(t, app, wave) {
                return false;
            }
            if !self.try_wave(t, app, wave) {
                return false;
            }
            let now_ms = t.now.mono_ms;
            let live = self.live.app(app);
            let Some(objects) = live.todo.as_mut().and_then(|todo| todo.get_mut(&wave)) else { return false };
            let due = |object: &ObjectRef| live.pauses.get(object).is_none_or(|(_, at)| *at <= now_ms);
            let Some(at) = objects.iter().rposition(due) else { return false };
            let object = objects.remove(at);
            self.send(t, app, object);
        }
    }

    fn send(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef) {
        let planned = self.rows.apps.get(app).and_then(|row| row.planned);
        let Some(generation) = self.generation(planned) else { return };
        let Some(row) = self.rows.objects.get(app).and_then(|rows| rows.get(&object)) else { return };
        let (Some(wanted), wave) = (row.wanted, row.wave) else { return };
        let found = self.live.apps.get(app).and_then(|live| live.found.get(&object));
        let needed = need(row, found, self.runs_once(app));
        let uid: Option<Uid> = found.map(|found| found.uid.clone());
        if matches!(needed, Need::Replace | Need::Remove)
            && let Some(uid) = uid
        {
            self.replace(t, app, object, wave, uid);
            return;
        }
        let deed =
            Deed::Apply { object: object.clone(), generation: generation.id, sha256: wanted.sha256, wave };
        let op = self.live.begin_op(t.now, app, deed);
        let call = ApiCall::Apply { generation, index: wanted.index, object, uid, dry_run: false };
        t.effect(Effect::Api { op, call });
    }

    /// Whether every gate below a wave is healthy; asks where it is not known.
    fn gates_open(&mut self, t: &mut Turn, app: &AppName, wave: u32) -> bool {
        let gates = &self.live.app(app).gates;
        let gates: Vec<ObjectRef> =
            gates.iter().filter(|(below, _)| *below < wave).map(|(_, object)| object.clone()).collect();
        let mut open = true;
        for gate in gates {
            let reading = self.live.app(app).health.get(&gate);
            if reading.is_some_and(|reading| reading.health.verdict == Verdict::Current) {
                continue;
            }
            open = false;
            if reading.is_none_or(|reading| reading.at_ms + GATE_POLL_MS <= t.now.mono_ms) {
                self.read_health(t, app, gate);
            }
        }
        open
    }

    /// The gate that keeps later waves from being sent, with what it was seen to lack.
    pub(super) fn closed_gate(&self, app: &AppName) -> Option<(&ObjectRef, &str)> {
        let live = self.live.apps.get(app)?;
        live.gates.iter().find_map(|(_, gate)| {
            let health = &live.health.get(gate)?.health;
            (health.verdict != Verdict::Current).then_some((gate, health.reason.as_str()))
        })
    }

    /// Takes a reply of the API server: what it did is recorded even where nobody waits for it any more.
    pub(super) fn on_api(&mut self, t: &mut Turn, op: OpId, reply: Result<ApiReply, ApiError>) {
        let Some(Op { app, deed, work, sight, .. }) = self.live.ops.remove(&op) else { return };
        let present = work == self.live.app(&app).work;
        if let Err(error) = &reply
            && present
            && self.lost_body(t, &app, error)
        {
            return;
        }
        let live = self.live.app(&app);
        match (deed, reply) {
            (Deed::List(gvk), Ok(ApiReply::Listed(found))) if present => {
                live.found.extend(found.into_iter().map(|found| (found.object.clone(), found)));
                live.unknown.remove(&gvk);
                live.surveyed.insert(gvk);
            }
            (Deed::List(gvk), Err(error))
                if present && matches!(error.class, ApiErrorClass::KindUnknown | ApiErrorClass::NotFound) =>
            {
                if error.class == ApiErrorClass::KindUnknown {
                    live.unknown.insert(gvk.clone());
                }
                live.surveyed.insert(gvk);
            }
            (Deed::List(_), Err(error)) if present => {
                let failure = unavailable(&error);
                self.pause(t, &app, &failure);
            }
            (Deed::Apply { object, generation, sha256, .. }, Ok(ApiReply::Applied(applied))) => {
                let waited = live.pauses.remove(&object).is_some();
                live.stopped = None;
                live.sent += 1;
                self.record_applied(t, &app, &object, &applied, (generation, sha256));
                if let Some(sight) = sight {
                    self.weigh_sight(&app, &object, &sight, &applied);
                }
                if waited {
                    self.clear_wait(t, &app);
                }
            }
            (Deed::Apply { object, .. }, Err(error)) if present => {
                self.on_apply_error(t, &app, object, error)
            }
            (Deed::Pods(object), Ok(ApiReply::Pods(pods))) if present => self.on_pods(t, &app, object, &pods),
            (Deed::DeletePod(object), reply) => self.on_pod_deleted(&app, &object, reply),
            (Deed::Try(update), Ok(_)) if present => self.on_tried(&app, update),
            (Deed::Try(update), Err(error)) if present => self.on_try_error(t, &app, update, error),
            (Deed::Replace { object, .. }, Ok(_)) => self.record_replaced(t, &app, &object),
            (Deed::Replace { object, .. }, Err(error)) => match error.class {
                ApiErrorClass::NotFound | ApiErrorClass::Conflict | ApiErrorClass::KindUnknown => {
                    self.record_replaced(t, &app, &object);
                }
                _ if present => self.on_apply_error(t, &app, object, error),
                _ => {}
            },
            (Deed::Others(object), Ok(ApiReply::Others(names))) if present => {
                live.others.insert(object, names);
            }
            (Deed::Others(_), Err(error)) if present => self.pause(t, &app, &unavailable(&error)),
            (Deed::Delete(object), Ok(_)) => self.record_deleted(t, &app, object),
            (Deed::Delete(object), Err(error)) => match error.class {
                ApiErrorClass::NotFound | ApiErrorClass::Conflict | ApiErrorClass::KindUnknown => {
                    self.record_deleted(t, &app, object);
                }
                _ => self.pause(t, &app, &unavailable(&error)),
            },
            _ => {}
        }
    }

    fn record_applied(
        &mut self,
        t: &mut Turn,
        app: &AppName,
        object: &ObjectRef,
        applied: &Applied,
        (generation, sha256): (GenerationId, Sha256Digest),
    ) {
        let found = Found {
            object: object.clone(),
            uid: applied.uid.clone(),
            fields_hash: Some(applied.fields_hash),
            other_owner: None,
            terminating: false,
        };
        let live = self.live.app(app);
        live.found.insert(object.clone(), found);
        live.touched.insert(object.clone());
        if live.refused.as_ref().is_some_and(|(refused, _)| refused == object) {
            live.refused = None;
        }
        if applied.changed {
            live.repaired.insert(object.clone());
        }
        let row = self.rows.objects.get(app).and_then(|rows| rows.get(object)).cloned();
        let Some(row) = row else { return };
        let (uid, fields_hash) = (applied.uid.clone(), applied.fields_hash);
        let applied = AppliedRow { uid, sha256, fields_hash, generation };
        self.change_object(t, &row, |row| row.applied = Some(applied));
    }

    fn on_apply_error(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef, error: ApiError) {
        let row = self.rows.objects.get(app).and_then(|rows| rows.get(&object));
        let wave = row.map_or(0, |row| row.wave);
        let recreate = row.is_some_and(|row| row.traits.recreate);
        let resting = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Rest);
        let live = self.live.app(app);
        let uid = live.found.get(&object).map(|found| found.uid.clone());
        match (error.class, uid) {
            (ApiErrorClass::Conflict, _) => {
                // Another object bears the name now: whose it is must be seen before anything is sent.
                live.found.remove(&object);
                live.surveyed.remove(&object.gvk);
                live.todo = None;
            }
            // Its content was not known, and it turns out to be the old one.
            (ApiErrorClass::Final, Some(uid)) if recreate && error.status == 422 => {
                self.replace(t, app, object, wave, uid);
                return;
            }
            (ApiErrorClass::Final, _) if !resting => {
                let failure = refused(&object, &error);
                self.fail(t, app, failure);
                return;
            }
            _ => {}
        }
        if let Some(todo) = &mut self.live.app(app).todo {
            todo.entry(wave).or_default().insert(0, object.clone());
        }
        self.pause_object(t, app, &object, &error);
    }

    /// Lets one object wait, longer each time.
    pub(super) fn pause_object(&mut self, t: &mut Turn, app: &AppName, object: &ObjectRef, error: &ApiError) {
        let resting = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Rest);
        let live = self.live.app(app);
        let tries = live.pauses.get(object).map_or(0, |(tries, _)| *tries);
        let longest = if resting { REPAIR_PAUSE_MS_MAX } else { OBJECT_PAUSE_MS_MAX };
        let mut pause_ms = (OBJECT_PAUSE_MS << tries.min(16)).min(longest);
        match error.class {
            ApiErrorClass::Throttled { retry_after_ms } => {
                pause_ms = pause_ms.max(retry_after_ms.min(60_000));
            }
            ApiErrorClass::ContentLost => pause_ms = LOST_PAUSE_MS,
            ApiErrorClass::Final => pause_ms = REPAIR_PAUSE_MS_MAX,
            _ => {}
        }
        live.pauses.insert(object.clone(), (tries + 1, t.now.mono_ms + pause_ms));
        self.note_wait(t, app, object, error);
    }

    /// Says what is waited for, and lets the settle clock run unless only the surroundings are to blame.
    fn note_wait(&mut self, t: &mut Turn, app: &AppName, object: &ObjectRef, error: &ApiError) {
        let surroundings = match error.class {
            ApiErrorClass::Throttled { .. } | ApiErrorClass::Unavailable | ApiErrorClass::ContentLost => true,
            // What is going, by itself or with its namespace; only a name that stays taken is the version's.
            ApiErrorClass::Retryable => error.status != 409,
            _ => false,
        };
        let live = self.live.app(app);
        live.refused = (!surroundings).then(|| (object.clone(), error.clone()));
        live.stopped = surroundings.then(|| (object.clone(), error.clone()));
        let code = match error.class {
            ApiErrorClass::ContentLost => Code::ContentMissing,
            _ if surroundings => Code::ClusterUnavailable,
            _ => Code::ApplyRefused,
        };
        let reason = format!("{object}: {}", error.message);
        self.change_app(t, app, |row| {
            if may_note(row) {
                (row.code, row.reason) = (Some(code), reason);
            }
        });
    }

    /// What the surroundings withheld is done: it is not shown any more.
    pub(super) fn clear_wait(&mut self, t: &mut Turn, app: &AppName) {
        self.change_app(t, app, |row| {
            let waited = matches!(
                row.code,
                Some(
                    Code::ClusterUnavailable
                        | Code::ApplyRefused
                        | Code::KindUnknown
                        | Code::ContentMissing
                        | Code::BlobDigest
                )
            );
            if waited && may_note(row) {
                row.clear_note();
            }
        });
    }

    /// Objects that are refused again and again use up the settle clock, and so do gates that stay closed.
    fn check_apply_time(&mut self, t: &mut Turn, app: &AppName) {
        let timeout_ms = self.policy(app).timeout_ms;
        if self.settle_ms(app) < timeout_ms {
            return;
        }
        let failure =
            match (self.live.apps.get(app).and_then(|live| live.refused.as_ref()), self.closed_gate(app)) {
                (Some((object, error)), _) => refused(object, error),
                (None, Some((gate, why))) => {
                    let reason = format!(
                        "later objects wait for {gate}, which is not ready after {} s: {why}",
                        timeout_ms / 1000
                    );
                    Failure { evidence: self.evidence(app), ..Failure::app(Code::NotHealthyInTime, reason) }
                }
                (None, None) => return,
            };
        self.fail(t, app, failure);
    }

    pub(super) fn on_api_state(&mut self, t: &mut Turn, up: bool, cluster: Option<Uid>) {
        if self.live.api_up != up {
            self.live.api_up = up;
            self.look_again();
        }
        let Some(cluster) = cluster else { return };
        let before = self.meta.cluster.clone();
        if before.as_ref() == Some(&cluster) {
            return;
        }
        self.change_meta(t, |meta| meta.cluster = Some(cluster));
        if before.is_some() {
            self.on_rebuilt_cluster(t);
        }
    }

    /// Another cluster stands where ours stood: forget identities, prune nothing, apply all.
    fn on_rebuilt_cluster(&mut self, t: &mut Turn) {
        for app in self.app_names() {
            for (object, row) in self.rows.objects.get(&app).cloned().unwrap_or_default() {
                if row.wanted.is_none() {
                    self.write(t, Write::DropObject(app.clone(), object));
                } else if row.applied.is_some() {
                    self.change_object(t, &row, |row| row.applied = None);
                }
            }
            let Some(row) = self.rows.apps.get(&app) else { continue };
            match (row.step, row.current) {
                (AppStep::Rest, Some(current)) => self.begin(t, &app, current, Purpose::Repair),
                (AppStep::Prepare | AppStep::Import | AppStep::Apply | AppStep::Settle, _) => {
                    self.abandon(t, &app);
                    self.enter(t, &app, AppStep::Fetch);
                }
                _ => self.abandon(t, &app),
            }
        }
    }
}

/// Whether what is waited for may be shown: never over why a version was left or not begun.
fn may_note(row: &AppRow) -> bool {
    let ended = matches!(row.state, AppState::Refused | AppState::Failed | AppState::Degraded);
    row.purpose != Purpose::RollBack && !(row.step == AppStep::Rest && ended)
}

pub(super) fn refused(object: &ObjectRef, error: &ApiError) -> Failure {
    let seen = Evidence {
        object: object.to_string(),
        reason: format!("HTTP {}", error.status),
        message: error.message.clone(),
    };
    let reason = format!("the API server refused {object}: {}", error.message);
    Failure { evidence: vec![seen], ..Failure::app(Code::ApplyRefused, reason) }
}

fn unavailable(error: &ApiError) -> Failure {
    let reason = format!("the API server did not do it: {}", error.message);
    Failure { class: FailureClass::Environment, ..Failure::app(Code::ClusterUnavailable, reason) }
}
