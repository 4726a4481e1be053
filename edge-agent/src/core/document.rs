//! Documents as they arrive: roots are walked, releases kept, acks obeyed; what is refused is counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::accept::open_release;
use airlift_bundles::code::Code;
use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::root::Root;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Sha256Digest, Timestamp};
use airlift_bundles::limits::Limits;

use super::effect::WantedDocument;
use super::event::{Carrier, DocumentKind};
use super::write::{AppRow, DocumentRow, RefusalRow, RootRow};
use super::{Core, Effect, Turn, Write};

/// Releases that nothing names are kept up to this count, because media may bring them before the assignment.
const SPARE_RELEASES: usize = 64;
/// Missing documents are asked for again after this, doubled each time that nobody has them.
const WANT_MS: u64 = 10_000;
/// And at the latest after this: a document that is published later is here within minutes, and what nobody has costs
/// a thin link less than 20 KB a day.
const WANT_MS_MAX: u64 = 600_000;
/// Requests for the same documents without an answer, over more than two minutes.
pub(super) const ASKED_LONG: u32 = 4;

impl Core {
    pub(super) fn on_document(
        &mut self,
        t: &mut Turn,
        expected: DocumentKind,
        carrier: &Carrier,
        bytes: &[u8],
    ) {
        let taken = match expected {
            DocumentKind::Root => self.take_root(t, bytes),
            DocumentKind::Release => self.take_release(t, bytes),
            DocumentKind::Assignment => self.take_assignment(t, bytes),
            DocumentKind::Ack => self.take_ack(t, bytes),
            // Commands of the hub are a later capability: none is known, so none is obeyed.
            DocumentKind::Command => Err((Code::UnknownCritical, "commands are not known".to_owned())),
        };
        if let Err((code, reason)) = taken {
            self.count_refusal(t, code, carrier, reason);
            // An ack answers a status: a status about its refusal would be answered by the next, without end.
            self.live.status_dirty |= expected != DocumentKind::Ack;
        }
    }

    /// Walks to the next root; one that is known already changes nothing.
    fn take_root(&mut self, t: &mut Turn, bytes: &[u8]) -> Result<(), (Code, String)> {
        let limits = &Limits::DEFAULT;
        let envelope = Envelope::parse(bytes, limits).map_err(|error| (error.code(), error.to_string()))?;
        let digest = envelope.digest();
        if self.rows.roots.values().any(|row| row.sha256 == digest) {
            return Ok(());
        }
        // A later version than the next is no fault: the ones between come first, from the same carrier.
        if let Ok(root) = envelope.read_unverified::<Root>(limits)
            && root.fleet_id == self.meta.fleet
            && root.version > self.root.version + 1
        {
            self.live.root_hint = self.live.root_hint.max(root.version.min(self.root.version + 64));
            return Ok(());
        }
        let next = self.root.advance(bytes, limits).map_err(|error| (error.code(), error.to_string()))?;
        let row = RootRow { version: next.version, sha256: next.digest(), envelope: bytes.into() };
        self.write(t, Write::PutRoot(row));
        self.raise_time(t, next.issued_at);
        self.root = next;
        self.live.status_dirty = true;
        self.introduce(t);
        self.obey_revocations(t);
        self.retry_parked(t);
        Ok(())
    }

    fn take_release(&mut self, t: &mut Turn, bytes: &[u8]) -> Result<(), (Code, String)> {
        let statement = open_release(bytes, &self.root, &Limits::DEFAULT)
            .map_err(|refusal| (refusal.code, refusal.detail))?;
        let sha256 = statement.digest();
        // The same release under newer signatures takes the place of one whose keys count for nothing any more.
        if self.usable_release(&sha256).is_some() {
            return Ok(());
        }
        if statement.document().predicate.fleet_id != self.meta.fleet {
            return Err((Code::OtherFleet, format!("release {sha256} is of another fleet")));
        }
        let named = self.named_releases();
        let spare = self.rows.documents.keys().filter(|sha256| !named.contains(sha256)).count();
        if spare >= SPARE_RELEASES && !named.contains(&sha256) {
            return Err((Code::TooLarge, format!("{spare} releases are kept that nothing names")));
        }
        self.releases.insert(sha256, Arc::new(statement.document().clone()));
        self.write(t, Write::PutDocument(DocumentRow { sha256, envelope: bytes.into() }));
        self.retry_parked(t);
        Ok(())
    }

    fn take_ack(&mut self, t: &mut Turn, bytes: &[u8]) -> Result<(), (Code, String)> {
        let ack = self
            .root
            .open_directed::<Ack>(bytes, &Limits::DEFAULT)
            .map_err(|error| (error.code(), error.to_string()))?;
        let ack = ack.document();
        if (&ack.fleet_id, &ack.site) != (&self.meta.fleet, &self.meta.site) {
            return Err((Code::OtherSite, format!("ack is for site {}", ack.site)));
        }
        if ack.incarnation != self.meta.incarnation || ack.outbox_epoch != self.meta.outbox_epoch {
            return Err((Code::OtherIncarnation, "ack is for another database of this site".to_owned()));
        }
        self.free_status(t, ack.upto);
        if self.live.link.status_sent > 0 && ack.upto >= self.live.link.status_sent {
            self.send_lost_again(ack.receipts.as_ref());
        }
        ack.receipts.as_ref().map_or(Ok(()), |mark| self.free_receipts(t, mark))
    }

    /// Raises the floor of time to what a verified document proves.
    pub(super) fn raise_time(&mut self, t: &mut Turn, issued_at: Timestamp) {
        let now_ms = t.now.mono_ms;
        if issued_at > self.meta.time_floor {
            self.live.began_ms = now_ms;
            self.change_meta(t, |meta| meta.time_floor = issued_at);
        }
    }

    fn count_refusal(&mut self, t: &mut Turn, code: Code, carrier: &Carrier, last: String) {
        let carrier = match carrier {
            Carrier::Hub => "hub",
            Carrier::Media(_) => "media",
            Carrier::Local => "local",
        };
        let key = (code, carrier.to_owned());
        let count = self.rows.refusals.get(&key).map_or(0, |row| row.count) + 1;
        let last = last.chars().take(512).collect();
        self.write(t, Write::PutRefusal(RefusalRow { code, carrier: key.1, count, last }));
    }

    pub(super) fn on_root_hint(&mut self, t: &mut Turn, version: u64) {
        self.live.root_hint = self.live.root_hint.max(version);
        self.live.documents_due = t.now.mono_ms;
    }

    pub(super) fn on_assignment_hint(&mut self, t: &mut Turn, sha256: Sha256Digest) {
        let known = self.rows.assignments.values().any(|row| row.sha256 == sha256);
        self.live.assignment_hint = (!known).then_some(sha256);
        self.live.documents_due = t.now.mono_ms;
    }

    /// What is missing: the next root, the hinted assignment, releases of the parked one.
    fn missing_documents(&self) -> BTreeSet<WantedDocument> {
        let mut missing = BTreeSet::new();
        let next = self.root.version + 1;
        if self.live.root_hint >= next {
            missing.insert(WantedDocument::Root(next));
        }
        missing.extend(self.live.assignment_hint.map(WantedDocument::Assignment));
        missing.extend(self.live.missing_releases.iter().copied().map(WantedDocument::Release));
        missing
    }

    /// Asks for missing documents: at once when the set changes, then less and less often while somebody may answer.
    pub(super) fn request_documents(&mut self, t: &mut Turn) {
        let missing = self.missing_documents();
        let open = self.live.link.conn.is_some() || !self.live.media.is_empty();
        if missing.is_empty() || !open {
            self.live.wanted.clear();
            return;
        }
        let news = missing != self.live.wanted;
        if news || self.live.documents_due <= t.now.mono_ms {
            self.live.asked = if news { 0 } else { self.live.asked.saturating_add(1) };
            if self.live.asked == ASKED_LONG && !self.live.missing_releases.is_empty() {
                // The hub may have another assignment, which was kept out by the one that waits.
                self.introduce(t);
            }
            self.live.wanted.clone_from(&missing);
            let pause_ms = (WANT_MS << self.live.asked.min(10)).min(WANT_MS_MAX);
            self.live.documents_due = t.now.mono_ms + pause_ms;
            t.effect(Effect::Want(missing));
        }
    }

    pub(super) fn documents_deadline(&self) -> Option<u64> {
        (!self.live.wanted.is_empty()).then_some(self.live.documents_due)
    }

    /// A release that is here and may be begun with: the newest root still knows who signed it, or it runs.
    pub(super) fn usable_release(&self, sha256: &Sha256Digest) -> Option<&DocumentRow> {
        let row = self.rows.documents.get(sha256)?;
        let runs = |row: &AppRow| {
            let generation = row.current.or(row.planned).and_then(|id| self.rows.generations.get(&id));
            generation.is_some_and(|row| row.generation.release == *sha256)
        };
        let usable = self.rows.apps.values().any(|row| runs(row))
            || open_release(&row.envelope, &self.root, &Limits::DEFAULT).is_ok();
        usable.then_some(row)
    }

    /// Releases that an assignment or a kept generation names.
    pub(super) fn named_releases(&self) -> BTreeSet<Sha256Digest> {
        let generations = self.rows.generations.values().map(|row| row.generation.release);
        generations.chain(self.assigned_releases()).collect()
    }

    /// Drops releases that nothing names, but for the spare ones.
    pub(super) fn drop_documents(&mut self, t: &mut Turn) {
        let named = self.named_releases();
        let spare: Vec<Sha256Digest> =
            self.rows.documents.keys().filter(|sha256| !named.contains(sha256)).copied().collect();
        for sha256 in spare.into_iter().skip(SPARE_RELEASES / 2) {
            self.releases.remove(&sha256);
            self.write(t, Write::DropDocument(sha256));
        }
    }
}
