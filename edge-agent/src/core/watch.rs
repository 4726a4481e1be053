//! After success: is it still well? Trouble that lasts is reported, once, and rolled back where the app asks for it.
//!
//! What nobody can say is never shown as healthy: while the cluster does not answer, no node is Ready or an object
//! cannot be read, a healthy app is shown as `unknown`.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::{Evidence, Outcome};
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::event::Failure;
use super::live::Reading;
use super::object::ObjectRef;
use super::outbox::Told;
use super::state::{GenerationVerdict, Step as AppStep};
use super::write::AppRow;
use super::{Core, Turn};

/// Objects that are not well are read again after this, at rest.
const POLL_MS: u64 = 5_000;
/// Trouble and recovery are believed after the app's soak time, but not before this is over at most.
const BELIEF_MS_MAX: u64 = 30_000;
/// A suspended machine's pods were neither well nor ill: no step counts more than this.
const STEP_MS_MAX: u64 = 10_000;
/// Each relapse doubles the time for which an app must be well again, so often at most.
const RELAPSES_MAX: u32 = 6;
/// An app that was well for so long has no relapses any more.
const RELAPSE_MS: u64 = 3_600_000;

/// How an app at rest has been lately.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// How long it has been ill; `None` while it is not.
    ill_ms: Option<u64>,
    /// It fell ill while its `watch` time ran.
    watched: bool,
    /// How long it has been well; `None` while it is not, or while nobody can say.
    pub well_ms: Option<u64>,
    /// How often it has recovered lately.
    relapses: u32,
}

impl AppRow {
    /// It is at rest on a version that was healthy, and looked at.
    pub(super) fn is_watched(&self) -> bool {
        let stands = self.current.is_some() && self.planned == self.current;
        self.step == AppStep::Rest && stands && matches!(self.state, AppState::Healthy | AppState::Degraded)
    }
}

impl Core {
    /// Reads what may have changed, and draws the conclusions.
    pub(super) fn watch(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app).filter(|row| row.is_watched()) else { return };
        let (state, watched) = (row.state, row.watch_left_ms > 0);
        self.read_observed(t, app, POLL_MS);
        self.heal(t, app);
        let doubtful = self.doubt(app).is_some();
        let belief_ms = self.belief_ms(app);
        let live = self.live.app(app);
        if doubtful {
            (live.trouble.ill_ms, live.trouble.well_ms) = (None, None);
        } else if live.is_well() {
            live.trouble.ill_ms = None;
            let well_ms = *live.trouble.well_ms.get_or_insert(0);
            if well_ms >= RELAPSE_MS {
                live.trouble.relapses = 0;
            }
            let needed_ms = belief_ms << live.trouble.relapses.min(RELAPSES_MAX);
            if state == AppState::Degraded && well_ms >= needed_ms {
                self.recover(t, app);
            }
        } else {
            if live.trouble.ill_ms.is_none() {
                live.trouble.watched = watched;
            }
            let ill_ms = *live.trouble.ill_ms.get_or_insert(0);
            live.trouble.well_ms = None;
            if state == AppState::Healthy && ill_ms >= belief_ms && self.confirm_trouble(t, app) {
                self.report_trouble(t, app);
            }
        }
    }

    /// What is reported was seen at this very moment; asks for it where it was not.
    fn confirm_trouble(&mut self, t: &mut Turn, app: &AppName) -> bool {
        let live = self.live.app(app);
        let stale = |(_, reading): &(&ObjectRef, &Reading)| reading.at_ms < t.now.mono_ms;
        let stale: Vec<ObjectRef> = live.unwell().filter(stale).map(|(object, _)| object.clone()).collect();
        let confirmed = live.unwell().any(|(_, reading)| reading.at_ms == t.now.mono_ms);
        if !confirmed {
            live.touched.extend(stale);
            self.read_observed(t, app, POLL_MS);
        }
        confirmed
    }

    fn belief_ms(&self, app: &AppName) -> u64 {
        self.policy(app).soak_ms.min(BELIEF_MS_MAX)
    }

    /// Counts for how long an app at rest has been as it is.
    pub(super) fn run_trouble_clocks(&mut self, app: &AppName, passed_ms: u64) {
        let passed_ms = passed_ms.min(STEP_MS_MAX);
        let trouble = &mut self.live.app(app).trouble;
        for clock in [&mut trouble.ill_ms, &mut trouble.well_ms].into_iter().flatten() {
            *clock += passed_ms;
        }
    }

    /// The `watch` time runs while the app is healthy and could be seen to be otherwise.
    pub(super) fn watch_clock_runs(&self, app: &AppName) -> bool {
        let watched = |row: &AppRow| {
            row.watch_left_ms > 0 && row.state == AppState::Healthy && row.step == AppStep::Rest
        };
        self.rows.apps.get(app).is_some_and(|row| watched(row)) && self.settle_clock_runs(app)
    }

    /// When an app at rest must be looked at by itself.
    pub(super) fn watch_deadline(&self, app: &AppName) -> Option<u64> {
        let row = self.rows.apps.get(app).filter(|row| row.step == AppStep::Rest)?;
        let live = self.live.apps.get(app)?;
        let now_ms = self.live.clocks_ms;
        let mut deadlines = Vec::new();
        if self.watch_clock_runs(app) {
            deadlines.push((now_ms + row.watch_left_ms).min(live.flush_at.max(now_ms + 250)));
        }
        if row.is_watched() && self.live.api_up {
            let unwell = live.unwell().filter(|(object, _)| !self.live.is_reading(app, object));
            deadlines.extend(unwell.map(|(_, reading)| reading.at_ms + POLL_MS));
            deadlines.extend(live.unread.values().map(|(_, at)| *at));
            let touched = live.touched.iter().filter_map(|object| live.health.get(object));
            deadlines.extend(touched.map(|reading| reading.at_ms + 1));
            if row.state == AppState::Degraded
                && let Some(well_ms) = live.trouble.well_ms
            {
                let needed_ms = self.belief_ms(app) << live.trouble.relapses.min(RELAPSES_MAX);
                let left_ms = needed_ms.saturating_sub(well_ms);
                deadlines.push(now_ms + left_ms.min(STEP_MS_MAX));
            }
        }
        deadlines.into_iter().min()
    }

    /// It has been ill for long enough to be believed.
    fn report_trouble(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app).cloned() else { return };
        let Some(current) = row.current else { return };
        let live = self.live.app(app);
        let watched = live.trouble.watched;
        let reason = live
            .unwell()
            .next()
            .map_or_else(String::new, |(object, reading)| format!("{object}: {}", reading.health.reason));
        let evidence = self.evidence(app);
        let failure = Failure { evidence, ..Failure::app(Code::TroubleAfterSuccess, reason) };
        self.flush_clock(t, app);
        // Evictions for want of disk space are no fault of the version.
        if watched
            && self.live.node_ready()
            && let Some(previous) = self.way_back(app)
        {
            let retry = row.retry;
            self.change_generation(t, current, |generation| {
                (generation.verdict, generation.retry) = (GenerationVerdict::Failed, retry);
            });
            self.note(t, app, &failure);
            self.go_back(t, app, current, previous);
            return;
        }
        let told = Told::of(app, row.current, Outcome::Degraded);
        self.receipt(t, Told { code: Some(failure.code), evidence: failure.evidence.clone(), ..told });
        self.note(t, app, &failure);
        self.change_app(t, app, |row| (row.state, row.watch_left_ms) = (AppState::Degraded, 0));
    }

    /// It has been well again for long enough.
    fn recover(&mut self, t: &mut Turn, app: &AppName) {
        let current = self.rows.apps.get(app).and_then(|row| row.current);
        let seen = Evidence {
            object: format!("app {app}"),
            reason: "Recovered".to_owned(),
            message: "all its objects are as desired again".to_owned(),
        };
        self.receipt(t, Told { evidence: vec![seen], ..Told::of(app, current, Outcome::Healthy) });
        self.change_app(t, app, |row| {
            row.state = AppState::Healthy;
            row.clear_note();
        });
        let live = self.live.app(app);
        live.trouble.relapses += 1;
        live.prune_due = true;
    }

    /// Why nobody can say how an app at rest is.
    fn doubt(&self, app: &AppName) -> Option<String> {
        let live = self.live.apps.get(app);
        if !self.live.api_up {
            return Some(self.silence("the API server does not answer"));
        }
        if !self.live.nodes.iter().any(|node| node.ready) {
            return Some("no node is Ready".to_owned());
        }
        let live = live?;
        if let Some((object, (error, _))) = live.unread.iter().next() {
            return Some(format!("{object} cannot be read: {}", error.message));
        }
        if live.is_doubtful() {
            return live
                .unwell()
                .next()
                .map(|(object, reading)| format!("{object}: {}", reading.health.reason));
        }
        let read =
            live.observed.as_ref().is_some_and(|all| all.iter().all(|one| live.health.contains_key(one)));
        (!read).then(|| "its objects have not been looked at since the agent started".to_owned())
    }

    /// How an app is shown: its state, and what there is to say of it beyond its row.
    pub(super) fn shown(&self, row: &AppRow) -> Shown {
        let mut shown = Shown {
            state: row.shown(),
            code: row.code,
            reason: row.reason.clone(),
            evidence: Evidence::bounded(row.evidence.clone(), &Limits::DEFAULT),
        };
        let at_rest = row.step == AppStep::Rest && row.state == AppState::Healthy;
        let doubt = if at_rest { self.doubt(&row.app) } else { None };
        if let Some(reason) = self.waits_to_go_back(row) {
            shown.reason = reason;
        } else if let Some(hindrance) = self.hindrance(row) {
            (shown.code, shown.reason) = (Some(Code::ClusterUnavailable), hindrance);
        } else if let Some(doubt) = doubt {
            if shown.state == AppState::Healthy {
                shown.state = AppState::Unknown;
            }
            (shown.code, shown.reason) = (Some(Code::ClusterUnavailable), doubt);
        } else if row.step == AppStep::Settle && row.reason.is_empty() {
            let unwell = self.live.apps.get(&row.app).and_then(|live| live.unwell().next());
            if let Some((object, reading)) = unwell {
                shown.reason = format!("waits for {object}: {}", reading.health.reason);
            }
        } else if shown.code.is_none()
            && let Some((code, reason)) = self.revoked(row)
        {
            (shown.code, shown.reason) = (Some(code), reason);
        }
        shown
    }
}

/// How an app is shown.
pub(super) struct Shown {
    pub state: AppState,
    pub code: Option<Code>,
    pub reason: String,
    pub evidence: Vec<Evidence>,
}
