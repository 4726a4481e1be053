//! A small fleet with fixed keys, for this crate's tests.

use std::collections::BTreeMap;

use crate::document::assignment::{Assignment, DesiredApp};
use crate::document::release::{Release, RollbackRule, Sizes, Statement};
use crate::document::root::{DirectorRole, Pattern, Policy, ReleaseRole, Revoked, Role, Roles, Root, Scope};
use crate::envelope::{Document, Envelope};
use crate::ids::{AppName, FleetId, KeyId, Name, RandomId, Sha256Digest, SiteId, Timestamp, Version};
use crate::keys::SecretKey;

/// Keys 1–3 hold root (2 of 3), 11–13 release (2 of 3), 21 directs.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_s(1_800_000_000)
}

pub(crate) fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn ids(seeds: &[u8]) -> Vec<KeyId> {
    let mut ids: Vec<KeyId> = seeds.iter().map(|seed| key(*seed).public().key_id()).collect();
    ids.sort();
    ids
}

pub(crate) fn root_1() -> Root {
    let keys = [1, 2, 3, 11, 12, 13, 21].iter().map(|seed| key(*seed).public());
    Root {
        fleet_id: FleetId::new("fleet").unwrap(),
        version: 1,
        prev_sha256: None,
        keys: keys.map(|key| (key.key_id(), key)).collect(),
        roles: Roles {
            root: Role { keyids: ids(&[1, 2, 3]), threshold: 2 },
            director: DirectorRole { keyids: ids(&[21]), threshold: 1, epoch: 0 },
            releases: vec![ReleaseRole {
                name: Name::new("apps").unwrap(),
                keyids: ids(&[11, 12, 13]),
                threshold: 2,
                apps: vec![Pattern("*".into())],
                scope: Scope::all(),
            }],
        },
        apps: BTreeMap::new(),
        revoked: Revoked::default(),
        policy: Policy::default(),
        issued_at: now(),
        crit: vec![],
    }
}

pub(crate) fn with_role_keys(role: &mut Vec<KeyId>, seeds: &[u8]) {
    *role = ids(seeds);
}

pub(crate) fn next_root(root: &Root, digest: Sha256Digest) -> Root {
    Root { version: root.version + 1, prev_sha256: Some(digest), ..root.clone() }
}

pub(crate) fn sign<D: Document>(document: &D, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::draft(document);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.to_json()
}

pub(crate) fn digest_of<D: Document>(document: &D) -> Sha256Digest {
    Envelope::draft(document).digest()
}

pub(crate) fn release(name: &str, seq: u64) -> Statement {
    let release = Release {
        fleet_id: FleetId::new("fleet").unwrap(),
        app: app(name),
        epoch: 0,
        seq,
        floor: 0,
        version: Version::new(&format!("{seq}.0.0")).unwrap(),
        prev: None,
        platforms: vec![],
        requires: vec![],
        sizes: Sizes::default(),
        rollback: RollbackRule::Allowed,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secret_slots: vec![],
        prune: Default::default(),
        retire: Default::default(),
        issued_at: now(),
        crit: vec![],
    };
    Statement::new(&Sha256Digest::of(format!("{name} {seq}").as_bytes()), release)
}

pub(crate) fn desire(statement: &Statement) -> DesiredApp {
    DesiredApp {
        app: statement.predicate.app.clone(),
        release: digest_of(statement),
        epoch: statement.predicate.epoch,
        seq: statement.predicate.seq,
        parameters: BTreeMap::new(),
        overlays: vec![],
        secrets: BTreeMap::new(),
        retry: 0,
    }
}

pub(crate) fn assignment(assignment_seq: u64, desired: Vec<DesiredApp>) -> Assignment {
    Assignment {
        fleet_id: FleetId::new("fleet").unwrap(),
        site: SiteId::new("ship").unwrap(),
        incarnation: 1,
        epoch: 0,
        assignment_seq,
        hub_incarnation: RandomId::from_bytes([9; 16]),
        desired,
        retire: vec![],
        receipts_acked: None,
        offers: vec![],
        issued_at: now(),
        stale_after_s: None,
        crit: vec![],
    }
}
