//! Bounds: what a fleet may ask of hub, disks and links within a part of the story.

use airlift_bundles::ids::SiteId;

use super::World;
use super::happening::SiteNo;
use crate::invariants::Invariant;

/// What was counted since a bound began.
pub(super) struct Tally {
    bound: usize,
    second: u64,
    in_second: u64,
    connects_peak: u64,
    commits: Vec<u32>,
    applied: u64,
    moved_from: u64,
}

impl World {
    /// A bound begins, or ends and is checked.
    pub(super) fn bound(&mut self, bound: usize, begins: bool) {
        if begins {
            return self.tallies.push(Tally {
                bound,
                second: 0,
                in_second: 0,
                connects_peak: 0,
                commits: vec![0; self.sites.len()],
                applied: 0,
                moved_from: self.moved_bytes,
            });
        }
        let Some(place) = self.tallies.iter().position(|tally| tally.bound == bound) else { return };
        let tally = self.tallies.remove(place);
        let limits = self.scenario.bound[bound].clone();
        let (busiest, commits) = tally.busiest(&self.sites.iter().map(|site| &site.id).collect::<Vec<_>>());
        let found = [
            (limits.connects_per_s, tally.connects_peak, "connections in one second at the hub".to_owned()),
            (limits.commits_per_site, commits, format!("commits at {busiest}")),
            (limits.applied, tally.applied, "objects applied".to_owned()),
            (limits.moved_bytes, self.moved_bytes - tally.moved_from, "bytes of content moved".to_owned()),
        ];
        for (limit, seen, what) in found {
            if let Some(most) = limit.filter(|most| seen > *most) {
                let text = format!("{seen} {what} since {}, at most {most} are expected", limits.from);
                self.violated(Invariant::Expectation, None, text);
            }
        }
    }

    pub(super) fn count_connect(&mut self) {
        let second = self.timeline.now_ms() / 1000;
        for tally in &mut self.tallies {
            tally.in_second = if tally.second == second { tally.in_second + 1 } else { 1 };
            tally.second = second;
            tally.connects_peak = tally.connects_peak.max(tally.in_second);
        }
    }

    pub(super) fn count_commit(&mut self, site: SiteNo) {
        for tally in &mut self.tallies {
            tally.commits[site] += 1;
        }
    }

    pub(super) fn count_applied(&mut self) {
        self.tallies.iter_mut().for_each(|tally| tally.applied += 1);
    }
}

impl Tally {
    fn busiest(&self, names: &[&SiteId]) -> (String, u64) {
        let most = self.commits.iter().enumerate().max_by_key(|(_, commits)| **commits);
        most.map_or_else(Default::default, |(site, commits)| (names[site].to_string(), u64::from(*commits)))
    }
}
