//! Settling: wait until every object is healthy, then soak.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::ids::AppName;
use airlift_bundles::limits::Limits;

use super::api::{ApiError, ApiErrorClass};
use super::event::{Failure, OpId};
use super::live::{Deed, LiveApp, Op, Reading};
use super::lost::LOST_PAUSE_MS;
use super::object::{Health, ObjectRef, Verdict};
use super::state::Step as AppStep;
use super::{Core, Effect, Turn};

/// Objects that are not healthy are read again after this, also when no watch told of a change.
const POLL_MS: u64 = 2_000;
/// The longest advice of a throttling server that is followed between two readings.
const ADVICE_MS_MAX: u64 = 30_000;
/// Readings of one app in flight, and at rest, where nobody waits for them.
const READINGS_MAX: usize = 8;
const READINGS_AT_REST_MAX: usize = 2;
/// A stuck object (an image that cannot be had) fails after this much of the settle clock.
const STUCK_MS: u64 = 60_000;
/// A generation that so many process starts found settling, with no progress between them, has failed.
const STARTS_MAX: u32 = 3;

impl LiveApp {
    /// The readings of objects that are not as desired; those that speak for themselves come first.
    pub(super) fn unwell(&self) -> impl Iterator<Item = (&ObjectRef, &Reading)> {
        let unwell = |known: bool| {
            self.health.iter().filter(move |(object, reading)| {
                let verdict = reading.health.verdict;
                let done = verdict == Verdict::Missing && self.ran.contains(*object);
                verdict != Verdict::Current && !done && (verdict != Verdict::Unknown) == known
            })
        };
        unwell(true).chain(unwell(false))
    }

    /// Of some objects nobody can say how they are, and all others are well.
    pub(super) fn is_doubtful(&self) -> bool {
        self.unwell().next().is_some_and(|(_, reading)| reading.health.verdict == Verdict::Unknown)
    }

    /// Every object with a health of its own was read, and is as desired.
    pub(super) fn is_well(&self) -> bool {
        let read = |object: &ObjectRef| self.health.contains_key(object);
        self.observed.as_ref().is_some_and(|observed| observed.iter().all(read))
            && self.unwell().next().is_none()
    }
}

impl Core {
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
        // Twice: what is left of the first time is listed then, and waits for that.
        for _ in 0..2 {
            let drifted = self.live.app(app).drifted.clone();
            if drifted.is_empty() {
                break;
            }
            match self.reconcile(t, app, &drifted) {
                Err(failure) => {
                    self.fail(t, app, failure);
                    return;
                }
                Ok(true) => self.end_reconcile(app),
                Ok(false) => break,
            }
        }
        self.read_observed(t, app, POLL_MS);
        self.heal(t, app);
        if let Some(failure) = self.settle_failure(app) {
            self.fail(t, app, failure);
            return;
        }
        let healthy = self.live.app(app).is_well();
        if healthy != self.live.app(app).soaking {
            self.flush_clock(t, app);
            self.live.app(app).soaking = healthy;
            self.live.app(app).final_at = None;
            if !healthy {
                self.break_soak(t, app);
            }
        }
        if !healthy {
            return;
        }
        if self.soak_ms(app) >= self.policy(app).soak_ms && self.live.node_ready() {
            let final_at = *self.live.app(app).final_at.get_or_insert(t.now.mono_ms);
            self.read_observed(t, app, POLL_MS);
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

    /// Asks for the health of whatever is unknown, unwell or changed.
    pub(super) fn read_observed(&mut self, t: &mut Turn, app: &AppName, poll_ms: u64) {
        if !self.live.api_up {
            return;
        }
        if self.live.app(app).observed.is_none() {
            let rows = self.rows.objects.get(app).into_iter().flat_map(|rows| rows.values());
            let planned: Vec<_> = rows.filter(|row| row.traits.observed && row.wanted.is_some()).collect();
            let live = self.live.app(app);
            let observed = planned.iter().map(|row| row.object.clone()).collect();
            // What was sent in this very piece of work must be seen to end.
            let ran = planned.iter().filter(|row| row.has_run() && !live.repaired.contains(&row.object));
            let ran: Vec<_> = ran.map(|row| row.object.clone()).collect();
            live.observed = Some(observed);
            live.ran.extend(ran);
        }
        let now_ms = t.now.mono_ms;
        let live = self.live.app(app);
        let due = |object: &&ObjectRef| match live.health.get(*object) {
            _ if live.unread.contains_key(*object) => true,
            None => true,
            Some(reading) if live.touched.contains(*object) => reading.at_ms < now_ms,
            Some(reading) if reading.health.verdict == Verdict::Current => {
                live.final_at.is_some_and(|at| reading.at_ms < at.saturating_sub(POLL_MS))
            }
            Some(reading) => reading.at_ms + poll_ms <= now_ms,
        };
        let due: Vec<ObjectRef> = live.observed.iter().flatten().filter(due).cloned().collect();
        for object in due {
            self.read_health(t, app, object);
        }
    }

    /// Asks for one object's health, once, and after a failed reading not at once.
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
        if self.live.app(app).unread.get(&object).is_some_and(|(_, at)| *at > t.now.mono_ms) {
            return;
        }
        let planned = self.rows.apps.get(app).and_then(|row| row.planned);
        let rests = self.rows.apps.get(app).is_some_and(|row| row.step == AppStep::Rest);
        if reading < if rests { READINGS_AT_REST_MAX } else { READINGS_MAX }
            && let Some(generation) = self.generation(planned)
        {
            self.live.app(app).touched.remove(&object);
            let op = self.live.begin_op(t.now, app, Deed::Health(object.clone()));
            t.effect(Effect::ReadHealth { op, generation, object });
        }
    }

    pub(super) fn on_health(&mut self, t: &mut Turn, op: OpId, reading: Result<Health, ApiError>) {
        let Some(Op { app, deed: Deed::Health(object), .. }) = self.end_op(op) else { return };
        match reading {
            Ok(health) => self.take_reading(t, &app, object, health),
            Err(error) if self.lost_body(t, &app, &error) => {}
            Err(error) => {
                let pause_ms = match error.class {
                    ApiErrorClass::Throttled { retry_after_ms } => {
                        retry_after_ms.clamp(POLL_MS, ADVICE_MS_MAX)
                    }
                    ApiErrorClass::ContentLost => LOST_PAUSE_MS,
                    _ => POLL_MS,
                };
                let live = self.live.app(&app);
                // The time since the last reading was the surroundings'.
                live.unconfirmed_ms = 0;
                live.unread.insert(object, (error, t.now.mono_ms + pause_ms));
            }
        }
        self.live.status_dirty = true;
    }

    fn take_reading(&mut self, t: &mut Turn, app: &AppName, object: ObjectRef, health: Health) {
        let live = self.live.app(app);
        live.unread.remove(&object);
        if live.unread.is_empty() {
            live.unflushed_ms += std::mem::take(&mut live.unconfirmed_ms);
        }
        let settled_ms = self.settle_ms(app);
        // What ended well may go before the soak is over: a Job's time to live is often shorter.
        let over = health.verdict == Verdict::Current && self.is_once(app, &object);
        let live = self.live.app(app);
        if health.verdict == Verdict::Stuck {
            live.stuck_ms.entry(object.clone()).or_insert(settled_ms);
        } else {
            live.stuck_ms.remove(&object);
        }
        let restarts = live.health.get(&object).map_or(health.restarts, |reading| reading.health.restarts);
        let restarted = health.restarts > restarts;
        if over {
            live.ran.insert(object.clone());
        }
        live.health.insert(object, Reading { health, at_ms: t.now.mono_ms });
        if restarted && live.soaking {
            self.flush_clock(t, app);
            self.break_soak(t, app);
        } else if restarted {
            live.trouble.well_ms = live.trouble.well_ms.map(|_| 0);
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
        } else if settled_ms >= timeout_ms && !live.soaking && live.unread.is_empty() && !live.is_doubtful() {
            let why = live.unwell().next().map_or_else(
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
    pub(super) fn evidence(&self, app: &AppName) -> Vec<Evidence> {
        let unwell = self.live.apps.get(app).into_iter().flat_map(|live| live.unwell());
        let mut seen = Vec::new();
        for (object, Reading { health, .. }) in unwell {
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
        if row.step == AppStep::Settle && self.live.api_up {
            let unwell = live.unwell().filter(|(object, _)| !self.live.is_reading(app, object));
            deadlines.extend(unwell.map(|(_, reading)| reading.at_ms + POLL_MS));
            deadlines.extend(live.unread.values().map(|(_, at)| *at));
        }
        let waits = row.step == AppStep::Apply && self.closed_gate(app).is_some();
        let stands = live.refused.is_none() && !waits && row.step != AppStep::Settle;
        if !stands && self.settle_clock_runs(app) {
            let policy = self.policy(app);
            let left = if live.soaking {
                policy.soak_ms.saturating_sub(self.soak_ms(app))
            } else {
                // Time that no reading has confirmed yet ends nothing: the next reading does.
                policy.timeout_ms.saturating_sub(self.settle_ms(app)).max(1)
            };
            deadlines.push(now_ms + left);
            deadlines.push(live.flush_at.max(now_ms));
        }
        deadlines.into_iter().min()
    }
}
