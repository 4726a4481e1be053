//! The checkers: at every commit, request, deletion and message, and what a look from outside asks of each site.

use std::sync::Arc;

use airlift_agent::core::object::{Generation, ObjectRef, Uid};
use airlift_agent::core::state::{GenerationVerdict, Step as AppStep};
use airlift_agent::core::write::{AppRow, Write};
use airlift_agent::ports::Store as _;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Sha256Digest};
use airlift_hub::api::view::{Moment, site_info};
use airlift_hub::collect::take::Taken;
use airlift_hub::collect::verify::VerifiedBatch;
use airlift_hub::db::rows::{receipts, sites};
use airlift_hub::plan::sign::read_own;
use serde_json::Value;

use super::World;
use super::happening::SiteNo;
use super::library::at_once;
use crate::invariants::{Invariant, Violation};
use crate::scenario::Expectation;

/// What a site may take to put things right after it was last disturbed: its own pauses between attempts are
/// shorter than this together.
pub(super) const PATIENCE_MS: u64 = 1_800_000;
/// Two and a half keep-alives, and one for what may be on its way.
const HEARD_MS: u64 = 660_000;
/// A carrier's round, and a little.
const CARRIED_MS: u64 = 14 * 86_400_000 + 60_000;
/// Until a receipt has reached the hub from a site that is connected.
const SENT_MS: u64 = 900_000;

impl World {
    /// Writes down what must not be.
    pub(super) fn violated(&mut self, invariant: Invariant, site: Option<SiteNo>, text: String) {
        let site = site.map(|site| self.sites[site].id.clone());
        let (at_ms, step) = (self.timeline.now_ms(), self.steps);
        self.violations.push(Violation { invariant, site, at_ms, step, text });
    }

    /// Writes that reach a site's disk.
    pub(super) fn check_writes(&mut self, site: SiteNo, writes: &[Write]) {
        let now_ms = self.timeline.now_ms();
        for write in writes {
            self.check_sizes(site, write);
            let acknowledged = match self.ledgers[site].take(write, now_ms) {
                Ok(acknowledged) => acknowledged,
                Err((invariant, text)) => return self.violated(invariant, Some(site), text),
            };
            for acked in acknowledged {
                let lost = acked.seq <= self.ledgers[site].lost_upto;
                if !lost && !self.is_held(site, acked.seq, &acked.sha256) {
                    let text = format!("receipt {} counts as acknowledged, and the hub lacks it", acked.seq);
                    return self.violated(Invariant::Durable, Some(site), text);
                }
            }
        }
    }

    fn is_held(&self, site: SiteNo, seq: u64, sha256: &Sha256Digest) -> bool {
        let here = &self.sites[site];
        let held = receipts::at(&self.hub.db, &here.id, &here.chain_id, seq).unwrap_or_default();
        held.iter().filter(|(held, _)| held == sha256).count() == 1
    }

    /// An object was applied.
    pub(super) fn check_apply(
        &mut self,
        site: SiteNo,
        generation: &Generation,
        object: &ObjectRef,
        uid: &Uid,
    ) {
        self.count_applied();
        self.ledgers[site].applied.insert(uid.clone(), generation.app.clone());
        let released = self
            .library
            .releases()
            .any(|release| release.sha256 == generation.release && release.bundle == generation.bundle);
        if !released {
            let text = format!("{object} is applied for release {}, which nobody signed", generation.release);
            self.violated(Invariant::Descent, Some(site), text);
        } else if !self.ledgers[site].granted.contains(&generation.id) {
            let text =
                format!("{object} is applied for generation {}, which no assignment names", generation.id);
            self.violated(Invariant::Descent, Some(site), text);
        } else {
            self.check_choice(site, generation, object);
        }
    }

    /// A deletion is about to be sent: the rows of its step are on disk.
    pub(super) fn check_delete(&mut self, site: SiteNo, object: &ObjectRef, uid: &Uid) {
        let Some(app) = self.ledgers[site].applied.get(uid).cloned() else {
            let text = format!("{object} with UID {uid} is deleted and was never applied");
            return self.violated(Invariant::Deletions, Some(site), text);
        };
        if matches!(
            object.gvk.kind.as_str(),
            "Namespace" | "CustomResourceDefinition" | "PersistentVolumeClaim"
        ) {
            let text = format!("{object} is deleted, and no release permits it");
            return self.violated(Invariant::Deletions, Some(site), text);
        }
        let rows = at_once(self.sites[site].disk.durable.load()).expect("the store in memory does not fail");
        let Some(row) = rows.apps.get(&app) else { return };
        if row.step == AppStep::RetireDelete {
            if !self.ledgers[site].retired.contains(&app) {
                let text = format!("{object} is deleted with {app}, which nobody retires");
                self.violated(Invariant::Deletions, Some(site), text);
            }
            return;
        }
        let planned = row.planned.and_then(|planned| rows.generations.get(&planned));
        let Some(generation) = planned.map(|row| Arc::clone(&row.generation)) else { return };
        if self.wants(&generation, object) {
            let text = format!("{object} is deleted, and version {} holds it", generation.version);
            self.violated(Invariant::Deletions, Some(site), text);
        }
    }

    fn wants(&mut self, generation: &Generation, object: &ObjectRef) -> bool {
        self.library.rendered(generation).objects.iter().any(|entry| entry.object == *object)
    }

    /// An assignment leaves the hub.
    pub(super) fn check_signed(&mut self, site: SiteNo, envelope: &[u8]) {
        let Some(assignment) = read_own(envelope) else {
            let text = "the hub hands out an assignment that cannot be read".to_owned();
            return self.violated(Invariant::Descent, Some(site), text);
        };
        let ledger = &mut self.ledgers[site];
        ledger.granted.extend(assignment.desired.iter().map(|desired| desired.generation()));
        ledger.retired.extend(assignment.retire);
        let now_ms = self.timeline.now_ms();
        self.sites[site].disturb(now_ms);
        self.stir(site);
        self.remember(site, envelope);
    }

    /// A batch arrives: nothing may be told that was not on disk first.
    pub(super) fn check_batch(&mut self, site: SiteNo, batch: &VerifiedBatch) {
        for receipt in batch.receipts() {
            let seq = receipt.receipt().receipt_seq;
            let made = self.ledgers[site].receipts.get(&seq);
            let lost = self.ledgers[site].lost.get(&seq).is_some_and(|lost| lost.contains(receipt.sha256()));
            if !lost && made.is_none_or(|(sha256, _)| sha256 != receipt.sha256()) {
                let text = format!("receipt {seq} is told and was never on the site's disk");
                return self.violated(Invariant::Durable, Some(site), text);
            }
        }
    }

    /// What storing a batch came to: nothing in these worlds forks a chain, and only a hub that was restored, or
    /// a stolen key, explains an assignment that the hub does not know.
    pub(super) fn check_taken(&mut self, site: SiteNo, taken: Option<&Taken>) {
        let Some(taken) = taken else { return };
        if let Some(code) = taken.quarantined.filter(|_| !self.may_fork(site)) {
            let text = format!("the hub quarantines it ({code})");
            self.violated(Invariant::Receipts, Some(site), text);
        }
        if taken.hub_restored && !self.hub.restored && !self.ledgers[site].robbed {
            let text = "it has an assignment that the hub never signed".to_owned();
            self.violated(Invariant::Descent, Some(site), text);
        }
    }

    /// Something of a site has reached the hub.
    pub(super) fn heard_of(&mut self, site: SiteNo) {
        self.ledgers[site].heard_ms = Some(self.timeline.now_ms());
        self.stir(site);
    }

    pub(super) fn wrote_stick(&mut self, site: SiteNo, stick: usize, upto: u64) {
        let written = self.ledgers[site].written.entry(stick).or_default();
        *written = (*written).max(upto);
    }

    pub(super) fn returned_by_stick(&mut self, site: SiteNo) {
        let ledger = &mut self.ledgers[site];
        ledger.returned = ledger.written.values().copied().max().unwrap_or(0).max(ledger.returned);
    }

    /// What the hub shows of a site is no older than its contact allows, and was so. `heard_ms` is when the hub last
    /// heard of its connection, where it believes in one.
    pub(super) fn check_shown(&mut self, site: SiteNo, heard_ms: Option<u64>, moment: &Moment) {
        let now_ms = self.timeline.now_ms();
        let here = &self.sites[site];
        let shown = sites::find(&self.hub.db, &here.id).map_err(|error| error.to_string()).and_then(|row| {
            row.map(|row| site_info(&self.hub.db, row, moment).map_err(|error| error.to_string())).transpose()
        });
        let shown = match shown {
            Ok(Some(shown)) => shown,
            Ok(None) => return,
            Err(error) => return self.violated(Invariant::Stale, Some(site), error),
        };
        let allowed_ms = match here.contact {
            ContactClass::Mqtt => HEARD_MS,
            ContactClass::Media => CARRIED_MS,
        };
        let ledger = &self.ledgers[site];
        let silent_ms = heard_ms.max(ledger.heard_ms).map(|contact_ms| now_ms - contact_ms);
        for app in shown.apps.iter().filter(|app| app.done) {
            if silent_ms.is_none_or(|silent_ms| silent_ms > allowed_ms) {
                let text = format!("{} is shown as done after {silent_ms:?} ms of silence", app.app);
                return self.violated(Invariant::Stale, Some(site), text);
            }
            let told = app.generation.map(|generation| (app.app.clone(), generation));
            if told.is_none_or(|told| !ledger.healthy.contains(&told)) {
                let text = format!("{} is shown as done and was never healthy there", app.app);
                return self.violated(Invariant::Stale, Some(site), text);
            }
        }
    }

    /// What runs at a site that was left in peace is all there, hub or no hub. Says whether it was looked at.
    pub(super) fn check_kept(&mut self, site: SiteNo) -> bool {
        let here = &self.sites[site];
        let Some(process) = here.process.as_ref().filter(|_| self.in_peace(site)) else { return false };
        let rows = process.core.rows();
        let mut kept = Vec::new();
        for row in rows.apps.values().filter(|row| row.step == AppStep::Rest) {
            let generation = row.current.and_then(|current| rows.generations.get(&current));
            kept.extend(generation.map(|row| Arc::clone(&row.generation)));
        }
        // What the disk has lost is put right when somebody brings it again.
        kept.retain(|generation: &Arc<Generation>| here.content.is_good(&generation.bundle));
        for generation in kept {
            if let Some(wrong) = self.difference(site, &generation) {
                let text = format!("{} {} is not kept: {wrong}", generation.app, generation.version);
                self.violated(Invariant::Upkeep, Some(site), text);
                return true;
            }
        }
        if let Some(bystander) = self.missing_bystander(site) {
            let text = format!("{bystander} is gone, which is none of ours");
            self.violated(Invariant::Deletions, Some(site), text);
        }
        true
    }

    /// The first object of a generation that is not in the cluster as it was rendered.
    fn difference(&mut self, site: SiteNo, generation: &Generation) -> Option<String> {
        let rendered = self.library.rendered(generation);
        for (entry, body) in rendered.objects.iter().zip(&rendered.bodies) {
            match self.sites[site].cluster.body(&entry.object) {
                None => return Some(format!("{} is not there", entry.object)),
                Some(live) if !holds(live, body) => return Some(format!("{} differs", entry.object)),
                Some(_) => {}
            }
        }
        None
    }

    /// An expectation's moment has come.
    pub(super) fn check_expected(&mut self, expectation: &Expectation) {
        for site in self.selected(&expectation.sites) {
            if let Some(text) = self.unmet(site, expectation) {
                self.violated(Invariant::Expectation, Some(site), text);
            }
        }
    }

    fn unmet(&mut self, site: SiteNo, expectation: &Expectation) -> Option<String> {
        let app = &expectation.app;
        let rows = at_once(self.sites[site].disk.durable.load()).ok()?;
        let row = rows.apps.get(app).map(Arc::as_ref);
        let Some(version) = &expectation.running else {
            return row.map(|row| format!("{app} is {} and should not be there", row.state.word()));
        };
        let current =
            row.and_then(|row| rows.generations.get(&row.current?)).map(|row| Arc::clone(&row.generation));
        let (Some(row), Some(current)) = (row, current) else {
            return Some(format!("{app} {version} should run: {}", standing(row)));
        };
        if current.version != *version || !matches!(row.state, AppState::Healthy) {
            return Some(format!(
                "{app} {version} should run, it has {}: {}",
                current.version,
                standing(Some(row))
            ));
        }
        if let Some(failed) = &expectation.failed {
            let is_failed = rows.generations.values().any(|row| {
                row.generation.app == *app
                    && row.generation.version == *failed
                    && row.verdict == GenerationVerdict::Failed
            });
            if !is_failed {
                return Some(format!("{app} {failed} should have failed there"));
            }
        }
        if let Some(wrong) = self.difference(site, &current) {
            return Some(format!("{app} {version} should run: {wrong}"));
        }
        (expectation.known && !self.shows(site, app, version))
            .then(|| format!("the hub does not show {app} {version} as running there"))
    }

    fn shows(&self, site: SiteNo, app: &AppName, version: &airlift_bundles::ids::Version) -> bool {
        let apps =
            airlift_hub::db::rows::status::apps(&self.hub.db, &self.sites[site].id).unwrap_or_default();
        apps.get(app).is_some_and(|shown| shown.version.as_ref() == Some(version))
    }

    /// At the end: every receipt that had time to arrive has arrived, and every site that has power has an agent.
    pub(super) fn check_end(&mut self) {
        let now_ms = self.timeline.now_ms();
        for site in 0..self.sites.len() {
            if self.hub.revoked.contains(&site) {
                continue;
            }
            let here = &self.sites[site];
            if here.node.powered && here.troubles == 0 && here.process.is_none() {
                self.violated(Invariant::Restarts, Some(site), "no agent runs".into());
                continue;
            }
            if self.may_fork(site) {
                self.check_forks(site);
                continue;
            }
            let here = &self.sites[site];
            let connected = here.link.session.is_some() && self.hub.up;
            let meta = here.process.as_ref().and_then(|process| process.core.rows().meta.as_ref());
            let ledger = &self.ledgers[site];
            // What the hub's lost disk had acknowledged, and the site let go since, is nowhere any more.
            let kept_from = meta.filter(|_| ledger.lost_upto > 0).map_or(0, |meta| meta.receipt_first);
            let acked_next = meta.map_or(0, |meta| meta.receipt_acked_next);
            let due = |seq: u64, made_ms: u64| match here.contact {
                ContactClass::Mqtt => connected && made_ms + SENT_MS <= now_ms && seq >= kept_from,
                // What the lost disk held comes again with a later round, if there is one.
                ContactClass::Media => seq <= ledger.returned && seq > ledger.lost_upto,
            };
            let lost = ledger
                .receipts
                .iter()
                .find(|(seq, (sha256, made_ms))| due(**seq, *made_ms) && !self.is_held(site, **seq, sha256));
            if let Some((seq, _)) = lost {
                let text = format!("receipt {seq} has not reached the hub");
                self.violated(Invariant::Receipts, Some(site), text);
                continue;
            }
            let unacked = ledger.receipts.range(acked_next..).next();
            if let Some((seq, (_, made_ms))) = unacked
                && connected
                && made_ms + SENT_MS <= now_ms
            {
                let text = format!("receipt {seq} is held by the hub, and the site is never told");
                self.violated(Invariant::Receipts, Some(site), text);
            }
        }
    }
}

fn standing(row: Option<&AppRow>) -> String {
    row.map_or_else(|| "nothing is known of it".into(), |row| format!("{} {}", row.state.word(), row.reason))
}

/// Whether everything of `wanted` is in `live`.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| holds(live, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| holds(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}
