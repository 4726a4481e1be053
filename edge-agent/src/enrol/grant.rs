//! Taking a grant: roots from the pinned digest on, the director's signature, and that it means this very key.

use std::path::{Path, PathBuf};

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::envelope::{Envelope, EnvelopeError};
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::limits::Limits;

use super::identity::{Identity, IdentityError, random_id, write_whole};
use crate::core::enrol::{EnrolError, first_rows, walk_roots};
use crate::core::write::{Rows, Write};

/// Why a grant is not taken; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Roots or grant are not what this site waits for.
    #[error("grant is not accepted")]
    Refused(#[from] EnrolError),
    /// The kept grant is damaged.
    #[error("kept grant is damaged")]
    Damaged(#[from] EnvelopeError),
    /// There is no randomness for the outbox.
    #[error("the outbox cannot be named")]
    Random(#[from] IdentityError),
    /// It cannot be kept.
    #[error("cannot keep the grant in {path}")]
    Keep {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl GrantError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(EnrolError::Root(_, error)) => error.code(),
            Self::Refused(EnrolError::NoRoot) => Code::RootChainBroken,
            Self::Refused(EnrolError::Grant(error)) => error.code(),
            Self::Refused(
                EnrolError::OtherKey { .. } | EnrolError::OtherNonce | EnrolError::OtherSite(_),
            ) => Code::OtherSite,
            Self::Refused(EnrolError::OtherFleet) => Code::OtherFleet,
            Self::Refused(EnrolError::Older { .. }) => Code::OtherIncarnation,
            Self::Damaged(_) | Self::Random(_) | Self::Keep { .. } => Code::StoreFailed,
        }
    }
}

/// A grant that was verified for this site's key, with the rows that it amounts to.
#[derive(Debug)]
pub struct AdmittedSite {
    grant: Grant,
    envelope: Vec<u8>,
    writes: Vec<Write>,
}

impl AdmittedSite {
    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Keeps the grant beside the keys and gives the rows to commit, in this order, so that a kill in between only
    /// makes the site ask again.
    ///
    /// # Errors
    /// [`GrantError::Keep`].
    pub fn keep(self, keys_dir: &Path) -> Result<Vec<Write>, GrantError> {
        let path = keys_dir.join(FILE);
        write_whole(&path, &self.envelope).map_err(|source| GrantError::Keep { path, source })?;
        Ok(self.writes)
    }
}

const FILE: &str = "grant.json";

/// Verifies roots and grant for this site; `held` is what its database has, empty at first.
///
/// `roots` are envelopes of versions 1, 2, 3 … in order.
///
/// # Errors
/// [`GrantError`].
pub fn admit(
    identity: &Identity,
    held: &Rows,
    root_sha256: &Sha256Digest,
    roots: &[Vec<u8>],
    grant: &[u8],
) -> Result<AdmittedSite, GrantError> {
    let chain = walk_roots(roots, root_sha256)?;
    let key = identity.site_key.public().key_id();
    let epoch = random_id()?;
    let (granted, writes) =
        first_rows(held, &chain, grant, &key, identity.nonce(), identity.chain_id(), epoch)?;
    Ok(AdmittedSite { grant: granted, envelope: grant.to_vec(), writes })
}

/// Reads the grant that [`AdmittedSite::keep`] wrote; `None` before enrolment. It was verified then: its signer
/// may have been rotated since.
///
/// # Errors
/// [`GrantError`] where the file is damaged.
pub fn kept(keys_dir: &Path) -> Result<Option<Grant>, GrantError> {
    let path = keys_dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(GrantError::Keep { path, source }),
    };
    Ok(Some(Envelope::parse(&bytes, &Limits::DEFAULT)?.read_unverified(&Limits::DEFAULT)?))
}
