//! A token bucket that says how long to wait, so that a flood is slowed and never judged.

use std::time::Duration;
use tokio::time::Instant;

/// Lets a sustained rate through, and a burst above it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// When the bucket would be full, were nothing more taken.
    full_at: Instant,
    cost: Duration,
    burst: Duration,
}

impl Bucket {
    pub(super) fn new(now: Instant, units_per_s: u32, burst_units: u32) -> Self {
        let cost = Duration::from_secs(1) / units_per_s.max(1);
        Self { full_at: now, cost, burst: cost * burst_units.max(1) }
    }

    /// Takes `units`, into debt if need be, and returns how long the taker must then wait.
    pub(super) fn take(&mut self, now: Instant, units: u32) -> Duration {
        self.full_at = self.full_at.max(now) + self.cost * units;
        self.full_at.saturating_duration_since(now + self.burst)
    }

    /// Takes `units` if that takes no waiting, and tells whether it did.
    pub(super) fn try_take(&mut self, now: Instant, units: u32) -> bool {
        let full_at = self.full_at.max(now) + self.cost * units;
        let there = full_at <= now + self.burst;
        if there {
            self.full_at = full_at;
        }
        there
    }

    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}
