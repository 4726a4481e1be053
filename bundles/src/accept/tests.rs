use std::collections::BTreeMap;

use super::*;
use crate::document::release::{ParameterDeclaration, Requirement, Scalar};
use crate::document::root::{AppFloor, RevokedRelease, Root};
use crate::fixture::{app, assignment, desire, digest_of, release, root_1, sign};
use crate::ids::{INTEGER_MAX, Name};

/// A site with the releases that it was given.
struct Site {
    identity: Identity,
    root: TrustedRoot,
    current: Option<(Counter, Sha256Digest)>,
    releases: BTreeMap<Sha256Digest, Vec<u8>>,
    accepted: BTreeMap<(AppName, Counter), Sha256Digest>,
    running: BTreeMap<AppName, Sha256Digest>,
    floors: BTreeMap<AppName, Counter>,
}

impl Site {
    fn new(root: &Root) -> Self {
        let identity = Identity {
            fleet_id: root.fleet_id.clone(),
            site: SiteId::new("ship").unwrap(),
            incarnation: 1,
            minimum: Counter::default(),
        };
        let root = TrustedRoot::pin(&sign(root, &[1, 2]), &digest_of(root), &Limits::DEFAULT).unwrap();
        let (releases, accepted) = (BTreeMap::new(), BTreeMap::new());
        let (running, floors) = (BTreeMap::new(), BTreeMap::new());
        Self { identity, root, current: None, releases, accepted, running, floors }
    }

    fn with(mut self, statement: &Statement, seeds: &[u8]) -> Self {
        self.releases.insert(digest_of(statement), sign(statement, seeds));
        self
    }

    fn offer(&self, bytes: &[u8]) -> Result<Acceptance, AssignmentError> {
        let held = Held {
            identity: &self.identity,
            root: &self.root,
            current: self.current,
            release: &|digest| self.releases.get(digest).cloned(),
            accepted: &self.accepted,
            running: &self.running,
            floors: &self.floors,
            platforms: &[],
        };
        accept_assignment(bytes, &held, &Limits::DEFAULT)
    }

    /// The code of the one entry's refusal, or `None` where it is accepted.
    fn verdict(&self, desired: DesiredApp) -> Option<Code> {
        match self.offer(&sign(&assignment(10, vec![desired]), &[21])).unwrap() {
            Acceptance::Accepted(accepted) => {
                accepted.entries()[0].verdict.as_ref().err().map(|refusal| refusal.code)
            }
            other => panic!("expected an accepted assignment: {other:?}"),
        }
    }
}

fn shop(seq: u64) -> Statement {
    release("shop", seq)
}

#[test]
fn a_signed_assignment_of_a_signed_release_is_accepted() {
    let site = Site::new(&root_1()).with(&shop(1), &[11, 13]);
    assert_eq!(site.verdict(desire(&shop(1))), None);
}

#[test]
fn the_director_alone_introduces_nothing() {
    for seeds in [&[21][..], &[11], &[11, 21], &[1, 2, 3]] {
        let site = Site::new(&root_1()).with(&shop(1), seeds);
        assert_eq!(site.verdict(desire(&shop(1))), Some(Code::TooFewSignatures), "{seeds:?}");
    }
}

#[test]
fn only_the_director_assigns() {
    let site = Site::new(&root_1()).with(&shop(1), &[11, 12]);
    for seeds in [&[][..], &[11, 12, 13], &[1, 2, 3], &[22]] {
        let refused = site.offer(&sign(&assignment(10, vec![desire(&shop(1))]), seeds)).unwrap_err();
        assert_eq!(refused.code(), Code::TooFewSignatures, "{seeds:?}");
    }
}

#[test]
fn documents_for_others_are_refused() {
    let site = Site::new(&root_1());
    let good = assignment(10, vec![]);
    let mut fleet = good.clone();
    fleet.fleet_id = FleetId::new("other").unwrap();
    let mut other = good.clone();
    other.site = SiteId::new("shore").unwrap();
    let mut again = good.clone();
    again.incarnation = 2;
    let mut epoch = good;
    epoch.epoch = 1;
    let cases = [
        (fleet, Code::OtherFleet),
        (other, Code::OtherSite),
        (again, Code::OtherIncarnation),
        (epoch, Code::AssignmentEpochOther),
    ];
    for (document, code) in cases {
        assert_eq!(site.offer(&sign(&document, &[21])).unwrap_err().code(), code);
    }
}

#[test]
fn counters_refuse_what_is_older_or_equal_but_different() {
    let mut site = Site::new(&root_1());
    let current = assignment(10, vec![]);
    site.current = Some((current.counter(), digest_of(&current)));
    assert!(matches!(site.offer(&sign(&current, &[21])), Ok(Acceptance::Same)));
    let mut twin = current.clone();
    twin.stale_after_s = Some(1);
    assert_eq!(site.offer(&sign(&twin, &[21])).unwrap_err().code(), Code::AssignmentEqualButDifferent);
    assert_eq!(site.offer(&sign(&assignment(9, vec![]), &[21])).unwrap_err().code(), Code::AssignmentOlder);
    assert!(matches!(site.offer(&sign(&assignment(11, vec![]), &[21])), Ok(Acceptance::Accepted(_))));
}

#[test]
fn a_stolen_key_that_burnt_the_numbers_is_recovered_from_by_a_root() {
    let mut root = root_1();
    let mut site = Site::new(&root);
    let burnt = assignment(INTEGER_MAX, vec![]);
    site.current = Some((burnt.counter(), digest_of(&burnt)));
    root.roles.director.epoch = 1;
    site.root = Site::new(&root).root;
    let mut fresh = assignment(1, vec![]);
    fresh.epoch = 1;
    assert!(matches!(site.offer(&sign(&fresh, &[21])), Ok(Acceptance::Accepted(_))));
}

#[test]
fn assignments_from_before_the_enrolment_are_refused() {
    let mut site = Site::new(&root_1());
    site.identity.minimum = Counter { epoch: 0, seq: 50 };
    assert_eq!(site.offer(&sign(&assignment(50, vec![]), &[21])).unwrap_err().code(), Code::AssignmentOlder);
    assert!(site.offer(&sign(&assignment(51, vec![]), &[21])).is_ok());
}

#[test]
fn an_assignment_waits_until_every_release_is_here() {
    let site = Site::new(&root_1()).with(&shop(1), &[11, 12]);
    let menu = release("menu", 1);
    let both = sign(&assignment(10, vec![desire(&menu), desire(&shop(1))]), &[21]);
    match site.offer(&both).unwrap() {
        Acceptance::Parked { missing, .. } => assert_eq!(missing, [digest_of(&menu)]),
        other => panic!("expected to be parked: {other:?}"),
    }
    let site = site.with(&menu, &[11, 12]);
    assert!(matches!(site.offer(&both), Ok(Acceptance::Accepted(_))));
}

#[test]
fn an_entry_must_say_what_its_release_says() {
    let site = Site::new(&root_1()).with(&shop(2), &[11, 12]);
    let good = desire(&shop(2));
    let faults = [
        DesiredApp { seq: 3, ..good.clone() },
        DesiredApp { epoch: 1, ..good.clone() },
        DesiredApp { app: app("menu"), ..good },
    ];
    for entry in faults {
        assert_eq!(site.verdict(entry), Some(Code::EntryDiffers));
    }
}

#[test]
fn floors_of_root_and_of_healthy_releases_hold() {
    let mut root = root_1();
    root.apps.insert(app("shop"), AppFloor { epoch: 0, min_seq: 3 });
    let mut site =
        Site::new(&root).with(&shop(2), &[11, 12]).with(&shop(4), &[11, 12]).with(&shop(6), &[11, 12]);
    assert_eq!(site.verdict(desire(&shop(2))), Some(Code::ReleaseBelowFloor));
    assert_eq!(site.verdict(desire(&shop(4))), None);
    site.floors.insert(app("shop"), Counter { epoch: 0, seq: 5 });
    assert_eq!(site.verdict(desire(&shop(4))), Some(Code::ReleaseBelowFloor));
    assert_eq!(site.verdict(desire(&shop(6))), None);
}

#[test]
fn a_release_of_another_epoch_is_refused_both_ways() {
    let mut root = root_1();
    root.apps.insert(app("shop"), AppFloor { epoch: 1, min_seq: 0 });
    let mut later = shop(1);
    later.predicate.epoch = 2;
    let site = Site::new(&root).with(&shop(9), &[11, 12]).with(&later, &[11, 12]);
    assert_eq!(site.verdict(desire(&shop(9))), Some(Code::ReleaseEpochOther));
    assert_eq!(site.verdict(desire(&later)), Some(Code::ReleaseEpochOther));
}

#[test]
fn a_revoked_release_is_not_installed_but_a_running_copy_is_kept() {
    for (action, code) in
        [(RevokeAction::Block, Code::ReleaseRevoked), (RevokeAction::Stop, Code::ReleaseStopped)]
    {
        let mut root = root_1();
        root.revoked.releases = vec![RevokedRelease { sha256: digest_of(&shop(1)), action }];
        let mut site = Site::new(&root).with(&shop(1), &[11, 12]);
        assert_eq!(site.verdict(desire(&shop(1))), Some(code));
        site.running.insert(app("shop"), digest_of(&shop(1)));
        let offered = site.offer(&sign(&assignment(10, vec![desire(&shop(1))]), &[21])).unwrap();
        let Acceptance::Accepted(accepted) = offered else { panic!("expected to be accepted") };
        assert_eq!(accepted.entries()[0].verdict.as_ref().unwrap().flag(), Some(action));
    }
}

#[test]
fn key_rotation_never_takes_a_running_app_away() {
    let mut root = root_1();
    let mut site = Site::new(&root).with(&shop(1), &[11, 12]);
    crate::fixture::with_role_keys(&mut root.roles.releases[0].keyids, &[31, 32]);
    for seed in [31, 32] {
        root.keys.insert(crate::fixture::key(seed).public().key_id(), crate::fixture::key(seed).public());
    }
    site.root = Site::new(&root).root;
    assert_eq!(site.verdict(desire(&shop(1))), Some(Code::TooFewSignatures));
    site.running.insert(app("shop"), digest_of(&shop(1)));
    assert_eq!(site.verdict(desire(&shop(1))), None);
}

#[test]
fn two_releases_under_one_number_are_noticed() {
    let mut twin = shop(1);
    twin.subject[0].name = "shop@other".into();
    let mut site = Site::new(&root_1()).with(&twin, &[11, 12]);
    site.accepted.insert((app("shop"), Counter { epoch: 0, seq: 1 }), digest_of(&shop(1)));
    assert_eq!(site.verdict(desire(&twin)), Some(Code::ReleaseEqualButDifferent));
}

#[test]
fn a_requirement_must_stand_in_the_same_assignment_and_itself_be_accepted() {
    let mut shop_1 = shop(1);
    shop_1.predicate.requires = vec![Requirement { app: app("base"), min_seq: 2 }];
    let base = |seq| release("base", seq);
    let site = Site::new(&root_1()).with(&shop_1, &[11, 12]).with(&base(1), &[11, 12]).with(&base(2), &[11]);
    let code = |desired: Vec<DesiredApp>| match site.offer(&sign(&assignment(10, desired), &[21])).unwrap() {
        Acceptance::Accepted(accepted) => {
            let entry = accepted.entries().iter().find(|entry| entry.desired.app == app("shop")).unwrap();
            entry.verdict.as_ref().err().map(|refusal| refusal.code)
        }
        other => panic!("expected to be accepted: {other:?}"),
    };
    assert_eq!(code(vec![desire(&shop_1)]), Some(Code::RequiresMissing));
    assert_eq!(code(vec![desire(&base(1)), desire(&shop_1)]), Some(Code::RequiresMissing), "too old");
    assert_eq!(code(vec![desire(&base(2)), desire(&shop_1)]), Some(Code::RequiresMissing), "refused itself");
    let site = Site::new(&root_1()).with(&shop_1, &[11, 12]).with(&base(2), &[11, 12]);
    let both = sign(&assignment(10, vec![desire(&base(2)), desire(&shop_1)]), &[21]);
    let Acceptance::Accepted(accepted) = site.offer(&both).unwrap() else {
        panic!("expected to be accepted")
    };
    assert!(accepted.entries().iter().all(|entry| entry.verdict.is_ok()));
}

#[test]
fn one_refused_app_does_not_stop_the_others() {
    let site = Site::new(&root_1()).with(&shop(1), &[11]).with(&release("menu", 1), &[11, 12]);
    let both = sign(&assignment(10, vec![desire(&release("menu", 1)), desire(&shop(1))]), &[21]);
    let Acceptance::Accepted(accepted) = site.offer(&both).unwrap() else {
        panic!("expected to be accepted")
    };
    let verdicts: Vec<bool> = accepted.entries().iter().map(|entry| entry.verdict.is_ok()).collect();
    assert_eq!(verdicts, [true, false]);
}

#[test]
fn parameters_and_overlays_stay_within_the_release() {
    let mut statement = shop(1);
    let declaration: ParameterDeclaration = serde_json::from_str(
        r#"{"type":"integer","min":1,"max":5,"targets":
            [{"apiVersion":"apps/v1","kind":"Deployment","namespace":"a","name":"b","pointer":"/spec/replicas"}]}"#,
    )
    .unwrap();
    let replicas = Name::new("replicas").unwrap();
    statement.predicate.parameters.insert(replicas.clone(), declaration);
    let site = Site::new(&root_1()).with(&statement, &[11, 12]);
    let with = |name: &Name, value: i64| {
        let mut desired = desire(&statement);
        desired.parameters.insert(name.clone(), Scalar::Integer(value));
        desired
    };
    assert_eq!(site.verdict(with(&replicas, 5)), None);
    assert_eq!(site.verdict(with(&replicas, 6)), Some(Code::ParameterOutside));
    assert_eq!(site.verdict(with(&Name::new("image").unwrap(), 1)), Some(Code::ParameterUndeclared));
    let mut overlay = desire(&statement);
    overlay.overlays = vec![Name::new("dark").unwrap()];
    assert_eq!(site.verdict(overlay), Some(Code::OverlayUnknown));
}

#[test]
fn a_later_retry_is_the_same_generation() {
    let first = desire(&shop(1));
    let again = DesiredApp { retry: 1, ..first.clone() };
    assert_eq!(first.generation(), again.generation());
    let mut other = first.clone();
    other.parameters.insert(Name::new("x").unwrap(), Scalar::Boolean(true));
    assert_ne!(first.generation(), other.generation());
}

mod attacks;
