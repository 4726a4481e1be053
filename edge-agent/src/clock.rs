//! The agent's only reader of clocks.
#![expect(clippy::disallowed_methods, reason = "this module is where the wall clock is read")]

use std::time::SystemTime;

use airlift_bundles::document::receipt::ClockQuality;
use rustix::time::{ClockId, clock_gettime};

use crate::core::time::{BootId, Now};

/// Reads the machine's clocks.
///
/// The boot id is read once, when the reader is made: it cannot change under a running process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    boot: BootId,
}

impl Clock {
    /// Reads the kernel's boot id; where there is none, all boots look the same and only stored clocks suffer.
    #[must_use]
    pub fn system() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let bytes = airlift_bundles::ids::decode_hex(&digits).and_then(|bytes| bytes.try_into().ok());
        Self { boot: BootId(bytes.unwrap_or_default()) }
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let boot_time = clock_gettime(ClockId::Boottime);
        let mono_ms = u64::try_from(boot_time.tv_sec).unwrap_or(0) * 1000
            + u64::try_from(boot_time.tv_nsec).unwrap_or(0) / 1_000_000;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let wall_ms = wall.and_then(|wall| u64::try_from(wall.as_millis()).ok());
        Now { mono_ms, boot: self.boot, wall_ms, quality: quality() }
    }
}

/// systemd-timesyncd touches this file when the clock follows a source; other daemons' helpers do too.
const SYNCHRONISED_MARKER: &str = "/run/systemd/timesync/synchronized";

fn quality() -> ClockQuality {
    if std::path::Path::new(SYNCHRONISED_MARKER).exists() {
        ClockQuality::Synchronised
    } else {
        ClockQuality::Floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        let second = clock.now();
        assert!(second.mono_ms >= first.mono_ms && second.mono_ms > 0);
        assert_eq!(first.boot, second.boot);
    }
}
