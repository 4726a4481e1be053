//! Moments as the core sees them: values that the shell hands in, never clocks that it reads.

use airlift_bundles::document::receipt::ClockQuality;

/// One moment, read by the shell before each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since boot, suspend included; all deadlines and durations are counted in these.
    pub mono_ms: u64,
    /// The boot that `mono_ms` counts from.
    pub boot: BootId,
    /// Milliseconds since 1970 where the machine has any wall clock; for display only, never for a refusal.
    pub wall_ms: Option<u64>,
    /// Whether the operating system says that `wall_ms` follows a time source.
    pub quality: ClockQuality,
}

/// One boot of the machine, from the kernel's random boot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootId(pub [u8; 16]);
