//! The key holders: who may sign what, and the chain of roots that says so.
//!
//! They sit together offline, so that nothing here takes time or fails; what they sign has to travel like anything
//! else.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::document::root::{
    DirectorRole, Pattern, Policy, ReleaseRole, RevokeAction, Revoked, RevokedRelease, Role, Roles, Root,
    Scope, TrustedRoot,
};
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{FleetId, KeyId, Name, Sha256Digest, Timestamp};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;

use super::WorldError;
use super::library::BEGINNING_S;

/// Seeds of the fleet's first keys: root and releases (two of three each), director.
const ROOT_KEYS: [u8; 3] = [1, 2, 3];
pub(crate) const RELEASE_KEYS: [u8; 3] = [11, 12, 13];
const DIRECTOR_KEY: u8 = 21;
/// Seeds of keys that are made later.
const LATER_KEYS: u8 = 100;
/// Holders who must sign.
const THRESHOLD: usize = 2;

/// The key of a seed.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Signs with the keys of these seeds.
pub(crate) fn sign<D: Document>(document: &D, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.to_json()
}

/// What the next root changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Other holders of the root.
    RootKeys,
    /// Other holders of releases; the old keys are revoked.
    ReleaseKeys,
    /// Another key of the hub.
    DirectorKey,
    /// The same after a theft: the old key is revoked, and its counters are left behind.
    StolenDirectorKey,
    /// A release is taken back.
    TakeBack(Sha256Digest, RevokeAction),
}

/// The holders and what they signed.
pub(crate) struct Trust {
    root: Root,
    roots: Vec<Vec<u8>>,
    newest: Arc<TrustedRoot>,
    root_keys: [u8; 3],
    release_keys: [u8; 3],
    director_key: u8,
    director: Arc<SecretKey>,
    made: u8,
}

impl Trust {
    /// The first root.
    pub(crate) fn new(fleet: &FleetId) -> Result<Self, WorldError> {
        let root = first_root(fleet);
        let envelope = sign(&root, &ROOT_KEYS[..THRESHOLD]);
        let newest = Arc::new(TrustedRoot::stored(&envelope, &Limits::DEFAULT)?);
        Ok(Self {
            root,
            roots: vec![envelope],
            newest,
            root_keys: ROOT_KEYS,
            release_keys: RELEASE_KEYS,
            director_key: DIRECTOR_KEY,
            director: Arc::new(key(DIRECTOR_KEY)),
            made: 0,
        })
    }

    /// All roots, from the first.
    pub(crate) fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// The newest.
    pub(crate) fn newest(&self) -> &Arc<TrustedRoot> {
        &self.newest
    }

    /// The hub's key, of which its people have a copy in their safe.
    pub(crate) fn director(&self) -> Arc<SecretKey> {
        Arc::clone(&self.director)
    }

    /// Signs a release with as many keys as it takes.
    pub(crate) fn release<D: Document>(&self, document: &D) -> Vec<u8> {
        sign(document, &self.release_keys[..THRESHOLD])
    }

    fn make_key(&mut self) -> u8 {
        self.made += 1;
        LATER_KEYS + self.made
    }

    /// Signs the next root: by the holders of the one before and by its own.
    pub(crate) fn change(&mut self, change: Change, at_ms: u64) -> Result<(), WorldError> {
        let holders = self.root_keys;
        let mut gone = Vec::new();
        match change {
            Change::RootKeys => self.root_keys = [self.make_key(), self.make_key(), self.make_key()],
            Change::ReleaseKeys => {
                gone = self.release_keys.to_vec();
                self.release_keys = [self.make_key(), self.make_key(), self.make_key()];
            }
            Change::DirectorKey => self.director_key = self.make_key(),
            Change::StolenDirectorKey => {
                gone = vec![self.director_key];
                self.director_key = self.make_key();
                self.root.roles.director.epoch += 1;
            }
            Change::TakeBack(sha256, action) => {
                let revoked = &mut self.root.revoked.releases;
                revoked.retain(|known| known.sha256 != sha256);
                revoked.push(RevokedRelease { sha256, action });
                revoked.sort_by_key(|known| known.sha256);
            }
        }
        self.director = Arc::new(key(self.director_key));
        let root = &mut self.root;
        root.version += 1;
        root.prev_sha256 = Some(self.newest.digest());
        root.issued_at = Timestamp::from_unix_s(BEGINNING_S.saturating_add_unsigned(at_ms / 1000));
        let all = self.root_keys.iter().chain(&self.release_keys).chain([&self.director_key]);
        root.keys = all.map(|seed| key(*seed).public()).map(|key| (key.key_id(), key)).collect();
        root.roles.root.keyids = ids(&self.root_keys);
        root.roles.director.keyids = ids(&[self.director_key]);
        root.roles.releases[0].keyids = ids(&self.release_keys);
        root.revoked.keyids.extend(ids(&gone));
        root.revoked.keyids.sort();
        let mut signers = holders[..THRESHOLD].to_vec();
        signers.extend(self.root_keys[..THRESHOLD].iter().filter(|seed| !holders.contains(seed)));
        let envelope = sign(&self.root, &signers);
        self.newest = Arc::new(self.newest.advance(&envelope, &Limits::DEFAULT)?);
        self.roots.push(envelope);
        Ok(())
    }
}

fn ids(seeds: &[u8]) -> Vec<KeyId> {
    let mut ids: Vec<KeyId> = seeds.iter().map(|seed| key(*seed).public().key_id()).collect();
    ids.sort();
    ids
}

fn first_root(fleet: &FleetId) -> Root {
    let all = ROOT_KEYS.into_iter().chain([DIRECTOR_KEY]).chain(RELEASE_KEYS).map(|seed| key(seed).public());
    Root {
        fleet_id: fleet.clone(),
        version: 1,
        prev_sha256: None,
        keys: all.map(|key| (key.key_id(), key)).collect(),
        roles: Roles {
            root: Role { keyids: ids(&ROOT_KEYS), threshold: THRESHOLD },
            director: DirectorRole { keyids: ids(&[DIRECTOR_KEY]), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: Name::new("apps").expect("a name"),
                keyids: ids(&RELEASE_KEYS),
                threshold: THRESHOLD,
                apps: vec![Pattern("*".into())],
                scope: Scope::all(),
            }],
        },
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy::default(),
        issued_at: Timestamp::from_unix_s(BEGINNING_S),
        crit: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_continues_the_chain_from_the_first_root() {
        let fleet = FleetId::new("sim").unwrap();
        let mut trust = Trust::new(&fleet).unwrap();
        let release = Sha256Digest::of(b"release");
        let changes = [
            Change::RootKeys,
            Change::ReleaseKeys,
            Change::TakeBack(release, RevokeAction::Block),
            Change::DirectorKey,
            Change::StolenDirectorKey,
            Change::TakeBack(release, RevokeAction::Stop),
            Change::RootKeys,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            trust.change(change, number as u64 * 1000).unwrap();
        }
        let limits = &Limits::DEFAULT;
        let mut walked = TrustedRoot::stored(&trust.roots()[0], limits).unwrap();
        for envelope in &trust.roots()[1..] {
            walked = walked.advance(envelope, limits).unwrap();
        }
        assert_eq!((walked.version, walked.roles.director.epoch), (8, 1));
        assert_eq!(walked.revoked.keyids.len(), 4, "three release keys and the stolen one");
        assert_eq!(walked.revocation(&release), Some(RevokeAction::Stop));
    }
}
