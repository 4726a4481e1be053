//! The receipt: what happened at a site, signed by its key and chained by hash.

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::envelope::{Contradiction, Document};
use crate::ids::{AppName, Counter, FleetId, RandomId, Sha256Digest, SiteId, Timestamp, Version};
use crate::limits::Limits;

/// One link of a site's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The site.
    pub site: SiteId,
    /// Which enrolment of the site.
    pub incarnation: u64,
    /// The chain, made with the site key.
    pub chain_id: RandomId,
    /// 1, 2, 3 … without a gap.
    pub receipt_seq: u64,
    /// Digest of the payload of the receipt before; absent in the first only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_sha256: Option<Sha256Digest>,
    /// The root in force.
    pub root: RootMark,
    /// The assignment in force: epoch and number; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Counter>,
    /// The app, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The release, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseMark>,
    /// Digest of (release, parameters, overlays, secrets).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Sha256Digest>,
    /// What happened.
    pub outcome: Outcome,
    /// Why, where something was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Code>,
    /// How much was touched.
    #[serde(default)]
    pub counts: Counts,
    /// What was seen, newest last; at most 8 KiB of text in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The site's idea of the time, for display.
    pub known_time: Timestamp,
    /// How good that idea is.
    pub clock_quality: ClockQuality,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// A root by version and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMark {
    /// Its version.
    pub version: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
}

/// A release by digest, number and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseMark {
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its version for people.
    pub version: Version,
}

/// What a receipt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The site joined, or joined again.
    Enrolled,
    /// An assignment was accepted.
    Accepted,
    /// The app reached its generation and stayed well for its soak time, or is well again after trouble.
    Healthy,
    /// The app was not accepted or not begun.
    Refused,
    /// The generation failed and the previous one is healthy again.
    RolledBack,
    /// The generation failed with nothing to go back to.
    Failed,
    /// The app is unhealthy where it stands, and stays there.
    Degraded,
    /// Something at the site was changed by others and set right.
    Repaired,
    /// Objects that the healthy generation no longer holds were deleted.
    Pruned,
    /// The app was removed by order.
    Retired,
    /// A person at the site acted.
    LocalAct,
    /// Something that must not happen was seen.
    Alarm,
}

/// How much a receipt's step touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Objects of the generation.
    pub objects: u64,
    /// Objects sent to the cluster.
    pub applied: u64,
    /// Objects deleted.
    pub pruned: u64,
    /// Images put into the container runtime.
    pub images: u64,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `Kind namespace/name`, or `node name`.
    pub object: String,
    /// A word: `ImagePullBackOff`, `ReadinessProbeFailed`.
    pub reason: String,
    /// The words of the source: a condition's message, an event, a log line.
    pub message: String,
}

/// How the site knows the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockQuality {
    /// The operating system says that its clock is synchronised.
    Synchronised,
    /// Counted on from the last time known for sure.
    Floor,
}

impl Evidence {
    /// Cuts a list so that its text stays within the limit: keeps the first of it, and shortens the last kept.
    #[must_use]
    pub fn bounded(evidence: Vec<Self>, limits: &Limits) -> Vec<Self> {
        let mut left = limits.evidence_bytes;
        let mut kept = Vec::new();
        for mut item in evidence {
            let names = item.object.len() + item.reason.len();
            if names >= left {
                break;
            }
            left -= names;
            if item.message.len() > left {
                let end = (0..=left).rev().find(|&end| item.message.is_char_boundary(end)).unwrap_or(0);
                item.message.truncate(end);
            }
            left -= item.message.len();
            kept.push(item);
        }
        kept
    }
}

impl Document for Receipt {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.receipt.v1+json";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "site",
        "incarnation",
        "chain_id",
        "receipt_seq",
        "prev_sha256",
        "root",
        "assignment",
        "app",
        "release",
        "generation",
        "outcome",
        "reason",
        "counts",
        "evidence",
        "known_time",
        "clock_quality",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        if self.receipt_seq == 0 || (self.receipt_seq == 1) != self.prev_sha256.is_none() {
            return Err("receipt 1 has no prev_sha256, every later one has".into());
        }
        let text: usize =
            self.evidence.iter().map(|item| item.object.len() + item.reason.len() + item.message.len()).sum();
        Ok(super::check_count("bytes of evidence", text, Limits::DEFAULT.evidence_bytes)?)
    }
}
