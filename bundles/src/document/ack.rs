//! The ack: how far the hub holds a site's records, signed by the director, so that a forged one frees nothing.

use serde::{Deserialize, Serialize};

use crate::document::assignment::ReceiptMark;
use crate::envelope::{Contradiction, Document};
use crate::ids::{FleetId, RandomId, SiteId};

/// The hub's word that it holds records of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The fleet.
    pub fleet_id: FleetId,
    /// The site.
    pub site: SiteId,
    /// Which enrolment of the site.
    pub incarnation: u64,
    /// Which database of the site the numbers belong to.
    pub outbox_epoch: RandomId,
    /// Outbox rows up to here are held: frees status rows.
    pub upto: u64,
    /// Receipts up to here are held: frees receipts, on a match of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<ReceiptMark>,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

impl Document for Ack {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.ack.v1+json";
    const FIELDS: &'static [&'static str] =
        &["fleet_id", "site", "incarnation", "outbox_epoch", "upto", "receipts", "crit"];

    fn check(&self) -> Result<(), Contradiction> {
        Ok(())
    }
}
