//! Looks from outside: every few minutes at the sites to which something happened, every few hours at all of them.
//!
//! A site to which nothing happened since it was seen to be right, and which stands in contact, is right still: the
//! hub's rows, its disk and its cluster are what they were, and a connection that stands is not stale. So a fleet at
//! rest costs nothing to watch, and a hundred thousand sites can be.

use std::sync::Arc;

use airlift_hub::api::view::Moment;
use airlift_hub::clock::Now;
use airlift_hub::db::DbError;
use airlift_hub::db::rows::sites;

use super::World;
use super::happening::{Happening, SiteNo};
use crate::invariants::Invariant;

/// Between two looks.
pub(super) const INSPECT_MS: u64 = 600_000;
/// Every so many looks are at all sites: what nobody told of is seen then.
const LOOKS_PER_ROUND: u64 = 36;
/// Two and a half keep-alives.
const ALIVE_MS: u64 = 600_000;

impl World {
    /// Something happened to a site: the next look is at it too.
    pub(super) fn stir(&mut self, site: SiteNo) {
        self.stirred[site] = true;
    }

    /// Looks from outside, and comes back.
    pub(super) fn inspect(&mut self) {
        self.measure_silence();
        self.looks += 1;
        let all = self.looks.is_multiple_of(LOOKS_PER_ROUND);
        let due: Vec<SiteNo> = (0..self.sites.len()).filter(|site| all || self.stirred[*site]).collect();
        if self.hub.up {
            let (moment, steady) = (self.moment(&due), self.hub_is_steady());
            for site in &due {
                self.check_shown(*site, self.heard(*site), &moment);
                if steady {
                    self.check_told(*site);
                }
            }
        }
        for site in due {
            let looked = self.check_kept(site);
            self.check_counts(site);
            self.check_goes_on(site);
            self.stirred[site] = !(looked && self.hub.up && self.is_linked(site));
        }
        self.timeline.after(INSPECT_MS, Happening::Inspect);
    }

    /// The time, and who of these sites the hub believes to be connected.
    fn moment(&self, due: &[SiteNo]) -> Moment {
        let now_ms = self.timeline.now_ms();
        let alive = |site: &SiteNo| {
            let heard_ms = self.heard(*site)?;
            Some((self.sites[*site].id.clone(), now_ms - heard_ms <= ALIVE_MS))
        };
        let connected = due.iter().filter_map(alive).collect();
        Moment { now: self.hub.now(now_ms), connected: Arc::new(connected) }
    }

    /// Whether a site's connection is the one that the hub believes in.
    fn is_linked(&self, site: SiteNo) -> bool {
        let known = self.hub.session(site).map(|(session, _)| session);
        known.is_some() && known == self.sites[site].link.session
    }

    /// When the hub last heard of the connection of a site that it believes in: pings come over one that stands.
    pub(super) fn heard(&self, site: SiteNo) -> Option<u64> {
        let (_, heard_ms) = self.hub.session(site)?;
        Some(if self.is_linked(site) { self.timeline.now_ms() } else { heard_ms })
    }

    /// Puts into the hub's rows when it last heard of connections that it gives up, as its rounds keep doing.
    pub(super) fn record_contacts(&mut self, contacts: &[(SiteNo, u64)]) {
        let now_ms = self.timeline.now_ms();
        let recorded = self.hub.within(|connection| {
            for (site, heard_ms) in contacts {
                let silent_ms = now_ms - heard_ms;
                let now = self.hub.now(now_ms);
                let seen = Now {
                    mono_ms: now.mono_ms.saturating_sub(silent_ms),
                    wall_ms: now.wall_ms.saturating_sub(silent_ms),
                    boot: now.boot,
                };
                sites::set_seen(connection, &self.sites[*site].id, &seen)?;
            }
            Ok::<_, DbError>(())
        });
        if let Err(error) = recorded {
            self.violated(Invariant::Scenario, None, error.to_string());
        }
    }
}
