//! The stored clocks, which count only time in which waiting means something, and what holds them up.

use airlift_bundles::ids::AppName;

use super::live::Deed;
use super::object::AppPolicy;
use super::state::Step as AppStep;
use super::write::AppRow;
use super::{Core, Turn};

/// Stored clocks are written at least this often while they run.
const FLUSH_MS: u64 = 10_000;
/// No step counts more than this: a suspended machine's pods did not get better either.
const CLOCK_STEP_MS_MAX: u64 = 30_000;

impl Core {
    /// The settings of the generation that is worked on, or that stands.
    pub(super) fn policy(&self, app: &AppName) -> AppPolicy {
        let working = self.rows.apps.get(app).and_then(|row| row.working.or(row.planned));
        let prepared = working.and_then(|id| self.rows.generations.get(&id)).and_then(|row| row.prepared);
        let default = AppPolicy { soak_ms: 120_000, timeout_ms: 600_000, watch_ms: 0, deletion_budget: None };
        prepared.map_or(default, |prepared| prepared.policy)
    }

    /// The settle clock: what is stored and what has passed since.
    pub(super) fn settle_ms(&self, app: &AppName) -> u64 {
        let stored = self.rows.apps.get(app).map_or(0, |row| row.settle_ms);
        let live = self.live.apps.get(app);
        stored + live.filter(|live| !live.soaking).map_or(0, |live| live.unflushed_ms)
    }

    pub(super) fn soak_ms(&self, app: &AppName) -> u64 {
        let stored = self.rows.apps.get(app).map_or(0, |row| row.soak_ms);
        let live = self.live.apps.get(app);
        stored + live.filter(|live| live.soaking).map_or(0, |live| live.unflushed_ms)
    }

    /// Counts the time since the last step on every clock that runs, as things were in that time.
    pub(super) fn run_clocks(&mut self, t: &mut Turn) {
        let passed = t.now.mono_ms.saturating_sub(self.live.clocks_ms).min(CLOCK_STEP_MS_MAX);
        self.live.clocks_ms = t.now.mono_ms;
        if passed == 0 {
            return;
        }
        for app in self.app_names() {
            let Some(row) = self.rows.apps.get(&app) else { continue };
            let step = row.step;
            let runs = match step {
                AppStep::Settle => self.settle_clock_runs(&app),
                AppStep::Apply => {
                    let waits = self.live.app(&app).refused.is_some() || self.closed_gate(&app).is_some();
                    waits && self.settle_clock_runs(&app)
                }
                AppStep::RetireWait => !row.held,
                AppStep::Rest => {
                    self.run_trouble_clocks(&app, passed);
                    self.watch_clock_runs(&app)
                }
                _ => false,
            };
            if !runs {
                continue;
            }
            let live = self.live.app(&app);
            if step == AppStep::Settle && !live.soaking {
                live.unconfirmed_ms += passed;
            } else {
                live.unflushed_ms += passed;
            }
            if live.flush_at <= t.now.mono_ms {
                self.flush_clock(t, &app);
            }
        }
    }

    /// The agent is up, the API answers, objects can be read, a node can run pods, and no import takes the disk.
    pub(super) fn settle_clock_runs(&self, app: &AppName) -> bool {
        let unread = self.live.apps.get(app).is_some_and(|live| !live.unread.is_empty());
        self.live.api_up
            && !unread
            && self.live.node_ready()
            && !self.live.ops.values().any(|op| op.deed == Deed::Import)
    }

    /// What keeps the work from going on, and is no fault of the app's: its time does not count meanwhile.
    pub(super) fn hindrance(&self, row: &AppRow) -> Option<String> {
        let live = self.live.apps.get(&row.app);
        match row.step {
            AppStep::Apply | AppStep::Settle => {}
            AppStep::Prepare if !self.live.api_up => {}
            _ => return None,
        }
        if !self.live.api_up {
            return Some(self.silence("waits for the API server, which does not answer"));
        }
        if let Some((object, error)) = live.and_then(|live| live.stopped.as_ref()) {
            return Some(format!("waits for the API server: {object}: {}", error.message));
        }
        if let Some((object, (error, _))) = live.and_then(|live| live.unread.iter().next()) {
            return Some(format!("waits for the API server: {object} cannot be read: {}", error.message));
        }
        self.live.node_trouble().map(|trouble| format!("waits for a node: {trouble}"))
    }

    pub(super) fn on_api_trouble(&mut self, reason: String) {
        let reason = Some(reason);
        self.live.status_dirty |= self.live.api_trouble != reason;
        self.live.api_trouble = reason;
    }

    /// Says that the API server does not answer, and why, in its own words.
    pub(super) fn silence(&self, words: &str) -> String {
        match &self.live.api_trouble {
            Some(trouble) => format!("{words}: {trouble}"),
            None => words.to_owned(),
        }
    }

    /// Writes a clock down. That counts as progress: the next start of the process goes on from there.
    pub(super) fn flush_clock(&mut self, t: &mut Turn, app: &AppName) {
        let policy = self.policy(app);
        let brisk_ms = policy.soak_ms.min(policy.timeout_ms) / 4;
        let live = self.live.app(app);
        let (passed, soaking) = (std::mem::take(&mut live.unflushed_ms), live.soaking);
        live.flush_at = t.now.mono_ms + FLUSH_MS.min(brisk_ms.max(250));
        if passed == 0 {
            return;
        }
        self.change_app(t, app, |row| match (row.step, soaking) {
            (AppStep::RetireWait, _) => row.retire_ms += passed,
            (AppStep::Rest, _) => row.watch_left_ms = row.watch_left_ms.saturating_sub(passed),
            (_, true) => (row.soak_ms, row.starts) = (row.soak_ms + passed, 0),
            (_, false) => (row.settle_ms, row.starts) = (row.settle_ms + passed, 0),
        });
    }
}
