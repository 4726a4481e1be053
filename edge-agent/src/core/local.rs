//! What a person at the site asks and orders; every order is receipted.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::{Evidence, Outcome};
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;

use super::event::{LocalCommand, RequestId};
use super::outbox::Told;
use super::state::Step as AppStep;
use super::status::LocalReply;
use super::write::AppRow;
use super::{Core, Effect, Turn};

impl AppRow {
    /// The state as people see it.
    #[must_use]
    pub fn shown(&self) -> AppState {
        let rests = matches!(self.step, AppStep::Rest | AppStep::RetireWait);
        if self.held && rests { AppState::Held } else { self.state }
    }
}

impl Core {
    pub(super) fn on_local(&mut self, t: &mut Turn, request: RequestId, command: &LocalCommand) {
        let reply = match command {
            LocalCommand::Status => LocalReply::Status(Box::new(self.report(t.now))),
            LocalCommand::Hold(app) => self.order(t, app, "hold", Self::hold),
            LocalCommand::Unhold(app) => self.order(t, app, "unhold", Self::unhold),
            LocalCommand::Retry(app) => self.order(t, app, "retry", Self::retry),
            LocalCommand::Rollback(app) => self.order(t, app, "rollback", Self::rollback),
        };
        t.effect(Effect::Reply { request, reply });
    }

    fn order(
        &mut self,
        t: &mut Turn,
        app: &AppName,
        word: &str,
        act: impl FnOnce(&mut Self, &mut Turn, &AppName) -> Result<String, (Code, String)>,
    ) -> LocalReply {
        if !self.rows.apps.contains_key(app) {
            let reason = format!("no app {app} at this site; see `airlift-agent status`");
            return LocalReply::Refused { code: Code::NotFound, reason };
        }
        let generation = self.rows.apps.get(app).and_then(|row| row.working.or(row.current));
        match act(self, t, app) {
            Ok(done) => {
                let seen =
                    Evidence { object: format!("app {app}"), reason: word.to_owned(), message: done.clone() };
                let told = Told::of(app, generation, Outcome::LocalAct);
                self.receipt(t, Told { evidence: vec![seen], ..told });
                LocalReply::Done(done)
            }
            Err((code, reason)) => LocalReply::Refused { code, reason },
        }
    }

    fn hold(&mut self, t: &mut Turn, app: &AppName) -> Result<String, (Code, String)> {
        self.change_app(t, app, |row| row.held = true);
        Ok(format!("app {app} is held: no new generation begins and it does not retire until `unhold`"))
    }

    fn unhold(&mut self, t: &mut Turn, app: &AppName) -> Result<String, (Code, String)> {
        self.change_app(t, app, |row| row.held = false);
        Ok(format!("app {app} goes on"))
    }

    fn retry(&mut self, t: &mut Turn, app: &AppName) -> Result<String, (Code, String)> {
        let Some(row) = self.rows.apps.get(app).cloned() else { return Ok(String::new()) };
        let Some(target) = row.target.filter(|_| row.step == AppStep::Rest) else {
            return Err((Code::Conflict, format!("app {app} is being worked on; nothing to try again")));
        };
        let accepted = row.state != AppState::Refused
            || self
                .rows
                .generations
                .get(&target)
                .is_some_and(|known| known.verdict == super::state::GenerationVerdict::Refused);
        if !accepted {
            return Err((Code::Conflict, format!("app {app} is refused by the assignment: {}", row.reason)));
        }
        self.reopen(t, target, row.retry);
        self.live.app(app).prune_due = true;
        self.change_app(t, app, |row| {
            row.state = if row.current.is_some() { AppState::Healthy } else { AppState::Waiting };
            row.clear_note();
        });
        Ok(format!("app {app} tries its target again"))
    }

    fn rollback(&mut self, t: &mut Turn, app: &AppName) -> Result<String, (Code, String)> {
        let Some(row) = self.rows.apps.get(app).cloned() else { return Ok(String::new()) };
        let Some(current) = row.current.filter(|_| row.step == AppStep::Rest) else {
            return Err((Code::Conflict, format!("app {app} is being worked on or has nothing healthy")));
        };
        if row.previous.is_none_or(|previous| !self.may_return(previous)) {
            return Err((Code::NotFound, format!("app {app} has no earlier healthy version to go back to")));
        }
        let from = self.generation(Some(current));
        if from.as_ref().is_some_and(|from| !self.may_leave(from)) {
            return Err((Code::Irreversible, format!("app {app}: the release forbids going back from it")));
        }
        let Some(previous) = self.way_back(app) else {
            let reason =
                format!("app {app}: another app requires this version and cannot go back or is held");
            return Err((Code::Conflict, reason));
        };
        let version =
            |id| self.generation(Some(id)).map_or_else(String::new, |known| known.version.to_string());
        let done = format!("app {app} goes back from {} to {}", version(current), version(previous));
        self.roll_back_by_hand(t, app, current, previous);
        Ok(done)
    }
}
