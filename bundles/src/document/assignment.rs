//! The assignment: the complete desired state of one site, signed by the director.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{check_ascending, check_count};
use crate::document::release::Scalar;
use crate::envelope::{Contradiction, Document};
use crate::ids::{AppName, Counter, FleetId, INTEGER_MAX, Name, RandomId, Sha256Digest, SiteId, Timestamp};
use crate::limits::Limits;

/// What the director wants of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The site.
    pub site: SiteId,
    /// Which enrolment of the site.
    pub incarnation: u64,
    /// The director's epoch in the root.
    pub epoch: u64,
    /// Rises with each assignment of the site: max(last + 1, milliseconds since 1970).
    pub assignment_seq: u64,
    /// Which life of the hub signed it.
    pub hub_incarnation: RandomId,
    /// Every app of the site, ascending by name. An app that is missing is left alone, not removed.
    pub desired: Vec<DesiredApp>,
    /// Apps that leave the site, ascending.
    #[serde(default)]
    pub retire: Vec<AppName>,
    /// How far the hub holds the site's receipts, as in an ack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts_acked: Option<ReceiptMark>,
    /// Other ways to the content than whole blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After how many seconds without a word from the hub the site calls this stale. Changes flags only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after_s: Option<u64>,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// One app of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// The app.
    pub app: AppName,
    /// Digest of the release's payload.
    pub release: Sha256Digest,
    /// The release's epoch, repeated.
    pub epoch: u64,
    /// The release's number, repeated.
    pub seq: u64,
    /// Chosen values of declared parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<Name, Scalar>,
    /// Chosen overlays, in the order in which they are laid on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Name>,
    /// Sealed secrets for declared slots: slot → digest of the sealed file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, Sha256Digest>,
    /// Raised to try a failed generation again.
    #[serde(default)]
    pub retry: u64,
}

impl DesiredApp {
    /// Digest of the generation (release, parameters, overlays, secrets), over its JSON in this field order.
    #[must_use]
    pub fn generation(&self) -> Sha256Digest {
        let tuple = (&self.release, &self.parameters, &self.overlays, &self.secrets);
        Sha256Digest::of(&serde_json::to_vec(&tuple).expect("scalars and names serialise without failure"))
    }

    /// The release's place among the app's releases, as the assignment says it.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter { epoch: self.epoch, seq: self.seq }
    }
}

/// A point in a chain of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptMark {
    /// The chain.
    pub chain_id: RandomId,
    /// The last receipt that is held.
    pub upto: u64,
    /// Digest of its payload; a site drops rows only on a match.
    pub sha256: Sha256Digest,
}

/// Another encoding of a blob, named by the root of its piece list. A hint: the blob's digest decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The blob that it yields.
    pub target: Sha256Digest,
    /// The blob that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha256Digest>,
    /// How: `solid`, `delta`, `chunks`.
    pub way: Name,
    /// Bytes to transfer.
    pub size: u64,
    /// The root of its piece list.
    pub root: crate::ids::Blake3Digest,
}

impl Assignment {
    /// Its place among the site's assignments.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter { epoch: self.epoch, seq: self.assignment_seq }
    }

    /// The next number after `last`, which a hub restored from a backup also takes.
    #[must_use]
    pub fn next_seq(last: u64, unix_ms: u64) -> u64 {
        (last + 1).max(unix_ms).min(INTEGER_MAX)
    }
}

impl Document for Assignment {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.assignment.v1+json";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "site",
        "incarnation",
        "epoch",
        "assignment_seq",
        "hub_incarnation",
        "desired",
        "retire",
        "receipts_acked",
        "offers",
        "issued_at",
        "stale_after_s",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        check_count("apps", self.desired.len() + self.retire.len(), Limits::DEFAULT.desired)?;
        check_count("offers", self.offers.len(), 4096)?;
        check_ascending("desired apps", &self.desired, |entry| entry.app.clone())?;
        check_ascending("retired apps", &self.retire, Clone::clone)?;
        match self.retire.iter().find(|app| self.desired.iter().any(|entry| entry.app == **app)) {
            Some(app) => Err(format!("app {app} is desired and retired").into()),
            None => Ok(()),
        }
    }
}
