//! What apps require of each other: a newer one begins when what it requires is there, and an older one comes back
//! only after every app that requires the newer one has gone back itself.

use std::collections::BTreeSet;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::release::Requirement;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;

use super::event::Failure;
use super::object::{Generation, GenerationId};
use super::outbox::Told;
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::write::AppRow;
use super::{Core, Turn};

impl Core {
    /// Why a generation may not begin yet: an app that it requires is not there at its number, or one that stands
    /// here requires a newer one than it is.
    pub(super) fn unmet(&self, generation: &Generation) -> Option<String> {
        if let Some(missing) = self.missing(generation) {
            return Some(format!("waits for app {} at seq {}", missing.app, missing.min_seq));
        }
        let above = self.dependents(&generation.app, generation.counter.seq);
        above.first().map(|app| format!("waits for app {app}, which still requires a newer version of it"))
    }

    /// The first app that a generation requires and that is not healthy here at its number.
    pub(super) fn missing(&self, generation: &Generation) -> Option<&Requirement> {
        self.release(generation)?.requires.iter().find(|requirement| {
            let other = self.rows.apps.get(&requirement.app).and_then(|row| self.generation(row.current));
            other.is_none_or(|other| other.counter.seq < requirement.min_seq)
        })
    }

    /// Apps that stand here, or are coming, in a generation that requires `app` at a greater number than `seq`.
    fn dependents(&self, app: &AppName, seq: u64) -> Vec<AppName> {
        let rows = self.rows.apps.values().filter(|row| row.app != *app);
        rows.filter(|row| self.requires_newer(row, app, seq)).map(|row| row.app.clone()).collect()
    }

    fn requires_newer(&self, row: &AppRow, app: &AppName, seq: u64) -> bool {
        let rests = row.step == AppStep::Rest;
        // Left where it failed, with nothing to go back to; or leaving the site anyway.
        if rests && row.current.is_none() || matches!(row.step, AppStep::RetireWait | AppStep::RetireDelete) {
            return false;
        }
        let goes_back = row.purpose == Purpose::RollBack && !rests;
        let stands = [row.current, row.working, row.planned];
        stands.into_iter().any(|id| self.names_newer(id, app, seq))
            || goes_back && self.names_newer(row.failed, app, seq)
    }

    fn names_newer(&self, id: Option<GenerationId>, app: &AppName, seq: u64) -> bool {
        let Some(generation) = self.generation(id) else { return false };
        let requires =
            self.release(&generation).map(|release| release.requires.as_slice()).unwrap_or_default();
        requires.iter().any(|requirement| requirement.app == *app && requirement.min_seq > seq)
    }

    /// The healthy generation before the present one, where the app may go back to it, and with it every app that
    /// requires the present one.
    pub(super) fn way_back(&self, app: &AppName) -> Option<GenerationId> {
        self.way_back_past(app, &mut BTreeSet::new())
    }

    fn way_back_past(&self, app: &AppName, seen: &mut BTreeSet<AppName>) -> Option<GenerationId> {
        let row = self.rows.apps.get(app)?;
        let previous = row.previous.filter(|previous| self.may_return(*previous))?;
        let from = self.generation(row.current)?;
        if !self.may_leave(&from) || !seen.insert(app.clone()) {
            return None;
        }
        let seq = self.generation(Some(previous))?.counter.seq;
        let follows = |dependent: &AppName, seen: &mut BTreeSet<AppName>| {
            let Some(row) = self.rows.apps.get(dependent) else { return true };
            let comes = self.names_newer(row.current, app, seq);
            !row.held && (!comes || self.way_back_past(dependent, seen).is_some())
        };
        self.dependents(app, seq).iter().all(|dependent| follows(dependent, seen)).then_some(previous)
    }

    /// Before anything is fetched: what is required must be there, or, going back, what requires must be gone.
    pub(super) fn drive_wait(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let Some(generation) = self.working(app) else { return };
        if row.purpose != Purpose::RollBack {
            if self.unmet(&generation).is_some() {
                // It was met a moment ago; the app rests until it is again.
                self.abandon(t, app);
                let state = if row.current.is_some() { AppState::Healthy } else { AppState::Waiting };
                self.rest(t, app, state);
            } else {
                self.enter(t, app, AppStep::Fetch);
            }
            return;
        }
        let seq = generation.counter.seq;
        for dependent in self.dependents(app, seq) {
            self.send_back(t, &dependent, app);
        }
        let left = self.dependents(app, seq);
        let rests =
            |dependent: &AppName| self.rows.apps.get(dependent).is_none_or(|row| row.step == AppStep::Rest);
        match left.first() {
            None => self.enter(t, app, AppStep::Fetch),
            Some(first) if left.iter().all(rests) => {
                let reason = format!("app {first} requires it and cannot go back");
                self.degrade(t, app, Failure::app(Code::RequiredLeft, reason));
            }
            Some(_) => {}
        }
    }

    /// Which app a rollback waits for.
    pub(super) fn waits_to_go_back(&self, row: &AppRow) -> Option<String> {
        if row.step != AppStep::Wait || row.purpose != Purpose::RollBack {
            return None;
        }
        let seq = self.generation(row.working)?.counter.seq;
        let dependent = self.dependents(&row.app, seq).into_iter().next()?;
        Some(format!("waits for app {dependent}, which requires the newer version and goes back first"))
    }

    /// Takes an app away from a generation that cannot run with what `cause` goes back to. It is no fault of that
    /// generation's: it is tried again when what it requires is there again.
    fn send_back(&mut self, t: &mut Turn, app: &AppName, cause: &AppName) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let rests = row.step == AppStep::Rest;
        if row.purpose == Purpose::RollBack && !rests {
            return;
        }
        let reason = format!("app {cause}, which it requires, goes back");
        let failure = Failure::app(Code::RequiredLeft, reason);
        if row.purpose == Purpose::Install && !rests {
            self.call_off(t, app, &row, &failure);
        } else if let (Some(current), Some(previous)) = (row.current, self.way_back(app)) {
            self.change_generation(t, current, |row| row.verdict = GenerationVerdict::Open);
            self.note(t, app, &failure);
            self.go_back(t, app, current, previous);
        }
    }

    /// Ends an install before its time.
    pub(super) fn call_off(&mut self, t: &mut Turn, app: &AppName, row: &AppRow, failure: &Failure) {
        let Some(working) = row.working else { return };
        self.abandon(t, app);
        self.note(t, app, failure);
        let touched = row.planned == Some(working) && row.current != Some(working);
        match row.current {
            Some(current)
                if touched && self.generation(row.working).is_some_and(|left| self.may_leave(&left)) =>
            {
                self.change_app(t, app, |row| row.failed = Some(working));
                self.begin(t, app, current, Purpose::RollBack);
            }
            _ if touched => {
                let told = Told::of(app, Some(working), Outcome::Failed);
                self.receipt(t, Told { code: Some(failure.code), ..told });
                self.change_app(t, app, |row| (row.current, row.previous) = (None, None));
                self.rest(t, app, AppState::Failed);
            }
            current => {
                let state = if current.is_some() { AppState::Healthy } else { AppState::Waiting };
                self.rest(t, app, state);
            }
        }
    }

    /// An app at rest whose target waits for another says so.
    pub(super) fn tell_unmet(&mut self, t: &mut Turn, app: &AppName, reason: String) {
        self.change_app(t, app, |row| {
            if row.current.is_none() && row.state != AppState::Failed {
                row.state = AppState::Waiting;
            }
            if row.code.is_none() || row.code == Some(Code::RequiredLeft) {
                row.reason = reason;
            }
        });
    }
}
