//! The way between a site and the hub: late, out of order, twice, or gone in the middle of a word.
//!
//! Every connection begins with a lost session: what was under way in the one before does not come. That is the
//! least that MQTT promises; retained assignments come with each connection.

use std::sync::Arc;

use airlift_agent::core::Event;
use airlift_agent::core::event::{Carrier, ConnId, DocumentKind};
use airlift_agent::core::outbox::{STATUS, rows_of_batch, seal_batch};
use airlift_agent::core::write::{MetaRow, OutboxRow, ReceiptRow};
use airlift_agent::ports::Store as _;
use airlift_bundles::ids::RandomId;
use airlift_bundles::keys::SecretKey;
use airlift_bundles::wire::{Conn, ConnState};
use airlift_hub::collect::verify::{VerifiedBatch, VerifyError, verify_batch};
use airlift_hub::db::rows::sites::SiteKeyRow;

use super::World;
use super::happening::{Downward, Happening, Life, Session, SiteNo, Upward};
use super::library::at_once;

/// Receipts read at once, as the agent does.
const READ_BYTES: usize = 72 << 10;
/// The hours of links are those of days since the world began.
const DAY_MS: u64 = 86_400_000;
/// Until a site notices that its connection is no more.
const NOTICED_MS: (u64, u64) = (100, 90_000);
/// Until the hub does: one and a half keep-alives.
const MISSED_MS: (u64, u64) = (100, 360_000);
/// Until an attempt without an answer is given up.
const GIVEN_UP_MS: (u64, u64) = (200, 10_000);

impl World {
    /// Whether this is the connection that stands.
    pub(super) fn is_over(&self, site: SiteNo, conn: ConnId) -> bool {
        let here = &self.sites[site];
        here.link.session.is_some() && here.process.as_ref().is_some_and(|process| process.conn == Some(conn))
    }

    /// The boot's name in presence messages.
    pub(super) fn boot_name(&self, site: SiteNo) -> RandomId {
        RandomId::from_bytes(self.sites[site].now(site, self.timeline.now_ms()).boot.0)
    }

    /// One attempt to connect.
    pub(super) fn connect(&mut self, site: SiteNo, life: Life) {
        if self.sites[site].life != life || self.sites[site].process.is_none() {
            return;
        }
        self.cut_link(site);
        let now_ms = self.timeline.now_ms();
        let here = &mut self.sites[site];
        here.link.conns += 1;
        let (number, conn) = (here.link.conns, ConnId(here.link.conns));
        if !here.link.is_open() || !self.hub.up || self.hub.revoked.contains(&site) {
            let delay_ms = self.random.between(GIVEN_UP_MS.0, GIVEN_UP_MS.1);
            let event = Event::LinkDown { conn, reason: "no answer".into() };
            return self.timeline.after(delay_ms, Happening::Tell(site, life, Box::new(event)));
        }
        (here.link.session, here.link.since_ms) = (Some(number), now_ms);
        self.hub.welcome(site, number, now_ms);
        self.count_connect();
        self.tell(site, life, Event::LinkUp { conn, session_present: false });
        let root_version = self.hub.root.version;
        self.send_down(site, Downward::State { root_version });
        if let Some(envelope) = self.hub.retained.get(&site).cloned() {
            self.send_down(site, Downward::Desired { envelope, root_version });
        }
        self.go_on_fetching(site);
    }

    /// Opens or shuts a link as its hours say, and comes back when they say otherwise.
    pub(super) fn keep_hours(&mut self, site: SiteNo) {
        let Some([from, until]) = self.sites[site].link.spec.hours else { return };
        let (from_ms, until_ms) = (from.ms(), until.ms());
        let now_ms = self.timeline.now_ms();
        let of_day_ms = now_ms % DAY_MS;
        let open = if from_ms <= until_ms {
            (from_ms..until_ms).contains(&of_day_ms)
        } else {
            !(until_ms..from_ms).contains(&of_day_ms)
        };
        self.sites[site].link.shut = !open;
        self.sites[site].disturb(now_ms);
        if !open {
            self.break_link(site);
        }
        let next_ms = if open { until_ms } else { from_ms };
        let wait_ms = (next_ms + DAY_MS - of_day_ms) % DAY_MS;
        self.timeline.after(if wait_ms == 0 { DAY_MS } else { wait_ms }, Happening::Hours(site));
    }

    /// Ends a connection without a word; the hub notices later.
    pub(super) fn cut_link(&mut self, site: SiteNo) {
        let (now_ms, boot) = (self.timeline.now_ms(), self.boot_name(site));
        let here = &mut self.sites[site];
        let Some(session) = here.link.session.take() else { return };
        self.stirred[site] = true;
        let meta = here.process.as_ref().and_then(|process| process.core.rows().meta.as_ref());
        let conn_seq = meta.map_or(0, |meta| meta.conn_seq);
        let will = Conn { state: ConnState::Offline, boot, conn_seq, assignment: None, root_version: 0 };
        self.hub.heard(site, session, now_ms);
        // Pings came over it until now.
        self.heard_of(site);
        let delay_ms = self.random.between(MISSED_MS.0, MISSED_MS.1);
        self.timeline.after(delay_ms, Happening::Missed(site, session, Box::new(will)));
        self.go_on_fetching(site);
    }

    /// The same, and the site notices too.
    pub(super) fn break_link(&mut self, site: SiteNo) {
        if self.sites[site].link.session.is_none() {
            return;
        }
        self.cut_link(site);
        let here = &self.sites[site];
        let Some(conn) = here.process.as_ref().and_then(|process| process.conn) else { return };
        let (delay_ms, life) = (self.random.between(NOTICED_MS.0, NOTICED_MS.1), here.life);
        let event = Event::LinkDown { conn, reason: "connection lost".into() };
        self.timeline.after(delay_ms, Happening::Tell(site, life, Box::new(event)));
    }

    /// Sends a message of a site, if it is connected.
    pub(super) fn send_up(&mut self, site: SiteNo, message: Upward) {
        let Some(session) = self.sites[site].link.session else { return };
        for delay_ms in self.passage(site) {
            let message = Box::new(message.clone());
            self.timeline.after(delay_ms, Happening::Up(site, session, message));
        }
    }

    /// Sends a message to a site, if it is connected.
    pub(super) fn send_down(&mut self, site: SiteNo, message: Downward) {
        let Some(session) = self.sites[site].link.session else { return };
        for delay_ms in self.passage(site) {
            let message = Box::new(message.clone());
            self.timeline.after(delay_ms, Happening::Down(site, session, message));
        }
    }

    /// After which delays a message comes: not at all, once or twice.
    fn passage(&mut self, site: SiteNo) -> Vec<u64> {
        let spec = self.sites[site].link.spec.clone();
        if self.random.chance(spec.lost_per_mille) {
            self.break_link(site);
            return Vec::new();
        }
        let copies = if self.random.chance(spec.repeated_per_mille) { 2 } else { 1 };
        let [least, most] = spec.latency.map(crate::scenario::Span::ms);
        (0..copies).map(|_| self.random.between(least, most)).collect()
    }

    /// A message of the hub has come.
    pub(super) fn down(&mut self, site: SiteNo, session: Session, message: Downward) {
        self.meter.moved(site, false, message.bytes());
        let here = &self.sites[site];
        if here.link.session != Some(session) {
            return;
        }
        let life = here.life;
        let document = |expected, bytes| Event::Document { expected, carrier: Carrier::Hub, bytes };
        match message {
            Downward::State { root_version } => {
                self.tell(site, life, Event::RootHint { version: root_version });
            }
            Downward::Desired { envelope, root_version } => {
                self.tell(site, life, Event::RootHint { version: root_version });
                self.tell(site, life, document(DocumentKind::Assignment, envelope.to_vec()));
            }
            Downward::Document(expected, bytes) => self.tell(site, life, document(expected, bytes)),
            Downward::Ack(ack) => self.tell(site, life, document(DocumentKind::Ack, ack.get().clone())),
        }
    }

    /// Receipts and status for the batches in which the agent sends them, read from what is on its disk.
    pub(super) fn batches(
        &self,
        site: SiteNo,
        chain_id: &RandomId,
        (mut from, upto): (u64, u64),
        with_status: bool,
    ) -> Vec<Batch> {
        let here = &self.sites[site];
        let store = &here.disk.durable;
        let meta = here.process.as_ref().and_then(|process| process.core.rows().meta.clone());
        let Some(meta) = meta else { return Vec::new() };
        let read = |from| at_once(store.receipts(chain_id.clone(), from, upto, READ_BYTES));
        let mut status = if with_status { at_once(store.outbox(STATUS)).ok().flatten() } else { None };
        let mut batches = Vec::new();
        while from <= upto || status.is_some() {
            let mut receipts = read(from).unwrap_or_default();
            if receipts.is_empty() && status.is_none() {
                break;
            }
            let (taken, told) = rows_of_batch(&receipts, status.as_ref());
            from = receipts.get(taken.saturating_sub(1)).map_or(upto + 1, |last| last.seq + 1);
            receipts.truncate(taken);
            let status = if told { status.take() } else { None };
            batches.push(Batch { key: Arc::clone(&here.key), meta: meta.clone(), receipts, status });
        }
        batches
    }

    /// Sends a batch. It is sealed while it is on its way, and verified too, by the keys that the hub should have of
    /// the site; where it has others then, it verifies it itself.
    pub(super) fn send_batch(&mut self, site: SiteNo, batch: Batch) {
        let (fleet, keys) = (self.hub.fleet().clone(), vec![self.sites[site].key_row()]);
        let sealed = self.second.make(move || {
            let envelope = batch.seal();
            let verified = verify_batch(&envelope, &fleet, &batch.meta.site, &keys);
            SealedBatch { envelope, keys, verified }
        });
        self.send_up(site, Upward::Batch(sealed));
    }
}

/// Rows that travel together.
pub(super) struct Batch {
    key: Arc<SecretKey>,
    meta: MetaRow,
    receipts: Vec<ReceiptRow>,
    status: Option<OutboxRow>,
}

impl Batch {
    /// Signs them as the agent does.
    pub(super) fn seal(&self) -> Vec<u8> {
        seal_batch(&self.key, &self.meta, &self.receipts, self.status.as_ref()).0
    }
}

/// A batch as it travels, and what the hub finds where these are its site's keys.
pub(super) struct SealedBatch {
    pub(super) envelope: Vec<u8>,
    pub(super) keys: Vec<SiteKeyRow>,
    pub(super) verified: Result<VerifiedBatch, VerifyError>,
}
