//! What people at the site see of the core.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::status::{AppState, AppStatus, NodeStatus};
use airlift_bundles::ids::{AppName, SiteId, Timestamp};

use super::object::GenerationId;
use super::state::Step;
use super::write::RefusalRow;

/// The answer to a local command.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalReply {
    /// To `status`.
    Status(Box<StatusReport>),
    /// Done, and committed.
    Done(String),
    /// Not done.
    Refused {
        /// The stable code.
        code: Code,
        /// Why, and what to do.
        reason: String,
    },
}

/// How the site is.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// The site.
    pub site: SiteId,
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
    pub receipts_unacked: u64,
    /// Best guess of the time.
    pub time: Timestamp,
    /// Each app.
    pub apps: Vec<AppReport>,
    /// What was refused since the database was made.
    pub refusals: Vec<RefusalRow>,
}

/// How an app is.
#[derive(Debug, Clone, PartialEq)]
pub struct AppReport {
    /// The app.
    pub app: AppName,
    /// Its state.
    pub state: AppState,
    /// The step of the work.
    pub step: Step,
    /// The version that is worked on, or runs.
    pub version: Option<String>,
    /// The generation that is worked on, or runs.
    pub generation: Option<GenerationId>,
    /// The version that last was healthy.
    pub current_version: Option<String>,
    /// The version that the assignment wants.
    pub target_version: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Bytes there and in all, while fetching.
    pub fetched: Option<(u64, u64)>,
    /// Objects of the plan, and those of them that are applied.
    pub objects: (u32, u32),
    /// What is wrong, by code.
    pub code: Option<Code>,
    /// What is wrong, for people.
    pub reason: String,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// The same as the hub is told it, with what is waited for.
    pub status: AppStatus,
}
