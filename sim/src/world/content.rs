//! A site's content: bundles that come over the link or from a stick, piece by piece, and survive a cut but for
//! what was not synced.

use airlift_agent::core::Event;
use airlift_agent::core::event::{Failure, FailureClass, OpId};
use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::pieces::PIECE_BYTES;

use super::World;
use super::happening::{Happening, SiteNo};
use super::site::Transfer;

/// What a stick gives, in bytes a second.
const STICK_BYTES_PER_S: u64 = 8 << 20;
/// What is synced as one: a cut costs at most this.
const SYNCED_BYTES: u64 = 8 << 20;

impl World {
    pub(super) fn fetch(&mut self, site: SiteNo, op: OpId, bundle: Sha256Digest) {
        self.sites[site].content.wanted.insert(op, bundle);
        self.go_on_fetching(site);
    }

    pub(super) fn forget_fetch(&mut self, site: SiteNo, op: OpId) {
        let content = &mut self.sites[site].content;
        if let Some(bundle) = content.wanted.remove(&op)
            && content.transfer.as_ref().is_some_and(|transfer| transfer.bundle == bundle)
        {
            self.stop_transfer(site);
            self.go_on_fetching(site);
        }
    }

    /// The process ends: its fetches are gone, what arrived stays.
    pub(super) fn pause_content(&mut self, site: SiteNo) {
        self.stop_transfer(site);
        self.sites[site].content.wanted.clear();
    }

    /// A way has opened or closed, or a fetch was asked for: ends what is done, and starts what can be.
    pub(super) fn go_on_fetching(&mut self, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        let running = self.sites[site].content.transfer.as_ref();
        if let Some((bundle, by_stick)) = running.map(|transfer| (transfer.bundle, transfer.by_stick)) {
            if self.way_to(site, &bundle).is_some_and(|(way, _)| way == by_stick) {
                return;
            }
            self.stop_transfer(site);
        }
        let life = self.sites[site].life;
        let wanted: Vec<(OpId, Sha256Digest)> =
            self.sites[site].content.wanted.iter().map(|(op, bundle)| (*op, *bundle)).collect();
        for (op, bundle) in wanted {
            if self.sites[site].content.holds(&bundle) {
                self.sites[site].content.wanted.remove(&op);
                let event = Box::new(Event::ContentReady { op });
                self.timeline.after(1, Happening::Tell(site, life, event));
                continue;
            }
            let Some((by_stick, bytes_per_s)) = self.way_to(site, &bundle) else { continue };
            let Some(release) = self.library.of_bundle(&bundle) else { continue };
            let size = release.bytes;
            if self.sites[site].disk.room_bytes.is_some() {
                return self.fail_fetches(site, &disk_full());
            }
            let end = if by_stick { self.readable(site, &bundle).min(size) } else { size };
            let content = &mut self.sites[site].content;
            let left = end.saturating_sub(content.partial.get(&bundle).copied().unwrap_or(0));
            content.tickets += 1;
            let ticket = content.tickets;
            let (began_ms, to_end) = (now_ms, end == size);
            content.transfer = Some(Transfer { bundle, ticket, by_stick, began_ms, bytes_per_s, to_end });
            let takes_ms = 1 + left.saturating_mul(1000) / bytes_per_s.max(1);
            return self.timeline.after(takes_ms, Happening::Arrived(site, ticket));
        }
    }

    /// By stick or not, and how fast.
    fn way_to(&self, site: SiteNo, bundle: &Sha256Digest) -> Option<(bool, u64)> {
        let here = &self.sites[site];
        let have = here.content.partial.get(bundle).copied().unwrap_or(0);
        if here.stick.is_some() && self.readable(site, bundle) > have {
            return Some((true, STICK_BYTES_PER_S));
        }
        let linked = here.link.session.is_some() && self.hub.serves(&here.id, bundle);
        linked.then_some((false, here.link.spec.kbit_per_s * 125))
    }

    /// Bytes of a bundle that can be read from the stick that is in.
    fn readable(&self, site: SiteNo, bundle: &Sha256Digest) -> u64 {
        let stick = self.sites[site].stick.map(|stick| &self.sticks[stick]);
        stick.and_then(|stick| stick.bundles.get(bundle)).copied().unwrap_or(0)
    }

    /// Keeps what has arrived, in whole synced parts.
    pub(super) fn stop_transfer(&mut self, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        let content = &mut self.sites[site].content;
        let Some(transfer) = content.transfer.take() else { return };
        let arrived = (now_ms - transfer.began_ms).saturating_mul(transfer.bytes_per_s) / 1000;
        self.meter.moved(site, transfer.by_stick, arrived);
        let have = content.partial.entry(transfer.bundle).or_default();
        *have = (*have + arrived) / SYNCED_BYTES * SYNCED_BYTES;
    }

    /// A transfer is complete, unless it was stopped.
    pub(super) fn arrived(&mut self, site: SiteNo, ticket: u64) {
        let content = &mut self.sites[site].content;
        let Some(transfer) = content.transfer.take_if(|transfer| transfer.ticket == ticket) else { return };
        if !transfer.to_end {
            // The rest of it is not readable here: what was read stays, to the last piece.
            let read = self.readable(site, &transfer.bundle) / PIECE_BYTES as u64 * PIECE_BYTES as u64;
            let have = self.sites[site].content.partial.entry(transfer.bundle).or_default();
            let more = read.saturating_sub(*have);
            *have += more;
            self.meter.moved(site, true, more);
            if let Some(stick) = self.sites[site].stick {
                self.sticks[stick].bundles.insert(transfer.bundle, read);
            }
            return self.go_on_fetching(site);
        }
        let kept = content.partial.get(&transfer.bundle).copied().unwrap_or(0);
        self.finish_transfer(site, transfer.bundle);
        let bytes = self.library.of_bundle(&transfer.bundle).map_or(0, |release| release.bytes);
        self.moved_bytes += bytes;
        self.meter.moved(site, transfer.by_stick, bytes.saturating_sub(kept));
        self.go_on_fetching(site);
    }
}

/// What a fetch says that finds no room.
pub(super) fn disk_full() -> Failure {
    let reason = "what is to come does not fit onto the disk".to_owned();
    let (class, code) = (FailureClass::Environment, Code::DiskFull);
    Failure { class, code, reason, evidence: Vec::new() }
}
