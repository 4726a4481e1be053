//! Disks that lie: they say that a commit is durable, and a power cut shows that the last of them never were.
//!
//! Then a site goes on from a past that it has already told others of. Invariants 2, 4 and 5 cannot hold over that
//! moment; all others must, and what forks must be shown by the hub.

use std::collections::VecDeque;

use airlift_agent::core::Write;
use airlift_agent::ports::Store as _;
use airlift_agent::store::MemoryStore;
use airlift_hub::api::types::Standing;
use airlift_hub::db::rows::{receipts, sites};

use super::World;
use super::happening::SiteNo;
use super::library::at_once;
use super::site::Disk;
use crate::invariants::Invariant;

/// Commits that such a disk may hold back.
const HELD_BACK: usize = 40;

/// What a lying disk really has.
pub(super) struct Lies {
    kept: MemoryStore,
    /// What it only says it has, the oldest first.
    said: VecDeque<Vec<Write>>,
}

impl Disk {
    /// From now on it lies.
    pub(super) fn begin_to_lie(&mut self) {
        if self.lies.is_none() {
            self.lies = Some(Box::new(Lies { kept: self.durable.clone(), said: VecDeque::new() }));
        }
    }

    /// A commit is acknowledged.
    pub(super) fn hold_back(&mut self, writes: &[Write]) {
        let Some(lies) = &mut self.lies else { return };
        lies.said.push_back(writes.to_vec());
        if lies.said.len() > HELD_BACK
            && let Some(writes) = lies.said.pop_front()
        {
            at_once(lies.kept.commit(writes)).expect("the store in memory does not fail");
        }
    }
}

impl World {
    /// Power is cut, and the last of the acknowledged commits are not there.
    pub(super) fn lose_commits(&mut self, site: SiteNo) {
        let said = self.sites[site].disk.lies.as_ref().map_or(0, |lies| lies.said.len());
        let kept = self.random.between(0, said as u64);
        let disk = &mut self.sites[site].disk;
        let Some(lies) = &mut disk.lies else { return };
        for writes in lies.said.drain(..usize::try_from(kept).unwrap_or(0)) {
            at_once(lies.kept.commit(writes)).expect("the store in memory does not fail");
        }
        lies.said.clear();
        disk.durable = lies.kept.clone();
        let rows = at_once(disk.durable.load()).expect("the store in memory does not fail");
        self.ledgers[site].go_back(&rows);
        self.damage_content(site);
    }

    /// Whether a fork of its chain is to be expected of a site: its disk has lost what was told.
    pub(super) fn may_fork(&self, site: SiteNo) -> bool {
        !self.ledgers[site].lost.is_empty()
    }

    /// Two receipts with one number at the hub are a fork, and a fork is shown: the site is set aside.
    pub(super) fn check_forks(&mut self, site: SiteNo) {
        let here = &self.sites[site];
        let at = |seq| receipts::at(&self.hub.db, &here.id, &here.chain_id, seq).unwrap_or_default();
        let forked = self.ledgers[site].lost.keys().copied().find(|seq| at(*seq).len() > 1);
        let standing = sites::find(&self.hub.db, &here.id).ok().flatten().map(|row| row.standing);
        if let Some(seq) = forked
            && standing == Some(Standing::Enrolled)
        {
            let text = format!("its chain forks at {seq}, and the hub shows nothing of it");
            self.violated(Invariant::Receipts, Some(site), text);
        }
    }
}
