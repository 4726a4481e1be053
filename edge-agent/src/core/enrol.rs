//! The first rows of a site: what a grant and the chain of roots amount to.

use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::document::root::{RootError, TrustedRoot};
use airlift_bundles::envelope::EnvelopeError;
use airlift_bundles::ids::{KeyId, RandomId, Sha256Digest};
use airlift_bundles::limits::Limits;

use super::write::{MetaRow, RootRow, Rows, Write};

/// Why a grant makes no rows; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// A root of the chain is not valid.
    #[error("root {0} of the chain is not valid")]
    Root(usize, #[source] RootError),
    /// There is no root at all.
    #[error("there is no root")]
    NoRoot,
    /// The grant is not signed by the director of the newest root.
    #[error("grant is not valid")]
    Grant(#[from] EnvelopeError),
    /// The grant names another key.
    #[error("grant is for key {found}, this site's is {here}")]
    OtherKey {
        /// This site's.
        here: KeyId,
        /// Found.
        found: KeyId,
    },
    /// The grant answers another request.
    #[error("grant answers another request")]
    OtherNonce,
    /// The grant is of another fleet than its root.
    #[error("grant is of another fleet")]
    OtherFleet,
    /// The site is enrolled as another one already.
    #[error("this database belongs to site {0}")]
    OtherSite(String),
    /// The site holds this enrolment, or a later one.
    #[error("incarnation {found} is not newer than {here}")]
    Older {
        /// Held.
        here: u64,
        /// Found.
        found: u64,
    },
}

/// Walks a chain of roots from the pinned one.
///
/// # Errors
/// [`EnrolError::Root`] with its place in the chain, [`EnrolError::NoRoot`].
pub fn walk_roots(chain: &[Vec<u8>], pinned: &Sha256Digest) -> Result<Vec<TrustedRoot>, EnrolError> {
    let limits = &Limits::DEFAULT;
    let mut walked: Vec<TrustedRoot> = Vec::new();
    for (at, bytes) in chain.iter().enumerate() {
        let root = match walked.last() {
            None => TrustedRoot::pin(bytes, pinned, limits),
            Some(last) => last.advance(bytes, limits),
        };
        walked.push(root.map_err(|error| EnrolError::Root(at + 1, error))?);
    }
    if walked.is_empty() { Err(EnrolError::NoRoot) } else { Ok(walked) }
}

/// Checks a grant and makes the first rows of it, or those of a new enrolment over what is held.
///
/// `entropy` is 32 random bytes: the outbox's epoch and the receipt chain's id come from it. The chain's id must
/// be the one that the enrolment request named; pass it as `chain_id`.
///
/// # Errors
/// [`EnrolError`], one variant per refusal.
pub fn first_rows(
    held: &Rows,
    roots: &[TrustedRoot],
    grant: &[u8],
    key: &KeyId,
    nonce: &RandomId,
    chain_id: &RandomId,
    outbox_epoch: RandomId,
) -> Result<(Grant, Vec<Write>), EnrolError> {
    let newest = roots.last().ok_or(EnrolError::NoRoot)?;
    let grant = newest.open_directed::<Grant>(grant, &Limits::DEFAULT)?.document().clone();
    if grant.site_keyid != *key {
        return Err(EnrolError::OtherKey { here: key.clone(), found: grant.site_keyid });
    }
    if grant.nonce != *nonce {
        return Err(EnrolError::OtherNonce);
    }
    if grant.fleet_id != newest.fleet_id {
        return Err(EnrolError::OtherFleet);
    }
    if let Some(meta) = &held.meta {
        if (&meta.fleet, &meta.site) != (&grant.fleet_id, &grant.site) {
            return Err(EnrolError::OtherSite(meta.site.to_string()));
        }
        if meta.incarnation >= grant.incarnation {
            return Err(EnrolError::Older { here: meta.incarnation, found: grant.incarnation });
        }
    }
    let mut writes: Vec<Write> = roots
        .iter()
        .filter(|root| !held.roots.contains_key(&root.version))
        .map(|root| {
            Write::PutRoot(RootRow {
                version: root.version,
                sha256: root.digest(),
                envelope: root.envelope().into(),
            })
        })
        .collect();
    let fresh = MetaRow {
        fleet: grant.fleet_id.clone(),
        site: grant.site.clone(),
        incarnation: grant.incarnation,
        minimum: grant.minimum,
        outbox_epoch,
        outbox_next: 1,
        conn_seq: 0,
        starts: 0,
        chain_id: chain_id.clone(),
        receipt_next: 1,
        receipt_head: None,
        receipt_acked_next: 1,
        receipt_first: 1,
        time_floor: grant.issued_at.max(newest.issued_at),
        cluster: None,
        hub_incarnation: None,
        hub_heard: None,
    };
    let meta = match &held.meta {
        // The same chain goes on under the new enrolment; only a new key begins a new one.
        Some(meta) if meta.chain_id == *chain_id => MetaRow {
            incarnation: grant.incarnation,
            minimum: grant.minimum,
            time_floor: meta.time_floor.max(fresh.time_floor),
            ..meta.clone()
        },
        _ => fresh,
    };
    writes.push(Write::PutMeta(meta));
    Ok((grant, writes))
}
