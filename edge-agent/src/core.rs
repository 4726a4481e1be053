//! One site's life as a pure state machine: no clock, no randomness, no runtime, no input and output.
//!
//! The shell loads it from rows, asks with [`Core::resume`] what is owed, and then hands in one event at a time.
//! Every fact that must outlive a crash is a row (`write`); every deed is a request (`effect`). The files stand
//! in the order of an app's life.

pub mod api;
pub mod effect;
pub mod enrol;
pub mod event;
pub mod object;
mod rows;
pub mod state;
pub mod status;
pub mod time;
pub mod write;

mod apply;
mod assignment;
mod clocks;
mod connect;
mod document;
mod drift;
mod heal;
mod live;
mod local;
mod lost;
mod need;
pub mod outbox;
mod outcome;
mod prune;
mod replace;
pub mod report;
mod requires;
mod revoked;
mod settle;
mod trial;
mod watch;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::document::release::{Platform, Release, Statement};
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, Sha256Digest, Timestamp};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;

pub use effect::Effect;
pub use event::Event;
pub use time::Now;
pub use write::{Rows, Write};

use live::Live;
use object::{Generation, GenerationId};
use write::{AppRow, GenerationRow, MetaRow, ObjectRow};

/// What one step decided. The store commits the writes as a whole; only then do the effects start.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes of rows, in order.
    pub writes: Vec<Write>,
    /// Requests, in order.
    pub effects: Vec<Effect>,
}

/// What the core is told once, when it is loaded.
#[derive(Debug, Clone)]
pub struct Start {
    /// The site key; Ed25519 is deterministic, so receipts are signed inside the step.
    pub key: Arc<SecretKey>,
    /// The platform that content must be built for.
    pub platform: Platform,
    /// The program's own version.
    pub version: String,
    /// Whether there is a hub to connect to; a site that only sees sticks has none.
    pub hub: bool,
    /// The process has just begun; `false` where the core is loaded again after a failed commit.
    pub process_start: bool,
    /// A root that the caller has open, which is taken where the newest stored one is the same byte for byte: a process
    /// with a fleet of agents reads and keeps it once.
    pub root: Option<TrustedRoot>,
}

/// Rows that no core can be loaded from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no enrolment; `enrol` writes the first rows.
    #[error("the site is not enrolled")]
    NotEnrolled,
    /// A stored document that was verified before cannot be read now.
    #[error("stored {what} cannot be read: {reason}")]
    Damaged {
        /// Which one.
        what: String,
        /// Why.
        reason: String,
    },
}

/// One site's life.
#[derive(Debug)]
pub struct Core {
    start: Start,
    /// The truth: exactly what the writes of all steps amount to.
    rows: Rows,
    meta: MetaRow,
    root: TrustedRoot,
    /// Releases by document digest, read from the stored documents.
    releases: BTreeMap<Sha256Digest, Arc<Statement>>,
    /// What a crash may take: operations under way, the connection, what was seen.
    live: Live,
}

/// One step in the making.
struct Turn {
    now: Now,
    step: Step,
}

impl Turn {
    fn effect(&mut self, effect: Effect) {
        self.step.effects.push(effect);
    }
}

impl Core {
    /// Rebuilds the core from its rows.
    ///
    /// # Errors
    /// [`LoadError`] where there is no enrolment or a stored document is damaged.
    pub fn load(start: Start, rows: Rows) -> Result<Self, LoadError> {
        let damaged = |what: &str, error: &dyn std::fmt::Display| LoadError::Damaged {
            what: what.to_owned(),
            reason: error.to_string(),
        };
        let meta = rows.meta.clone().ok_or(LoadError::NotEnrolled)?;
        let newest = rows.roots.values().next_back().ok_or(LoadError::NotEnrolled)?;
        let root = match start.root.as_ref().filter(|open| open.envelope() == &*newest.envelope) {
            Some(open) => open.clone(),
            None => TrustedRoot::stored(&newest.envelope, &Limits::DEFAULT)
                .map_err(|error| damaged(&format!("root {}", newest.version), &error))?,
        };
        #[cfg(feature = "mutations")]
        let root = crate::mutation::weakened(root);
        let mut releases = BTreeMap::new();
        for row in rows.documents.values() {
            // Verified when it was stored; keys that rotated since must not take a running app away.
            let statement = Envelope::parse(&row.envelope, &Limits::DEFAULT)
                .and_then(|envelope| envelope.read_unverified::<Statement>(&Limits::DEFAULT))
                .map_err(|error| damaged(&format!("release {}", row.sha256), &error))?;
            releases.insert(row.sha256, Arc::new(statement));
        }
        Ok(Self { start, rows, meta, root, releases, live: Live::default() })
    }

    /// Counts this start of the process and asks for everything that is still owed.
    pub fn resume(&mut self, now: Now) -> Step {
        let mut turn = Turn { now, step: Step::default() };
        let t = &mut turn;
        self.change_meta(t, |meta| meta.starts += 1);
        self.live.begin(now, self.meta.starts);
        if self.meta.receipt_next == 1 {
            self.receipt_enrolled(t);
        }
        self.resume_parked();
        for app in self.app_names() {
            self.resume_app(t, &app);
        }
        if self.start.hub {
            self.connect(t);
        }
        self.finish(t);
        turn.step
    }

    /// Decides what happens next, and does none of it.
    pub fn step(&mut self, now: Now, event: Event) -> Step {
        let mut turn = Turn { now, step: Step::default() };
        let t = &mut turn;
        self.run_clocks(t);
        match event {
            Event::Wake => self.live.wake_at = None,
            Event::LinkUp { conn, .. } => self.on_link_up(t, conn),
            Event::LinkDown { conn, .. } => self.on_link_down(t, conn),
            Event::RootHint { version } => self.on_root_hint(t, version),
            Event::RollCall { id, over_ms, retained } => self.on_roll_call(t, id, over_ms, retained),
            Event::AssignmentHint { sha256 } => self.on_assignment_hint(t, sha256),
            Event::Document { expected, carrier, bytes } => self.on_document(t, expected, &carrier, &bytes),
            Event::MediaIn { media } => self.on_media_in(t, media),
            Event::MediaOut { media } => self.live.media.retain(|known| *known != media),
            Event::ContentProgress { op, have_bytes, total_bytes } => {
                self.on_progress(op, have_bytes, total_bytes);
            }
            Event::ContentReady { op } => self.on_content_ready(t, op),
            Event::ContentFailed { op, failure } => self.on_op_failed(t, op, failure),
            Event::Prepared { op, plan } => self.on_prepared(t, op, plan),
            Event::PrepareFailed { op, failure } => self.on_op_failed(t, op, failure),
            Event::Imported { op } => self.on_imported(t, op),
            Event::ImportFailed { op, failure } => self.on_op_failed(t, op, failure),
            Event::ImagesLost { references } => self.on_images_lost(&references),
            Event::Api { op, reply } => self.on_api(t, op, reply),
            Event::ApiState { up, cluster } => self.on_api_state(t, up, cluster),
            Event::ApiTrouble { reason } => self.on_api_trouble(reason),
            Event::Seen { object, uid, entry, .. } => self.on_seen(&object, &uid, entry),
            Event::Gone { object, uid } => self.on_gone(&object, &uid),
            Event::Listed { gvk } => self.on_listed(&gvk),
            Event::Health { op, reading } => self.on_health(t, op, reading),
            Event::Nodes(nodes) => self.on_nodes(t, nodes),
            Event::Disk { free_bytes, .. } => self.live.disk_free_bytes = Some(free_bytes),
            Event::OpEnded { op } => drop(self.live.ops.remove(&op)),
            Event::Local { request, command } => self.on_local(t, request, &command),
            Event::StoreFailed { reason } => {
                self.receipt_alarm(t, airlift_bundles::code::Code::StoreFailed, &reason)
            }
            Event::StoreRestored { reason } => {
                self.receipt_alarm(t, airlift_bundles::code::Code::StoreDamaged, &reason)
            }
            Event::Shutdown { .. } => self.on_shutdown(t),
        }
        self.drive_all(t);
        self.finish(t);
        turn.step
    }

    /// Drives every app, and again while one's progress may let another go on.
    fn drive_all(&mut self, t: &mut Turn) {
        let stand =
            |core: &Self| -> Vec<_> { core.rows.apps.values().map(|row| (row.step, row.current)).collect() };
        // As deep as apps require one another; what is deeper goes on with the next event.
        for _ in 0..8 {
            let before = stand(self);
            for app in self.app_names() {
                self.drive(t, &app);
            }
            if stand(self) == before {
                return;
            }
        }
    }

    /// The rows as they are: what the store holds once all steps so far are committed.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What all steps end with: the outbox, the wider requests, and the one wake-up.
    fn finish(&mut self, t: &mut Turn) {
        self.drop_unreferenced(t);
        self.request_watch(t);
        self.request_keep(t);
        self.request_documents(t);
        self.hear_connection(t);
        self.flush_outbox(t);
        self.request_wake(t);
        if self.live.ops.is_empty() {
            // An emptied map keeps the room of its first entries, and most of the time nothing is under way.
            self.live.ops = BTreeMap::new();
        }
    }

    fn app_names(&self) -> Vec<AppName> {
        self.rows.apps.keys().cloned().collect()
    }

    fn write(&mut self, t: &mut Turn, write: Write) {
        self.rows.apply(&write);
        t.step.writes.push(write);
    }

    fn change_meta(&mut self, t: &mut Turn, change: impl FnOnce(&mut MetaRow)) {
        let mut meta = self.meta.clone();
        change(&mut meta);
        if meta != self.meta {
            self.meta = meta.clone();
            self.write(t, Write::PutMeta(meta));
        }
    }

    /// Stores a changed copy of an object's row, which others may hold as it was.
    fn change_object(&mut self, t: &mut Turn, row: &ObjectRow, change: impl FnOnce(&mut ObjectRow)) {
        let mut row = row.clone();
        change(&mut row);
        self.write(t, Write::PutObject(row.into()));
    }

    /// Changes an app's row; a change of its state also stamps the time.
    fn change_app(&mut self, t: &mut Turn, app: &AppName, change: impl FnOnce(&mut AppRow)) {
        let Some(old) = self.rows.apps.get(app) else { return };
        let mut row = AppRow::clone(old);
        change(&mut row);
        if row.state != old.state {
            row.since = Some(self.time(t.now));
        }
        if row != **old {
            self.live.status_dirty = true;
            self.write(t, Write::PutApp(row.into()));
        }
    }

    fn change_generation(&mut self, t: &mut Turn, id: GenerationId, change: impl FnOnce(&mut GenerationRow)) {
        let Some(old) = self.rows.generations.get(&id) else { return };
        let mut row = old.clone();
        change(&mut row);
        if row != *old {
            self.write(t, Write::PutGeneration(row));
        }
    }

    fn generation(&self, id: Option<GenerationId>) -> Option<Arc<Generation>> {
        self.rows.generations.get(&id?).map(|row| row.generation.clone())
    }

    fn release(&self, generation: &Generation) -> Option<&Release> {
        self.releases.get(&generation.release).map(|statement| &statement.predicate)
    }

    /// The best guess of the time, for display: a synchronised clock, else what documents prove and uptime since.
    fn time(&self, now: Now) -> Timestamp {
        use airlift_bundles::document::receipt::ClockQuality;
        let floor = self.meta.time_floor;
        let counted =
            floor.unix_s().saturating_add_unsigned(now.mono_ms.saturating_sub(self.live.began_ms) / 1000);
        match (now.quality, now.wall_ms) {
            (ClockQuality::Synchronised, Some(wall_ms)) => {
                Timestamp::from_unix_s(i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX)).max(floor)
            }
            _ => Timestamp::from_unix_s(counted),
        }
    }
}

#[cfg(test)]
mod tests;
