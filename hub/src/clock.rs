//! The only place that reads clocks.
//!
//! Deadlines and freshness use the boot clock, which counts suspend and never jumps; the wall clock is for display
//! and for making assignment numbers rise across a restore.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airlift_bundles::ids::{RandomId, Sha256Digest, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// A moment on both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the machine started, suspend included.
    pub mono_ms: u64,
    /// Which start of the machine.
    pub boot: RandomId,
    /// Milliseconds since 1970 by the wall clock; 0 where it stands before.
    pub wall_ms: u64,
}

impl Now {
    /// The wall clock in whole seconds.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_unix_s(i64::try_from(self.wall_ms / 1000).unwrap_or(i64::MAX))
    }
}

/// Reads the clocks; cheap to copy about.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: RandomId,
}

impl Clock {
    /// Learns which start of the machine this is.
    ///
    /// Without `/proc` every process counts as a start of its own, which makes freshness too cautious, never wrong.
    #[must_use]
    pub fn start() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let id = id.unwrap_or_else(|_| format!("process {} at {}", std::process::id(), mono_ms()));
        let digest = Sha256Digest::of(id.trim().as_bytes());
        let first = digest.as_bytes().first_chunk::<16>().expect("a digest has 32 bytes");
        Self { boot: RandomId::from_bytes(*first) }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono_ms: mono_ms(), boot: self.boot.clone(), wall_ms: wall_ms() }
    }
}

fn mono_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1000 + nanoseconds / 1_000_000
}

#[expect(clippy::disallowed_methods, reason = "this module is where the wall clock is read")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
