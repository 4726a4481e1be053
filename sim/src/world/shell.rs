//! The contract of the agent's shell, in virtual time: a step's effects start after its commit, in order; what a
//! power cut finds uncommitted is lost; a failed commit drops the core, which is loaded again from disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_agent::core::event::OpId;
use airlift_agent::core::write::AppRow;
use airlift_agent::core::{Core, Event, Start as CoreStart, Step, Write};
use airlift_agent::ports::Store as _;

use super::World;
use super::clocks::is_dated;
use super::happening::{Happening, Life, SiteNo, Start};
use super::library::at_once;
use super::site::{Batch, Process};
use crate::invariants::Invariant;

/// What a commit takes, from a quick disk to a tired card.
const COMMIT_MS: (u64, u64) = (2, 40);
/// What one row takes on disk at the least.
const PAGE_BYTES: u64 = 512;
/// How long a failed database is left alone before it is loaded again.
const RELOAD_AFTER_MS: u64 = 1_000;

impl World {
    /// Loads the core from what is on disk and lets it ask for what is owed.
    pub(super) fn load(&mut self, site: SiteNo, life: Life, start: Start) {
        let here = &mut self.sites[site];
        if here.life != life || !here.node.powered {
            return;
        }
        let rows = at_once(here.disk.durable.load()).expect("the store in memory does not fail");
        let told = CoreStart {
            key: Arc::clone(&here.key),
            platform: self.library.platform.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hub: here.contact == airlift_bundles::document::enrolment::ContactClass::Mqtt,
            process_start: start == Start::Process,
            root: Some(self.trust.newest().as_ref().clone()),
        };
        let core = match Core::load(told, rows) {
            Ok(core) => core,
            Err(error) => {
                let text = format!("the core does not load from its own rows: {error}");
                return self.violated(Invariant::Restarts, Some(site), text);
            }
        };
        here.process = Some(Process {
            core,
            ops: BTreeSet::new(),
            watch: None,
            alarm_ms: None,
            conn: None,
            kept_images: BTreeSet::new(),
            told_api: None,
            told_nodes: None,
            told_disk: false,
        });
        self.with_core(site, |core, now| core.resume(now));
        if start == Start::AfterFailure {
            let reason = "the disk is full".to_owned();
            self.with_core(site, |core, now| core.step(now, Event::StoreFailed { reason }));
        }
        let pause_ms = self.random.between(20, 200);
        self.timeline.after(pause_ms, Happening::Look(site, life));
    }

    /// Ends a process, in whatever it is doing.
    pub(super) fn end_process(&mut self, site: SiteNo) {
        let here = &mut self.sites[site];
        here.life += 1;
        if let Some(process) = here.process.take()
            && let Some(watch) = process.watch
        {
            here.cluster.unwatch(watch);
        }
        here.disk.waiting.clear();
        here.disk.ready_ms = 0;
        self.pause_content(site);
        self.cut_link(site);
    }

    /// Hands an event to the core of this life, if it still lives and the event is not of an operation that was
    /// called off.
    pub(super) fn tell(&mut self, site: SiteNo, life: Life, event: Event) {
        let here = &mut self.sites[site];
        if here.life != life {
            return;
        }
        let Some(process) = &mut here.process else { return };
        match &event {
            Event::LinkUp { conn, .. } => process.conn = Some(*conn),
            Event::LinkDown { conn, .. } if process.conn == Some(*conn) => process.conn = None,
            _ => {}
        }
        if let Some(op) = op_of(&event)
            && !matches!(event, Event::OpEnded { .. } | Event::ContentProgress { .. })
            && !process.ops.remove(&op)
        {
            return;
        }
        if !is_dated(&event) {
            return self.with_core(site, |core, now| core.step(now, event));
        }
        let now = self.sites[site].now(site, self.timeline.now_ms());
        let Some(process) = &mut self.sites[site].process else { return };
        let step = process.core.step(now, event.clone());
        self.check_clock(site, now, &event, &step);
        self.trace.step(&step);
        self.queue(site, step);
    }

    /// The alarm rings, unless it was set anew.
    pub(super) fn ring(&mut self, site: SiteNo, life: Life, at_ms: u64) {
        let here = &mut self.sites[site];
        if here.life != life {
            return;
        }
        let Some(process) = here.process.as_mut().filter(|process| process.alarm_ms == Some(at_ms)) else {
            return;
        };
        process.alarm_ms = None;
        if self.ledgers[site].wakes_too_often(at_ms) {
            let rows = self.sites[site].process.as_ref().map(|process| process.core.rows());
            let apps = rows.into_iter().flat_map(|rows| rows.apps.values());
            let doing = |row: &AppRow| format!("{} is at {} ({})", row.app, row.step, row.state.word());
            let text = apps.map(|row| doing(row)).collect::<Vec<_>>().join(", ");
            return self.violated(Invariant::Sleep, Some(site), format!("it wakes up without end: {text}"));
        }
        self.with_core(site, |core, now| core.step(now, Event::Wake));
    }

    fn with_core(&mut self, site: SiteNo, act: impl FnOnce(&mut Core, airlift_agent::core::Now) -> Step) {
        let now_ms = self.timeline.now_ms();
        self.stir(site);
        let here = &mut self.sites[site];
        let now = here.now(site, now_ms);
        let Some(process) = &mut here.process else { return };
        let step = act(&mut process.core, now);
        self.trace.step(&step);
        self.queue(site, step);
    }

    /// Hands a step's writes to the disk; its effects wait behind them, and behind those of the steps before.
    fn queue(&mut self, site: SiteNo, step: Step) {
        let now_ms = self.timeline.now_ms();
        let Step { writes, effects } = step;
        if writes.is_empty() && self.sites[site].disk.waiting.is_empty() {
            return self.start_all(site, effects);
        }
        let takes_ms = if writes.is_empty() { 0 } else { self.random.between(COMMIT_MS.0, COMMIT_MS.1) };
        let here = &mut self.sites[site];
        here.disk.ready_ms = here.disk.ready_ms.max(now_ms) + takes_ms;
        here.disk.waiting.push_back(Batch { writes, effects });
        let (at_ms, life) = (here.disk.ready_ms, here.life);
        self.timeline.at(at_ms, Happening::Committed(site, life));
    }

    /// The oldest commit is done, or has failed.
    pub(super) fn committed(&mut self, site: SiteNo, life: Life) {
        let here = &mut self.sites[site];
        if here.life != life {
            return;
        }
        let bytes = here.disk.waiting.front().map_or(0, |batch| size_of(&batch.writes));
        let left = here.disk.room_bytes.map(|room_bytes| room_bytes.checked_sub(bytes));
        here.disk.room_bytes = left.map(Option::unwrap_or_default);
        if bytes > 0 && left == Some(None) {
            self.end_process(site);
            let life = self.sites[site].life;
            return self.timeline.after(RELOAD_AFTER_MS, Happening::Load(site, life, Start::AfterFailure));
        }
        let Some(batch) = here.disk.waiting.pop_front() else { return };
        self.write(site, batch.writes);
        self.start_all(site, batch.effects);
    }

    /// Writes reach the disk.
    pub(super) fn write(&mut self, site: SiteNo, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        self.count_commit(site);
        self.check_writes(site, &writes);
        self.meter.writes(site, &writes, self.timeline.now_ms());
        self.sites[site].disk.hold_back(&writes);
        at_once(self.sites[site].disk.durable.commit(writes)).expect("the store in memory does not fail");
    }

    fn start_all(&mut self, site: SiteNo, effects: Vec<airlift_agent::core::Effect>) {
        for effect in effects {
            self.start(site, effect);
        }
    }
}

/// About what a commit takes on disk: a page for each row, and its documents.
fn size_of(writes: &[Write]) -> u64 {
    let bytes = |write: &Write| match write {
        Write::PutDocument(row) => row.envelope.len(),
        Write::PutAssignment(row) => row.envelope.len(),
        Write::PutRoot(row) => row.envelope.len(),
        Write::AppendReceipt(row) => row.envelope.len(),
        Write::PutOutbox(row) => row.payload.len(),
        _ => 0,
    };
    writes.iter().map(|write| PAGE_BYTES + bytes(write) as u64).sum()
}

/// The operation that an event ends.
fn op_of(event: &Event) -> Option<OpId> {
    match event {
        Event::ContentProgress { op, .. }
        | Event::ContentReady { op }
        | Event::ContentFailed { op, .. }
        | Event::Prepared { op, .. }
        | Event::PrepareFailed { op, .. }
        | Event::Imported { op }
        | Event::ImportFailed { op, .. }
        | Event::Api { op, .. }
        | Event::Health { op, .. }
        | Event::OpEnded { op } => Some(*op),
        _ => None,
    }
}
