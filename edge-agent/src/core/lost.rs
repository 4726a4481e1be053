//! Content that was complete and is so no more: a disk that lied to the agent, or a hand that removed a file. It is
//! fetched again, by whichever way comes; what runs goes on running meanwhile.

use airlift_bundles::code::Code;
use airlift_bundles::ids::AppName;

use super::api::{ApiError, ApiErrorClass};
use super::connect::backoff_ms;
use super::event::{Failure, FailureClass};
use super::live::Deed;
use super::object::GenerationId;
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::work::{RETRY_MS, RETRY_MS_MAX};
use super::write::AppRow;
use super::{Core, Turn};

/// Content of a version that was healthy is here, or comes from a stick that is in; what takes longer is lost.
const LACKS_MS: u64 = 600_000;
/// What cannot be done without lost content is tried again when that comes, and now and then.
pub(super) const LOST_PAUSE_MS: u64 = 60_000;

impl Core {
    /// Goes back to fetching, or fetches beside what is applied already; answers whether the work was begun anew by
    /// that.
    ///
    /// Each loss makes the pause before longer: on a disk that damages all that it is given, a thin link would
    /// otherwise bring the same bytes for ever.
    pub(super) fn lost_content(&mut self, t: &mut Turn, app: &AppName, failure: &Failure) -> bool {
        let Some(row) = self.rows.apps.get(app) else { return false };
        let (step, planned) = (row.step, row.planned);
        let live = self.live.app(app);
        match step {
            AppStep::Prepare | AppStep::Import => {
                live.losses = live.losses.saturating_add(1);
                let losses = live.losses;
                self.abandon(t, app);
                self.enter(t, app, AppStep::Fetch);
                let pause_ms = backoff_ms(&self.meta.site, RETRY_MS, RETRY_MS_MAX, losses - 1);
                self.live.app(app).retry_at = Some(t.now.mono_ms + pause_ms);
                self.note_failure(t, app, failure);
                true
            }
            AppStep::Apply | AppStep::Settle | AppStep::Rest => {
                let lacking = live.importing.take().or(planned);
                if let Some(generation) = self.generation(lacking) {
                    self.fetch(t, app, generation);
                }
                false
            }
            AppStep::Wait | AppStep::Fetch | AppStep::RetireWait | AppStep::RetireDelete => false,
        }
    }

    /// The same for a request whose body could not be rendered.
    pub(super) fn lost_body(&mut self, t: &mut Turn, app: &AppName, error: &ApiError) -> bool {
        if error.class != ApiErrorClass::ContentLost {
            return false;
        }
        let failure = Failure {
            class: FailureClass::Environment,
            ..Failure::app(Code::ContentMissing, error.message.clone())
        };
        self.lost_content(t, app, &failure)
    }

    /// Going back, and repairing, give way to a newer version where nobody brings what they lack: a hub gives a site
    /// what it is to have, and not what it once had.
    pub(super) fn give_way(&mut self, t: &mut Turn, app: &AppName) -> bool {
        let Some(row) = self.rows.apps.get(app) else { return false };
        let (purpose, held) = (row.purpose, row.held);
        let Some(target) = self.newer_target(row).filter(|_| !held) else { return false };
        if self.lacks_since(app).is_none_or(|since_ms| since_ms + LACKS_MS > t.now.mono_ms) {
            return false;
        }
        match purpose {
            Purpose::RollBack => {
                let reason = "content of the version before is not on this disk any more".to_owned();
                self.degrade(t, app, Failure::app(Code::ContentMissing, reason));
            }
            Purpose::Repair | Purpose::Install => self.begin(t, app, target, Purpose::Install),
        }
        true
    }

    pub(super) fn give_way_deadline(&self, app: &AppName) -> Option<u64> {
        let row = self.rows.apps.get(app).filter(|row| !row.held)?;
        self.newer_target(row)?;
        Some(self.lacks_since(app)? + LACKS_MS)
    }

    /// What is wanted in the place of that to which this work goes back, and has not failed here.
    fn newer_target(&self, row: &AppRow) -> Option<GenerationId> {
        if row.purpose == Purpose::Install || row.step == AppStep::Rest {
            return None;
        }
        let target = row.target.filter(|target| ![row.working, row.failed].contains(&Some(*target)))?;
        let verdict = self.rows.generations.get(&target)?.verdict;
        matches!(verdict, GenerationVerdict::Open | GenerationVerdict::Healthy).then_some(target)
    }

    /// Since when content of the app is being fetched.
    fn lacks_since(&self, app: &AppName) -> Option<u64> {
        let fetches = self.live.ops_of(app).filter(|(_, op)| matches!(op.deed, Deed::Fetch(_)));
        fetches.map(|(_, op)| op.since_ms).min()
    }

    /// What an app lacked is here again: whatever waited for it is tried at once.
    pub(super) fn regained_content(&mut self, app: &AppName) {
        let live = self.live.app(app);
        live.retry_at = None;
        live.import_due = true;
        live.pauses.clear();
        live.unread.values_mut().for_each(|(_, at_ms)| *at_ms = 0);
    }
}
