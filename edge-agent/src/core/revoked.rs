//! What a newer root says against releases that stand here, are coming, or are wanted.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::root::RevokeAction;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Sha256Digest};

use super::event::Failure;
use super::object::{Generation, GenerationId};
use super::outbox::Told;
use super::state::{Purpose, Step as AppStep};
use super::write::AppRow;
use super::{Core, Turn};

impl Core {
    pub(super) fn is_stopped(&self, release: &Sha256Digest) -> bool {
        self.root.revocation(release) == Some(RevokeAction::Stop)
    }

    /// Obeys a root that was just taken: what it stops is rendered anew, and what it revokes is not begun.
    pub(super) fn obey_revocations(&mut self, t: &mut Turn) {
        let generations = self.rows.generations.values().map(|row| row.generation.clone());
        let changed: Vec<Arc<Generation>> =
            generations.filter(|known| known.stopped != self.is_stopped(&known.release)).collect();
        for generation in changed {
            let stopped = !generation.stopped;
            self.change_generation(t, generation.id, |row| {
                row.generation = Arc::new(Generation { stopped, ..(*generation).clone() });
                // Its objects are others now: the plan is made anew before anything is sent.
                row.prepared = None;
            });
            self.live.app(&generation.app).prune_due = true;
            self.live.rows_changed = true;
        }
        for app in self.app_names() {
            let Some(row) = self.rows.apps.get(&app).cloned() else { continue };
            let installs = row.purpose == Purpose::Install
                && !matches!(row.step, AppStep::Rest | AppStep::RetireWait | AppStep::RetireDelete);
            if installs
                && row.working != row.current
                && let Some(failure) = row.working.and_then(|id| self.revoked_failure(id))
            {
                self.call_off(t, &app, &row, &failure);
            }
        }
    }

    /// Why a generation must not be begun.
    fn revoked_failure(&self, id: GenerationId) -> Option<Failure> {
        let generation = self.generation(Some(id))?;
        let action = self.root.revocation(&generation.release)?;
        let code = match action {
            RevokeAction::Block => Code::ReleaseRevoked,
            RevokeAction::Stop => Code::ReleaseStopped,
        };
        Some(Failure::app(code, format!("version {} is revoked by the newest root", generation.version)))
    }

    /// Refuses a target that was revoked after it was accepted; answers whether it did.
    pub(super) fn refuse_revoked(&mut self, t: &mut Turn, app: &AppName, target: GenerationId) -> bool {
        let stands = self.rows.apps.get(app).is_some_and(|row| row.current == Some(target));
        let Some(failure) = self.revoked_failure(target).filter(|_| !stands) else { return false };
        let told = Told::of(app, Some(target), Outcome::Refused);
        self.receipt(t, Told { code: Some(failure.code), ..told });
        self.note(t, app, &failure);
        self.change_app(t, app, |row| row.state = AppState::Refused);
        true
    }

    /// What is said of an app whose release is revoked and runs.
    pub(super) fn revoked(&self, row: &AppRow) -> Option<(Code, String)> {
        let current = self.generation(row.current)?;
        Some(match self.root.revocation(&current.release)? {
            RevokeAction::Block => {
                let reason = "its release is blocked: what runs is kept, and is never installed anew";
                (Code::ReleaseRevoked, reason.to_owned())
            }
            RevokeAction::Stop => {
                let reason = "its release is stopped: its workloads have no pods, its data is kept";
                (Code::ReleaseStopped, reason.to_owned())
            }
        })
    }
}
