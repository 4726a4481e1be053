//! Trying a wave's updates before the first of them is sent: what the API server would refuse stops the generation
//! while nothing of the wave has changed, and in the first wave while nothing at all has.
//!
//! What is created is not tried, nor what is put right or back: its content was taken before.

use airlift_bundles::ids::{AppName, Sha256Digest};

use super::api::{ApiCall, ApiError, ApiErrorClass};
use super::apply::{HANDED_OUT_MAX, refused};
use super::live::Deed;
use super::need::{Need, need};
use super::object::{ObjectRef, Uid};
use super::state::{Purpose, Step as AppStep};
use super::write::{ObjectRow, WantedRow};
use super::{Core, Effect, Turn};

/// One update that is tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    pub object: ObjectRef,
    index: u32,
    sha256: Sha256Digest,
    uid: Uid,
}

/// The updates of one wave.
#[derive(Debug)]
pub(super) struct Trial {
    wave: u32,
    waiting: Vec<Update>,
}

impl Core {
    /// Tries the updates of the first wave in which the plan in the making changes anything; answers whether all of
    /// them would be taken.
    pub(super) fn try_plan(&mut self, t: &mut Turn, app: &AppName) -> bool {
        if !self.tries(app) {
            return true;
        }
        if self.live.app(app).trial.is_none() {
            let (runs, held) = (self.runs_once(app), self.held_kinds(app));
            let Some(live) = self.live.apps.get(app) else { return false };
            let Some(plan) = &live.plan else { return false };
            let rows = plan.objects.iter().map(|entry| self.planned_row(app, &held, entry));
            let changed = rows.filter(|row| need(row, live.found.get(&row.object), runs).changes());
            let mut wave = u32::MAX;
            let mut first = Vec::new();
            for row in changed {
                if row.wave < wave {
                    wave = row.wave;
                    first.clear();
                }
                if row.wave == wave {
                    first.push(row);
                }
            }
            let waiting = first.iter().filter_map(|row| self.update_of(app, row)).collect();
            self.live.app(app).trial = Some(Trial { wave, waiting });
        }
        self.pump_trial(t, app)
    }

    /// Tries the updates among the objects of a wave that are to be sent; answers whether all of them would be taken.
    pub(super) fn try_wave(&mut self, t: &mut Turn, app: &AppName, wave: u32) -> bool {
        if !self.tries(app) || self.rows.apps.get(app).is_none_or(|row| row.step != AppStep::Apply) {
            return true;
        }
        if self.live.app(app).trial.as_ref().is_none_or(|trial| trial.wave != wave) {
            let todo = self.live.app(app).todo.as_ref();
            let objects = todo.and_then(|todo| todo.get(&wave)).cloned().unwrap_or_default();
            let rows = self.rows.objects.get(app);
            let rows = objects.iter().filter_map(|object| rows?.get(object));
            let waiting = rows.filter_map(|row| self.update_of(app, row)).collect();
            self.live.app(app).trial = Some(Trial { wave, waiting });
        }
        self.pump_trial(t, app)
    }

    fn tries(&self, app: &AppName) -> bool {
        self.rows.apps.get(app).is_some_and(|row| row.purpose == Purpose::Install)
    }

    /// The update that a row needs, where it is one to another content that was not tried yet.
    fn update_of(&self, app: &AppName, row: &ObjectRow) -> Option<Update> {
        let live = self.live.apps.get(app)?;
        let found = live.found.get(&row.object)?;
        let WantedRow { index, sha256 } = row.wanted?;
        let other = row.applied.as_ref().is_none_or(|applied| applied.sha256 != sha256);
        let tried = live.tried.get(&row.object) == Some(&sha256);
        let sent = need(row, Some(found), self.runs_once(app)) == Need::Send;
        let update = Update { object: row.object.clone(), index, sha256, uid: found.uid.clone() };
        (other && !tried && sent).then_some(update)
    }

    fn pump_trial(&mut self, t: &mut Turn, app: &AppName) -> bool {
        let Some(generation) = self.working(app) else { return false };
        loop {
            let flying = self.live.ops_of(app).filter(|(_, op)| matches!(op.deed, Deed::Try(_))).count();
            let live = self.live.app(app);
            let Some(trial) = &mut live.trial else { return false };
            if trial.waiting.is_empty() {
                return flying == 0;
            }
            let due =
                |update: &Update| live.pauses.get(&update.object).is_none_or(|(_, at)| *at <= t.now.mono_ms);
            let Some(at) = trial.waiting.iter().rposition(due).filter(|_| flying < HANDED_OUT_MAX) else {
                return false;
            };
            let update = trial.waiting.remove(at);
            let Update { object, index, uid, .. } = update.clone();
            let op = self.live.begin_op(t.now, app, Deed::Try(update));
            let (generation, uid) = (generation.clone(), Some(uid));
            let call = ApiCall::Apply { generation, index, object, uid, dry_run: true };
            t.effect(Effect::Api { op, call });
        }
    }

    pub(super) fn on_tried(&mut self, app: &AppName, update: Update) {
        let live = self.live.app(app);
        live.pauses.remove(&update.object);
        (live.refused, live.stopped) = (None, None);
        live.tried.insert(update.object, update.sha256);
    }

    pub(super) fn on_try_error(&mut self, t: &mut Turn, app: &AppName, update: Update, error: ApiError) {
        let preparing = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Prepare);
        match error.class {
            // Its content was not known, and it turns out to be the old one: it will be created anew.
            ApiErrorClass::Final if error.status == 422 && self.recreates(app, &update.object) => {
                self.on_tried(app, update);
            }
            ApiErrorClass::Final if preparing => self.refuse(t, app, refused(&update.object, &error)),
            ApiErrorClass::Final => self.fail(t, app, refused(&update.object, &error)),
            ApiErrorClass::Conflict | ApiErrorClass::NotFound | ApiErrorClass::KindUnknown => {
                // It is another object now, or none: what is there must be seen again first.
                let live = self.live.app(app);
                live.found.remove(&update.object);
                live.surveyed.remove(&update.object.gvk);
                (live.todo, live.trial) = (None, None);
            }
            // Others write the object at this moment; the real request will tell.
            ApiErrorClass::Retryable if error.status == 409 => self.on_tried(app, update),
            ApiErrorClass::Throttled { .. }
            | ApiErrorClass::Unavailable
            | ApiErrorClass::ContentLost
            | ApiErrorClass::Retryable => {
                self.pause_object(t, app, &update.object, &error);
                if let Some(trial) = &mut self.live.app(app).trial {
                    trial.waiting.push(update);
                }
            }
        }
    }

    /// Whether the plan, in the making or in force, would create an object anew rather than give it up.
    fn recreates(&self, app: &AppName, object: &ObjectRef) -> bool {
        match self.live.apps.get(app).and_then(|live| live.plan.as_ref()) {
            Some(plan) => plan.objects.iter().any(|entry| entry.object == *object && entry.traits.recreate),
            None => {
                let row = self.rows.objects.get(app).and_then(|rows| rows.get(object));
                row.is_some_and(|row| row.traits.recreate)
            }
        }
    }
}
