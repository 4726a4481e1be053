//! The tests' one clock, and waiting for what the real components do in their own time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads it")]
pub fn now() -> Instant {
    Instant::now()
}

/// Calls `check` until it gives a value; when `limit` has passed, panics with its last complaint.
///
/// A check says what it saw instead, so that a failed wait explains itself.
pub fn wait_until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let start = now();
    // Looks at short intervals first: what takes a moment is to be measured, and what takes longer not disturbed.
    let mut pause = Duration::from_millis(40);
    loop {
        match check() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => panic!("waited {limit:?} for {what}; seen last: {seen}"),
            Err(_) => sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(300));
    }
}
