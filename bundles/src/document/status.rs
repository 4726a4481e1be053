//! The status batch: a site's outbox rows and its present state, signed by the site key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{check_ascending, check_count};
use crate::code::Code;
use crate::document::receipt::{ClockQuality, Evidence, ReleaseMark, RootMark};
use crate::document::release::Platform;
use crate::envelope::{Contradiction, Document};
use crate::ids::{AppName, Counter, FleetId, RandomId, Sha256Digest, SiteId, Timestamp};

/// Rows of a site's outbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusBatch {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The site.
    pub site: SiteId,
    /// Which enrolment of the site.
    pub incarnation: u64,
    /// Which database of the site the numbers belong to.
    pub outbox_epoch: RandomId,
    /// The rows, ascending by number.
    pub rows: Vec<OutboxRow>,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// One row: a receipt or a status, never both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its number in the outbox.
    pub seq: u64,
    /// A receipt's envelope, with its own signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<RawValue>>,
    /// The site's state; a newer row replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<SiteStatus>>,
}

/// What a site says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Version of the agent.
    pub agent_version: String,
    /// The root in force.
    pub root: RootMark,
    /// The assignment in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Counter>,
    /// An assignment that waits for documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Counter>,
    /// The boot, so that two living copies of one site are noticed.
    pub boot: RandomId,
    /// State per app; boxed, because a map makes room for eleven with the first.
    pub apps: BTreeMap<AppName, Box<AppStatus>>,
    /// The nodes of the cluster, where it answers.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// Whether the cluster answers.
    pub cluster_up: bool,
    /// Free bytes of the agent's file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// Refusals by code since the database was made.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// The site's idea of the time.
    pub known_time: Timestamp,
    /// How good that idea is.
    pub clock_quality: ClockQuality,
}

/// The states of an app at a site, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// Assigned, not begun.
    Waiting,
    /// Its content is arriving.
    Fetching,
    /// Content complete and checked against the cluster; nothing changed yet.
    Prepared,
    /// Its images go into the container runtime.
    Importing,
    /// Its objects go to the cluster.
    Applying,
    /// Applied; waiting until it is well for its soak time.
    Settling,
    /// Well.
    Healthy,
    /// Not accepted or not begun; what ran before goes on.
    Refused,
    /// Left as it is by a person's word.
    Held,
    /// The previous generation is being restored.
    RollingBack,
    /// Unhealthy where it stands, and staying there.
    Degraded,
    /// Its first generation failed; its objects are left.
    Failed,
    /// Leaving the site by order.
    Retiring,
    /// It was well when it was last seen, and nobody can say now: the cluster does not answer, or no node is Ready.
    Unknown,
}

impl AppState {
    /// The word that people and JSON see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Prepared => "prepared",
            Self::Importing => "importing",
            Self::Applying => "applying",
            Self::Settling => "settling",
            Self::Healthy => "healthy",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::RollingBack => "rolling-back",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Retiring => "retiring",
            Self::Unknown => "unknown",
        }
    }
}

/// One app at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Where it stands.
    pub state: AppState,
    /// Since when, by the site's clock.
    pub since: Timestamp,
    /// What runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ReleaseMark>,
    /// What it is going to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ReleaseMark>,
    /// Digest of the generation that it is going to, or that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Sha256Digest>,
    /// Why, where something was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Code>,
    /// The same in words, at most [`AppStatus::DETAIL_CHARS_MAX`] characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What was seen: of an app that settles the objects that are not well yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// What the work is on, while there is work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working: Option<ReleaseMark>,
    /// What a rollback leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<ReleaseMark>,
    /// What the site goes back to by itself if the work fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_to: Option<ReleaseMark>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waiting>,
    /// Bytes here and wanted, while fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How fast they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
    /// Objects applied and planned, while applying; objects deleted and planned to be, while leaving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Progress>,
    /// How long it may still take to become well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<SettleClock>,
}

impl AppStatus {
    /// Characters of `detail`; the words of an API server may be long.
    pub const DETAIL_CHARS_MAX: usize = 1024;
}

/// What the work on an app waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Waiting {
    /// Another app must be healthy at a number first.
    App {
        /// Which one.
        app: AppName,
        /// The least number.
        min_seq: u64,
        /// The number that is healthy here now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// Bytes that are not here yet.
    Content,
    /// The API server, which does not answer.
    Cluster,
    /// A node that is Ready, takes pods and has room.
    Node,
    /// An import that takes the disk.
    Import,
    /// Objects that are not well yet.
    Health,
    /// The end of a pause after a failure of the surroundings.
    Pause {
        /// What is left of it.
        left_s: u64,
    },
    /// The end of the retire delay.
    RetireDelay {
        /// What is left of it, in uptime.
        left_s: u64,
    },
    /// Another app that is leaving.
    Turn,
    /// A person at the site, who holds it.
    Person,
    /// Something that a later version knows.
    #[serde(other)]
    Unknown,
}

/// The clocks of an app that is to become well; they run only while waiting means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleClock {
    /// Time used.
    pub used_ms: u64,
    /// Time after which it has failed.
    pub limit_ms: u64,
    /// All is well: the soak time is what runs.
    pub soaking: bool,
    /// Soak time passed.
    pub soaked_ms: u64,
    /// Soak time that makes it healthy.
    pub soak_ms: u64,
    /// Whether they run now.
    pub runs: bool,
}

/// How much of something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done.
    pub have: u64,
    /// Of so much.
    pub want: u64,
}

/// A node of the site's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Whether pods may be scheduled on it.
    pub schedulable: bool,
    /// Whether it reports disk pressure.
    pub disk_pressure: bool,
    /// What it runs.
    pub platform: Platform,
    /// The kubelet's version.
    #[serde(default)]
    pub kubelet: String,
}

impl Document for StatusBatch {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.status.v1+json";
    const FIELDS: &'static [&'static str] =
        &["fleet_id", "site", "incarnation", "outbox_epoch", "rows", "crit"];

    fn check(&self) -> Result<(), Contradiction> {
        check_count("rows", self.rows.len(), 256)?;
        check_ascending("rows", &self.rows, |row| row.seq)?;
        match self.rows.iter().find(|row| row.receipt.is_some() == row.status.is_some()) {
            Some(row) => Err(format!("row {} must hold a receipt or a status", row.seq).into()),
            None => Ok(()),
        }
    }
}
