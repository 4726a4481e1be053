//! Sticks and those who carry them: from the hub round the sites and back, late, half copied, or with old things.

use std::collections::{BTreeMap, BTreeSet};

use airlift_agent::core::Event;
use airlift_agent::core::event::{Carrier as By, DocumentKind, MediaId};
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{RandomId, Sha256Digest};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::MediaName;
use airlift_hub::api::media::{ReturnedFile, export_rows, returned_rows};
use airlift_hub::api::types::{MediaPlan, SiteSelection};
use airlift_hub::db::rows::sites;

use super::World;
use super::happening::{Happening, Leg, SiteNo};
use crate::invariants::Invariant;
use crate::scenario::{Carrier, Span};

/// Between two looks whether there are new receipts for the stick.
const OFFER_MS: u64 = 20_000;
/// Until an agent has seen a stick and read its documents.
const SEEN_MS: u64 = 2_000;

/// A stick, and its round.
pub(super) struct Stick {
    spec: Carrier,
    route: Vec<SiteNo>,
    began_ms: u64,
    documents: BTreeMap<String, String>,
    /// Bundles, with how many of their bytes can be read.
    pub(super) bundles: BTreeMap<Sha256Digest, u64>,
    returned: BTreeMap<String, String>,
    /// Returned files of which only the beginning can be read.
    torn: BTreeSet<String>,
    /// Unacknowledged receipts when it was last looked, and when they were last written.
    offered: (u64, u64),
}

impl Stick {
    pub(super) fn new(spec: Carrier, route: Vec<SiteNo>) -> Self {
        Self {
            spec,
            route,
            began_ms: 0,
            documents: BTreeMap::new(),
            bundles: BTreeMap::new(),
            returned: BTreeMap::new(),
            torn: BTreeSet::new(),
            offered: (u64::MAX, u64::MAX),
        }
    }

    fn document(&self, name: &MediaName) -> Option<Vec<u8>> {
        self.documents.get(&name.to_string()).map(|text| text.clone().into_bytes())
    }
}

fn media_id(stick: usize) -> MediaId {
    MediaId(format!("stick-{stick}"))
}

impl World {
    /// The next leg of a stick's round.
    pub(super) fn carry(&mut self, stick: usize, leg: Leg) {
        match leg {
            Leg::AtHub => {
                self.sticks[stick].began_ms = self.timeline.now_ms();
                if self.hub.up {
                    self.unload(stick);
                    if !self.hub.unsettled {
                        self.fill(stick);
                    }
                }
                self.swap(stick);
                self.travel(stick, 0);
            }
            Leg::In(stop) => {
                let site = self.sticks[stick].route[stop];
                let here = &mut self.sites[site];
                here.disturb(self.timeline.now_ms());
                if here.stick.is_none() {
                    here.stick = Some(stick);
                    self.see_stick(site);
                }
                let stay_ms = self.draw(self.sticks[stick].spec.stay);
                self.timeline.after(stay_ms, Happening::Stick(stick, Leg::Out(stop)));
            }
            Leg::Offer(stop) => self.offer(stick, stop),
            Leg::Out(stop) => {
                let site = self.sticks[stick].route[stop];
                if self.sites[site].stick == Some(stick) {
                    self.sites[site].stick = None;
                    let life = self.sites[site].life;
                    self.tell(site, life, Event::MediaOut { media: media_id(stick) });
                    self.go_on_fetching(site);
                }
                // Whoever is not sure that it was read puts it in again.
                let again = self.mishap(self.sticks[stick].spec.twice_per_mille);
                self.travel(stick, if again { stop } else { stop + 1 });
            }
        }
    }

    /// Whether something happens to a stick, or to who carries it; like faults, not any more in the quiet at the end.
    fn mishap(&mut self, per_mille: u32) -> bool {
        self.timeline.now_ms() < self.drawn_until_ms && self.random.chance(per_mille)
    }

    /// Two carriers leave the hub with each other's sticks; what the other one has with him is on the road with him.
    fn swap(&mut self, stick: usize) {
        let swapped_per_mille = self.sticks[stick].spec.swapped_per_mille;
        if self.sticks.len() < 2 || !self.mishap(swapped_per_mille) {
            return;
        }
        let others: Vec<usize> = (0..self.sticks.len()).filter(|other| *other != stick).collect();
        let Some(other) = self.random.pick(&others).copied() else { return };
        let documents = std::mem::take(&mut self.sticks[stick].documents);
        let bundles = std::mem::take(&mut self.sticks[stick].bundles);
        let here = &mut self.sticks[other];
        let (documents, bundles) = (
            std::mem::replace(&mut here.documents, documents),
            std::mem::replace(&mut here.bundles, bundles),
        );
        let here = &mut self.sticks[stick];
        (here.documents, here.bundles) = (documents, bundles);
        // A transfer from the other stick, if one runs, goes on from what is there now.
        for site in self.sticks[other].route.clone() {
            if self.sites[site].stick == Some(other) {
                self.stop_transfer(site);
                self.go_on_fetching(site);
            }
        }
    }

    /// The beginning of a file, where the stick has not kept the rest.
    fn tear(&mut self, stick: usize, text: &mut String) -> bool {
        if !self.mishap(self.sticks[stick].spec.torn_per_mille) {
            return false;
        }
        // Envelopes are ASCII, so every place is between two characters.
        text.truncate(usize::try_from(self.random.below(text.len() as u64)).unwrap_or(0));
        true
    }

    fn draw(&mut self, range: [Span; 2]) -> u64 {
        self.random.between(range[0].ms(), range[1].ms())
    }

    /// On to the stop of this number, or home.
    fn travel(&mut self, stick: usize, stop: usize) {
        let travel_ms = self.draw(self.sticks[stick].spec.travel);
        let here = &self.sticks[stick];
        if stop < here.route.len() {
            return self.timeline.after(travel_ms, Happening::Stick(stick, Leg::In(stop)));
        }
        let next_ms = here.began_ms + here.spec.every.ms();
        let home_ms = self.timeline.now_ms() + travel_ms;
        self.timeline.at(next_ms.max(home_ms), Happening::Stick(stick, Leg::AtHub));
    }

    /// The hub takes what came back, also the assignments that it may not remember.
    fn unload(&mut self, stick: usize) {
        let now = self.hub.now(self.timeline.now_ms());
        for (name, text) in &self.sticks[stick].documents {
            let Ok(MediaName::Assignment(site)) = name.parse() else { continue };
            let taken = self.hub.within(|connection| returned_rows(connection, &site, text.as_bytes()));
            if let Err(error) = taken {
                return self.violated(Invariant::Scenario, None, error.to_string());
            }
        }
        let keeps = self.mishap(self.sticks[stick].spec.old_receipts_per_mille);
        let torn = self.sticks[stick].torn.clone();
        let returned = if keeps {
            self.sticks[stick].returned.clone()
        } else {
            self.sticks[stick].torn.clear();
            std::mem::take(&mut self.sticks[stick].returned)
        };
        for (file_name, text) in returned {
            let Ok(MediaName::Receipts { site: name, .. }) = file_name.parse() else { continue };
            let Some(site) = self.names.get(&name).copied() else { continue };
            let keys = sites::keys(&self.hub.db, &name).unwrap_or_default();
            let file = match ReturnedFile::read(&text, self.hub.fleet(), &name, &keys) {
                Ok(file) => file,
                Err(_) if torn.contains(&file_name) => continue,
                Err(error) => return self.violated(Invariant::Receipts, Some(site), error.to_string()),
            };
            match self.hub.within(|connection| file.store(connection, &name, &now)) {
                Ok(taken) => self.check_taken(site, Some(&taken)),
                Err(error) => return self.violated(Invariant::Receipts, Some(site), error.to_string()),
            }
            self.heard_of(site);
            self.returned_by_stick(site);
        }
    }

    /// The hub writes what the sites of the round should have.
    fn fill(&mut self, stick: usize) {
        let spec = self.sticks[stick].spec.clone();
        if !self.sticks[stick].documents.is_empty() && self.mishap(spec.stale_per_mille) {
            return;
        }
        let names = self.sticks[stick].route.iter().map(|site| self.sites[*site].id.clone()).collect();
        let plan = MediaPlan { sites: SiteSelection { names, selector: None }, releases: Vec::new() };
        let now = self.hub.now(self.timeline.now_ms());
        let exported = self
            .hub
            .within(|connection| export_rows(connection, &self.hub.directing(), &plan, "scenario", &now));
        let content = match exported {
            Ok(content) => content,
            Err(error) => return self.violated(Invariant::Scenario, None, format!("no stick: {error}")),
        };
        let mut documents = BTreeMap::new();
        for mut file in content.documents {
            if let Ok(MediaName::Assignment(name)) = file.name.parse()
                && let Some(site) = self.names.get(&name).copied()
            {
                self.check_signed(site, file.text.as_bytes());
            }
            self.tear(stick, &mut file.text);
            if !self.mishap(spec.half_copied_per_mille) {
                documents.insert(file.name, file.text);
            }
        }
        let mut bundles = BTreeMap::new();
        for blob in content.blobs {
            let Some(bytes) = self.library.of_bundle(&blob.sha256).map(|release| release.bytes) else {
                continue;
            };
            if self.mishap(spec.half_copied_per_mille) {
                continue;
            }
            let readable = if self.mishap(spec.torn_per_mille) { self.random.below(bytes) } else { bytes };
            bundles.insert(blob.sha256, readable);
        }
        let here = &mut self.sticks[stick];
        here.documents = documents;
        here.bundles = bundles;
        self.publish_waiting();
    }

    /// An agent that runs sees the stick that is in: it reads the documents, and then offers its receipts.
    pub(super) fn see_stick(&mut self, site: SiteNo) {
        let Some(stick) = self.sites[site].stick else { return };
        let (life, name) = (self.sites[site].life, self.sites[site].id.clone());
        let here = &mut self.sticks[stick];
        here.offered = (u64::MAX, u64::MAX);
        let stop = here.route.iter().position(|stop| *stop == site).unwrap_or(0);
        let mut documents = Vec::new();
        // The first root is at the site since its installation.
        let roots = (2..).map_while(|version| here.document(&MediaName::Root(version)));
        documents.extend(roots.map(|bytes| (DocumentKind::Root, bytes)));
        if let Some(bytes) = here.document(&MediaName::Assignment(name)) {
            let assignment = Envelope::parse(&bytes, &Limits::DEFAULT)
                .and_then(|envelope| envelope.read_unverified::<Assignment>(&Limits::DEFAULT));
            for desired in assignment.map(|assignment| assignment.desired).unwrap_or_default() {
                let release = here.document(&MediaName::Release(desired.release));
                documents.extend(release.map(|bytes| (DocumentKind::Release, bytes)));
            }
            documents.push((DocumentKind::Assignment, bytes));
        }
        for (expected, bytes) in documents {
            let event = Event::Document { expected, carrier: By::Media(media_id(stick)), bytes };
            self.timeline.after(SEEN_MS, Happening::Tell(site, life, Box::new(event)));
        }
        self.timeline.after(SEEN_MS, Happening::Stick(stick, Leg::Offer(stop)));
        self.go_on_fetching(site);
    }

    /// Asks the core to write receipts once their count has changed and then stood still for one look.
    fn offer(&mut self, stick: usize, stop: usize) {
        let site = self.sticks[stick].route[stop];
        let here = &self.sites[site];
        if here.stick != Some(stick) {
            return;
        }
        let Some(process) = &here.process else { return };
        let meta = process.core.rows().meta.as_ref();
        let unacked = meta.map_or(0, |meta| meta.receipt_next - meta.receipt_acked_next);
        let life = here.life;
        let (seen, written) = self.sticks[stick].offered;
        if unacked == seen && unacked != written {
            self.sticks[stick].offered.1 = unacked;
            self.tell(site, life, Event::MediaIn { media: media_id(stick) });
        }
        self.sticks[stick].offered.0 = unacked;
        self.timeline.after(OFFER_MS, Happening::Stick(stick, Leg::Offer(stop)));
    }

    /// Writes receipts, and how things are, onto the stick, if it is still there.
    pub(super) fn write_stick(
        &mut self,
        site: SiteNo,
        media: &MediaId,
        chain_id: &RandomId,
        (from, upto): (u64, u64),
    ) {
        let Some(stick) = self.sites[site].stick.filter(|stick| media_id(*stick) == *media) else { return };
        if from > upto {
            return;
        }
        let mut whole = true;
        for (number, batch) in self.batches(site, chain_id, (from, upto), true).into_iter().enumerate() {
            // Batches of one writing are told apart by their first number; no reader takes it as more than a name.
            let (site, chain_id) = (self.sites[site].id.clone(), chain_id.clone());
            let name = MediaName::Receipts { site, chain_id, from: from + number as u64, upto };
            let mut text = String::from_utf8(batch.seal()).expect("envelopes are JSON");
            whole &= !self.tear(stick, &mut text);
            if !whole {
                self.sticks[stick].torn.insert(name.to_string());
            }
            self.sticks[stick].returned.insert(name.to_string(), text);
        }
        if whole {
            self.wrote_stick(site, stick, upto);
        }
    }
}
