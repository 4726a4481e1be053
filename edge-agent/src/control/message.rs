//! The lines of the control socket. They have a life of their own: no inner type travels as it is.

use std::path::PathBuf;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::status::{AppState, AppStatus, NodeStatus};
use airlift_bundles::ids::{AppName, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::pieces::PIECE_BYTES;
use serde::{Deserialize, Serialize};

use crate::core::status::{AppReport, StatusReport};
use crate::ports::content::WantedItem;
use crate::receive::media::{Loaded, Progress, Saved};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// What is wanted.
    pub action: Action,
}

/// What can be wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// How is everything?
    Status,
    /// Begin no new generation of the app, and do not retire it.
    Hold(AppName),
    /// Go on.
    Unhold(AppName),
    /// Try the target again, although it failed.
    Retry(AppName),
    /// Back to the healthy generation before this one.
    Rollback(AppName),
    /// Load a stick or tar file, by absolute path.
    MediaLoad(PathBuf),
    /// Write receipts onto a stick or into a tar file, by absolute path.
    MediaSave(PathBuf),
    /// The newest lines of the log.
    Log,
}

/// One line back; all but `Progress` are the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How far a load is.
    Progress(Progress),
    /// To `Status`.
    Status(Box<StatusView>),
    /// Done, and committed.
    Done(String),
    /// To `MediaLoad`.
    Loaded(Box<Loaded>),
    /// To `MediaSave`.
    Saved(Saved),
    /// To `Log`.
    Log(String),
    /// Not done.
    Refused {
        /// The stable code.
        code: Code,
        /// Why.
        reason: String,
    },
}

/// How the site is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The site.
    pub site: SiteId,
    /// Version of the agent.
    pub agent_version: String,
    /// There is a hub to connect to; without one, sticks alone serve this site.
    pub has_hub: bool,
    /// The link to the hub is up.
    pub connected: bool,
    /// When the hub last spoke, exact to an hour.
    pub hub_heard: Option<Timestamp>,
    /// After so many seconds of silence the hub's word is called stale; the hub chose it.
    pub stale_after_s: Option<u64>,
    /// Its word is stale: a newer one may exist. Nothing follows from it.
    pub stale: bool,
    /// Media that are in.
    pub media: Vec<String>,
    /// The API server answers.
    pub cluster_up: bool,
    /// Its nodes, as last seen.
    pub nodes: Vec<NodeStatus>,
    /// Version of the newest root.
    pub root_version: u64,
    /// The accepted assignment's number, or 0.
    pub assignment_seq: u64,
    /// An assignment waits for documents.
    pub assignment_parked: bool,
    /// Receipts that the hub has not acknowledged.
    pub receipts_waiting: u64,
    /// Best guess of the time.
    pub time: Timestamp,
    /// Each app.
    pub apps: Vec<AppView>,
    /// What was refused since the database was made.
    pub refusals: Vec<RefusalView>,
    /// Items that running fetches miss, most urgent first, at most [`MISSING_MAX`].
    pub missing: Vec<MissingView>,
}

/// Missing items that are told.
pub const MISSING_MAX: usize = 32;

/// An item that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingView {
    /// The item.
    pub sha256: Sha256Digest,
    /// Its size, where it is known.
    pub bytes: Option<u64>,
    /// Bytes of it that are here, in whole pieces.
    pub bytes_here: u64,
}

/// How an app is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppView {
    /// The app.
    pub app: AppName,
    /// Its state.
    pub state: AppState,
    /// The step of the work, finer than the state.
    pub step: String,
    /// The version that is worked on, or runs.
    pub version: Option<String>,
    /// The generation that is worked on, or runs.
    pub generation: Option<Sha256Digest>,
    /// The version that last was healthy.
    pub current_version: Option<String>,
    /// The version that the assignment wants.
    pub target_version: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Bytes that are here, while fetching.
    pub fetched_bytes: Option<u64>,
    /// Bytes in all, while fetching.
    pub wanted_bytes: Option<u64>,
    /// Objects of the plan.
    pub objects: u32,
    /// Those of them that are applied.
    pub objects_applied: u32,
    /// What is wrong, by code.
    pub code: Option<Code>,
    /// What is wrong, for people.
    pub reason: String,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// The same as the hub is told it, with what is waited for; a document's type, and as lasting as one.
    pub status: AppStatus,
}

/// How often something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalView {
    /// The code.
    pub code: Code,
    /// Who brought it: `hub`, `media`, `local`.
    pub carrier: String,
    /// How often.
    pub count: u64,
    /// The last one, in words.
    pub last: String,
}

impl From<WantedItem> for MissingView {
    fn from(item: WantedItem) -> Self {
        let pieces: u64 = item.bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let bytes_here = (pieces * PIECE_BYTES as u64).min(item.size.unwrap_or(u64::MAX));
        Self { sha256: item.sha256, bytes: item.size, bytes_here }
    }
}

impl StatusView {
    /// What the core says, and what the content store misses.
    #[must_use]
    pub fn new(report: StatusReport, missing: Vec<WantedItem>) -> Self {
        let refusals = report.refusals.into_iter().map(|row| RefusalView {
            code: row.code,
            carrier: row.carrier,
            count: row.count,
            last: row.last,
        });
        Self {
            site: report.site,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            has_hub: report.has_hub,
            connected: report.connected,
            hub_heard: report.hub_heard,
            stale_after_s: report.stale_after_s,
            stale: report.stale,
            media: report.media,
            cluster_up: report.cluster_up,
            nodes: report.nodes,
            root_version: report.root_version,
            assignment_seq: report.assignment_seq,
            assignment_parked: report.assignment_parked,
            receipts_waiting: report.receipts_unacked,
            time: report.time,
            apps: report.apps.into_iter().map(AppView::from).collect(),
            refusals: refusals.collect(),
            missing: missing.into_iter().map(MissingView::from).collect(),
        }
    }
}

impl From<AppReport> for AppView {
    fn from(report: AppReport) -> Self {
        Self {
            app: report.app,
            state: report.state,
            step: report.step.as_str().to_owned(),
            version: report.version,
            generation: report.generation,
            current_version: report.current_version,
            target_version: report.target_version,
            since: report.since,
            fetched_bytes: report.fetched.map(|(have, _)| have),
            wanted_bytes: report.fetched.map(|(_, want)| want),
            objects: report.objects.0,
            objects_applied: report.objects.1,
            code: report.code,
            reason: report.reason,
            evidence: report.evidence,
            status: report.status,
        }
    }
}
