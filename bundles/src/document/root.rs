//! The root: which keys hold which role, with what threshold, over which apps; floors and revocations.
//!
//! A root never expires. Version N + 1 is verified by N's root role over the raw bytes before it is parsed, then
//! by its own; a site walks one version at a time from the one that it was installed with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{check_ascending, check_count};
use crate::code::Code;
use crate::envelope::{Contradiction, Document, Envelope, EnvelopeError, Verified, open};
use crate::ids::{AppName, Counter, FleetId, KeyId, Name, Sha256Digest, Timestamp};
use crate::keys::PublicKey;
use crate::limits::Limits;

/// The document that everything else is verified against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The fleet that it governs, for ever.
    pub fleet_id: FleetId,
    /// 1, 2, 3 …
    pub version: u64,
    /// Digest of the payload of the version before; absent in version 1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_sha256: Option<Sha256Digest>,
    /// Every key that a role names, under its recomputed id.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// Who may do what.
    pub roles: Roles,
    /// Epoch and floor per app; an app that is not listed has epoch 0 and floor 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<AppName, AppFloor>,
    /// What is taken back.
    #[serde(default, skip_serializing_if = "Revoked::is_empty")]
    pub revoked: Revoked,
    /// Settings of the fleet that only its key holders may change.
    #[serde(default)]
    pub policy: Policy,
    /// For display, and as a lower bound of the present time.
    pub issued_at: Timestamp,
    /// Fields that a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// The roles of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Signs roots, offline.
    pub root: Role,
    /// Signs assignments, acks, grants; online at the hub.
    pub director: DirectorRole,
    /// Sign releases, offline; each for its own apps.
    pub releases: Vec<ReleaseRole>,
}

/// Keys of which `threshold` must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Ids of keys in `keys`, ascending.
    pub keyids: Vec<KeyId>,
    /// Distinct keys that must sign: 1 to the number of keys.
    pub threshold: usize,
}

/// The director's role; its epoch resets the counters of assignments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorRole {
    /// Ids of keys in `keys`, ascending.
    pub keyids: Vec<KeyId>,
    /// Distinct keys that must sign.
    pub threshold: usize,
    /// Raised to leave a stolen key's counters behind.
    pub epoch: u64,
}

/// A role that signs releases of some apps within a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRole {
    /// Its name, unique in the root.
    pub name: Name,
    /// Ids of keys in `keys`, ascending.
    pub keyids: Vec<KeyId>,
    /// Distinct keys that must sign.
    pub threshold: usize,
    /// Apps that it may release: names, prefixes ending in `*`, or `*`.
    pub apps: Vec<Pattern>,
    /// What its apps may touch.
    pub scope: Scope,
}

/// What the objects of an app may touch at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Namespaces of its objects, also those that it creates.
    pub namespaces: Vec<Pattern>,
    /// Cluster-scoped kinds as `group/Kind` (core group: `/Kind`), or `*`. `Namespace` is ruled by `namespaces`.
    pub cluster_kinds: Vec<Pattern>,
    /// Prefixes of image references.
    pub images: Vec<Pattern>,
    /// Whether pods may be privileged, use the host's namespaces, paths or ports, or add capabilities.
    pub privileged: bool,
}

impl Scope {
    /// Everything: the small fleet's scope.
    #[must_use]
    pub fn all() -> Self {
        let all = || vec![Pattern("*".into())];
        Self { namespaces: all(), cluster_kinds: all(), images: all(), privileged: true }
    }
}

/// A name, or a prefix that ends in `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether the pattern covers `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == text, |prefix| text.starts_with(prefix))
    }

    /// Whether some text is covered by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
            _ => self.matches(&other.0) || other.matches(&self.0),
        }
    }
}

/// The oldest release of an app that may still be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct AppFloor {
    /// The epoch under which the app is released.
    pub epoch: u64,
    /// The smallest `seq` within the epoch.
    pub min_seq: u64,
}

/// Keys and releases that are taken back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Revoked {
    /// Keys that may stand in no role again, ascending.
    #[serde(default)]
    pub keyids: Vec<KeyId>,
    /// Releases by the digest of their payload, ascending.
    #[serde(default)]
    pub releases: Vec<RevokedRelease>,
}

impl Revoked {
    fn is_empty(&self) -> bool {
        self.keyids.is_empty() && self.releases.is_empty()
    }
}

/// A release that is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRelease {
    /// Digest of the release's payload.
    pub sha256: Sha256Digest,
    /// What sites do about it.
    pub action: RevokeAction,
}

/// What a revocation asks of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeAction {
    /// No new installs and no rollback to it; a running copy is kept, repaired and flagged.
    Block,
    /// Its workloads are scaled to zero and the data is kept.
    Stop,
}

/// Settings of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Uptime for which a retire order waits visibly before it acts: seconds.
    pub retire_delay_s: u64,
    /// Objects that one prune may delete without a release's or a person's word: count.
    pub deletion_budget: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retire_delay_s: 900, deletion_budget: 50 }
    }
}

impl Document for Root {
    const PAYLOAD_TYPE: &'static str = "application/vnd.airlift.root.v1+json";
    const FIELDS: &'static [&'static str] = &[
        "fleet_id",
        "version",
        "prev_sha256",
        "keys",
        "roles",
        "apps",
        "revoked",
        "policy",
        "issued_at",
        "crit",
    ];

    fn check(&self) -> Result<(), Contradiction> {
        if self.version == 0 || (self.version == 1) != self.prev_sha256.is_none() {
            return Err("version 1 has no prev_sha256, every later one has".into());
        }
        for (id, key) in &self.keys {
            if *id != key.key_id() {
                return Err(format!("key id {id} is not that of its key").into());
            }
        }
        check_count("release roles", self.roles.releases.len(), 64)?;
        check_ascending("release roles", &self.roles.releases, |role| role.name.clone())?;
        check_ascending("revoked keys", &self.revoked.keyids, Clone::clone)?;
        check_ascending("revoked releases", &self.revoked.releases, |revoked| revoked.sha256)?;
        let mut seen = BTreeSet::new();
        for (name, keyids, threshold) in self.role_list() {
            check_count("keys in a role", keyids.len(), 32)?;
            if threshold == 0 || threshold > keyids.len() {
                return Err(format!("role {name}: threshold {threshold} of {} keys", keyids.len()).into());
            }
            for id in keyids {
                if !self.keys.contains_key(id) {
                    return Err(format!("role {name} names key {id}, which is not in keys").into());
                }
                if !seen.insert(id) {
                    let words = format!("key {id} stands in two roles, or twice in role {name}");
                    return Err(Contradiction::of(Code::KeyReused, words));
                }
                if self.revoked.keyids.contains(id) {
                    return Err(format!("role {name} names key {id}, which is revoked").into());
                }
            }
            check_ascending("key ids of a role", keyids, Clone::clone)?;
        }
        for (at, role) in self.roles.releases.iter().enumerate() {
            for other in &self.roles.releases[..at] {
                let shared = role.apps.iter().any(|app| other.apps.iter().any(|theirs| app.overlaps(theirs)));
                if shared {
                    let words = format!("release roles {} and {} match the same apps", other.name, role.name);
                    return Err(words.into());
                }
            }
        }
        Ok(())
    }
}

impl Root {
    fn role_list(&self) -> Vec<(&str, &[KeyId], usize)> {
        let roles = &self.roles;
        let mut list: Vec<(&str, &[KeyId], usize)> = vec![
            ("root", &roles.root.keyids, roles.root.threshold),
            ("director", &roles.director.keyids, roles.director.threshold),
        ];
        list.extend(
            roles.releases.iter().map(|role| (role.name.as_str(), role.keyids.as_slice(), role.threshold)),
        );
        list
    }

    fn keys_of<'a>(&'a self, keyids: &'a [KeyId]) -> impl Iterator<Item = &'a PublicKey> {
        keyids.iter().filter_map(|id| self.keys.get(id))
    }

    /// The root role's keys.
    pub fn root_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys_of(&self.roles.root.keyids)
    }

    /// The director's keys.
    pub fn director_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys_of(&self.roles.director.keyids)
    }

    /// The keys of a release role.
    pub fn release_keys<'a>(&'a self, role: &'a ReleaseRole) -> impl Iterator<Item = &'a PublicKey> {
        self.keys_of(&role.keyids)
    }

    /// The one release role whose `apps` cover `app`.
    #[must_use]
    pub fn release_role(&self, app: &AppName) -> Option<&ReleaseRole> {
        self.roles.releases.iter().find(|role| role.apps.iter().any(|pattern| pattern.matches(app.as_str())))
    }

    /// The app's epoch and floor.
    #[must_use]
    pub fn floor(&self, app: &AppName) -> Counter {
        let floor = self.apps.get(app).copied().unwrap_or_default();
        Counter { epoch: floor.epoch, seq: floor.min_seq }
    }

    /// Whether and how a release is taken back.
    #[must_use]
    pub fn revocation(&self, release: &Sha256Digest) -> Option<RevokeAction> {
        self.revoked.releases.iter().find(|revoked| revoked.sha256 == *release).map(|revoked| revoked.action)
    }
}

/// Why a root is not accepted; the newest good one stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The envelope or the document is not a root, or too few signed.
    #[error("root is not valid")]
    Envelope(#[from] EnvelopeError),
    /// The first root is another one than the pinned.
    #[error("root has digest {found}, pinned is {pinned}")]
    NotPinned {
        /// Given at installation.
        pinned: Sha256Digest,
        /// Found.
        found: Sha256Digest,
    },
    /// It governs another fleet.
    #[error("root is of fleet {found}, not {expected}")]
    OtherFleet {
        /// This fleet.
        expected: FleetId,
        /// Found.
        found: FleetId,
    },
    /// It skips or repeats a version, or continues another chain.
    #[error("root {found} does not continue version {after}")]
    NotNext {
        /// The version in force.
        after: u64,
        /// The version found.
        found: u64,
    },
    /// It lowers what only rises.
    #[error("root lowers {0}")]
    Lowers(String),
}

impl RootError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Envelope(EnvelopeError::Threshold { .. }) | Self::NotNext { .. } => Code::RootChainBroken,
            Self::Envelope(error) => error.code(),
            Self::NotPinned { .. } => Code::RootNotPinned,
            Self::OtherFleet { .. } => Code::OtherFleet,
            Self::Lowers(_) => Code::RootLowers,
        }
    }
}

/// The newest root that a chain of signatures leads to from the pinned one. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot(Arc<Verified<Root>>);

impl std::ops::Deref for TrustedRoot {
    type Target = Root;

    fn deref(&self) -> &Root {
        self.0.document()
    }
}

impl TrustedRoot {
    /// Accepts the first root by the digest that was given out of band; it must also sign itself.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn pin(bytes: &[u8], pinned: &Sha256Digest, limits: &Limits) -> Result<Self, RootError> {
        let found = Envelope::parse(bytes, limits)?.digest();
        if found != *pinned {
            return Err(RootError::NotPinned { pinned: *pinned, found });
        }
        Self::signed_by_itself(bytes, limits)
    }

    /// Accepts version N + 1: by this root's threshold over the raw bytes, then parsed, then by its own.
    ///
    /// # Errors
    /// [`RootError`]; this root stays in force.
    pub fn advance(&self, bytes: &[u8], limits: &Limits) -> Result<Self, RootError> {
        let envelope = Envelope::parse(bytes, limits)?;
        envelope.verify_threshold::<Root>(self.root_keys(), self.roles.root.threshold)?;
        let next = Self::signed_by_itself(bytes, limits)?;
        if next.fleet_id != self.fleet_id {
            return Err(RootError::OtherFleet {
                expected: self.fleet_id.clone(),
                found: next.fleet_id.clone(),
            });
        }
        if next.version != self.version + 1 || next.prev_sha256 != Some(self.digest()) {
            return Err(RootError::NotNext { after: self.version, found: next.version });
        }
        if next.roles.director.epoch < self.roles.director.epoch {
            return Err(RootError::Lowers("the director's epoch".into()));
        }
        if let Some(app) = self.apps.keys().find(|app| next.floor(app) < self.floor(app)) {
            return Err(RootError::Lowers(format!("the floor of app {app}")));
        }
        Ok(next)
    }

    /// Takes back a root that this process or an earlier one accepted and stored itself.
    ///
    /// The signatures are checked again, so that a damaged database is noticed; the chain to the pinned root is not.
    ///
    /// # Errors
    /// [`RootError::Envelope`].
    pub fn stored(bytes: &[u8], limits: &Limits) -> Result<Self, RootError> {
        Self::signed_by_itself(bytes, limits)
    }

    fn signed_by_itself(bytes: &[u8], limits: &Limits) -> Result<Self, RootError> {
        let root: Root = Envelope::parse(bytes, limits)?.read_unverified(limits)?;
        let keys: Vec<PublicKey> = root.root_keys().cloned().collect();
        Ok(Self(Arc::new(open(bytes, &keys, root.roles.root.threshold, limits)?)))
    }

    /// Digest of its payload.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.0.digest()
    }

    /// The envelope as it arrived.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        self.0.envelope()
    }

    /// Opens a document that the director role signed.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn open_directed<D: Document>(
        &self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Verified<D>, EnvelopeError> {
        open(bytes, self.director_keys(), self.roles.director.threshold, limits)
    }
}

#[cfg(test)]
mod tests;
