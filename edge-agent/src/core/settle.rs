//! Settling: wait until every object is healthy, then soak; and the stored clocks, which count only time in which
//! waiting means something.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::event::{Failure, OpId};
use super::live::{Deed, Op, Reading};
use super::object::{AppPolicy, Health, ObjectRef, Verdict};
use super::state::Step as AppStep;
use super::{Core, Effect, Turn};

/// Objects that are not healthy are read again after this, also when no watch told of a change.
const POLL_MS: u64 = 2_000;
/// Readings of one app in flight.
const READINGS_MAX: usize = 8;
/// A stuck object (an image that cannot be had) fails after this much of the settle clock.
const STUCK_MS: u64 = 60_000;
/// Stored clocks are written at least this often while they run.
const FLUSH_MS: u64 = 10_000;
/// No step counts more than this: a suspended machine's pods did not get better either.
const CLOCK_STEP_MS_MAX: u64 = 30_000;
/// A generation that so many process starts found settling, with no progress between them, has failed.
const STARTS_MAX: u32 = 3;

impl Core {
    /// The settings of the generation that is worked on.
    pub(super) fn policy(&self, app: &AppName) -> AppPolicy {
        let working = self.rows.apps.get(app).and_then(|row| row.working.or(row.planned));
        let prepared = working.and_then(|id| self.rows.generations.get(&id)).and_then(|row| row.prepared);
        let default = AppPolicy { soak_ms: 120_000, timeout_ms: 600_000, deletion_budget: None };
        prepared.map_or(default, |prepared| prepared.policy)
    }

    /// The settle clock: what is stored and what has passed since.
    pub(super) fn settle_ms(&self, app: &AppName) -> u64 {
        let stored = self.rows.apps.get(app).map_or(0, |row| row.settle_ms);
        let live = self.live.apps.get(app);
        stored + live.filter(|live| !live.soaking).map_or(0, |live| live.unflushed_ms)
    }

    fn soak_ms(&self, app: &AppName) -> u64 {
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
            let runs = match row.step {
                AppStep::Settle => self.settle_clock_runs(),
                AppStep::Apply => self.settle_clock_runs() && self.live.app(&app).refused.is_some(),
                AppStep::RetireWait => !row.held,
                _ => false,
            };
            if runs {
                self.live.app(&app).unflushed_ms += passed;
                if self.live.app(&app).flush_at <= t.now.mono_ms {
                    self.flush_clock(t, &app);
                }
            }
        }
    }

    /// The agent is up, the API answers, a node can run pods, and no import takes the disk away.
    fn settle_clock_runs(&self) -> bool {
        self.live.api_up
            && self.live.node_ready()
            && !self.live.ops.values().any(|op| op.deed == Deed::Import)
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
            (_, true) => (row.soak_ms, row.starts) = (row.soak_ms + passed, 0),
            (_, false) => (row.settle_ms, row.starts) = (row.settle_ms + passed, 0),
        });
    }

    /// A process start found the app settling.
    pub(super) fn count_settle_start(&mut self, t: &mut Turn, app: &AppName) {
        let starts = self.rows.apps.get(app).map_or(0, |row| row.starts);
        if starts >= STARTS_MAX {
            let reason =
                format!("the agent was interrupted {starts} times while this settled, with no progress");
            self.fail(t, app, Failure::app(Code::InterruptedThrice, reason));
        } else {
            self.change_app(t, app, |row| row.starts += 1);
        }
    }

    pub(super) fn drive_settle(&mut self, t: &mut Turn, app: &AppName) {
        let drifted = self.live.app(app).drifted.clone();
        if !drifted.is_empty() {
            match self.reconcile(t, app, &drifted) {
                Err(failure) => {
                    self.fail(t, app, failure);
                    return;
                }
                Ok(true) => self.end_reconcile(app),
                Ok(false) => {}
            }
        }
        self.read_observed(t, app);
        if let Some(failure) = self.settle_failure(app) {
            self.fail(t, app, failure);
            return;
        }
        let healthy = self.all_healthy(app);
        if healthy != self.live.app(app).soaking {
            self.flush_clock(t, app);
            self.live.app(app).soaking = healthy;
            self.live.app(app).final_at = None;
            if !healthy {
                self.break_soak(t, app);
            }
        }
        if healthy && self.soak_ms(app) >= self.policy(app).soak_ms && self.live.node_ready() {
            let final_at = *self.live.app(app).final_at.get_or_insert(t.now.mono_ms);
            self.read_observed(t, app);
            let fresh = final_at.saturating_sub(POLL_MS);
            let live = self.live.app(app);
            let read =
                |object: &ObjectRef| live.health.get(object).is_some_and(|reading| reading.at_ms >= fresh);
            if live.drifted.is_empty() && live.observed.iter().flatten().all(read) {
                self.succeed(t, app);
            }
        }
    }

    /// The soak was interrupted: the time goes to the settle clock, so that flapping ends some day.
    fn break_soak(&mut self, t: &mut Turn, app: &AppName) {
        self.change_app(t, app, |row| {
            row.settle_ms += row.soak_ms;
            row.soak_ms = 0;
        });
    }

    fn all_healthy(&mut self, app: &AppName) -> bool {
        let live = self.live.app(app);
        let current = |object: &ObjectRef| {
            live.health.get(object).is_some_and(|reading| reading.health.verdict == Verdict::Current)
        };
        live.observed.as_ref().is_some_and(|observed| observed.iter().all(current))
    }

    /// Asks for the health of whatever is unknown, unwell or changed.
    fn read_observed(&mut self, t: &mut Turn, app: &AppName) {
        if !self.live.api_up {
            return;
        }
        if self.live.app(app).observed.is_none() {
            let rows = self.rows.objects.get(app).into_iter().flat_map(|rows| rows.values());
            let observed = rows
                .filter(|row| row.traits.observed && row.wanted.is_some())
                .map(|row| row.object.clone())
                .collect();
            self.live.app(app).observed = Some(observed);
        }
        let now_ms = t.now.mono_ms;
        let live = self.live.app(app);
        let due = |object: &&ObjectRef| match live.health.get(*object) {
            None => true,
            Some(reading) if live.touched.contains(*object) => reading.at_ms < now_ms,
            Some(reading) if reading.health.verdict == Verdict::Current => {
                live.final_at.is_some_and(|at| reading.at_ms < at.saturating_sub(POLL_MS))
            }
            Some(reading) => reading.at_ms + POLL_MS <= now_ms,
        };
        let due: Vec<ObjectRef> = live.observed.iter().flatten().filter(due).cloned().collect();
        for object in due {
            self.read_health(t, app, object);
        }
    }

    /// Asks for one object's health, once.
    pub(super) fn read_health(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef) {
        let mut reading = 0;
        for (_, op) in self.live.ops_of(app) {
            if let Deed::Health(asked) = &op.deed {
                reading += 1;
                if *asked == object {
                    return;
                }
            }
        }
        let planned = self.rows.apps.get(app).and_then(|row| row.planned);
        if reading < READINGS_MAX
            && let Some(generation) = self.generation(planned)
        {
            self.live.app(app).touched.remove(&object);
            let op = self.live.begin_op(t.now, app, Deed::Health(object.clone()));
            t.effect(Effect::ReadHealth { op, generation, object });
        }
    }

    pub(super) fn on_health(&mut self, t: &mut Turn, op: OpId, health: Health) {
        let Some(Op { app, deed: Deed::Health(object), .. }) = self.end_op(op) else { return };
        let settled_ms = self.settle_ms(&app);
        let live = self.live.app(&app);
        if health.verdict == Verdict::Stuck {
            live.stuck_ms.entry(object.clone()).or_insert(settled_ms);
        } else {
            live.stuck_ms.remove(&object);
        }
        let restarts = live.health.get(&object).map_or(health.restarts, |reading| reading.health.restarts);
        let restarted = health.restarts > restarts && live.soaking;
        live.health.insert(object, Reading { health, at_ms: t.now.mono_ms });
        if restarted {
            self.flush_clock(t, &app);
            self.break_soak(t, &app);
        }
    }

    fn settle_failure(&mut self, app: &AppName) -> Option<Failure> {
        let settled_ms = self.settle_ms(app);
        let timeout_ms = self.policy(app).timeout_ms;
        let live = self.live.app(app);
        let failed = live.health.iter().find(|(_, reading)| reading.health.verdict == Verdict::Failed);
        let stuck = live.stuck_ms.iter().find(|(_, since_ms)| settled_ms >= **since_ms + STUCK_MS);
        let reason = if let Some((object, reading)) = failed {
            format!("{object} failed: {}", reading.health.reason)
        } else if let Some((object, _)) = stuck {
            let why = live.health.get(object).map_or("", |reading| reading.health.reason.as_str());
            format!("{object} is stuck: {why}")
        } else if settled_ms >= timeout_ms && !live.soaking {
            let unwell = live.health.iter().find(|(_, reading)| reading.health.verdict != Verdict::Current);
            let why = unwell.map_or_else(
                || "the cluster did not tell its health".to_owned(),
                |(object, reading)| format!("{object}: {}", reading.health.reason),
            );
            format!("not healthy after {} s: {why}", timeout_ms / 1000)
        } else {
            return None;
        };
        Some(Failure { evidence: self.evidence(app), ..Failure::app(Code::NotHealthyInTime, reason) })
    }

    /// What was seen of the objects that are not healthy.
    fn evidence(&self, app: &AppName) -> Vec<Evidence> {
        let readings = self.live.apps.get(app).into_iter().flat_map(|live| live.health.iter());
        let mut seen = Vec::new();
        for (object, Reading { health, .. }) in readings {
            if health.verdict == Verdict::Current {
                continue;
            }
            if health.evidence.is_empty() {
                let (object, reason) = (object.to_string(), format!("{:?}", health.verdict));
                seen.push(Evidence { object, reason, message: health.reason.clone() });
            }
            seen.extend(health.evidence.iter().cloned());
        }
        Evidence::bounded(seen, &Limits::DEFAULT)
    }

    /// When settling must look again by itself.
    pub(super) fn settle_deadline(&self, app: &AppName) -> Option<u64> {
        let row = self.rows.apps.get(app)?;
        let live = self.live.apps.get(app)?;
        let now_ms = self.live.clocks_ms;
        let mut deadlines = vec![];
        if row.step == AppStep::Settle {
            let unwell = live.health.values().filter(|reading| reading.health.verdict != Verdict::Current);
            deadlines.extend(unwell.map(|reading| reading.at_ms + POLL_MS));
        }
        if self.settle_clock_runs() && (row.step == AppStep::Settle || live.refused.is_some()) {
            let policy = self.policy(app);
            let left = if live.soaking {
                policy.soak_ms.saturating_sub(self.soak_ms(app))
            } else {
                policy.timeout_ms.saturating_sub(self.settle_ms(app))
            };
            deadlines.push(now_ms + left);
            deadlines.push(live.flush_at.max(now_ms));
        }
        deadlines.into_iter().min()
    }
}
