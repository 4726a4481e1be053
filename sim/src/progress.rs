//! Says how far a long run is: on a terminal in one line that changes, else in a line every half minute.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::time::{ClockId, clock_gettime};

use crate::world::World;

/// Between two words on a terminal, and elsewhere. A run that is over before says nothing.
const ON_TERMINAL_MS: u64 = 1_000;
const ELSEWHERE_MS: u64 = 30_000;

/// Tells people how far runs are, on standard error.
pub(crate) struct Progress {
    on_terminal: bool,
    next_ms: u64,
    /// Characters of the line that stands on the terminal.
    stands: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let on_terminal = io::stderr().is_terminal();
        let mut new = Self { on_terminal, next_ms: 0, stands: 0 };
        new.next_ms = uptime_ms() + new.pause_ms();
        new
    }

    fn pause_ms(&self) -> u64 {
        if self.on_terminal { ON_TERMINAL_MS } else { ELSEWHERE_MS }
    }

    /// Takes note of how far a run is.
    pub(crate) fn look(&mut self, name: &str, seed: u64, world: &World) {
        let now_ms = uptime_ms();
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + self.pause_ms();
        let (passed, whole) = (Hours(world.passed_ms()), Hours(world.duration_ms()));
        let (settled, sites) = (world.settled(), world.sites());
        let steps = world.steps();
        self.tell(&format!(
            "{name} seed {seed}: {passed} of {whole}, {settled} of {sites} sites at rest, {steps} steps"
        ));
    }

    /// Takes the line off the terminal, before something is printed.
    pub(crate) fn clear(&mut self) {
        if self.stands > 0 {
            let blank = " ".repeat(self.stands);
            // Without a standard error there is nobody who would miss it.
            let _ = write!(io::stderr(), "\r{blank}\r");
            self.stands = 0;
        }
    }

    fn tell(&mut self, text: &str) {
        // Without a standard error there is nobody who would miss it.
        let _ = if self.on_terminal {
            let width = self.stands.max(text.len());
            self.stands = text.len();
            write!(io::stderr(), "\r{text:width$}")
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }
}

/// Milliseconds of this machine's boot clock.
pub(crate) fn uptime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The most memory that this process ever had, in bytes; 0 where the kernel does not say.
pub(crate) fn memory_bytes_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = peak.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

struct Hours(u64);

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:02}", self.0 / 3_600_000, self.0 / 60_000 % 60)
    }
}
