//! Verifies what a site sent, before anything of it is stored.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Receipt;
use airlift_bundles::document::status::{SiteStatus, StatusBatch};
use airlift_bundles::envelope::{Document, EnvelopeError, Verified, open};
use airlift_bundles::ids::{FleetId, KeyId, RandomId, Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;

use crate::db::rows::sites::SiteKeyRow;

/// Nothing of what arrived is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a batch, or not signed by a key of the site.
    #[error("not a batch that the site signed")]
    Envelope(#[from] EnvelopeError),
    /// The site has no key, or they are revoked.
    #[error("site {0} has no key that is good")]
    NoKey(SiteId),
    /// It speaks for another fleet, site or enrolment than the key that signed it.
    #[error("document is of {found}, the key that signed it is for {expected}")]
    Other {
        /// What the key is for.
        expected: String,
        /// What the document says.
        found: String,
        /// Which of the three.
        code: Code,
    },
}

impl VerifyError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Envelope(error) => error.code(),
            Self::NoKey(_) => Code::NotAuthorised,
            Self::Other { code, .. } => *code,
        }
    }
}

/// A receipt whose signature by a key of its site has been checked.
///
/// Only this module makes one; the store takes nothing less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    receipt: Receipt,
    sha256: Sha256Digest,
    envelope: Vec<u8>,
    keyid: KeyId,
}

impl VerifiedReceipt {
    /// The receipt.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Digest of its payload.
    #[must_use]
    pub fn sha256(&self) -> &Sha256Digest {
        &self.sha256
    }

    /// The signed bytes.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Who signed it.
    #[must_use]
    pub fn keyid(&self) -> &KeyId {
        &self.keyid
    }
}

/// A batch whose signature has been checked, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBatch {
    site: SiteId,
    incarnation: u64,
    outbox_epoch: RandomId,
    upto: u64,
    receipts: Vec<VerifiedReceipt>,
    status: Option<(u64, SiteStatus)>,
    refused: Vec<VerifyError>,
}

impl VerifiedBatch {
    /// The site that signed it.
    #[must_use]
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// For which enrolment.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The outbox that its rows are of.
    #[must_use]
    pub fn outbox_epoch(&self) -> &RandomId {
        &self.outbox_epoch
    }

    /// Number of its last row; 0 where it has none.
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Its receipts that are good.
    #[must_use]
    pub fn receipts(&self) -> &[VerifiedReceipt] {
        &self.receipts
    }

    /// Its newest status, with the row's number.
    #[must_use]
    pub fn status(&self) -> Option<&(u64, SiteStatus)> {
        self.status.as_ref()
    }

    /// Receipts in it that are not good. They are not stored, and the gap that they leave is shown; the rest is
    /// taken, since a site that sends the whole batch for ever would be heard of no more.
    #[must_use]
    pub fn refused(&self) -> &[VerifyError] {
        &self.refused
    }
}

fn check_origin(
    fleet: &FleetId,
    key: &SiteKeyRow,
    found: (&FleetId, &SiteId, u64),
) -> Result<(), VerifyError> {
    let other = |code, expected: &dyn ToString, found: &dyn ToString| VerifyError::Other {
        expected: expected.to_string(),
        found: found.to_string(),
        code,
    };
    if found.0 != fleet {
        return Err(other(Code::OtherFleet, fleet, found.0));
    }
    if *found.1 != key.site {
        return Err(other(Code::OtherSite, &key.site, found.1));
    }
    if found.2 != key.incarnation {
        return Err(other(Code::OtherIncarnation, &key.incarnation, &found.2));
    }
    Ok(())
}

/// Opens a document under whichever good key of the site signed it.
fn open_by_site<'k, D: Document>(
    bytes: &[u8],
    site: &SiteId,
    keys: &'k [SiteKeyRow],
) -> Result<(Verified<D>, &'k SiteKeyRow), VerifyError> {
    let mut refused = VerifyError::NoKey(site.clone());
    for key in keys.iter().filter(|key| !key.revoked && key.site == *site) {
        match open(bytes, [&key.key], 1, &Limits::DEFAULT) {
            Ok(opened) => return Ok((opened, key)),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// Verifies one receipt against the keys of its site.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_receipt(
    bytes: &[u8],
    fleet: &FleetId,
    site: &SiteId,
    keys: &[SiteKeyRow],
) -> Result<VerifiedReceipt, VerifyError> {
    let (opened, key) = open_by_site::<Receipt>(bytes, site, keys)?;
    let receipt = opened.document();
    check_origin(fleet, key, (&receipt.fleet_id, &receipt.site, receipt.incarnation))?;
    if receipt.chain_id != key.chain_id {
        let (expected, found) = (key.chain_id.to_string(), receipt.chain_id.to_string());
        return Err(VerifyError::Other { expected, found, code: Code::OtherIncarnation });
    }
    Ok(VerifiedReceipt {
        receipt: receipt.clone(),
        sha256: opened.digest(),
        envelope: bytes.to_vec(),
        keyid: key.key.key_id(),
    })
}

/// Verifies a batch of the site, and the receipts in it.
///
/// # Errors
/// [`VerifyError`], where the batch itself is not good.
pub fn verify_batch(
    bytes: &[u8],
    fleet: &FleetId,
    site: &SiteId,
    keys: &[SiteKeyRow],
) -> Result<VerifiedBatch, VerifyError> {
    let (opened, key) = open_by_site::<StatusBatch>(bytes, site, keys)?;
    let batch = opened.document();
    check_origin(fleet, key, (&batch.fleet_id, &batch.site, batch.incarnation))?;
    Ok(take_apart(batch, fleet, keys))
}

fn take_apart(batch: &StatusBatch, fleet: &FleetId, keys: &[SiteKeyRow]) -> VerifiedBatch {
    let (mut receipts, mut refused, mut status) = (Vec::new(), Vec::new(), None);
    for row in &batch.rows {
        if let Some(envelope) = &row.receipt {
            match verify_receipt(envelope.get().as_bytes(), fleet, &batch.site, keys) {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => refused.push(error),
            }
        }
        if let Some(newer) = &row.status {
            status = Some((row.seq, newer.as_ref().clone()));
        }
    }
    VerifiedBatch {
        site: batch.site.clone(),
        incarnation: batch.incarnation,
        outbox_epoch: batch.outbox_epoch.clone(),
        upto: batch.rows.last().map_or(0, |row| row.seq),
        receipts,
        status,
        refused,
    }
}
