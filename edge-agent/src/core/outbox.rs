//! What the site says: the chain of signed receipts, its status, and the batches in which they travel.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::ReceiptMark;
use airlift_bundles::document::receipt::{Counts, Evidence, Outcome, Receipt, ReleaseMark, RootMark};
use airlift_bundles::document::status::{self, AppState, SiteStatus, StatusBatch, Waiting};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, RandomId};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;

use super::object::{Generation, GenerationId};
use super::write::{MetaRow, OutboxRow, ReceiptRow};
use super::{Core, Effect, Turn, Write};

/// The key of the status row.
pub const STATUS: &str = "status";
/// Acknowledged receipts that stay for `history`.
const HISTORY: u64 = 200;
/// A change of status is sent after this, so that one act makes one status.
const STATUS_MS: u64 = 500;
/// How far work is goes to the hub this often: once a minute costs a thin link a kilobyte.
const PROGRESS_MS: u64 = 60_000;
/// What nobody acknowledged is sent again after this, doubled each time.
const RESEND_MS: u64 = 60_000;
/// And at the latest after this: a hub that holds another chain never acknowledges, and a thin link is paid for.
const RESEND_MS_MAX: u64 = 3_600_000;
/// Rows that a disk may have lost; a number further ahead is no word of a hub that knows this site.
const LOST_ROWS_MAX: u64 = 1 << 20;

/// What a receipt is to say; all else it knows by itself.
pub(super) struct Told {
    pub app: Option<AppName>,
    pub generation: Option<GenerationId>,
    pub outcome: Outcome,
    pub code: Option<Code>,
    pub counts: Counts,
    pub evidence: Vec<Evidence>,
}

impl Told {
    pub(super) fn of(app: &AppName, generation: Option<GenerationId>, outcome: Outcome) -> Self {
        Self { app: Some(app.clone()), generation, ..Self::site(outcome) }
    }

    pub(super) fn site(outcome: Outcome) -> Self {
        let (counts, evidence) = (Counts::default(), Vec::new());
        Self { app: None, generation: None, outcome, code: None, counts, evidence }
    }
}

/// How many of `receipts` fit one batch, and whether the status does beside them.
#[must_use]
pub fn rows_of_batch(receipts: &[ReceiptRow], status: Option<&OutboxRow>) -> (usize, bool) {
    const ROWS_MAX: usize = 200;
    const BYTES_MAX: usize = 72 << 10; // base64 makes 96 KiB of it, in a message of at most 128 KiB
    let (mut bytes, mut taken) = (0, 0);
    for row in receipts.iter().take(ROWS_MAX) {
        bytes += row.envelope.len();
        if bytes > BYTES_MAX && taken > 0 {
            break;
        }
        taken += 1;
    }
    (taken, status.is_some_and(|row| bytes + row.payload.len() <= BYTES_MAX || taken == 0))
}

/// Signs outbox rows as one batch, ready for `u/s`.
///
/// Receipts carry their own signatures; the batch's covers the status. Rows that do not fit 100 KiB are left for
/// the next batch: the answer says how many of `receipts` were taken, and whether the status was.
#[must_use]
pub fn seal_batch(
    key: &SecretKey,
    meta: &MetaRow,
    receipts: &[ReceiptRow],
    status: Option<&OutboxRow>,
) -> (Vec<u8>, usize, bool) {
    let mut rows = Vec::new();
    let (taken, told) = rows_of_batch(receipts, status);
    for row in &receipts[..taken] {
        let receipt = serde_json::from_slice(&row.envelope).ok();
        rows.push(status::OutboxRow { seq: row.outbox_seq, receipt, status: None });
    }
    if let Some(row) = status.filter(|_| told) {
        let status = serde_json::from_slice(&row.payload).ok();
        rows.push(status::OutboxRow { seq: row.seq, receipt: None, status });
    }
    rows.sort_by_key(|row| row.seq);
    let batch = StatusBatch {
        fleet_id: meta.fleet.clone(),
        site: meta.site.clone(),
        incarnation: meta.incarnation,
        outbox_epoch: meta.outbox_epoch.clone(),
        rows,
        crit: vec![],
    };
    (Envelope::signed(&batch, key).to_json(), taken, told)
}

impl Core {
    /// Appends a receipt to the chain, signed.
    pub(super) fn receipt(&mut self, t: &mut Turn, told: Told) {
        let release = self.generation(told.generation).map(|generation| mark(&generation));
        let receipt = Receipt {
            fleet_id: self.meta.fleet.clone(),
            site: self.meta.site.clone(),
            incarnation: self.meta.incarnation,
            chain_id: self.meta.chain_id.clone(),
            receipt_seq: self.meta.receipt_next,
            prev_sha256: self.meta.receipt_head,
            root: RootMark { version: self.root.version, sha256: self.root.digest() },
            assignment: self.assignment_counter(),
            app: told.app,
            release,
            generation: told.generation,
            outcome: told.outcome,
            reason: told.code,
            counts: told.counts,
            evidence: Evidence::bounded(told.evidence, &Limits::DEFAULT),
            known_time: self.time(t.now),
            clock_quality: t.now.quality,
            crit: vec![],
        };
        let envelope = Envelope::signed(&receipt, &self.start.key);
        let (sha256, seq, outbox_seq) = (envelope.digest(), self.meta.receipt_next, self.meta.outbox_next);
        let row = ReceiptRow {
            chain_id: self.meta.chain_id.clone(),
            seq,
            outbox_seq,
            sha256,
            envelope: envelope.to_json().into(),
            acked: false,
        };
        self.write(t, Write::AppendReceipt(row));
        self.change_meta(t, |meta| {
            meta.receipt_next = seq + 1;
            meta.receipt_head = Some(sha256);
            meta.outbox_next = outbox_seq + 1;
        });
    }

    pub(super) fn receipt_enrolled(&mut self, t: &mut Turn) {
        self.receipt(t, Told::site(Outcome::Enrolled));
    }

    /// Something that must not happen was seen.
    pub(super) fn receipt_alarm(&mut self, t: &mut Turn, code: Code, reason: &str) {
        let seen = Evidence {
            object: "agent".to_owned(),
            reason: code.id().to_owned(),
            message: reason.chars().take(1024).collect(),
        };
        self.receipt(t, Told { code: Some(code), evidence: vec![seen], ..Told::site(Outcome::Alarm) });
    }

    /// The hub holds receipts up to a mark: they are freed where the digest is ours.
    pub(super) fn free_receipts(&mut self, t: &mut Turn, acked: &ReceiptMark) -> Result<(), (Code, String)> {
        if acked.chain_id != self.meta.chain_id || acked.upto < self.meta.receipt_acked_next {
            return Ok(());
        }
        if self.rows.receipts.get(&acked.upto) != Some(&acked.sha256) {
            if self.live.contradicted.as_ref() == Some(acked) {
                return Ok(());
            }
            self.live.contradicted = Some(acked.clone());
            let reason =
                format!("the hub acknowledged receipt {} as {}, which is not ours", acked.upto, acked.sha256);
            return Err((Code::ChainForked, reason));
        }
        let (chain_id, upto) = (self.meta.chain_id.clone(), acked.upto);
        self.write(t, Write::ReceiptAcked { chain_id: chain_id.clone(), upto });
        let below = (upto + 1).saturating_sub(HISTORY).max(self.meta.receipt_first);
        if below > self.meta.receipt_first {
            self.write(t, Write::DropReceipts { chain_id, below });
        }
        self.change_meta(t, |meta| (meta.receipt_acked_next, meta.receipt_first) = (upto + 1, below));
        let link = &mut self.live.link;
        link.sent_next = link.sent_next.max(upto + 1);
        // Something arrives, so what is missing was lost on the way and has its time again. Where nothing is missing,
        // `flush_outbox` sees that.
        (link.resend_at, link.resends) = (Some(t.now.mono_ms + RESEND_MS), 0);
        Ok(())
    }

    /// A hub that holds less than it once acknowledged was restored from a backup: what is still here is sent again,
    /// once over each connection.
    pub(super) fn send_lost_again(&mut self, held: Option<&ReceiptMark>) {
        if let Some(from) = self.lost_from(held)
            && !std::mem::replace(&mut self.live.link.lost_sent, true)
        {
            self.live.link.sent_next = from;
        }
    }

    /// The first receipt that is here, was acknowledged, and is not held by the hub.
    pub(super) fn lost_from(&self, held: Option<&ReceiptMark>) -> Option<u64> {
        if held.is_some_and(|held| held.chain_id != self.meta.chain_id) {
            return None;
        }
        let next = held.map_or(1, |held| held.upto + 1);
        (next < self.meta.receipt_acked_next).then(|| next.max(self.meta.receipt_first))
    }

    /// The hub holds outbox rows up to a number.
    pub(super) fn free_status(&mut self, t: &mut Turn, upto: u64) {
        if self.rows.outbox.get(STATUS).is_some_and(|row| row.seq <= upto) {
            self.write(t, Write::DropOutbox(STATUS.to_owned()));
            self.live.link.resends = 0;
        }
        self.go_beyond(t, upto);
    }

    /// The hub holds more than this database remembers to have sent: the disk has lost commits. What bears a number
    /// that the hub has seen would be taken for known, so the next number is one that it has not.
    fn go_beyond(&mut self, t: &mut Turn, upto: u64) {
        let ahead = upto.checked_sub(self.meta.outbox_next).is_some_and(|ahead| ahead <= LOST_ROWS_MAX);
        if ahead {
            self.change_meta(t, |meta| meta.outbox_next = upto + 1);
            (self.live.told, self.live.status_dirty) = (None, true);
        }
    }

    /// Sends what is new, and again what nobody acknowledged for long.
    pub(super) fn flush_outbox(&mut self, t: &mut Turn) {
        let Some(conn) = self.live.link.conn else { return };
        let now_ms = t.now.mono_ms;
        self.answer_roll_call(t, conn);
        if self.live.link.resend_at.is_some_and(|at| at <= now_ms) {
            self.live.link.sent_next = self.meta.receipt_acked_next;
            self.live.link.status_sent = 0;
            self.live.link.resend_at = None;
            self.live.link.resends = self.live.link.resends.saturating_add(1);
        }
        if self.live.status_dirty && self.live.link.status_at <= now_ms {
            self.renew_status(t);
        }
        let from = self.live.link.sent_next;
        let upto = self.meta.receipt_next - 1;
        let status_seq = self.rows.outbox.get(STATUS).map_or(0, |row| row.seq);
        let status = status_seq > self.live.link.status_sent;
        if from <= upto || status {
            let chain_id = self.meta.chain_id.clone();
            t.effect(Effect::Send { conn, chain_id, from, upto, status });
            let link = &mut self.live.link;
            (link.sent_next, link.status_sent) = (upto + 1, status_seq.max(link.status_sent));
            link.resend_at = Some(now_ms + (RESEND_MS << link.resends.min(16)).min(RESEND_MS_MAX));
            #[cfg(feature = "mutations")]
            self.forget_early(t, upto);
        }
        let unacked =
            self.meta.receipt_acked_next < self.meta.receipt_next || self.rows.outbox.contains_key(STATUS);
        if !unacked {
            self.live.link.resend_at = None;
        }
    }

    /// Takes what was sent for acknowledged.
    #[cfg(feature = "mutations")]
    fn forget_early(&mut self, t: &mut Turn, upto: u64) {
        let sha256 = self.rows.receipts.get(&upto).copied();
        if let Some(sha256) = sha256
            && crate::mutation::is(crate::mutation::Mutation::EarlyForgetting)
        {
            let mark = ReceiptMark { chain_id: self.meta.chain_id.clone(), upto, sha256 };
            drop(self.free_receipts(t, &mark));
        }
    }

    pub(super) fn outbox_deadline(&self) -> Option<u64> {
        self.live.link.conn?;
        let status_at = self.live.status_dirty.then_some(self.live.link.status_at);
        let link = &self.live.link;
        status_at.into_iter().chain(link.resend_at).chain(link.answer_at).min()
    }

    /// Writes the status row anew where it says something else than the last one that was sent.
    pub(super) fn renew_status(&mut self, t: &mut Turn) {
        self.live.status_dirty = false;
        self.live.link.status_at = t.now.mono_ms + STATUS_MS;
        let status = self.site_status(t);
        if self.live.link.status_sent != 0
            && let Some((told, at_ms)) = &self.live.told
        {
            let slow = t.now.mono_ms < at_ms + PROGRESS_MS || steady(told) == steady(&status);
            if slow && timeless(told) == timeless(&status) {
                return;
            }
        }
        self.live.told = Some((status.clone(), t.now.mono_ms));
        let payload: Arc<[u8]> = serde_json::to_vec(&status).unwrap_or_default().into();
        let seq = self.meta.outbox_next;
        self.write(t, Write::PutOutbox(OutboxRow { key: STATUS.to_owned(), seq, payload }));
        self.change_meta(t, |meta| meta.outbox_next = seq + 1);
    }

    fn site_status(&self, t: &Turn) -> SiteStatus {
        let told = |app: &AppName| Some((app.clone(), Box::new(self.app_status(t.now, app)?)));
        let apps = self.rows.apps.keys().filter_map(told);
        let refusals = self.rows.refusals.values().fold(BTreeMap::new(), |mut counted, row| {
            *counted.entry(row.code.id().to_owned()).or_insert(0) += row.count;
            counted
        });
        SiteStatus {
            agent_version: self.start.version.clone(),
            root: RootMark { version: self.root.version, sha256: self.root.digest() },
            assignment: self.assignment_counter(),
            parked: self.parked_counter(),
            boot: RandomId::from_bytes(t.now.boot.0),
            apps: apps.collect(),
            nodes: self.live.nodes.clone(),
            cluster_up: self.live.api_up,
            disk_free_bytes: self.live.disk_free_bytes,
            refusals,
            known_time: self.time(t.now),
            clock_quality: t.now.quality,
        }
    }
}

pub(super) fn mark(generation: &Generation) -> ReleaseMark {
    ReleaseMark {
        sha256: generation.release,
        epoch: generation.counter.epoch,
        seq: generation.counter.seq,
        version: generation.version.clone(),
    }
}

/// A status without what the passing of time changes.
fn steady(status: &SiteStatus) -> SiteStatus {
    let mut status = status.clone();
    status.known_time = airlift_bundles::ids::Timestamp::from_unix_s(0);
    status.disk_free_bytes = None;
    status
}

/// A status without what changes by itself while work goes on: none of it alone is worth a message at once.
fn timeless(status: &SiteStatus) -> SiteStatus {
    let mut status = steady(status);
    for app in status.apps.values_mut() {
        (app.progress, app.bytes_per_s, app.objects, app.clock) = (None, None, None, None);
        if app.state == AppState::Settling {
            app.evidence.clear();
        }
        if let Some(Waiting::Pause { left_s } | Waiting::RetireDelay { left_s }) = &mut app.waits {
            *left_s = 0;
        }
    }
    status
}
