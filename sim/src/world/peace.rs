//! Checks of sites that were left in peace: what others do must not keep them from anything, and nothing that a
//! restart left behind may wait for a hand.

use airlift_agent::core::object::{Generation, ObjectRef};
use airlift_agent::core::state::Step as AppStep;
use airlift_agent::core::write::CounterKey;
use airlift_bundles::document::release::Scalar;
use airlift_bundles::ids::Counter;
use airlift_hub::api::types::Standing;
use airlift_hub::db::rows::{meta, sites};

use super::World;
use super::happening::SiteNo;
use super::library::{COLOURS, REPLICAS};
use crate::invariants::Invariant;

/// What a connected site may take to have what is signed for it, after hub, connection and site are well.
const TOLD_MS: u64 = 1_800_000;

impl World {
    /// Whether nothing is wrong at a site, and nothing was for long.
    pub(super) fn in_peace(&self, site: SiteNo) -> bool {
        let here = &self.sites[site];
        let since_ms = here.disturbed_ms + super::checks::PATIENCE_MS;
        here.troubles == 0 && here.node.powered && since_ms <= self.timeline.now_ms()
    }

    /// Whether the hub may publish, and was up for long.
    pub(super) fn hub_is_steady(&self) -> bool {
        let hub = &self.hub;
        hub.up
            && !hub.unsettled
            && hub.booted_ms() + TOLD_MS <= self.timeline.now_ms()
            && !meta::must_reconcile(&hub.db).unwrap_or(true)
    }

    /// What is signed for a connected site has reached it, whatever becomes of others (invariant 10).
    pub(super) fn check_told(&mut self, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        let here = &self.sites[site];
        let connected = here.link.session.is_some() && here.link.since_ms + TOLD_MS <= now_ms;
        let Some(process) = here.process.as_ref().filter(|_| connected && self.in_peace(site)) else {
            return;
        };
        let Ok(Some(row)) = sites::find(&self.hub.db, &here.id) else { return };
        let rows = process.core.rows();
        let has = rows.counters.get(&CounterKey::Assignment);
        let has = has.map(|row| Counter { epoch: row.epoch, seq: row.seq }).unwrap_or_default();
        let parked = rows.assignments.len() > usize::from(has != Counter::default());
        if row.standing == Standing::Enrolled && has < row.last && !parked && !self.ledgers[site].robbed {
            let text = format!("assignment {} is signed for it, it is connected and has {has}", row.last);
            self.violated(Invariant::Independence, Some(site), text);
        }
    }

    /// Work that was begun goes on by itself (invariant 7): an agent in the middle of it has asked for something, or
    /// will wake up.
    pub(super) fn check_goes_on(&mut self, site: SiteNo) {
        let here = &self.sites[site];
        let Some(process) = here.process.as_ref().filter(|_| self.in_peace(site)) else { return };
        if !process.ops.is_empty() || process.alarm_ms.is_some() || !here.disk.waiting.is_empty() {
            return;
        }
        let stuck = process.core.rows().apps.values().find(|row| row.step != AppStep::Rest && !row.held);
        if let Some(row) = stuck {
            let text = format!("{} is at {}, asks for nothing, and nothing will wake it", row.app, row.step);
            self.violated(Invariant::Restarts, Some(site), text);
        }
    }

    /// What is applied is within what its release declares and above the floors, whoever held the director's key
    /// (invariant 13).
    pub(super) fn check_choice(&mut self, site: SiteNo, generation: &Generation, object: &ObjectRef) {
        let within = |name: &str, value: &Scalar| match (name, value) {
            ("replicas", Scalar::Integer(replicas)) => REPLICAS.contains(replicas),
            ("colour", Scalar::String(colour)) => COLOURS.contains(&colour.as_str()),
            _ => false,
        };
        let outside = generation.parameters.iter().find(|(name, value)| !within(name.as_str(), value));
        if let Some((name, value)) = outside {
            let text =
                format!("{object} is applied with {name} = {value:?}, which its release does not declare");
            return self.violated(Invariant::Director, Some(site), text);
        }
        if let Some(overlay) = generation.overlays.first() {
            let text = format!("{object} is applied with overlay {overlay}, which its release does not have");
            return self.violated(Invariant::Director, Some(site), text);
        }
        let ledger = &self.ledgers[site];
        let floor = ledger.floor(&generation.app);
        let counter = (generation.counter.epoch, generation.counter.seq);
        let was_healthy = ledger.healthy.contains(&(generation.app.clone(), generation.id));
        if floor.is_some_and(|floor| counter < floor) && !was_healthy {
            let text = format!("{object} is applied for {}, below the floor {floor:?}", generation.counter);
            self.violated(Invariant::Director, Some(site), text);
        }
    }

    /// A site asks for documents: not for ever for what nobody has.
    pub(super) fn check_asking(&mut self, site: SiteNo) {
        let now_ms = self.timeline.now_ms();
        if self.ledgers[site].asks_too_often(now_ms) {
            let text = "it asks for documents again and again".to_owned();
            self.violated(Invariant::Sleep, Some(site), text);
        }
    }
}
