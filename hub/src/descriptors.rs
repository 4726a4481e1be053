//! File descriptors: as many as the system allows, and how they are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lobby::Places;

/// Databases, logs, uploads and blobs that are open, and what libraries open.
const OWN: usize = 256;
/// The largest fleet that one hub is made for, twice.
const SITES_MAX: usize = 20_000;
const OTHERS_MAX: usize = 1024;
/// After a fall of the hub all sites come at once, perhaps from behind one address: whoever may wait need not come again.
const SITES_WAITING_MAX: usize = 4096;

/// Raises this process's limit of descriptors to what the system allows, and returns it; children inherit it.
///
/// Service managers and shells start programs with 1,024, for the sake of those that use `select`; the hub has a
/// socket for each site.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20);
    // Where it is refused the old one stands, and is what the caller hears.
    let stands = match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    };
    usize::try_from(stands).unwrap_or(usize::MAX)
}

/// What each listener may have, so that no flood on one takes the descriptors of another or of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Sites that are connected over MQTT.
    pub(crate) sites: usize,
    /// Peers of the MQTT port that have not yet shown who they are.
    pub(crate) mqtt: Places,
    /// Peers of the HTTPS port.
    pub(crate) https: Places,
}

impl Shares {
    /// Shares out so many descriptors.
    pub(crate) fn of(descriptors: usize) -> Self {
        let room = descriptors.saturating_sub(OWN).max(16);
        let other = (room / 16).clamp(1, OTHERS_MAX);
        let waiting = (room / 5).clamp(1, SITES_WAITING_MAX);
        // Three others: those who have a turn at both doors, and those who wait for HTTPS.
        Self {
            sites: (room - waiting - 3 * other).min(SITES_MAX),
            mqtt: Places { waiting_max: waiting, turns_max: other, turns_per_origin_max: other.div_ceil(2) },
            https: Places {
                waiting_max: other,
                turns_max: other,
                turns_per_origin_max: (other * 3).div_ceil(4),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_add_up_to_more_than_there_is() {
        for descriptors in [1024, 4096, 20_000, 1 << 20] {
            let Shares { sites, mqtt, https } = Shares::of(descriptors);
            let places = [mqtt.waiting_max, mqtt.turns_max, https.waiting_max, https.turns_max];
            assert!(OWN + sites + places.iter().sum::<usize>() <= descriptors, "{descriptors}");
        }
        assert_eq!(Shares::of(1 << 20).sites, 20_000);
        assert_eq!(Shares::of(20_000).sites, 12_724);
        assert_eq!(Shares::of(1024).sites, 471);
    }
}
