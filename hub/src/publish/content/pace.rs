//! The rate of all content together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may go out at once after a quiet time: half a second's worth.
const BURST: Duration = Duration::from_millis(500);

/// Hands out moments at which bytes may go out.
pub(super) struct Pace {
    bytes_per_s: u64,
    /// When everything handed out so far will have gone.
    busy_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), busy_until: Mutex::new(None) }
    }

    /// Waits until these bytes may go out.
    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's clock, which tests can pause, measures a rate here"
    )]
    pub(super) async fn take(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let now = Instant::now();
        let at = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let begins = busy_until.unwrap_or(earliest).max(earliest);
            *busy_until = Some(begins + cost);
            begins
        };
        if at > now {
            sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_keeps_the_rate() {
        let pace = Pace::new(1000);
        let started = tokio::time::Instant::now();
        for _ in 0..10 {
            pace.take(250).await;
        }
        // The first starts half a second in credit; nine more of a quarter second follow it.
        assert_eq!(started.elapsed().as_millis(), 1750);
    }
}
