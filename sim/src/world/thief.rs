//! A thief with the director's key, who has read the hub's database and can speak to every site.
//!
//! What such a thief may do is to choose: among releases, among declared values, and what has to leave. All else it
//! tries too, and must be refused by sites alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_agent::core::Event;
use airlift_agent::core::event::{Carrier, DocumentKind};
use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::release::Scalar;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::Name;
use airlift_bundles::keys::SecretKey;
use airlift_hub::db::rows::assignments;
use airlift_hub::plan::sign::read_own;

use super::World;
use super::happening::{Happening, SiteNo};
use super::library::BEGINNING_S;

/// The greatest number that a document can hold.
const GREATEST: u64 = (1 << 53) - 1;

/// The key, and the numbers that were used with it.
pub(super) struct Loot {
    key: Arc<SecretKey>,
    epoch: u64,
    used: u64,
}

impl World {
    /// The director's key is copied; nobody notices.
    pub(super) fn steal_director_key(&mut self) {
        let epoch = self.trust.newest().roles.director.epoch;
        self.loot = Some(Loot { key: self.trust.director(), epoch, used: 0 });
    }

    /// The thief gives one site an order.
    pub(super) fn thieve(&mut self, site: SiteNo) {
        let deed = self.random.below(8);
        let now_ms = self.timeline.now_ms();
        let newest = assignments::newest(&self.hub.db, &self.sites[site].id).ok().flatten();
        let Some(mut order) = newest.and_then(|newest| read_own(&newest.envelope)) else { return };
        let Some(loot) = &mut self.loot else { return };
        loot.used += 1;
        order.epoch = loot.epoch;
        let now = u64::try_from(BEGINNING_S).unwrap_or(0) * 1000 + now_ms;
        order.assignment_seq = if deed == 0 { GREATEST } else { now + loot.used };
        let key = Arc::clone(&loot.key);
        self.tamper(deed, &mut order);
        let ledger = &mut self.ledgers[site];
        // It is the director's word as far as anybody can tell: whether it may be obeyed is another question.
        ledger.granted.extend(order.desired.iter().map(DesiredApp::generation));
        ledger.retired.extend(order.retire.iter().cloned());
        ledger.robbed = true;
        self.sites[site].disturb(now_ms);
        let envelope = Envelope::signed(&order, &key);
        let (expected, bytes) = (DocumentKind::Assignment, envelope.to_json());
        let event = Box::new(Event::Document { expected, carrier: Carrier::Hub, bytes });
        let (delay_ms, life) = (self.random.between(1, 1_000), self.sites[site].life);
        self.timeline.after(delay_ms, Happening::Tell(site, life, event));
    }

    fn tamper(&mut self, deed: u64, order: &mut Assignment) {
        let other = self.any_release(order);
        let Some(entry) = order.desired.first_mut() else { return };
        let mut choose = |name: &str, value: Scalar| {
            let name = Name::new(name).expect("a name");
            entry.parameters = BTreeMap::from([(name, value)]);
        };
        match deed {
            // Another release, as it is; with a number that nothing can follow in the first case.
            0 | 1 => *entry = DesiredApp { retry: entry.retry, ..other },
            2 => choose("replicas", Scalar::Integer(3)),
            3 => choose("replicas", Scalar::Integer(99)),
            4 => choose("colour", Scalar::String("mauve\ninjected: true".into())),
            5 => choose("image", Scalar::String("evil.example/miner:1".into())),
            6 => entry.overlays = vec![Name::new("host-network").expect("a name")],
            _ => {
                order.retire = vec![entry.app.clone()];
                order.desired.remove(0);
            }
        }
    }

    /// Some release of the app that the order begins with.
    fn any_release(&mut self, order: &Assignment) -> DesiredApp {
        let entry = order.desired.first().cloned();
        let app = entry.as_ref().map(|entry| entry.app.clone());
        let some: Vec<DesiredApp> = self
            .library
            .releases()
            .map(|release| (release.sha256, &release.statement.predicate))
            .filter(|(_, release)| app.as_ref().is_none_or(|app| release.app == *app))
            .map(|(sha256, release)| DesiredApp {
                app: release.app.clone(),
                release: sha256,
                epoch: release.epoch,
                seq: release.seq,
                parameters: BTreeMap::new(),
                overlays: Vec::new(),
                secrets: BTreeMap::new(),
                retry: 0,
            })
            .collect();
        self.random.pick(&some).cloned().or(entry).expect("a scenario with orders has releases")
    }
}
