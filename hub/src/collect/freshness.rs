//! How fresh the hub's knowledge of a site is: an axis of its own beside the state (invariant 9).

use airlift_bundles::document::enrolment::ContactClass;

use crate::api::types::Freshness;
use crate::clock::Now;
use crate::db::rows::sites::Seen;

/// Two and a half keep-alives of 240 seconds.
const MQTT_MS: u64 = 600_000;
/// Two weeks: the round of a person with sticks.
pub const MEDIA_MS: u64 = 14 * 24 * 3_600_000;

/// Judges by the boot clock where the site was heard of in this boot of the hub's machine; else by the wall clock,
/// where a moment in the future counts as stale, because then one of the two readings is wrong.
#[must_use]
pub fn freshness(contact: ContactClass, seen: Option<&Seen>, connected: bool, now: &Now) -> Freshness {
    let Some(seen) = seen else { return Freshness::Never };
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::AlwaysFresh) {
        return Freshness::Fresh;
    }
    if connected {
        return Freshness::Fresh;
    }
    let silent_ms = if seen.boot == now.boot {
        Some(now.mono_ms.saturating_sub(seen.mono_ms))
    } else {
        let seen_ms = u64::try_from(seen.at.unix_s()).unwrap_or(0) * 1000;
        now.wall_ms.checked_sub(seen_ms)
    };
    let allowed_ms = match contact {
        ContactClass::Mqtt => MQTT_MS,
        ContactClass::Media => MEDIA_MS,
    };
    if silent_ms.is_some_and(|silent_ms| silent_ms <= allowed_ms) {
        Freshness::Fresh
    } else {
        Freshness::Stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use airlift_bundles::ids::{RandomId, Timestamp};

    fn boot(number: u8) -> RandomId {
        RandomId::from_bytes([number; 16])
    }

    fn seen() -> Seen {
        Seen { at: Timestamp::from_unix_s(1_000), mono_ms: 50_000, boot: boot(1) }
    }

    fn judge(contact: ContactClass, mono_ms: u64, wall_s: u64, boot_number: u8) -> Freshness {
        let now = Now { mono_ms, boot: boot(boot_number), wall_ms: wall_s * 1000 };
        freshness(contact, Some(&seen()), false, &now)
    }

    #[test]
    fn silence_is_measured_on_the_boot_clock_whatever_the_wall_clock_says() {
        assert_eq!(judge(ContactClass::Mqtt, 650_000, 0, 1), Freshness::Fresh);
        assert_eq!(judge(ContactClass::Mqtt, 650_001, 1_000, 1), Freshness::Stale);
        assert_eq!(judge(ContactClass::Media, 650_001, 0, 1), Freshness::Fresh);
    }

    #[test]
    fn after_a_restart_of_the_machine_the_wall_clock_has_to_do() {
        assert_eq!(judge(ContactClass::Mqtt, 5, 1_600, 2), Freshness::Fresh);
        assert_eq!(judge(ContactClass::Mqtt, 5, 1_601, 2), Freshness::Stale);
        assert_eq!(judge(ContactClass::Media, 5, 999, 2), Freshness::Stale, "heard of in the future");
    }

    #[test]
    fn a_site_that_was_never_heard_of_is_not_fresh_even_while_connected() {
        let now = Now { mono_ms: 0, boot: boot(1), wall_ms: 0 };
        assert_eq!(freshness(ContactClass::Mqtt, None, true, &now), Freshness::Never);
    }
}
