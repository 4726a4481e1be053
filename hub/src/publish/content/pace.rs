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
    pub(super) async fn take(&self, bytes: usize) {
        let now = Instant::now();
        let at = self.reserve(now, bytes);
        if at > now {
            sleep_until(at).await;
        }
    }

    /// The moment at which these bytes may go out.
    fn reserve(&self, now: Instant, bytes: usize) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = busy_until.unwrap_or(earliest).max(earliest);
        *busy_until = Some(begins + cost);
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_keeps_the_rate() {
        let (pace, start) = (Pace::new(1000), Instant::now());
        let moments: Vec<_> = (0..6).map(|_| pace.reserve(start, 250)).collect();
        let waits: Vec<u128> =
            moments.iter().map(|at| at.saturating_duration_since(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 250, 500, 750], "half a second is in credit");
        let later = start + Duration::from_secs(60);
        assert!(pace.reserve(later, 250) <= later, "a quiet time earns no more than the burst");
        let third = [(); 3].map(|()| pace.reserve(later, 250))[2];
        assert_eq!(third, later + Duration::from_millis(250));
    }
}
