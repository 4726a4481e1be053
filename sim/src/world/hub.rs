//! The hub: its real queries and decisions on a database in memory, called inline, and what its endpoint would do
//! with connections.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_agent::core::effect::WantedDocument;
use airlift_agent::core::event::DocumentKind;
use airlift_bundles::accept::open_release;
use airlift_bundles::code::Code;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Counter, FleetId, RandomId, Sha256Digest, SiteId};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::Conn;
use airlift_hub::api::orders::{assign_rows, retire_rows};
use airlift_hub::api::releases::{read_bundle, store_release};
use airlift_hub::api::types::{Assign, ReleaseChoice, Retire, SiteSelection, Standing};
use airlift_hub::clock::Now;
use airlift_hub::collect::take::take_batch;
use airlift_hub::collect::verify::verify_batch;
use airlift_hub::db::rows::sites::SiteRow;
use airlift_hub::db::rows::{assignments, meta, releases, roots, sites};
use airlift_hub::db::{Db, DbError};
use airlift_hub::init::add_roots;
use airlift_hub::plan::sign::Directing;
use airlift_hub::publish::acks::ack_rows;
use airlift_hub::publish::desired::{newest_desired, waiting_sites};
use airlift_hub::publish::ingest::presence_rows;
use rusqlite::Connection;

use super::World;
use super::WorldError;
use super::ahead::Ahead;
use super::happening::{Downward, Happening, Session, SiteNo, Upward};
use super::library::{BEGINNING_S, Library};
use super::link::SealedBatch;
use super::recovery::Copy;
use super::site::Site;
use super::trust::Trust;
use crate::invariants::Invariant;
use crate::scenario::{Act, Action};

/// Time between two rounds of acks.
const ACKS_MS: u64 = 250;
/// After which an operator whom the hub did not answer tries again.
const TRY_AGAIN_MS: u64 = 60_000;
/// Who did it, in the audit log.
pub(super) const ACTOR: &str = "scenario";

/// The hub, up or down.
pub(super) struct Hub {
    pub(super) db: Connection,
    pub(super) up: bool,
    pub(super) key: Arc<SecretKey>,
    fleet: FleetId,
    incarnation: RandomId,
    pub(super) root: Arc<TrustedRoot>,
    boots: u8,
    booted_ms: u64,
    /// Connections as the hub knows them, with the last moment at which it heard something.
    sessions: Vec<Option<(Session, u64)>>,
    /// The endpoint's retained assignments; they survive its process.
    pub(super) retained: BTreeMap<SiteNo, Arc<[u8]>>,
    /// Acks that are owed, and about which outbox.
    owed: BTreeMap<SiteNo, RandomId>,
    /// Its last backup.
    pub(super) copy: Option<Copy>,
    /// It was restored from a backup once.
    pub(super) restored: bool,
    /// It was restored, and its people have not looked after it since: they give it no orders and fill no sticks.
    pub(super) unsettled: bool,
    /// What it was restored from has every order that was given before.
    pub(super) complete_until_ms: u64,
    /// Its people look after it.
    pub(super) looked_after: bool,
    /// Sites that were sent away.
    pub(super) revoked: BTreeSet<SiteNo>,
    /// Orders that were given, and when.
    book: Vec<(u64, usize)>,
}

impl Hub {
    /// A hub with its roots and all releases, which knows all sites.
    pub(super) fn new(library: &Library, trust: &Trust, sites: &[Site]) -> Result<Self, WorldError> {
        let hub = Self {
            db: Db::in_memory()?,
            up: true,
            key: trust.director(),
            fleet: library.fleet.clone(),
            incarnation: RandomId::from_bytes([9; 16]),
            root: Arc::clone(trust.newest()),
            boots: 1,
            booted_ms: 0,
            sessions: vec![None; sites.len()],
            retained: BTreeMap::new(),
            owed: BTreeMap::new(),
            copy: None,
            restored: false,
            unsettled: false,
            complete_until_ms: 0,
            looked_after: false,
            revoked: BTreeSet::new(),
            book: Vec::new(),
        };
        let now = hub.now(0);
        hub.within(|connection| {
            meta::put_identity(connection, &hub.fleet, &hub.incarnation)?;
            add_roots(connection, &hub.fleet, trust.roots())?;
            for release in library.releases() {
                let opened = open_release(&release.envelope, &hub.root, &Limits::DEFAULT)
                    .map_err(|refusal| WorldError::Refused(refusal.to_string()))?;
                let listed = read_bundle(&opened, library.content.as_ref())?;
                for blob in &listed {
                    releases::add_blob(connection, &blob.sha256, blob.size)?;
                }
                store_release(connection, &hub.root, &opened, &listed, now.time(), ACTOR)?;
            }
            for site in sites {
                enrol(connection, site)?;
            }
            Ok::<_, WorldError>(())
        })?;
        Ok(hub)
    }

    /// Runs a request in a transaction of its own, which an error undoes.
    pub(super) fn within<T, E: From<DbError>>(
        &self,
        request: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.db.unchecked_transaction().map_err(DbError::from)?;
        let outcome = request(&transaction)?;
        transaction.commit().map_err(DbError::from)?;
        Ok(outcome)
    }

    /// The moment as the hub's machine sees it.
    pub(super) fn now(&self, at_ms: u64) -> Now {
        let wall_ms = u64::try_from(BEGINNING_S).unwrap_or(0) * 1000 + at_ms;
        let boot = RandomId::from_bytes([self.boots; 16]);
        Now { mono_ms: 1_000 + at_ms.saturating_sub(self.booted_ms), boot, wall_ms }
    }

    pub(super) fn directing(&self) -> Directing<'_> {
        let (fleet, hub_incarnation) = (&self.fleet, &self.incarnation);
        Directing { key: &self.key, fleet, hub_incarnation, root: Some(Arc::clone(&self.root)) }
    }

    pub(super) fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// Whether the hub gives content of this bundle to this site.
    pub(super) fn serves(&self, site: &SiteId, bundle: &Sha256Digest) -> bool {
        let found = releases::blob_for_site(&self.db, site.as_str(), bundle);
        self.up && found.is_ok_and(|blob| blob.is_some())
    }

    /// When its process began.
    pub(super) fn booted_ms(&self) -> u64 {
        self.booted_ms
    }

    /// Writes an order down; `true` where it was given for the first time.
    fn write_down(&mut self, now_ms: u64, number: usize) -> bool {
        let before = self.book.len();
        self.book.retain(|(_, known)| *known != number);
        let first = self.book.len() == before;
        self.book.push((now_ms, number));
        first
    }

    /// The orders that were given since then, in their order.
    pub(super) fn orders_since(&self, since_ms: u64) -> Vec<usize> {
        self.book.iter().filter(|(at_ms, _)| *at_ms >= since_ms).map(|(_, number)| *number).collect()
    }

    pub(super) fn welcome(&mut self, site: SiteNo, session: Session, now_ms: u64) {
        self.sessions[site] = Some((session, now_ms));
    }

    /// Remembers when a connection was last heard of.
    pub(super) fn heard(&mut self, site: SiteNo, session: Session, now_ms: u64) {
        if let Some(known) = self.sessions[site].as_mut().filter(|known| known.0 == session) {
            known.1 = now_ms;
        }
    }

    /// The connection of a site that the hub believes in, and when it was last heard of.
    pub(super) fn session(&self, site: SiteNo) -> Option<(Session, u64)> {
        self.sessions[site]
    }

    fn document(&self, site: &SiteId, wanted: WantedDocument) -> Option<(DocumentKind, Vec<u8>)> {
        let found = |sha256| assignments::document_for_site(&self.db, site, sha256).ok().flatten();
        match wanted {
            WantedDocument::Root(version) => {
                let envelope = roots::envelope(&self.db, version).ok().flatten()?;
                Some((DocumentKind::Root, envelope))
            }
            WantedDocument::Release(sha256) => Some((DocumentKind::Release, found(&sha256)?)),
            WantedDocument::Assignment(sha256) => Some((DocumentKind::Assignment, found(&sha256)?)),
        }
    }
}

/// Knows a site as if it had been enrolled.
fn enrol(connection: &Connection, site: &Site) -> Result<(), WorldError> {
    let row = SiteRow {
        site: site.id.clone(),
        incarnation: 1,
        contact: site.contact,
        standing: Standing::Enrolled,
        last: Counter::default(),
        seen: None,
    };
    sites::put(connection, &row)?;
    sites::add_key(connection, &site.key_row())?;
    for (key, value) in &*site.labels {
        sites::set_label(connection, &site.id, key, value)?;
    }
    Ok(())
}

impl World {
    /// Does what people do; where the hub does not answer they try again.
    pub(super) fn act(&mut self, number: usize, action: &Action) {
        match action.act {
            Act::HubDown => return self.lose_hub(),
            Act::HubUp => return self.return_hub(),
            Act::HubBackup => return self.back_up(),
            Act::HubRestore => return self.restore_hub(),
            Act::StealDirectorKey => return self.steal_director_key(),
            Act::Blackout => {
                let [least, most] = action.lasts.unwrap_or_default().map(crate::scenario::Span::ms);
                let (sites, lasts_ms) = (self.selected(&action.sites), self.random.between(least, most));
                return self.black_out(&sites, lasts_ms);
            }
            _ => {}
        }
        if !self.hub.up {
            return self.timeline.after(TRY_AGAIN_MS, Happening::Act(number));
        }
        match action.act {
            Act::Assign | Act::Retire => self.order(number, action),
            Act::HubReconcile => self.reconcile_hub(),
            Act::RevokeSites => {
                let sites = self.selected(&action.sites);
                self.revoke_sites(&sites);
            }
            _ => self.change_root(action),
        }
    }

    /// Gives an order; a hub that was restored takes none until it is reconciled.
    fn order(&mut self, number: usize, action: &Action) {
        let now_ms = self.timeline.now_ms();
        if self.hub.unsettled {
            return self.timeline.after(TRY_AGAIN_MS, Happening::Act(number));
        }
        let (Some(app), now) = (action.app.clone(), self.hub.now(now_ms)) else { return };
        let chosen = SiteSelection { names: Vec::new(), selector: Some(action.sites.clone()) };
        let done = self.hub.within(|connection| {
            let directing = self.hub.directing();
            if action.act == Act::Retire {
                let wanted = Retire { app, sites: chosen, dry_run: false };
                return retire_rows(connection, &directing, &wanted, ACTOR, &now);
            }
            let wanted = Assign {
                app,
                release: action.version.clone().map_or(ReleaseChoice::Newest, ReleaseChoice::Version),
                sites: chosen,
                parameters: BTreeMap::new(),
                overlays: Vec::new(),
                retry: false,
                dry_run: false,
            };
            assign_rows(connection, &directing, wanted, ACTOR, &now)
        });
        match done {
            Ok(_) => {
                if self.hub.write_down(now_ms, number) {
                    self.measure_order(action);
                }
                self.publish_waiting();
            }
            Err(error) if error.code() == Code::HubRestored => {
                self.timeline.after(TRY_AGAIN_MS, Happening::Act(number));
            }
            Err(error) => self.violated(Invariant::Scenario, None, format!("the hub refuses: {error}")),
        }
    }

    /// Publishes what is signed and not published.
    pub(super) fn publish_waiting(&mut self) {
        let waiting = match waiting_sites(&self.hub.db) {
            Ok(waiting) => waiting,
            Err(error) => return self.violated(Invariant::Scenario, None, error.to_string()),
        };
        for name in waiting {
            if let Some(site) = self.names.get(&name).copied() {
                self.publish(site);
            }
        }
    }

    /// Publishes a site's newest assignment, retained.
    fn publish(&mut self, site: SiteNo) {
        let name = self.sites[site].id.clone();
        let published = self.hub.within(|connection| {
            let newest = newest_desired(connection, &name)?;
            if let Some(newest) = &newest {
                assignments::mark_published(connection, &name, newest.counter)?;
            }
            Ok::<_, DbError>(newest)
        });
        match published {
            Ok(Some(newest)) => {
                self.check_signed(site, &newest.envelope);
                let (envelope, root_version) = (Arc::from(newest.envelope), self.hub.root.version);
                self.hub.retained.insert(site, Arc::clone(&envelope));
                self.send_down(site, Downward::Desired { envelope, root_version });
            }
            Ok(None) => {}
            Err(error) => self.violated(Invariant::Scenario, Some(site), error.to_string()),
        }
    }

    /// A message of a site has come.
    pub(super) fn up(&mut self, site: SiteNo, session: Session, message: Upward) {
        self.meter.moved(site, false, message.bytes());
        if !self.hub.up || self.hub.session(site).is_none_or(|known| known.0 != session) {
            return;
        }
        let now_ms = self.timeline.now_ms();
        self.hub.heard(site, session, now_ms);
        match message {
            Upward::Conn(conn) => self.presence(site, &conn),
            Upward::Batch(batch) => self.collect(site, &batch),
            Upward::Get(wanted) => self.serve_documents(site, &wanted),
        }
    }

    pub(super) fn presence(&mut self, site: SiteNo, conn: &Conn) {
        let (name, now) = (self.sites[site].id.clone(), self.hub.now(self.timeline.now_ms()));
        match self.hub.within(|connection| presence_rows(connection, &name, conn, &now)) {
            Ok(true) => self.publish(site),
            Ok(false) => {}
            Err(error) => self.violated(Invariant::Scenario, Some(site), error.to_string()),
        }
    }

    fn collect(&mut self, site: SiteNo, sealed: &Ahead<SealedBatch>) {
        let (name, now) = (self.sites[site].id.clone(), self.hub.now(self.timeline.now_ms()));
        if self.hub.revoked.contains(&site) {
            return;
        }
        let keys = sites::keys(&self.hub.db, &name).unwrap_or_default();
        let (sealed, again) = (sealed.get(), OnceCell::new());
        let verified = if sealed.keys == keys {
            &sealed.verified
        } else {
            again.get_or_init(|| verify_batch(&sealed.envelope, &self.hub.fleet, &name, &keys))
        };
        let batch = match verified {
            Ok(batch) => batch,
            Err(error) => {
                let text = format!("the hub refuses a batch that the site sealed: {error}");
                return self.violated(Invariant::Receipts, Some(site), text);
            }
        };
        self.check_batch(site, batch);
        let taken = self.hub.within(|connection| match sites::find(connection, &name)? {
            Some(row) => take_batch(connection, &row, batch, "mqtt", &now).map(Some),
            None => Ok(None),
        });
        match taken {
            Ok(taken) => self.check_taken(site, taken.as_ref()),
            Err(error) => return self.violated(Invariant::Receipts, Some(site), error.to_string()),
        }
        self.heard_of(site);
        if self.hub.owed.is_empty() {
            self.timeline.after(ACKS_MS, Happening::Acks);
        }
        self.hub.owed.insert(site, batch.outbox_epoch().clone());
    }

    /// Sends the acks that are owed.
    pub(super) fn send_acks(&mut self) {
        for (site, outbox_epoch) in std::mem::take(&mut self.hub.owed) {
            let name = &self.sites[site].id;
            match ack_rows(&self.hub.db, &self.hub.fleet, name, &outbox_epoch) {
                Ok(Some(ack)) => {
                    let key = Arc::clone(&self.hub.key);
                    let ack = self.second.make(move || Envelope::signed(&ack, &key).to_json());
                    self.send_down(site, Downward::Ack(ack));
                }
                Ok(None) => {}
                Err(error) => self.violated(Invariant::Receipts, Some(site), error.to_string()),
            }
        }
    }

    /// Says which root is the newest to all who are connected.
    pub(super) fn tell_root(&mut self) {
        let root_version = self.hub.root.version;
        let all = 0..self.sites.len();
        let connected: Vec<SiteNo> = all.filter(|site| self.hub.session(*site).is_some()).collect();
        for site in connected {
            self.send_down(site, Downward::State { root_version });
        }
    }

    fn serve_documents(&mut self, site: SiteNo, wanted: &BTreeSet<WantedDocument>) {
        self.check_asking(site);
        for document in wanted {
            if let Some((kind, bytes)) = self.hub.document(&self.sites[site].id, *document) {
                self.send_down(site, Downward::Document(kind, bytes));
            }
        }
    }

    /// The hub notices that a connection is no more.
    pub(super) fn missed(&mut self, site: SiteNo, session: Session, will: &Conn) {
        let known = self.hub.session(site).filter(|known| self.hub.up && known.0 == session);
        if let Some((_, heard_ms)) = known {
            self.hub.sessions[site] = None;
            self.record_contacts(&[(site, heard_ms)]);
            self.presence(site, will);
        }
    }

    /// The hub's process, or its machine, ends: what was not committed is gone, connections too.
    pub(super) fn lose_hub(&mut self) {
        if !self.hub.up {
            return;
        }
        self.hub.up = false;
        self.hub.owed.clear();
        for site in 0..self.sites.len() {
            self.break_link(site);
        }
        let lost = self.hub.sessions.iter_mut().map(Option::take).enumerate();
        let contacts: Vec<_> = lost.filter_map(|(site, known)| Some((site, known?.1))).collect();
        self.record_contacts(&contacts);
    }

    /// It is back, with what was committed.
    pub(super) fn return_hub(&mut self) {
        if self.hub.up {
            return;
        }
        self.hub.up = true;
        self.hub.boots = self.hub.boots.wrapping_add(1);
        self.hub.booted_ms = self.timeline.now_ms();
        self.publish_waiting();
    }
}
