//! What an update cannot do: objects that are deleted and created anew, and runs (Jobs, bare pods) that a generation
//! begins once and a rollback never repeats.

use airlift_bundles::ids::{AppName, Blake3Digest, Sha256Digest};

use super::api::ApiCall;
use super::live::Deed;
use super::object::{GenerationId, ObjectRef, Uid};
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::write::AppliedRow;
use super::{Core, Effect, Turn};

/// Objects that are going are looked at again after this while a generation is applied.
const GOING_POLL_MS: u64 = 1_000;
/// And after this at rest.
const GOING_REST_MS: u64 = 10_000;

impl AppliedRow {
    /// A run that is over and whose object is not there, or not known: no object has this identity.
    pub(super) fn of_a_run(generation: GenerationId, sha256: Sha256Digest) -> Self {
        Self { uid: Uid(String::new()), sha256, fields_hash: Blake3Digest::of(b""), generation }
    }
}

impl Core {
    /// Whether Jobs and bare pods of the generation that is worked on are run: those of one that was healthy here have
    /// run, unless the whole cluster is another one.
    pub(super) fn runs_once(&self, app: &AppName) -> bool {
        let Some(row) = self.rows.apps.get(app) else { return true };
        match row.purpose {
            Purpose::RollBack => false,
            Purpose::Repair => true,
            Purpose::Install => {
                let working = row.working.and_then(|id| self.rows.generations.get(&id));
                working.is_none_or(|generation| generation.verdict != GenerationVerdict::Healthy)
            }
        }
    }

    /// Deletes an object that no update brings to its new content.
    pub(super) fn replace(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef, wave: u32, uid: Uid) {
        let op = self.live.begin_op(t.now, app, Deed::Replace { object: object.clone(), wave });
        t.effect(Effect::Api { op, call: ApiCall::Delete { object, uid } });
    }

    /// What was to be replaced is gone or going: it is looked at again, and made when it is gone.
    pub(super) fn record_replaced(&mut self, t: &mut Turn, app: &AppName, object: &ObjectRef) {
        if self.runs_once(app) || !self.is_once(app, object) {
            let row = self.rows.objects.get(app).and_then(|rows| rows.get(object)).cloned();
            if let Some(row) = row.filter(|row| row.applied.is_some()) {
                self.change_object(t, &row, |row| row.applied = None);
            }
        } else {
            self.record_removed(t, app, object);
        }
        let live = self.live.app(app);
        live.found.remove(object);
        live.surveyed.remove(&object.gvk);
        live.todo = None;
        live.sent += 1;
    }

    /// Notes that an object that runs once has run for the generation that is planned, and is not there.
    pub(super) fn record_removed(&mut self, t: &mut Turn, app: &AppName, object: &ObjectRef) {
        let planned = self.rows.apps.get(app).and_then(|row| row.planned);
        let row = self.rows.objects.get(app).and_then(|rows| rows.get(object)).cloned();
        let (Some(generation), Some(row)) = (planned, row) else { return };
        let Some(wanted) = row.wanted else { return };
        let applied = AppliedRow::of_a_run(generation, wanted.sha256);
        self.change_object(t, &row, |row| row.applied = Some(applied));
    }

    /// Whether an object of the plan runs once.
    pub(super) fn is_once(&self, app: &AppName, object: &ObjectRef) -> bool {
        self.rows.objects.get(app).and_then(|rows| rows.get(object)).is_some_and(|row| row.traits.once)
    }

    /// What is going may be gone by then: it is listed again.
    pub(super) fn list_again(&mut self, t: &Turn, app: &AppName) {
        let resting = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Rest);
        let live = self.live.app(app);
        for object in std::mem::take(&mut live.going).into_keys() {
            live.surveyed.remove(&object.gvk);
        }
        live.todo = None;
        let pause_ms = if resting { GOING_REST_MS } else { GOING_POLL_MS };
        live.retry_at = Some(t.now.mono_ms + pause_ms);
    }
}
