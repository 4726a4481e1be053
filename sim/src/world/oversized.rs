//! Documents beyond the limits, signed by whoever may sign them, and the checker that looks at what was accepted: its
//! sizes, depths and counts, as they reach the disk.

use airlift_agent::core::Event;
use airlift_agent::core::event::{Carrier, DocumentKind};
use airlift_agent::core::outbox::STATUS;
use airlift_agent::core::write::Write;
use airlift_agent::ports::Store as _;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::Root;
use airlift_bundles::document::status::{OutboxRow, StatusBatch};
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::RandomId;
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use airlift_hub::collect::verify::verify_batch;
use airlift_hub::db::rows::sites;
use serde_json::{Value, json};

use super::World;
use super::happening::{Happening, SiteNo};
use super::library::at_once;
use super::trust::key;
use crate::invariants::Invariant;

const LIMITS: Limits = Limits::DEFAULT;
/// A receipt with as much evidence as there may be, in base64, and as much again.
const RECEIPT_MAX: usize = 4 * LIMITS.evidence_bytes;
/// Bytes of words for people in one row.
const WORDS_MAX: usize = 4 << 10;
/// Releases that a site keeps beside those that something names, and those that two full assignments name.
const DOCUMENTS_MAX: usize = 64 + 2 * LIMITS.desired;

/// How a document is beyond the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    Bytes,
    Depth,
    Signatures,
    Entries,
    Deep,
}

const EXCESSES: [Excess; 5] =
    [Excess::Bytes, Excess::Depth, Excess::Signatures, Excess::Entries, Excess::Deep];

impl World {
    /// Hands a site an order that is good but for its size, because a thief has the director's key; or the hub a batch
    /// of the same kind, because he has the site's.
    pub(super) fn offer_oversized(&mut self, site: SiteNo) {
        let Some(excess) = self.random.pick(&EXCESSES).copied() else { return };
        if self.random.chance(300) {
            return self.offer_hub(site, excess);
        }
        let Some(mut order) = self.last_order(site) else { return };
        order.assignment_seq += 1;
        let bytes = oversized(&order, excess, &self.trust.director());
        let life = self.sites[site].life;
        let event = Event::Document { expected: DocumentKind::Assignment, carrier: Carrier::Hub, bytes };
        self.timeline.after(1, Happening::Tell(site, life, Box::new(event)));
    }

    fn offer_hub(&mut self, site: SiteNo, excess: Excess) {
        let here = &self.sites[site];
        let Some(status) = at_once(here.disk.durable.outbox(STATUS)).ok().flatten() else { return };
        let batch = StatusBatch {
            fleet_id: self.hub.fleet().clone(),
            site: here.id.clone(),
            incarnation: 1,
            outbox_epoch: RandomId::from_bytes([7; 16]),
            rows: vec![OutboxRow {
                seq: 1,
                receipt: None,
                status: serde_json::from_slice(&status.payload).ok(),
            }],
            crit: Vec::new(),
        };
        let bytes = oversized(&batch, excess, &here.key);
        let keys = sites::keys(&self.hub.db, &here.id).unwrap_or_default();
        if verify_batch(&bytes, self.hub.fleet(), &here.id, &keys).is_ok() {
            let text = format!("the hub takes a batch with too much in it ({excess:?})");
            self.violated(Invariant::Limits, Some(site), text);
        }
    }

    /// The order that the hub last gave to a site.
    fn last_order(&self, site: SiteNo) -> Option<Assignment> {
        let (_, envelope) = self.remembered.iter().rev().find(|(of, _)| *of == site)?;
        Envelope::parse(envelope, &LIMITS).ok()?.read_unverified(&LIMITS).ok()
    }

    /// What reaches a disk is within the limits, whoever signed it.
    pub(super) fn check_sizes(&mut self, site: SiteNo, write: &Write) {
        let beyond = match write {
            Write::PutRoot(row) => excess_of::<Root>(&row.envelope),
            Write::PutDocument(row) => excess_of::<Statement>(&row.envelope),
            Write::PutAssignment(row) => excess_of::<Assignment>(&row.envelope),
            Write::AppendReceipt(row) if row.envelope.len() > RECEIPT_MAX => {
                Some(format!("a receipt of {} bytes", row.envelope.len()))
            }
            Write::PutApp(row) => excess_of_words(&row.reason, &row.evidence),
            Write::PutRefusal(row) => excess_of_words(&row.last, &[]),
            _ => None,
        };
        if let Some(beyond) = beyond {
            self.violated(Invariant::Limits, Some(site), format!("on its disk is {beyond}"));
        }
    }

    /// What a site keeps is no more than a few of each.
    pub(super) fn check_counts(&mut self, site: SiteNo) {
        let Some(process) = &self.sites[site].process else { return };
        let documents = process.core.rows().documents.len();
        if documents > DOCUMENTS_MAX {
            let text = format!("it keeps {documents} releases");
            self.violated(Invariant::Limits, Some(site), text);
        }
    }
}

/// An envelope that no reader may read at full length, though its signature is good.
fn oversized<D: Document>(document: &D, excess: Excess, signer: &SecretKey) -> Vec<u8> {
    let mut payload = serde_json::to_value(document).unwrap_or_default();
    match excess {
        Excess::Bytes => payload["padding"] = "x".repeat(LIMITS.document_bytes).into(),
        Excess::Depth => payload["padding"] = nested(LIMITS.json_depth + 1),
        // Deep enough for a reader's stack, were it to descend.
        Excess::Deep => payload["padding"] = nested(100),
        Excess::Entries => match payload.pointer("/rows/0").cloned() {
            Some(row) => {
                let numbered = (1..=LIMITS.desired as u64 + 1).map(|number| {
                    let mut row = row.clone();
                    row["seq"] = number.into();
                    row
                });
                payload["rows"] = numbered.collect::<Vec<_>>().into();
            }
            None => {
                let retired = (0..=LIMITS.desired).map(|number| format!("app-{number:05}"));
                payload["retire"] = retired.collect::<Vec<_>>().into();
            }
        },
        Excess::Signatures => {}
    }
    let mut envelope = Envelope::around(D::PAYLOAD_TYPE, serde_json::to_vec(&payload).unwrap_or_default());
    envelope.sign(signer);
    if excess == Excess::Signatures {
        (100..=150).for_each(|seed| envelope.sign(&key(seed)));
    }
    envelope.to_json()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(0), |inner, _| json!([inner]))
}

/// How an envelope on disk is beyond what its own reader takes.
fn excess_of<D: Document>(envelope: &[u8]) -> Option<String> {
    let (found, limit) = (envelope.len(), LIMITS.document_bytes);
    if found > limit {
        return Some(format!("a document of {found} bytes, at most {limit}"));
    }
    let read = Envelope::parse(envelope, &LIMITS).and_then(|envelope| envelope.read_unverified::<D>(&LIMITS));
    read.err().map(|error| format!("a document that no reader takes: {error}"))
}

fn excess_of_words(words: &str, evidence: &[Evidence]) -> Option<String> {
    let told = |seen: &Evidence| seen.object.len() + seen.reason.len() + seen.message.len();
    let (found, limit) = (evidence.iter().map(told).sum::<usize>(), LIMITS.evidence_bytes);
    if found > limit {
        return Some(format!("evidence of {found} bytes, at most {limit}"));
    }
    let (found, limit) = (words.len(), WORDS_MAX);
    (found > limit).then(|| format!("a reason of {found} bytes, at most {limit}"))
}

#[cfg(test)]
mod tests {
    use airlift_bundles::ids::{FleetId, SiteId, Timestamp};

    use super::*;

    #[test]
    fn every_excess_is_seen_on_disk_and_nothing_else() {
        let order = Assignment {
            fleet_id: FleetId::new("sim").unwrap(),
            site: SiteId::new("site").unwrap(),
            incarnation: 1,
            epoch: 0,
            assignment_seq: 1,
            hub_incarnation: RandomId::from_bytes([1; 16]),
            desired: Vec::new(),
            retire: Vec::new(),
            receipts_acked: None,
            offers: Vec::new(),
            issued_at: Timestamp::from_unix_s(0),
            stale_after_s: None,
            crit: Vec::new(),
        };
        let mut good = Envelope::draft(&order);
        good.sign(&key(21));
        assert_eq!(excess_of::<Assignment>(&good.to_json()), None);
        for excess in EXCESSES {
            assert!(excess_of::<Assignment>(&oversized(&order, excess, &key(21))).is_some(), "{excess:?}");
        }
        let seen =
            |bytes| Evidence { object: "x".repeat(bytes), reason: String::new(), message: String::new() };
        assert_eq!(excess_of_words("why", &[seen(LIMITS.evidence_bytes)]), None);
        assert!(excess_of_words("why", &[seen(LIMITS.evidence_bytes), seen(1)]).is_some());
        assert!(excess_of_words(&"x".repeat(WORDS_MAX + 1), &[]).is_some());
    }
}
