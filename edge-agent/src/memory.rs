//! Gives memory back that work needed and rest does not: the allocator's free pages, and the program's own code.
//!
//! An agent works for minutes and rests for weeks, on nodes where the applications need the memory. Two things stay behind
//! when work ends. The C library keeps the pages that were freed, 18 MB of them after a thousand objects. And each page of
//! code that a start or an update once ran counts as resident, with the fifteen around it that the kernel maps along, though
//! most are never run again. Neither is wrong while there is room; both are given back at once rather than under pressure.
//! Code that is needed again comes from the page cache, or from the disk where the kernel has used its room for others.

use std::fs;
use std::ops::Range;

use tracing::debug;

/// Keeps the C library from making an arena for each thread: three threads that seldom allocate at once need no more than
/// one, and each costs its own free pages.
pub(crate) fn begin() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into the C library without pointers")]
    // SAFETY: `mallopt` takes numbers, and may be called at any time.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) }; // refused, it is as it was
}

/// Gives back what can be.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into the C library without pointers")]
    // SAFETY: `malloc_trim` takes a number, and returns free pages alone.
    let _ = unsafe { libc::malloc_trim(0) }; // says whether there were any
    // Where /proc is not mounted, code stays as it is.
    let Ok(mappings) = fs::read_to_string("/proc/self/smaps") else { return };
    let mut bytes = 0;
    for range in unchanged(&mappings) {
        bytes += range.len();
        forget(range);
    }
    debug!(bytes, "code that is not in use is left to the page cache");
}

/// Takes the pages of a mapping out of the page tables; they are read from the file again when they are needed.
#[expect(unsafe_code, reason = "advice about memory is given by address")]
fn forget(range: Range<usize>) {
    // SAFETY: the range is a mapping of a file that this process can neither write to nor has written to (see `unchanged`),
    // so the next access to each of its pages finds the bytes that were there before.
    let _ = unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED)
    }; // it is advice
}

/// The mappings of files that are code or constants, and of which no page differs from the file. What the loader has
/// relocated differs: those pages are memory of our own, although they are read-only by now.
fn unchanged(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(begins) = head(line) {
            mapping = begins;
        } else if let Some(anonymous) = line.strip_prefix("Anonymous:")
            && let Some(range) = mapping.take()
            && anonymous.split_whitespace().next() == Some("0")
        {
            found.push(range);
        }
    }
    found
}

/// Whether a line begins a mapping, and its addresses where that is a private one of a file, without the right to write.
fn head(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let rights = words.next()?;
    let path = words.nth(3);
    let fits = matches!(rights, "r-xp" | "r--p") && path.is_some_and(|path| path.starts_with('/'));
    Some(fits.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:00 4711                       /usr/bin/airlift-agent
Size:               1024 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
55d0c0100000-55d0c0200000 r-xp 00100000 fe:00 4711                       /usr/bin/airlift-agent
Rss:                 512 kB
Anonymous:             0 kB
55d0c0200000-55d0c0210000 r--p 00200000 fe:00 4711                       /usr/bin/airlift-agent
Anonymous:            64 kB
55d0c0210000-55d0c0220000 rw-p 00210000 fe:00 4711                       /usr/bin/airlift-agent
Anonymous:             0 kB
7f0000000000-7f0000010000 r--p 00000000 00:00 0 
Anonymous:             0 kB
7f0000010000-7f0000020000 r--s 00000000 fe:00 12                         /var/lib/airlift-agent/agent.db-shm
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_private_unchanged_read_only_mappings_of_files_are_given_back() {
        assert_eq!(
            unchanged(SMAPS),
            [0x55d0_c000_0000..0x55d0_c010_0000, 0x55d0_c010_0000..0x55d0_c020_0000]
        );
    }

    /// Kilobytes of code and constants of files that count as resident.
    fn resident_kb() -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut counted = None;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(begins) = head(line) {
                counted = begins;
            } else if counted.is_some()
                && let Some(rss) = line.strip_prefix("Rss:")
            {
                sum += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let text = serde_json::json!({ "a": [1, 2, 3] }).to_string();
        let before = resident_kb();
        give_back();
        assert!(resident_kb() < before, "{} of {before} kB", resident_kb());
        assert_eq!(serde_json::json!({ "a": [1, 2, 3] }).to_string(), text);
    }
}
