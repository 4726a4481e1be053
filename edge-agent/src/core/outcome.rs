//! How work ends: healthy, refused, failed, rolled back or degraded; each with its receipt.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::{Counts, Evidence, Outcome};
use airlift_bundles::document::root::RevokeAction;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::event::Failure;
use super::heal::POD_DELETED;
use super::object::GenerationId;
use super::outbox::Told;
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::write::{AppRow, CounterKey, CounterRow};
use super::{Core, Turn, Write};

impl Core {
    /// The generation is healthy and has soaked.
    pub(super) fn succeed(&mut self, t: &mut Turn, app: &AppName) {
        self.flush_clock(t, app);
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let Some(working) = row.working else { return };
        let counts = self.counts(app);
        let watch_ms = self.policy(app).watch_ms;
        let noticed = self.noticed(&row);
        let readings = std::mem::take(&mut self.live.app(app).health);
        self.abandon(t, app);
        let live = self.live.app(app);
        (live.health, live.losses) = (readings, 0);
        match row.purpose {
            Purpose::Install => {
                let retry = row.retry;
                self.change_generation(t, working, |generation| {
                    (generation.verdict, generation.retry) = (GenerationVerdict::Healthy, retry);
                });
                self.raise_floor(t, working);
                self.change_app(t, app, |row| {
                    if row.current != Some(working) {
                        row.previous = row.current;
                    }
                    row.current = Some(working);
                    row.watch_left_ms = watch_ms;
                    row.clear_note();
                });
                let told = Told::of(app, Some(working), Outcome::Healthy);
                self.receipt(t, Told { counts, evidence: noticed, ..told });
            }
            Purpose::RollBack => {
                let told = Told::of(app, row.failed, Outcome::RolledBack);
                self.receipt(t, Told { code: row.code, evidence: row.evidence.clone(), counts, ..told });
                self.change_app(t, app, |row| {
                    if row.previous == Some(working) {
                        row.previous = None;
                    }
                    row.current = Some(working);
                });
            }
            Purpose::Repair => {
                let told = Told::of(app, Some(working), Outcome::Repaired);
                self.receipt(t, Told { counts, evidence: noticed, ..told });
                self.upkeep_succeeded(t, app);
            }
        }
        self.rest(t, app, AppState::Healthy);
        self.live.app(app).prune_due = true;
    }

    /// What a receipt of success tells: pods that had to be deleted, and nodes that are still to come.
    fn noticed(&self, row: &AppRow) -> Vec<Evidence> {
        let deleted = row.evidence.iter().filter(|seen| seen.reason == POD_DELETED).cloned();
        let readings = self.live.apps.get(&row.app).into_iter().flat_map(|live| live.health.iter());
        let noted = readings.filter(|(_, reading)| !reading.health.reason.is_empty());
        let noted = noted.map(|(object, reading)| Evidence {
            object: object.to_string(),
            reason: "Noted".to_owned(),
            message: reading.health.reason.clone(),
        });
        Evidence::bounded(deleted.chain(noted).collect(), &Limits::DEFAULT)
    }

    /// Ends the work on a generation.
    pub(super) fn rest(&mut self, t: &mut Turn, app: &AppName, state: AppState) {
        self.change_app(t, app, |row| {
            row.step = AppStep::Rest;
            row.state = state;
            (row.working, row.failed) = (None, None);
            (row.settle_ms, row.soak_ms, row.starts, row.attempts) = (0, 0, 0, 0);
            row.purpose = Purpose::Install;
        });
        self.live.rows_changed = true;
    }

    /// The release's own floor counts from the moment the app is healthy on it.
    fn raise_floor(&mut self, t: &mut Turn, id: GenerationId) {
        let Some(generation) = self.generation(Some(id)) else { return };
        let Some((epoch, floor)) = self.release(&generation).map(|release| (release.epoch, release.floor))
        else {
            return;
        };
        let key = CounterKey::Floor(generation.app.clone());
        let stored = self.rows.counters.get(&key).map_or((0, 0), |row| (row.epoch, row.seq));
        if (epoch, floor) > stored {
            self.write(t, Write::PutCounter(CounterRow { key, epoch, seq: floor }));
        }
    }

    /// The generation may not be installed, or cannot be; nothing of it was applied.
    pub(super) fn refuse(&mut self, t: &mut Turn, app: &AppName, failure: Failure) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let Some(working) = row.working else { return };
        if row.purpose == Purpose::RollBack {
            self.degrade(t, app, failure);
            return;
        }
        let retry = row.retry;
        self.change_generation(t, working, |generation| {
            if generation.verdict == GenerationVerdict::Open {
                (generation.verdict, generation.retry) = (GenerationVerdict::Refused, retry);
            }
        });
        let touched = row.planned.is_some() && row.planned != row.current;
        self.abandon(t, app);
        self.note(t, app, &failure);
        if touched && row.current.is_some() {
            // An earlier attempt was left half applied when this one began.
            self.roll_back(t, app, working);
            return;
        }
        let told = Told::of(app, Some(working), Outcome::Refused);
        self.receipt(t, Told { code: Some(failure.code), evidence: failure.receipt_evidence(app), ..told });
        self.rest(t, app, AppState::Refused);
    }

    /// The generation failed after something of it was applied.
    pub(super) fn fail(&mut self, t: &mut Turn, app: &AppName, failure: Failure) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let Some(working) = row.working else { return };
        if row.purpose != Purpose::Install {
            self.degrade(t, app, failure);
            return;
        }
        let retry = row.retry;
        self.change_generation(t, working, |generation| {
            (generation.verdict, generation.retry) = (GenerationVerdict::Failed, retry);
        });
        let counts = self.counts(app);
        self.abandon(t, app);
        self.note(t, app, &failure);
        let may_leave = self.generation(Some(working)).is_some_and(|generation| self.may_leave(&generation));
        if !may_leave {
            // What stood before can never be gone back to, by no later version either.
            self.change_app(t, app, |row| (row.current, row.previous) = (None, None));
        }
        let may_return = row.current.is_some_and(|current| self.may_return(current));
        if row.current.is_some() && row.current != Some(working) && may_leave && may_return {
            self.roll_back(t, app, working);
            return;
        }
        let (state, outcome) = if row.current.is_none() {
            (AppState::Failed, Outcome::Failed)
        } else {
            (AppState::Degraded, Outcome::Degraded)
        };
        let told = Told::of(app, Some(working), outcome);
        let mut evidence = self.rows.apps.get(app).map_or_else(Vec::new, |row| row.evidence.clone());
        if evidence.is_empty() {
            evidence = failure.receipt_evidence(app);
        }
        self.receipt(t, Told { code: Some(failure.code), evidence, counts, ..told });
        self.rest(t, app, state);
    }

    /// A root that blocks a release forbids going back to it.
    pub(super) fn may_return(&self, id: GenerationId) -> bool {
        let generation = self.generation(Some(id));
        let revoked = generation.and_then(|generation| self.root.revocation(&generation.release));
        !matches!(revoked, Some(RevokeAction::Block | RevokeAction::Stop))
    }

    /// Puts the healthy generation back, whole.
    fn roll_back(&mut self, t: &mut Turn, app: &AppName, failed: GenerationId) {
        let Some(current) = self.rows.apps.get(app).and_then(|row| row.current) else { return };
        self.change_app(t, app, |row| row.failed = Some(failed));
        self.begin(t, app, current, Purpose::RollBack);
    }

    /// Leaves a generation that stood here for the healthy one before it, once: that one has no `watch` time.
    pub(super) fn go_back(&mut self, t: &mut Turn, app: &AppName, left: GenerationId, to: GenerationId) {
        self.change_app(t, app, |row| {
            (row.failed, row.current, row.watch_left_ms) = (Some(left), Some(to), 0);
            if row.previous == Some(to) {
                row.previous = None;
            }
        });
        self.begin(t, app, to, Purpose::RollBack);
    }

    /// Goes back to an older generation by a person's word.
    pub(super) fn roll_back_by_hand(
        &mut self,
        t: &mut Turn,
        app: &AppName,
        left: GenerationId,
        to: GenerationId,
    ) {
        self.change_generation(t, left, |generation| generation.verdict = GenerationVerdict::LeftByHand);
        self.change_app(t, app, |row| {
            row.code = Some(Code::Held);
            row.reason = "a person at the site went back from it".to_owned();
            row.evidence.clear();
        });
        self.go_back(t, app, left, to);
    }

    /// Also the generation before is unhealthy: stay, and say so. No ping-pong.
    pub(super) fn degrade(&mut self, t: &mut Turn, app: &AppName, failure: Failure) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let code = if row.purpose == Purpose::RollBack { Code::RollbackUnhealthy } else { failure.code };
        let mut evidence = row.evidence.clone();
        evidence.extend(failure.receipt_evidence(app));
        let evidence = Evidence::bounded(evidence, &Limits::DEFAULT);
        let counts = self.counts(app);
        self.abandon(t, app);
        let told = Told::of(app, row.failed.or(row.working), Outcome::Degraded);
        self.receipt(t, Told { code: Some(code), evidence: evidence.clone(), counts, ..told });
        self.change_app(t, app, |row| {
            (row.code, row.reason, row.evidence) = (Some(code), failure.reason, evidence);
        });
        self.rest(t, app, AppState::Degraded);
    }

    pub(super) fn note(&mut self, t: &mut Turn, app: &AppName, failure: &Failure) {
        self.change_app(t, app, |row| {
            row.code = Some(failure.code);
            row.reason.clone_from(&failure.reason);
            // Pods that had to be deleted are told, whatever comes of it.
            row.evidence.retain(|seen| seen.reason == POD_DELETED);
            row.evidence.extend(failure.evidence.iter().cloned());
            row.evidence = Evidence::bounded(std::mem::take(&mut row.evidence), &Limits::DEFAULT);
        });
    }

    /// What upkeep had to tell is over. Why a newer version was left stays shown, and so does a refused prune.
    pub(super) fn upkeep_succeeded(&mut self, t: &mut Turn, app: &AppName) {
        self.change_app(t, app, |row| {
            let stopped = matches!(row.code, Some(Code::DeletionBudget | Code::HoldsOthers));
            let told = stopped || row.state == AppState::Degraded;
            if row.target == row.current && !told {
                row.clear_note();
            }
            row.attempts = 0;
        });
    }

    fn counts(&self, app: &AppName) -> Counts {
        let rows = self.rows.objects.get(app);
        let objects = rows.map_or(0, |rows| rows.values().filter(|row| row.wanted.is_some()).count());
        let working = self.rows.apps.get(app).and_then(|row| row.working);
        let images = self.rows.images.keys().filter(|(generation, _)| Some(*generation) == working).count();
        Counts {
            objects: objects as u64,
            applied: self.live.apps.get(app).map_or(0, |live| live.sent),
            pruned: 0,
            images: images as u64,
        }
    }
}

impl Failure {
    /// The evidence for a receipt: what was seen, or at least the reason in words.
    fn receipt_evidence(&self, app: &AppName) -> Vec<Evidence> {
        if !self.evidence.is_empty() {
            return self.evidence.clone();
        }
        let seen = Evidence {
            object: format!("app {app}"),
            reason: self.code.id().to_owned(),
            message: self.reason.clone(),
        };
        vec![seen]
    }
}
