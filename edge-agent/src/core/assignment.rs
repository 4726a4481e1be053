//! The assignment: accepted as `airlift_bundles::accept` fixes it, stored with its counters and targets in one
//! step, or parked until its releases are here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::accept::{
    Acceptance, AcceptedAssignment, AcceptedRelease, EntryRefusal, Held, Identity, accept_assignment,
};
use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::{Assignment, DesiredApp};
use airlift_bundles::document::receipt::{Evidence, Outcome};
use airlift_bundles::document::release::Platform;
use airlift_bundles::document::status::AppState;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{AppName, Counter, Sha256Digest};
use airlift_bundles::limits::Limits;

use super::document::ASKED_LONG;
use super::object::Generation;
use super::outbox::Told;
use super::state::{GenerationVerdict, Purpose, Step as AppStep};
use super::write::{AcceptedRow, AppRow, AssignmentRow, CounterKey, CounterRow, GenerationRow, Slot};
use super::{Core, Turn, Write};

impl Core {
    pub(super) fn take_assignment(&mut self, t: &mut Turn, bytes: &[u8]) -> Result<(), (Code, String)> {
        #[cfg(feature = "mutations")]
        if crate::mutation::refuses_as_young(t.now, bytes) {
            return Err((Code::AssignmentOlder, "assignment is of the future".to_owned()));
        }
        match self.judge(bytes)? {
            Acceptance::Same => Ok(()),
            Acceptance::Parked { assignment, missing } => {
                let counter = assignment.document().counter();
                // The greatest waits, unless nobody has had its documents for long: it may be a word of which nothing
                // will ever come, and must not keep the next one out.
                let given_up = self.live.asked >= ASKED_LONG;
                if self.parked_counter().is_some_and(|parked| parked > counter) && !given_up {
                    return Ok(());
                }
                let row =
                    AssignmentRow { slot: Slot::Parked, sha256: assignment.digest(), envelope: bytes.into() };
                if self.rows.assignments.get(&Slot::Parked) != Some(&row) {
                    self.write(t, Write::PutAssignment(row));
                    self.live.status_dirty = true;
                }
                self.forget_hint(assignment.digest());
                self.live.missing_releases = missing.into_iter().collect();
                Ok(())
            }
            Acceptance::Accepted(accepted) => {
                self.forget_hint(accepted.assignment().digest());
                self.take_accepted(t, &accepted);
                Ok(())
            }
        }
    }

    fn forget_hint(&mut self, sha256: Sha256Digest) {
        if self.live.assignment_hint == Some(sha256) {
            self.live.assignment_hint = None;
        }
    }

    fn judge(&self, bytes: &[u8]) -> Result<Acceptance, (Code, String)> {
        let identity = Identity {
            fleet_id: self.meta.fleet.clone(),
            site: self.meta.site.clone(),
            incarnation: self.meta.incarnation,
            minimum: self.meta.minimum,
        };
        let release = |sha256: &Sha256Digest| self.usable_release(sha256).map(|row| row.envelope.to_vec());
        let running = |row: &AppRow| {
            let generation = self.generation(row.current.or(row.planned))?;
            Some((row.app.clone(), generation.release))
        };
        let running: BTreeMap<AppName, Sha256Digest> =
            self.rows.apps.values().filter_map(|row| running(row)).collect();
        let floor = |row: &CounterRow| match &row.key {
            CounterKey::Floor(app) => Some((app.clone(), Counter { epoch: row.epoch, seq: row.seq })),
            CounterKey::Assignment => None,
        };
        let floors: BTreeMap<AppName, Counter> = self.rows.counters.values().filter_map(floor).collect();
        let platforms: BTreeSet<Platform> =
            self.live.nodes.iter().map(|node| node.platform.clone()).collect();
        let platforms: Vec<Platform> = if platforms.is_empty() {
            vec![self.start.platform.clone()]
        } else {
            platforms.into_iter().collect()
        };
        let current = self.rows.assignments.get(&Slot::Current).map(|row| row.sha256);
        let in_force = self.assignment_counter().zip(current);
        #[cfg(feature = "mutations")]
        let in_force = in_force.filter(|_| !crate::mutation::is(crate::mutation::Mutation::OldAssignments));
        let held = Held {
            identity: &identity,
            root: &self.root,
            current: in_force,
            release: &release,
            accepted: &self.rows.accepted,
            running: &running,
            floors: &floors,
            platforms: &platforms,
        };
        #[cfg(not(feature = "mutations"))]
        let limits = Limits::DEFAULT;
        #[cfg(feature = "mutations")]
        let limits = crate::mutation::limits();
        accept_assignment(bytes, &held, &limits).map_err(|error| (error.code(), error.to_string()))
    }

    /// The counter of the assignment in force.
    pub(super) fn assignment_counter(&self) -> Option<Counter> {
        let row = self.rows.counters.get(&CounterKey::Assignment)?;
        Some(Counter { epoch: row.epoch, seq: row.seq })
    }

    pub(super) fn read_slot(&self, slot: Slot) -> Option<Assignment> {
        // It was verified before it was stored; this only reads it again.
        let row = self.rows.assignments.get(&slot)?;
        Envelope::parse(&row.envelope, &Limits::DEFAULT).ok()?.read_unverified(&Limits::DEFAULT).ok()
    }

    pub(super) fn parked_counter(&self) -> Option<Counter> {
        self.read_slot(Slot::Parked).map(|assignment| assignment.counter())
    }

    /// Releases that the accepted or the parked assignment names.
    pub(super) fn assigned_releases(&self) -> BTreeSet<Sha256Digest> {
        let slots = [Slot::Current, Slot::Parked];
        let assignments = slots.into_iter().filter_map(|slot| self.read_slot(slot));
        assignments.flat_map(|assignment| assignment.desired).map(|desired| desired.release).collect()
    }

    /// Judges the parked assignment again after a root or a release came.
    pub(super) fn retry_parked(&mut self, t: &mut Turn) {
        let Some(row) = self.rows.assignments.get(&Slot::Parked).cloned() else { return };
        if let Err((code, reason)) = self.take_assignment(t, &row.envelope) {
            // What was parked under an older root may be nobody's word under the newer one.
            self.write(t, Write::DropAssignment(Slot::Parked));
            self.live.missing_releases.clear();
            self.receipt_alarm(t, code, &reason);
        }
    }

    /// After a restart: what the parked assignment misses.
    pub(super) fn resume_parked(&mut self) {
        let missing = self.read_slot(Slot::Parked).into_iter().flat_map(|assignment| assignment.desired);
        let missing = missing.map(|desired| desired.release);
        let missing = missing.filter(|sha256| self.usable_release(sha256).is_none()).collect();
        self.live.missing_releases = missing;
    }

    /// Bytes, counters and targets, in one step.
    fn take_accepted(&mut self, t: &mut Turn, accepted: &AcceptedAssignment) {
        let verified = accepted.assignment();
        let assignment = verified.document();
        // One that carries acknowledgements or offers only is worth no receipt, which would want one itself.
        let before = self.read_slot(Slot::Current);
        let changed = before.is_none_or(|before| {
            (&before.desired, &before.retire) != (&assignment.desired, &assignment.retire)
        });
        let row = AssignmentRow {
            slot: Slot::Current,
            sha256: verified.digest(),
            envelope: verified.envelope().into(),
        };
        self.write(t, Write::PutAssignment(row));
        if self.parked_counter().is_some_and(|parked| parked <= assignment.counter()) {
            self.write(t, Write::DropAssignment(Slot::Parked));
            self.live.missing_releases.clear();
        }
        let Counter { epoch, seq } = assignment.counter();
        self.write(t, Write::PutCounter(CounterRow { key: CounterKey::Assignment, epoch, seq }));
        self.raise_time(t, assignment.issued_at);
        self.change_meta(t, |meta| meta.hub_incarnation = Some(assignment.hub_incarnation.clone()));
        self.hear_hub(t, assignment.issued_at);
        if changed {
            self.receipt(t, Told::site(Outcome::Accepted));
        }
        for entry in accepted.entries() {
            match &entry.verdict {
                Ok(release) => self.set_target(t, &entry.desired, release),
                Err(refusal) => self.refuse_entry(t, &entry.desired, refusal, changed),
            }
        }
        for app in &assignment.retire {
            if self.rows.apps.contains_key(app) {
                self.retire(t, app);
            }
        }
        for app in self.app_names() {
            let waits = self.rows.apps.get(&app).is_some_and(|row| row.step == AppStep::RetireWait);
            if waits && !assignment.retire.contains(&app) {
                self.unretire(t, &app);
            }
        }
        if !self.start.hub {
            self.live.lost_from = self.lost_from(assignment.receipts_acked.as_ref());
        }
        if let Some(mark) = &assignment.receipts_acked
            && let Err((code, reason)) = self.free_receipts(t, mark)
        {
            self.receipt_alarm(t, code, &reason);
        }
        self.live.rows_changed = true;
        self.live.status_dirty = true;
    }

    fn set_target(&mut self, t: &mut Turn, desired: &DesiredApp, release: &AcceptedRelease) {
        let statement = release.statement();
        let app = &desired.app;
        self.raise_time(t, statement.document().predicate.issued_at);
        let accepted = AcceptedRow { app: app.clone(), counter: desired.counter(), release: desired.release };
        if !self.rows.accepted.contains_key(&(app.clone(), accepted.counter)) {
            self.write(t, Write::PutAccepted(accepted));
        }
        let id = desired.generation();
        let generation = Generation::of(desired, statement.document());
        let generation = Generation { stopped: self.is_stopped(&desired.release), ..generation };
        match self.rows.generations.get(&id) {
            None => {
                let row = GenerationRow {
                    generation: Arc::new(generation),
                    verdict: GenerationVerdict::Open,
                    retry: desired.retry,
                    prepared: None,
                };
                self.write(t, Write::PutGeneration(row));
            }
            // Raising `retry` is the director's word to try again what failed.
            Some(row) if row.retry < desired.retry => self.reopen(t, id, desired.retry),
            Some(_) => {}
        }
        if !self.rows.apps.contains_key(app) {
            self.write(t, Write::PutApp(AppRow::new(app.clone()).into()));
        }
        let changed =
            self.rows.apps.get(app).is_some_and(|row| row.target != Some(id) || row.retry != desired.retry);
        let refused = self
            .rows
            .generations
            .get(&id)
            .is_some_and(|generation| generation.verdict == GenerationVerdict::Refused);
        if changed {
            self.live.app(app).retry_at = None;
        }
        self.change_app(t, app, |row| {
            (row.target, row.retry) = (Some(id), desired.retry);
            if row.state == AppState::Refused && (changed || !refused) {
                row.state = if row.current.is_some() { AppState::Healthy } else { AppState::Waiting };
                row.clear_note();
            }
        });
        self.supersede(t, app);
    }

    /// Opens a generation for another try.
    pub(super) fn reopen(&mut self, t: &mut Turn, id: Sha256Digest, retry: u64) {
        self.change_generation(t, id, |row| {
            if row.verdict != GenerationVerdict::Healthy {
                row.verdict = GenerationVerdict::Open;
            }
            row.retry = retry;
        });
    }

    /// An install that is not wanted any more is called off; a rollback is finished first.
    fn supersede(&mut self, t: &mut Turn, app: &AppName) {
        let Some(row) = self.rows.apps.get(app) else { return };
        let installing = row.purpose == Purpose::Install
            && !matches!(row.step, AppStep::Rest | AppStep::RetireWait | AppStep::RetireDelete);
        if installing && row.working != row.target && !row.held {
            let Some(target) = row.target else { return };
            let failed = self.rows.generations.get(&target).is_some_and(|generation| {
                !matches!(generation.verdict, GenerationVerdict::Open | GenerationVerdict::Healthy)
            });
            if !failed {
                self.begin(t, app, target, Purpose::Install);
            }
        }
    }

    fn refuse_entry(&mut self, t: &mut Turn, desired: &DesiredApp, refusal: &EntryRefusal, changed: bool) {
        let app = &desired.app;
        if !self.rows.apps.contains_key(app) {
            self.write(t, Write::PutApp(AppRow::new(app.clone()).into()));
        }
        let evidence = Evidence {
            object: format!("app {app}"),
            reason: refusal.code.id().to_owned(),
            message: refusal.detail.clone(),
        };
        let known = self.rows.apps.get(app).is_some_and(|row| row.code == Some(refusal.code));
        if changed || !known {
            let told = Told::of(app, None, Outcome::Refused);
            self.receipt(t, Told { code: Some(refusal.code), evidence: vec![evidence], ..told });
        }
        self.change_app(t, app, |row| {
            if row.step == AppStep::Rest {
                row.state = AppState::Refused;
                (row.code, row.reason) = (Some(refusal.code), refusal.detail.clone());
            }
        });
    }
}

impl AppRow {
    /// Nothing is wrong any more.
    pub(super) fn clear_note(&mut self) {
        self.code = None;
        self.reason.clear();
        self.evidence.clear();
    }

    /// An app of which nothing is there yet.
    #[must_use]
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            target: None,
            retry: 0,
            state: AppState::Waiting,
            step: AppStep::Rest,
            purpose: Purpose::Install,
            working: None,
            planned: None,
            current: None,
            previous: None,
            failed: None,
            held: false,
            retire_ms: 0,
            settle_ms: 0,
            soak_ms: 0,
            watch_left_ms: 0,
            starts: 0,
            attempts: 0,
            code: None,
            reason: String::new(),
            evidence: Vec::new(),
            since: None,
        }
    }
}
