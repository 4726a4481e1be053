use super::*;
use crate::fixture::{app, digest_of, key, next_root, root_1, sign, with_role_keys};

fn pinned() -> (Root, TrustedRoot) {
    let root = root_1();
    let trusted = TrustedRoot::pin(&sign(&root, &[1, 2]), &digest_of(&root), &Limits::DEFAULT).unwrap();
    (root, trusted)
}

fn advance(trusted: &TrustedRoot, next: &Root, seeds: &[u8]) -> Result<TrustedRoot, RootError> {
    trusted.advance(&sign(next, seeds), &Limits::DEFAULT)
}

#[test]
fn only_the_pinned_root_starts_the_chain() {
    let root = root_1();
    let other = Sha256Digest::of(b"another");
    let refused = TrustedRoot::pin(&sign(&root, &[1, 2]), &other, &Limits::DEFAULT).unwrap_err();
    assert_eq!(refused.code(), Code::RootNotPinned);
    let unsigned = TrustedRoot::pin(&sign(&root, &[1]), &digest_of(&root), &Limits::DEFAULT).unwrap_err();
    assert_eq!(unsigned.code(), Code::RootChainBroken);
}

#[test]
fn a_rotation_needs_the_old_and_the_new_threshold() {
    let (root, trusted) = pinned();
    let mut next = next_root(&root, trusted.digest());
    for seed in [4, 5] {
        next.keys.insert(key(seed).public().key_id(), key(seed).public());
    }
    with_role_keys(&mut next.roles.root.keyids, &[1, 4, 5]);
    next.keys.remove(&key(2).public().key_id());
    next.keys.remove(&key(3).public().key_id());
    assert_eq!(
        advance(&trusted, &next, &[4, 5]).unwrap_err().code(),
        Code::RootChainBroken,
        "the old role did not sign"
    );
    assert_eq!(
        advance(&trusted, &next, &[2, 3]).unwrap_err().code(),
        Code::RootChainBroken,
        "the new role did not sign"
    );
    let rotated = advance(&trusted, &next, &[1, 2, 4]).unwrap();
    assert_eq!(rotated.version, 2);
}

#[test]
fn versions_follow_one_another_in_one_chain_of_one_fleet() {
    let (root, trusted) = pinned();
    let next = next_root(&root, trusted.digest());
    let two = advance(&trusted, &next, &[1, 3]).unwrap();
    assert!(matches!(advance(&two, &next, &[1, 2]), Err(RootError::NotNext { after: 2, found: 2 })));
    let skipped = Root { version: 3, ..next.clone() };
    assert!(matches!(advance(&trusted, &skipped, &[1, 2]), Err(RootError::NotNext { .. })));
    let forked = Root { prev_sha256: Some(Sha256Digest::of(b"x")), ..next.clone() };
    assert!(matches!(advance(&trusted, &forked, &[1, 2]), Err(RootError::NotNext { .. })));
    let foreign = Root { fleet_id: FleetId::new("other").unwrap(), ..next };
    assert_eq!(advance(&trusted, &foreign, &[1, 2]).unwrap_err().code(), Code::OtherFleet);
}

#[test]
fn epochs_and_floors_only_rise() {
    let (root, trusted) = pinned();
    let mut raised = next_root(&root, trusted.digest());
    raised.roles.director.epoch = 4;
    raised.apps.insert(app("shop"), AppFloor { epoch: 1, min_seq: 7 });
    let two = advance(&trusted, &raised, &[1, 2]).unwrap();
    let mut lower = next_root(&raised, two.digest());
    lower.roles.director.epoch = 3;
    assert_eq!(advance(&two, &lower, &[1, 2]).unwrap_err().code(), Code::RootLowers);
    let mut lower = next_root(&raised, two.digest());
    lower.apps.insert(app("shop"), AppFloor { epoch: 1, min_seq: 6 });
    assert_eq!(advance(&two, &lower, &[1, 2]).unwrap_err().code(), Code::RootLowers);
    let mut vanished = next_root(&raised, two.digest());
    vanished.apps.clear();
    assert_eq!(advance(&two, &vanished, &[1, 2]).unwrap_err().code(), Code::RootLowers);
    let mut epoch = next_root(&raised, two.digest());
    epoch.apps.insert(app("shop"), AppFloor { epoch: 2, min_seq: 0 });
    assert!(advance(&two, &epoch, &[1, 2]).is_ok(), "a higher epoch starts its numbers anew");
}

#[test]
fn contradicting_roots_are_refused() {
    type Fault = fn(&mut Root);
    let faults: [(&str, Fault); 7] = [
        ("two roles", |root| root.roles.director.keyids = root.roles.root.keyids[..1].to_vec()),
        ("threshold", |root| root.roles.root.threshold = 4),
        ("threshold", |root| root.roles.director.threshold = 0),
        ("not in keys", |root| root.keys.retain(|id, _| !root.roles.director.keyids.contains(id))),
        ("revoked", |root| root.revoked.keyids = root.roles.director.keyids.clone()),
        ("same apps", |root| {
            let mut second = root.roles.releases[0].clone();
            second.name = Name::new("second").unwrap();
            root.keys.insert(key(30).public().key_id(), key(30).public());
            with_role_keys(&mut second.keyids, &[30]);
            second.threshold = 1;
            second.apps = vec![Pattern("shop-*".into())];
            root.roles.releases.push(second);
        }),
        ("key id", |root| {
            let id = root.roles.director.keyids[0].clone();
            root.keys.insert(id, key(99).public());
        }),
    ];
    for (word, fault) in faults {
        let mut root = root_1();
        fault(&mut root);
        let found = root.check().unwrap_err().words;
        assert!(found.contains(word), "expected {word:?}: {found}");
    }
    assert_eq!(root_1().check(), Ok(()));
}

#[test]
fn patterns_overlap_where_some_name_fits_both() {
    let overlap = |a: &str, b: &str| Pattern(a.into()).overlaps(&Pattern(b.into()));
    assert!(overlap("*", "shop") && overlap("sh*", "shop*") && overlap("shop", "shop"));
    assert!(!overlap("shop", "shop-2") && !overlap("a*", "b*"));
}
