//! Clocks of sites, and the proof that no reading of them refuses anything: whatever a site refuses is judged again
//! by cores that differ in nothing but the time.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_agent::core::event::DocumentKind;
use airlift_agent::core::{Core, Event, Now, Start as CoreStart, Step, Write};
use airlift_agent::ports::Store as _;
use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::receipt::ClockQuality;
use airlift_bundles::document::status::AppState;

use super::World;
use super::happening::SiteNo;
use super::library::{BEGINNING_S, at_once};
use crate::invariants::Invariant;
use crate::scenario::ClockKind;

const DAY_MS: u64 = 86_400_000;
const TEN_YEARS_MS: u64 = 3_652 * DAY_MS;
/// A clock that drifts is off by up to so much in a million: a minute a day.
const DRIFT_PPM_MAX: u64 = 700;
/// The agent of a site without a clock of its own was built so long before the world begins.
const BUILT_BEFORE_MS: i64 = 90 * 86_400_000;

/// What a site's wall clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WallClock {
    /// What it was off by when it was set; `None` where it started at 1970.
    off_ms: Option<i64>,
    set_ms: u64,
    drift_ppm: i64,
    synchronised: bool,
}

impl WallClock {
    pub(super) fn right() -> Self {
        Self { off_ms: Some(0), set_ms: 0, drift_ppm: 0, synchronised: true }
    }

    /// Its reading, and what the operating system says of it.
    pub(super) fn read(&self, at_ms: u64, mono_ms: u64) -> (Option<u64>, ClockQuality) {
        let world_ms = BEGINNING_S.saturating_mul(1000).saturating_add_unsigned(at_ms);
        let passed_ms = i64::try_from(at_ms.saturating_sub(self.set_ms)).unwrap_or(i64::MAX);
        let drifted_ms = passed_ms.saturating_mul(self.drift_ppm) / 1_000_000;
        let wall_ms = match self.off_ms {
            Some(off_ms) => u64::try_from(world_ms.saturating_add(off_ms).saturating_add(drifted_ms)).ok(),
            None => Some(mono_ms),
        };
        (wall_ms, if self.synchronised { ClockQuality::Synchronised } else { ClockQuality::Floor })
    }

    /// The machine has power again.
    pub(super) fn start(&mut self, kind: ClockKind, at_ms: u64) {
        let since_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        match kind {
            ClockKind::Right => {}
            // It begins with the newest file on its disk: the agent's own program.
            ClockKind::NoRtc => {
                let off_ms = Some(-BUILT_BEFORE_MS - since_ms);
                *self = Self { off_ms, set_ms: at_ms, drift_ppm: 0, synchronised: false };
            }
            ClockKind::Epoch => {
                *self = Self { off_ms: None, set_ms: at_ms, drift_ppm: 0, synchronised: false }
            }
        }
    }
}

impl World {
    /// The wall clock starts at 1970, jumps by up to ten years either way, drifts, or is right again.
    pub(super) fn set_clock(&mut self, site: SiteNo) {
        let at_ms = self.timeline.now_ms();
        let reading = self.random.below(6);
        let jump_ms = i64::try_from(self.random.below(TEN_YEARS_MS)).unwrap_or(0);
        let ten_years_ms = i64::try_from(TEN_YEARS_MS).unwrap_or(0);
        let drift_ppm = i64::try_from(self.random.below(2 * DRIFT_PPM_MAX)).unwrap_or(0)
            - i64::try_from(DRIFT_PPM_MAX).unwrap_or(0);
        let (off_ms, drift_ppm, synchronised) = match reading {
            0 => (None, 0, false),
            1 => (Some(jump_ms), 0, true),
            2 => (Some(-jump_ms), 0, false),
            3 => (Some(ten_years_ms), 0, true),
            4 => (Some(0), drift_ppm, false),
            _ => (Some(0), 0, true),
        };
        self.sites[site].node.clock = WallClock { off_ms, set_ms: at_ms, drift_ppm, synchronised };
    }

    /// Judges again what a step has refused, by every other clock.
    ///
    /// The rows are those on disk and on their way there, which is what the core had before this step.
    pub(super) fn check_clock(&mut self, site: SiteNo, now: Now, offered: &Event, step: &Step) {
        let refused = refusals(step);
        if refused.is_empty() {
            return;
        }
        for (name, wall_ms, quality) in readings(now, self.timeline.now_ms()) {
            let Some(other) = self.judge_at(site, Now { wall_ms, quality, ..now }, offered) else { return };
            if other != refused {
                let (by, with) = (words(&refused), words(&other));
                let text =
                    format!("refused by its own clock ({by}), and by a clock at {name} otherwise ({with})");
                return self.violated(Invariant::Clocks, Some(site), text);
            }
        }
    }

    fn judge_at(&self, site: SiteNo, now: Now, offered: &Event) -> Option<BTreeSet<Code>> {
        let here = &self.sites[site];
        let mut rows = at_once(here.disk.durable.load()).ok()?;
        here.disk.waiting.iter().flat_map(|batch| &batch.writes).for_each(|write| rows.apply(write));
        let start = CoreStart {
            key: Arc::clone(&here.key),
            platform: self.library.platform.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hub: here.contact == ContactClass::Mqtt,
            process_start: false,
            root: Some(self.trust.newest().as_ref().clone()),
        };
        let mut core = Core::load(start, rows).ok()?;
        core.resume(now);
        Some(refusals(&core.step(now, offered.clone())))
    }
}

/// Documents that a clock could have a word in; acks are read too often.
pub(super) fn is_dated(event: &Event) -> bool {
    matches!(event, Event::Document { expected, .. } if *expected != DocumentKind::Ack)
}

/// What a step refuses: documents, and apps of a document that was accepted.
fn refusals(step: &Step) -> BTreeSet<Code> {
    let code = |write: &Write| match write {
        Write::PutRefusal(row) => Some(row.code),
        Write::PutApp(row) if row.state == AppState::Refused => row.code,
        _ => None,
    };
    step.writes.iter().filter_map(code).collect()
}

/// Other clocks: right, never set, at its beginning, and ten years off either way.
fn readings(now: Now, at_ms: u64) -> [(&'static str, Option<u64>, ClockQuality); 5] {
    let right_ms = u64::try_from(BEGINNING_S).unwrap_or(0) * 1000 + at_ms;
    [
        ("the right time", Some(right_ms), ClockQuality::Synchronised),
        ("no time", None, ClockQuality::Floor),
        ("1970", Some(now.mono_ms), ClockQuality::Floor),
        ("ten years hence", Some(right_ms + TEN_YEARS_MS), ClockQuality::Synchronised),
        ("ten years ago", Some(right_ms - TEN_YEARS_MS), ClockQuality::Synchronised),
    ]
}

fn words(codes: &BTreeSet<Code>) -> String {
    if codes.is_empty() {
        return "not refused".to_owned();
    }
    codes.iter().map(|code| code.id()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_start_where_their_machine_lets_them_and_drift_from_there() {
        let beginning_ms = u64::try_from(BEGINNING_S).unwrap() * 1000;
        let mut clock = WallClock::right();
        assert_eq!(clock.read(5_000, 7), (Some(beginning_ms + 5_000), ClockQuality::Synchronised));
        clock.start(ClockKind::Right, 10_000);
        assert_eq!(clock, WallClock::right());
        clock.start(ClockKind::Epoch, 10_000);
        assert_eq!(clock.read(20_000, 7), (Some(7), ClockQuality::Floor));
        clock.start(ClockKind::NoRtc, 30_000);
        let built_ms = beginning_ms - BUILT_BEFORE_MS.unsigned_abs();
        assert_eq!(clock.read(30_000, 7), (Some(built_ms), ClockQuality::Floor));
        assert_eq!(clock.read(31_000, 7).0, Some(built_ms + 1_000));
        let drifting = WallClock { drift_ppm: -500, ..WallClock::right() };
        assert_eq!(drifting.read(86_400_000, 7).0, Some(beginning_ms + 86_400_000 - 43_200));
    }
}
