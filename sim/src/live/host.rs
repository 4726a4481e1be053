//! What the kernel says of a process, and what this one needs of the kernel.

use std::fs;

/// The kernel's clock ticks in `/proc`: `USER_HZ` is 100 on every platform that Rust knows.
const MS_PER_TICK: u64 = 10;

/// Raises this process's limit of file descriptors to what the machine allows; children inherit it.
///
/// An agent has a socket, a database with its log and index, and a lock: five. A hub has a socket a site.
pub(super) fn raise_descriptors() -> u64 {
    u64::try_from(airlift_hub::descriptors::raise()).unwrap_or(u64::MAX)
}

/// Processor time and memory of a process; nothing of one that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) cpu_ms: u64,
    pub(super) rss_kb: u64,
}

impl Spent {
    /// Reads it now.
    pub(super) fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field, the program's name, may hold spaces; user and system time are the 14th and 15th.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 =
            after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kb = rss.and_then(|rss| rss.trim().strip_suffix(" kB")?.parse().ok());
        Self { cpu_ms: ticks * MS_PER_TICK, rss_kb: rss_kb.unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_has_none() {
        assert!(Spent::of(std::process::id()).rss_kb > 100);
        assert_eq!(Spent::of(u32::MAX), Spent::default());
    }
}
