//! What a crash may take: operations under way, the connection, and what was seen of the cluster.
//!
//! Nothing here decides anything that must outlive the process; `resume` begins with an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::document::assignment::ReceiptMark;
use airlift_bundles::document::status::{NodeStatus, SiteStatus};
use airlift_bundles::ids::{AppName, Blake3Digest, RandomId, Sha256Digest};

use super::api::{Applied, Found};
use super::event::{ConnId, MediaId, OpId};
use super::object::{GenerationId, Gvk, Health, ObjectRef, Plan, Uid};
use super::time::Now;

/// The rate of a fetch is told over one to two of these.
const PACE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Live {
    /// The load that this is, for operation ids.
    start: u64,
    next_op: u64,
    /// The moment of loading.
    pub began_ms: u64,
    /// The moment up to which clocks were counted.
    pub clocks_ms: u64,
    pub ops: BTreeMap<OpId, Op>,
    /// Boxed, because a map makes room for eleven with the first.
    pub apps: BTreeMap<AppName, Box<LiveApp>>,
    pub wake_at: Option<u64>,

    pub link: Link,
    pub media: Vec<MediaId>,
    /// Newest root and assignment that somebody spoke of.
    pub root_hint: u64,
    pub assignment_hint: Option<Sha256Digest>,
    /// Releases that the parked assignment misses.
    pub missing_releases: BTreeSet<Sha256Digest>,
    /// What was asked for last.
    pub wanted: BTreeSet<super::effect::WantedDocument>,
    pub documents_due: u64,
    /// How often the same was asked for again.
    pub asked: u32,
    /// The first receipt that a stick takes, where the hub lost some that it had acknowledged.
    pub lost_from: Option<u64>,

    pub api_up: bool,
    /// Why it did not answer last.
    pub api_trouble: Option<String>,
    pub nodes: Vec<NodeStatus>,
    /// Since when each node that is not Ready was seen to be so.
    pub away: BTreeMap<String, u64>,
    pub disk_free_bytes: Option<u64>,
    pub watched: BTreeSet<Arc<Gvk>>,
    /// Kinds that this watch has listed.
    pub listed: BTreeSet<Arc<Gvk>>,
    pub kept: Option<BTreeSet<GenerationId>>,
    /// Rows changed by which the watched kinds or the kept generations may change.
    pub rows_changed: bool,
    pub status_dirty: bool,
    /// The last acknowledgement of a receipt that is not ours: said once, and not again with each ack.
    pub contradicted: Option<ReceiptMark>,
    /// The last status that was sent, and when.
    pub told: Option<(SiteStatus, u64)>,
    pub shutting_down: bool,
}

/// The connection to the hub.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub conn: Option<ConnId>,
    /// Attempts since the last connection.
    pub attempt: u32,
    /// Receipts below were sent over this connection.
    pub sent_next: u64,
    /// The outbox number of the status that was sent over this connection.
    pub status_sent: u64,
    /// What is not acknowledged by then is sent again.
    pub resend_at: Option<u64>,
    /// How often it was sent again, with nothing acknowledged since.
    pub resends: u32,
    /// The next status is not sent before.
    pub status_at: u64,
    /// What the hub lost was sent again over this connection.
    pub lost_sent: bool,
    /// The last call of the roll, and when it is answered.
    pub roll_call: Option<RandomId>,
    pub answer_at: Option<u64>,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    pub app: AppName,
    pub deed: Deed,
    /// The piece of work it belongs to; a reply for an earlier one is recorded, but moves nothing.
    pub work: u64,
    pub since_ms: u64,
    /// What a watch told last of the object that it writes.
    pub sight: Option<Sight>,
}

/// What a watch told of an object while a request for it was under way. Whether that was before the request or after
/// it, only the reply shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sight {
    /// It was there, with this hash of our fields.
    There { uid: Uid, ours: Option<Blake3Digest> },
    /// It was gone.
    Gone { uid: Uid },
}

impl Sight {
    /// Whether the object may be another since what the reply tells.
    pub(super) fn contradicts(&self, applied: &Applied) -> bool {
        match self {
            Self::There { uid, ours } => *uid != applied.uid || *ours != Some(applied.fields_hash),
            Self::Gone { uid } => *uid == applied.uid,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    /// Fetches the content of a generation.
    Fetch(GenerationId),
    Prepare,
    Import,
    List(Arc<Gvk>),
    Apply {
        object: ObjectRef,
        generation: GenerationId,
        sha256: Sha256Digest,
        wave: u32,
    },
    Delete(ObjectRef),
    /// Deletes what is to be created anew, or was run for a generation that is left.
    Replace {
        object: ObjectRef,
        wave: u32,
    },
    /// Asks whether an update would be taken.
    Try(super::trial::Update),
    /// Looks for others' things under it.
    Others(ObjectRef),
    Health(ObjectRef),
    /// Of which workload.
    Pods(ObjectRef),
    /// Of which workload.
    DeletePod(ObjectRef),
}

impl Deed {
    /// The object that a request under way may change, and its wave when that was begun.
    pub(super) fn writes(&self) -> Option<(&ObjectRef, u32)> {
        match self {
            Self::Apply { object, wave, .. } | Self::Replace { object, wave } => Some((object, *wave)),
            _ => None,
        }
    }

    /// Whether it takes so long that calling it off is worth a request.
    pub(super) fn is_long(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::Prepare | Self::Import)
    }
}

/// What is known of an app beyond its rows.
#[derive(Debug, Default)]
pub(super) struct LiveApp {
    /// Counts pieces of work.
    pub work: u64,
    /// The step may begin again then.
    pub retry_at: Option<u64>,
    pub fetched: Option<(u64, u64)>,
    pub pace: Pace,
    /// What preparing found, until it becomes the plan of the rows.
    pub plan: Option<Plan>,
    /// Kinds that were listed in this piece of work.
    pub surveyed: BTreeSet<Arc<Gvk>>,
    /// Those of them that the cluster does not know.
    pub unknown: BTreeSet<Arc<Gvk>>,
    /// What the listings found and replies told since.
    pub found: BTreeMap<ObjectRef, Found>,
    /// At rest: kinds of which something is not as it should be.
    pub drifted: BTreeSet<Arc<Gvk>>,
    /// Those of them of which something was seen to change while they were listed: the listing may be older than that.
    pub overtaken: BTreeSet<Arc<Gvk>>,
    /// Objects that were put right since the last receipt about it.
    pub repaired: BTreeSet<ObjectRef>,
    pub repaired_at: u64,
    /// Failures per object, and when it may be tried again.
    pub pauses: BTreeMap<ObjectRef, (u32, u64)>,
    pub health: BTreeMap<ObjectRef, Reading>,
    /// Objects deleted since the last receipt about it.
    pub pruned: u64,
    /// What of others was found under namespaces, definitions and claims that are to be deleted.
    pub others: BTreeMap<ObjectRef, Vec<String>>,
    /// Objects sent in this piece of work.
    pub sent: u64,
    /// Settle, soak or retire time that is not in the row yet.
    pub unflushed_ms: u64,
    pub flush_at: u64,
    /// All observed objects are healthy: the soak clock runs, not the settle clock.
    pub soaking: bool,
    /// The moment at which the soak was over; what was read before is read once more.
    pub final_at: Option<u64>,
    /// Objects whose last reading failed, with when they are to be read again.
    pub unread: BTreeMap<ObjectRef, (super::api::ApiError, u64)>,
    /// Time that counts on the settle clock once a reading confirms that the cluster could be seen in it.
    pub unconfirmed_ms: u64,
    /// Settle clock when an object was first seen stuck.
    pub stuck_ms: BTreeMap<ObjectRef, u64>,
    /// Objects with a health of their own, once they were looked up.
    pub observed: Option<Vec<ObjectRef>>,
    /// Those of them that run once and did, before this work or seen to end well in it: they may be gone.
    pub ran: BTreeSet<ObjectRef>,
    /// What is known of workloads' pods.
    pub wards: BTreeMap<ObjectRef, super::heal::Ward>,
    /// How the app has been at rest.
    pub trouble: super::watch::Trouble,
    /// Objects that changed since they were read.
    pub touched: BTreeSet<ObjectRef>,
    /// The images of what runs are to be checked or restored.
    pub import_due: bool,
    /// And first those of the previous generation, which a rollback needs.
    pub import_previous_due: bool,
    /// The generation whose images are imported at rest.
    pub importing: Option<GenerationId>,
    /// How often content was found damaged or gone since the app was last healthy.
    pub losses: u32,
    /// Objects that the plan no longer holds are to be deleted.
    pub prune_due: bool,
    /// Objects that later waves wait for.
    pub gates: Vec<(u32, ObjectRef)>,
    /// The last refusal for which the API server alone is to blame, while it lasts.
    pub stopped: Option<(ObjectRef, super::api::ApiError)>,
    /// The last refusal that may pass by itself, while it lasts.
    pub refused: Option<(ObjectRef, super::api::ApiError)>,
    /// Objects that are going, with the wave that cannot be finished before they are gone.
    pub going: BTreeMap<ObjectRef, u32>,
    /// Updates that are tried before the first of their wave is sent.
    pub trial: Option<super::trial::Trial>,
    /// Updates that the API server would take.
    pub tried: BTreeMap<ObjectRef, Sha256Digest>,
    /// What is to be sent, by wave; made when everything was listed, emptied while it is sent.
    pub todo: Option<BTreeMap<u32, Vec<ObjectRef>>>,
}

#[derive(Debug)]
pub(super) struct Reading {
    pub health: Health,
    pub at_ms: u64,
}

/// How fast a fetch is, over its last [`PACE_MS`] and more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The start of the span before the present one, and bytes then.
    before: Option<(u64, u64)>,
    /// The start of the present span, and bytes then.
    begun: Option<(u64, u64)>,
}

impl Pace {
    /// Takes note of progress.
    pub(super) fn note(&mut self, at_ms: u64, bytes: u64) {
        match self.begun {
            Some((since_ms, _)) if at_ms < since_ms + PACE_MS => {}
            Some(begun) => (self.before, self.begun) = (Some(begun), Some((at_ms, bytes))),
            None => self.begun = Some((at_ms, bytes)),
        }
    }

    /// Bytes a second, once that can be told.
    pub(super) fn bytes_per_s(&self, now_ms: u64, bytes: u64) -> Option<u64> {
        let (since_ms, had) = self.before.or(self.begun)?;
        let passed_ms = now_ms.checked_sub(since_ms).filter(|passed_ms| *passed_ms >= 1_000)?;
        Some(bytes.saturating_sub(had).saturating_mul(1_000) / passed_ms)
    }
}

impl Live {
    pub(super) fn begin(&mut self, now: Now, start: u64) {
        self.start = start;
        self.began_ms = now.mono_ms;
        self.clocks_ms = now.mono_ms;
        self.status_dirty = true;
        self.rows_changed = true;
    }

    pub(super) fn app(&mut self, app: &AppName) -> &mut LiveApp {
        self.apps.entry(app.clone()).or_default()
    }

    /// Notes an operation as begun.
    pub(super) fn begin_op(&mut self, now: Now, app: &AppName, deed: Deed) -> OpId {
        self.next_op += 1;
        let op = OpId { start: self.start, number: self.next_op };
        let work = self.app(app).work;
        self.ops.insert(op, Op { app: app.clone(), deed, work, since_ms: now.mono_ms, sight: None });
        op
    }

    pub(super) fn ops_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = (&'a OpId, &'a Op)> {
        self.ops.iter().filter(move |(_, op)| op.app == *app)
    }

    /// Whether such an operation of the app is under way.
    pub(super) fn doing(&self, app: &AppName, is: impl Fn(&Deed) -> bool) -> bool {
        self.ops_of(app).any(|(_, op)| is(&op.deed))
    }

    /// Whether an object's health is being read.
    pub(super) fn is_reading(&self, app: &AppName, object: &ObjectRef) -> bool {
        self.doing(app, |deed| matches!(deed, Deed::Health(asked) if asked == object))
    }

    /// Why no node can run pods; `None` where one can.
    pub(super) fn node_trouble(&self) -> Option<String> {
        if self.node_ready() {
            return None;
        }
        let ready: Vec<&NodeStatus> = self.nodes.iter().filter(|node| node.ready).collect();
        Some(match ready.iter().find(|node| node.disk_pressure) {
            _ if ready.is_empty() => "none is Ready".to_owned(),
            Some(node) => format!("{} reports disk pressure", node.name),
            None => "none that is Ready takes pods".to_owned(),
        })
    }

    /// Whether it is known what of others is under an object.
    pub(super) fn knows_others(&self, app: &AppName, object: &ObjectRef) -> bool {
        self.apps.get(app).is_some_and(|live| live.others.contains_key(object))
    }

    /// Whether a node can run pods, so that waiting for health means something.
    pub(super) fn node_ready(&self) -> bool {
        self.nodes.iter().any(|node| node.ready && node.schedulable && !node.disk_pressure)
    }
}
