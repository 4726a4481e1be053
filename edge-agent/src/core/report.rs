//! How site and apps are, for people: one account for the hub's page and the site's own.

use airlift_bundles::document::receipt::{Evidence, ReleaseMark};
use airlift_bundles::document::status::{AppState, AppStatus, Progress, SettleClock, Waiting};
use airlift_bundles::ids::{AppName, Timestamp};
use airlift_bundles::limits::Limits;

use super::Core;
use super::live::Deed;
use super::object::{Generation, GenerationId};
use super::outbox::mark;
use super::state::{Purpose, Step as AppStep};
use super::status::{AppReport, StatusReport};
use super::time::Now;
use super::write::{AppRow, ObjectRow, Rows, Slot};

/// What the rows alone tell of an app: the last that is known where no agent runs. `began` stands in for a moment
/// that was never stored.
#[must_use]
pub fn stored_status(rows: &Rows, row: &AppRow, began: Timestamp) -> AppStatus {
    let marked = |id: Option<GenerationId>| -> Option<ReleaseMark> {
        Some(mark(&rows.generations.get(&id?)?.generation))
    };
    AppStatus {
        state: row.shown(),
        since: row.since.unwrap_or(began),
        running: marked(row.current),
        target: marked(row.target),
        generation: row.working.or(row.current),
        reason: row.code,
        detail: row.reason.chars().take(AppStatus::DETAIL_CHARS_MAX).collect(),
        evidence: Evidence::bounded(row.evidence.clone(), &Limits::DEFAULT),
        working: marked(row.working),
        left: marked(row.failed),
        returns_to: None,
        waits: None,
        progress: None,
        bytes_per_s: None,
        objects: None,
        clock: None,
    }
}

impl Core {
    /// How the site is, for `airlift-agent status` and for whoever watches.
    #[must_use]
    pub fn report(&self, now: Now) -> StatusReport {
        let connected = self.live.link.conn.is_some();
        let stale_after_s = self.read_slot(Slot::Current).and_then(|assignment| assignment.stale_after_s);
        let silent_s = self.meta.hub_heard.map(|heard| self.time(now).unix_s() - heard.unix_s());
        let silent_s = silent_s.and_then(|silent_s| u64::try_from(silent_s).ok());
        StatusReport {
            site: self.meta.site.clone(),
            has_hub: self.start.hub,
            connected,
            hub_heard: self.meta.hub_heard,
            stale_after_s,
            stale: !connected
                && silent_s.zip(stale_after_s).is_some_and(|(silent_s, after_s)| silent_s > after_s),
            media: self.live.media.iter().map(|media| media.0.clone()).collect(),
            cluster_up: self.live.api_up,
            nodes: self.live.nodes.clone(),
            root_version: self.root.version,
            assignment_seq: self.assignment_counter().map_or(0, |counter| counter.seq),
            assignment_parked: self.rows.assignments.contains_key(&Slot::Parked),
            receipts_unacked: self.meta.receipt_next - self.meta.receipt_acked_next,
            time: self.time(now),
            apps: self.rows.apps.values().map(|row| self.app_report(now, row)).collect(),
            refusals: self.rows.refusals.values().cloned().collect(),
        }
    }

    fn app_report(&self, now: Now, row: &AppRow) -> AppReport {
        let version = |id| self.generation(id).map(|generation| generation.version.to_string());
        let (wanted, applied) = self.planned(&row.app);
        let status = self.status_of(now, row);
        AppReport {
            app: row.app.clone(),
            state: status.state,
            step: row.step,
            version: version(row.working.or(row.current)),
            generation: status.generation,
            current_version: version(row.current),
            target_version: version(row.target),
            since: row.since,
            fetched: status.progress.map(|progress| (progress.have, progress.want)),
            objects: (u32::try_from(wanted).unwrap_or(u32::MAX), u32::try_from(applied).unwrap_or(u32::MAX)),
            code: status.reason,
            reason: status.detail.clone(),
            evidence: status.evidence.clone(),
            status,
        }
    }

    /// How an app is, as the hub is told it.
    pub(super) fn app_status(&self, now: Now, app: &AppName) -> Option<AppStatus> {
        self.rows.apps.get(app).map(|row| self.status_of(now, row))
    }

    fn status_of(&self, now: Now, row: &AppRow) -> AppStatus {
        let mut status = stored_status(&self.rows, row, self.time(now));
        status.waits = self.waits(row);
        let shown = self.shown(row);
        (status.state, status.reason, status.evidence) = (shown.state, shown.code, shown.evidence);
        status.detail = shown.reason.chars().take(AppStatus::DETAIL_CHARS_MAX).collect();
        let live = self.live.apps.get(&row.app);
        match row.step {
            AppStep::Fetch => {
                if let Some((live, (have, want))) = live.and_then(|live| Some((live, live.fetched?))) {
                    status.progress = Some(Progress { have, want });
                    status.bytes_per_s = live.pace.bytes_per_s(now.mono_ms, have);
                }
            }
            AppStep::Apply => {
                let (want, have) = self.sent(row);
                status.objects = Some(Progress { have, want });
            }
            AppStep::RetireDelete => {
                let left = self.rows.objects.get(&row.app).map_or(0, |rows| rows.len() as u64);
                let have = live.map_or(0, |live| live.pruned);
                status.objects = Some(Progress { have, want: have + left });
            }
            _ => {}
        }
        if matches!(row.step, AppStep::Apply | AppStep::Settle) {
            status.clock = Some(self.clock_of(row));
        }
        if row.step == AppStep::Settle && row.purpose == Purpose::Install {
            status.evidence = self.evidence(&row.app);
        }
        if row.purpose == Purpose::Install && row.step != AppStep::Rest {
            let may_leave = self.working(&row.app).is_none_or(|working| self.may_leave(&working));
            let back =
                row.current.filter(|back| may_leave && Some(*back) != row.working && self.may_return(*back));
            status.returns_to = self.generation(back).map(|generation| mark(&generation));
        }
        status
    }

    /// Objects of the plan, and those of them that are in the cluster by our doing.
    fn planned(&self, app: &AppName) -> (u64, u64) {
        self.count(app, |row| row.applied.is_some())
    }

    /// Objects of the plan, and those of them that are in the cluster as it wants them.
    fn sent(&self, row: &AppRow) -> (u64, u64) {
        self.count(&row.app, |object| {
            let wanted = object.wanted.as_ref().map(|wanted| wanted.sha256);
            object.applied.as_ref().map(|applied| applied.sha256) == wanted
        })
    }

    fn count(&self, app: &AppName, is: impl Fn(&ObjectRow) -> bool) -> (u64, u64) {
        let rows = self.rows.objects.get(app).into_iter().flat_map(|rows| rows.values());
        rows.filter(|row| row.wanted.is_some())
            .fold((0, 0), |(all, counted), row| (all + 1, counted + u64::from(is(row))))
    }

    fn clock_of(&self, row: &AppRow) -> SettleClock {
        let policy = self.policy(&row.app);
        SettleClock {
            used_ms: self.settle_ms(&row.app),
            limit_ms: policy.timeout_ms,
            soaking: self.live.apps.get(&row.app).is_some_and(|live| live.soaking),
            soaked_ms: self.soak_ms(&row.app),
            soak_ms: policy.soak_ms,
            runs: self.settle_clock_runs(&row.app),
        }
    }

    /// The app that a generation waits for.
    fn required(&self, generation: &Generation) -> Option<Waiting> {
        let missing = self.missing(generation)?;
        let here = self.rows.apps.get(&missing.app).and_then(|other| self.generation(other.current));
        let seq = here.map(|here| here.counter.seq);
        Some(Waiting::App { app: missing.app.clone(), min_seq: missing.min_seq, seq })
    }

    /// What the work on an app waits for, as far as that is not the work itself.
    fn waits(&self, row: &AppRow) -> Option<Waiting> {
        let live = self.live.apps.get(&row.app);
        let seconds = |ms: u64| ms.div_ceil(1_000);
        let pause = live
            .and_then(|live| live.retry_at)
            .and_then(|at| at.checked_sub(self.live.clocks_ms))
            .filter(|_| row.code.is_some())
            .map(|left_ms| Waiting::Pause { left_s: seconds(left_ms) });
        let cluster = (!self.live.api_up).then_some(Waiting::Cluster);
        match row.step {
            _ if row.shown() == AppState::Held => Some(Waiting::Person),
            // What runs cannot be known without an API server, or with no node that is Ready.
            AppStep::Rest => {
                let ready = self.live.nodes.iter().any(|node| node.ready);
                let target = row.target.filter(|target| self.wants_work(row, *target));
                let required = self.generation(target).and_then(|target| self.required(&target));
                pause.or(cluster).or((!ready).then_some(Waiting::Node)).or(required)
            }
            AppStep::Wait => self.working(&row.app).and_then(|working| self.required(&working)),
            AppStep::Fetch => pause.or(Some(Waiting::Content)),
            AppStep::Prepare | AppStep::Apply => cluster.or(pause),
            AppStep::Import => pause,
            AppStep::Settle => cluster.or_else(|| {
                if !self.live.node_ready() {
                    Some(Waiting::Node)
                } else if self.live.ops.values().any(|op| op.deed == Deed::Import) {
                    Some(Waiting::Import)
                } else {
                    (!live.is_some_and(|live| live.soaking)).then_some(Waiting::Health)
                }
            }),
            AppStep::RetireWait => {
                let waited_ms = row.retire_ms + live.map_or(0, |live| live.unflushed_ms);
                let left_ms = self.retire_delay_ms().saturating_sub(waited_ms);
                Some(if left_ms == 0 {
                    Waiting::Turn
                } else {
                    Waiting::RetireDelay { left_s: seconds(left_ms) }
                })
            }
            AppStep::RetireDelete => cluster,
        }
    }
}
