//! Composes a site's next assignment from its rows.

use std::collections::BTreeMap;

use airlift_bundles::document::assignment::{Assignment, DesiredApp, ReceiptMark};
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::ids::{AppName, Counter, FleetId, RandomId, SiteId};

use crate::clock::Now;
use crate::collect::freshness::MEDIA_MS;

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Director {
    /// The fleet.
    pub fleet_id: FleetId,
    /// Which life of the hub.
    pub hub_incarnation: RandomId,
    /// The director's epoch in the newest root.
    pub epoch: u64,
}

/// A site's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePlan {
    /// The site.
    pub site: SiteId,
    /// Its enrolment.
    pub incarnation: u64,
    /// The greatest number that any of its assignments may have had.
    pub last: Counter,
    /// What it should run.
    pub desired: BTreeMap<AppName, DesiredApp>,
    /// What has to leave, ascending.
    pub retire: Vec<AppName>,
    /// How far its newest chain of receipts is held.
    pub receipts_acked: Option<ReceiptMark>,
    /// How it is reached.
    pub contact: ContactClass,
}

/// After how much silence of the hub a site calls its assignment stale: an evening's outage of a network is no news, and
/// neither is one missed round with sticks.
fn stale_after_s(contact: ContactClass) -> u64 {
    match contact {
        ContactClass::Mqtt => 24 * 3_600,
        ContactClass::Media => 2 * MEDIA_MS / 1_000,
    }
}

/// When a new assignment is due although the site should run what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Only when what it says of apps differs.
    OnChange,
    /// Also to tell the site, by stick, that more of its receipts are held.
    OnReceipts,
}

/// The next assignment of a site, or `None` where `current` says it already.
#[must_use]
pub fn compose(
    director: &Director,
    plan: &SitePlan,
    current: Option<&Assignment>,
    renewal: Renewal,
    now: &Now,
) -> Option<Assignment> {
    let same_epoch = plan.last.epoch == director.epoch;
    let last_seq = if same_epoch { plan.last.seq } else { 0 };
    let next = Assignment {
        fleet_id: director.fleet_id.clone(),
        site: plan.site.clone(),
        incarnation: plan.incarnation,
        epoch: director.epoch,
        assignment_seq: Assignment::next_seq(last_seq, now.wall_ms),
        hub_incarnation: director.hub_incarnation.clone(),
        desired: plan.desired.values().cloned().collect(),
        retire: plan.retire.clone(),
        receipts_acked: plan.receipts_acked.clone(),
        offers: Vec::new(),
        issued_at: now.time(),
        stale_after_s: Some(stale_after_s(plan.contact)),
        crit: Vec::new(),
    };
    let says_it = current.is_some_and(|current| {
        current.incarnation == next.incarnation
            && current.epoch == next.epoch
            && current.desired == next.desired
            && current.retire == next.retire
            && current.counter() == plan.last
            && (renewal == Renewal::OnChange || current.receipts_acked == next.receipts_acked)
    });
    (!says_it).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use airlift_bundles::ids::Sha256Digest;

    fn now(wall_ms: u64) -> Now {
        Now { mono_ms: 0, boot: RandomId::from_bytes([1; 16]), wall_ms }
    }

    fn director(epoch: u64) -> Director {
        let fleet_id = FleetId::new("fleet").unwrap();
        Director { fleet_id, hub_incarnation: RandomId::from_bytes([2; 16]), epoch }
    }

    fn plan(seq: u64) -> SitePlan {
        let app = AppName::new("web").unwrap();
        let desired = DesiredApp {
            app: app.clone(),
            release: Sha256Digest::of(b"release"),
            epoch: 0,
            seq,
            parameters: BTreeMap::new(),
            overlays: vec![],
            secrets: BTreeMap::new(),
            retry: 0,
        };
        SitePlan {
            site: SiteId::new("ship").unwrap(),
            incarnation: 1,
            last: Counter { epoch: 0, seq: 0 },
            desired: BTreeMap::from([(app, desired)]),
            retire: vec![],
            receipts_acked: None,
            contact: ContactClass::Mqtt,
        }
    }

    fn compose_on_change(plan: &SitePlan, current: Option<&Assignment>, wall_ms: u64) -> Option<Assignment> {
        compose(&director(0), plan, current, Renewal::OnChange, &now(wall_ms))
    }

    #[test]
    fn numbers_rise_even_when_the_clock_falls() {
        let first = compose_on_change(&plan(1), None, 5_000).unwrap();
        assert_eq!(first.assignment_seq, 5_000);
        let later = SitePlan { last: first.counter(), ..plan(2) };
        assert_eq!(compose_on_change(&later, Some(&first), 0).unwrap().assignment_seq, 5_001);
    }

    #[test]
    fn a_site_is_told_how_much_silence_is_normal_for_the_way_it_is_reached() {
        let connected = compose_on_change(&plan(1), None, 5_000).unwrap();
        assert_eq!(connected.stale_after_s, Some(86_400));
        let by_stick = SitePlan { contact: ContactClass::Media, ..plan(1) };
        let by_stick = compose_on_change(&by_stick, None, 5_000).unwrap();
        assert_eq!(by_stick.stale_after_s, Some(28 * 86_400), "two rounds with sticks");
    }

    #[test]
    fn nothing_is_signed_while_the_assignment_in_force_says_it() {
        let first = compose_on_change(&plan(1), None, 5_000).unwrap();
        let unchanged = SitePlan { last: first.counter(), ..plan(1) };
        assert_eq!(compose_on_change(&unchanged, Some(&first), 9_000), None);
        let enrolled_again = SitePlan { incarnation: 2, ..unchanged.clone() };
        assert!(compose_on_change(&enrolled_again, Some(&first), 9_000).is_some());
        let overtaken = SitePlan { last: Counter { epoch: 0, seq: 6_000 }, ..unchanged };
        assert_eq!(compose_on_change(&overtaken, Some(&first), 0).unwrap().assignment_seq, 6_001);
    }

    #[test]
    fn held_receipts_renew_it_for_sticks_only() {
        let first = compose_on_change(&plan(1), None, 5_000).unwrap();
        let mark = ReceiptMark {
            chain_id: RandomId::from_bytes([3; 16]),
            upto: 4,
            sha256: Sha256Digest::of(b"receipt"),
        };
        let held = SitePlan { last: first.counter(), receipts_acked: Some(mark.clone()), ..plan(1) };
        assert_eq!(compose_on_change(&held, Some(&first), 9_000), None);
        let renewed = compose(&director(0), &held, Some(&first), Renewal::OnReceipts, &now(9_000));
        assert_eq!(renewed.unwrap().receipts_acked, Some(mark));
    }

    #[test]
    fn a_new_epoch_of_the_director_starts_the_numbers_anew() {
        let burnt = SitePlan { last: Counter { epoch: 0, seq: 1 << 50 }, ..plan(1) };
        let next = compose(&director(1), &burnt, None, Renewal::OnChange, &now(7_000)).unwrap();
        assert_eq!(next.counter(), Counter { epoch: 1, seq: 7_000 });
    }
}
