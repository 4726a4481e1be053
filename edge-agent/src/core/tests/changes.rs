//! Stories of changes that an update cannot make, or that nobody can take back.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::release::{DeletePermissions, RollbackRule};
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::Blake3Digest;

use super::world::{World, desire, object};
use crate::core::Event;
use crate::core::api::ApiErrorClass;
use crate::core::object::Uid;

fn everything() -> DeletePermissions {
    DeletePermissions { namespaces: true, crds: true, claims: true }
}

fn uid(world: &World, name: &str) -> Uid {
    world.cluster[&object(name)].uid.clone()
}

#[test]
fn an_update_that_the_cluster_would_refuse_changes_nothing() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a 1"), ("cm-b", "b 1"), ("web-front", "front 1")]);
    let before = (world.cluster.clone(), world.applied);
    let v2 = world.release("shop", 2, &[("cm-a", "a 2"), ("cm-b", "refused"), ("web-front", "front 2")]);
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!((world.cluster.clone(), world.applied), before);
    assert_eq!((world.state(), world.report().code), (AppState::Refused, Some(Code::ApplyRefused)));
    assert_eq!(world.last(Outcome::Refused).reason, Some(Code::ApplyRefused));
    assert!(!world.outcomes().contains(&Outcome::RolledBack));
    let v3 = world.release("shop", 3, &[("cm-a", "a 3"), ("web-front", "front 3")]);
    world.assign(&v3);
    world.pass(20_000);
    assert_eq!((world.state(), world.content("cm-a")), (AppState::Healthy, Some("a 3")));
}

#[test]
fn an_update_refused_in_a_later_wave_stops_before_that_wave_and_rolls_back() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a 1"), ("web-front", "front 1"), ("web-other", "other 1")]);
    let fronts = uid(&world, "web-other");
    let v2 = [("cm-a", "a 2"), ("web-front", "refused"), ("web-other", "other 2")];
    let v2 = world.release("shop", 2, &v2);
    world.assign(&v2);
    for _ in 0..1000 {
        assert_eq!(world.content("web-other"), Some("other 1"), "nothing of the refused wave is sent");
        let Some(effect) = world.pending.pop_front() else { break };
        if let Some(event) = world.answer(&effect) {
            world.say(event);
        }
    }
    world.pass(60_000);
    assert_eq!((world.state(), world.content("cm-a")), (AppState::Healthy, Some("a 1")));
    assert_eq!(world.last(Outcome::RolledBack).reason, Some(Code::ApplyRefused));
    assert_eq!(uid(&world, "web-other"), fronts);
}

#[test]
fn what_is_created_put_right_or_put_back_is_not_tried() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a 1"), ("web-front", "front 1")]);
    assert_eq!(world.tried, 0);
    let live = world.cluster.get_mut(&object("cm-a")).unwrap();
    live.entry = Some(Blake3Digest::of(b"drift"));
    world.restart();
    world.pass(10_000);
    assert_eq!((world.tried, world.applied), (0, 3));
    let v2 = world.release("shop", 2, &[("cm-a", "a 2"), ("web-front", "front 2 bad")]);
    world.assign(&v2);
    world.pass(120_000);
    assert_eq!(
        (world.state(), world.tried),
        (AppState::Healthy, 2),
        "only the two updates of the new version"
    );
    assert_eq!(world.content("web-front"), Some("front 1"));
}

#[test]
fn a_trial_waits_for_a_busy_cluster() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a 1")]);
    world.api_errors.extend([ApiErrorClass::Throttled { retry_after_ms: 2_000 }, ApiErrorClass::Unavailable]);
    let v2 = world.release("shop", 2, &[("cm-a", "a 2")]);
    world.assign(&v2);
    world.pass(1_000);
    assert_eq!((world.state(), world.report().code), (AppState::Prepared, Some(Code::ClusterUnavailable)));
    world.pass(60_000);
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
}

#[test]
fn a_change_without_a_way_back_is_refused_unless_it_is_signed_never_to_go_back() {
    let mut world = World::new();
    world.install(1, &[("sealed-x", "x 1"), ("web-front", "front 1")]);
    let before = world.cluster.clone();
    let changed = [("sealed-x", "x 2"), ("web-front", "front 2")];
    let v2 = world.release("shop", 2, &changed);
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!((&world.cluster, world.state()), (&before, AppState::Refused));
    let told = world.last(Outcome::Refused);
    assert_eq!(told.reason, Some(Code::Irreversible));
    assert_eq!(told.evidence[0].object, "sealed-x");
    let v3 = world.release_with("shop", 3, &changed, |release| release.rollback = RollbackRule::Never);
    world.assign(&v3);
    world.pass(60_000);
    // It is allowed to try; this cluster cannot do it at all.
    assert_eq!(world.last(Outcome::Refused).reason, Some(Code::ApplyRefused));
}

#[test]
fn what_no_update_can_bring_there_is_created_anew_there_and_back() {
    let mut world = World::new();
    world.install(1, &[("fixed-x", "x 1"), ("web-front", "front 1")]);
    let first = uid(&world, "fixed-x");
    world.install(2, &[("fixed-x", "x 2"), ("web-front", "front 2")]);
    let second = uid(&world, "fixed-x");
    assert_ne!(first, second);
    assert_eq!(world.content("fixed-x"), Some("x 2"));
    let v3 = world.release("shop", 3, &[("fixed-x", "x 3"), ("web-front", "front 3 bad")]);
    world.assign(&v3);
    world.pass(120_000);
    assert_eq!((world.state(), world.content("fixed-x")), (AppState::Healthy, Some("x 2")));
    assert_eq!(world.deleted, [object("fixed-x"), object("fixed-x"), object("fixed-x")]);
    let third = uid(&world, "fixed-x");
    world.restart();
    world.pass(60_000);
    assert_eq!(uid(&world, "fixed-x"), third, "once it is right it is left alone");
}

#[test]
fn what_lingers_is_waited_for_and_then_created() {
    let mut world = World::new();
    world.install(1, &[("fixed-x", "x 1")]);
    world.lingering.insert(object("fixed-x"));
    let v2 = world.release("shop", 2, &[("fixed-x", "x 2"), ("web-front", "front 2")]);
    world.assign(&v2);
    world.pass(600_000);
    let report = world.report();
    assert_eq!((report.state, report.code), (AppState::Applying, Some(Code::ClusterUnavailable)));
    assert!(report.reason.contains("fixed-x is being deleted"), "{}", report.reason);
    assert_eq!(world.content("web-front"), None, "later waves wait");
    world.let_go();
    world.pass(60_000);
    assert_eq!((world.state(), world.content("fixed-x")), (AppState::Healthy, Some("x 2")));
    assert_eq!(world.report().reason, "");
}

#[test]
fn a_restart_while_an_object_is_created_anew_converges() {
    for at in 0..40 {
        let mut world = World::new();
        world.install(1, &[("fixed-x", "x 1"), ("job-once", "once 1")]);
        let v2 = world.release("shop", 2, &[("fixed-x", "x 2"), ("job-once", "once 2")]);
        world.assign(&v2);
        for _ in 0..at {
            let Some(effect) = world.pending.pop_front() else { break };
            if let Some(event) = world.answer(&effect) {
                world.say(event);
            }
        }
        world.restart();
        world.pass(60_000);
        assert_eq!(world.state(), AppState::Healthy, "restarted after {at} effects");
        assert_eq!((world.content("fixed-x"), world.content("job-once")), (Some("x 2"), Some("once 2")));
    }
}

#[test]
fn a_run_is_not_begun_again_on_drift_or_restart() {
    let mut world = World::new();
    world.install(1, &[("job-once", "once 1"), ("web-front", "front 1")]);
    let job = world.cluster.remove(&object("job-once")).unwrap();
    world.say(Event::Gone { object: object("job-once"), uid: job.uid });
    world.pass(60_000);
    world.restart();
    world.pass(60_000);
    assert_eq!((world.content("job-once"), world.state()), (None, AppState::Healthy));
    world.install(2, &[("job-once", "once 1"), ("web-front", "front 2")]);
    assert_eq!(world.content("job-once"), None, "its content is the one that ran");
}

#[test]
fn a_run_may_be_gone_before_its_version_is_healthy_once_it_was_seen_to_end_well() {
    for (content, seen) in [("once 1", AppState::Healthy), ("once 1 bad", AppState::Failed)] {
        let mut world = World::new();
        let v1 = world.release("shop", 1, &[("job-once", content), ("web-front", "front 1")]);
        world.assign(&v1);
        world.pass(1_000);
        assert_eq!(world.state(), AppState::Settling);
        let job = world.cluster.remove(&object("job-once")).unwrap();
        world.say(Event::Gone { object: object("job-once"), uid: job.uid });
        world.pass(60_000);
        assert_eq!((world.state(), world.content("job-once")), (seen, None));
    }
}

#[test]
fn a_rollback_removes_the_failed_versions_run_and_begins_none_again() {
    for (gone, renamed) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::new();
        world.install(2, &[("job-once", "once 2"), ("web-front", "front 2")]);
        if gone {
            world.cluster.remove(&object("job-once"));
        }
        let job = if renamed { "job-other" } else { "job-once" };
        let v3 = world.release("shop", 3, &[(job, "once 3"), ("web-front", "front 3 bad")]);
        world.assign(&v3);
        world.pass(10_000);
        assert_eq!(world.content(job), Some("once 3"), "gone {gone}, renamed {renamed}");
        world.pass(120_000);
        assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
        let left = (renamed && !gone).then_some("once 2");
        assert_eq!((world.content("job-once"), world.content("job-other")), (left, None));
        world.restart();
        world.pass(60_000);
        assert_eq!((world.content("job-once"), world.state()), (left, AppState::Healthy));
    }
}

#[test]
fn a_lost_inventory_begins_no_run_again_and_a_rebuilt_cluster_does() {
    let mut world = World::new();
    world.install(1, &[("job-once", "once 1"), ("web-front", "front 1")]);
    world.cluster.remove(&object("job-once"));
    world.rows.objects.clear();
    world.restart();
    world.pass(60_000);
    assert_eq!((world.state(), world.content("job-once")), (AppState::Healthy, None));
    world.cluster.clear();
    world.say(Event::ApiState { up: true, cluster: Some(Uid("another".into())) });
    world.pass(60_000);
    assert_eq!((world.state(), world.content("job-once")), (AppState::Healthy, Some("once 1")));
}

#[test]
fn another_version_of_the_api_is_the_same_object() {
    let mut world = World::new();
    world.install(1, &[("old-x", "x 1")]);
    world.install(2, &[("moved-x", "x 1")]);
    world.pass(60_000);
    assert!(world.deleted.is_empty(), "deleting the old name would delete the object");
    assert_eq!(world.rows.objects[&super::world::app("shop")].len(), 1);
}

#[test]
fn a_namespace_with_others_things_in_it_stays_and_that_is_told_once() {
    let mut world = World::new();
    world.install(1, &[("ns-shop", "ns"), ("ns-old", "ns"), ("cm-a", "a 1")]);
    world.others.insert(object("ns-old"), vec!["ConfigMap old/theirs".into()]);
    let v2 = world.release_with("shop", 2, &[("ns-shop", "ns")], |release| release.prune = everything());
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!(world.deleted, [object("cm-a")], "the rest goes");
    let report = world.report();
    assert_eq!((report.state, report.code), (AppState::Healthy, Some(Code::HoldsOthers)));
    assert!(report.reason.contains("Namespace ns-old") && report.reason.contains("old/theirs"), "{report:?}");
    world.restart();
    world.pass(60_000);
    let told = world.receipts.iter().filter(|receipt| receipt.reason == Some(Code::HoldsOthers)).count();
    assert_eq!(told, 1);
    world.others.clear();
    world.restart();
    world.pass(60_000);
    assert_eq!(world.deleted, [object("cm-a"), object("ns-old")]);
    assert_eq!(world.report().code, None);
}

#[test]
fn retiring_leaves_what_holds_others_things_and_says_so() {
    let mut world = World::new();
    let objects = [("ns-shop", "ns"), ("crd-things", "things"), ("cm-a", "a 1")];
    let v1 = world.release_with("shop", 1, &objects, |release| release.retire = everything());
    world.assign(&v1);
    world.pass(10_000);
    world.others.insert(object("crd-things"), vec!["Thing other/x".into()]);
    let retire = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&retire);
    world.pass(120_000);
    assert_eq!(world.deleted, [object("cm-a"), object("ns-shop")]);
    let told = world.last(Outcome::Retired);
    assert_eq!((told.reason, told.evidence.len()), (Some(Code::HoldsOthers), 1));
    assert!(told.evidence[0].message.contains("Thing other/x"));
}

#[test]
fn a_version_that_was_healthy_here_runs_nothing_when_the_hub_goes_back_to_it() {
    let mut world = World::new();
    let v1 = world.install(1, &[("job-once", "once 1"), ("web-front", "front 1")]);
    world.install(2, &[("job-once", "once 2"), ("web-front", "front 2")]);
    let back = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&back);
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
    assert_eq!(world.content("job-once"), None);
}

#[test]
fn a_kind_that_the_cluster_does_not_know_is_waited_for_and_then_refused_with_nothing_changed() {
    let mut world = World::new();
    world.unknown.insert("things.example".into());
    let v1 = world.release("shop", 1, &[("cm-a", "a 1"), ("thing-x", "x 1")]);
    world.assign(&v1);
    world.pass(10_000);
    assert_eq!((world.state(), world.report().code), (AppState::Prepared, Some(Code::KindUnknown)));
    world.unknown.clear();
    world.pass(60_000);
    assert_eq!((world.state(), world.content("thing-x")), (AppState::Healthy, Some("x 1")));
    world.unknown.insert("things.example".into());
    let v2 = world.release("shop", 2, &[("cm-a", "a 2"), ("thing-x", "x 2")]);
    world.assign(&v2);
    world.pass(600_000);
    assert_eq!((world.state(), world.content("cm-a")), (AppState::Refused, Some("a 1")));
    assert_eq!(world.last(Outcome::Refused).reason, Some(Code::KindUnknown));
    let v3 = world.release("shop", 3, &[("crd-x.things.example", "crd"), ("thing-x", "x 3")]);
    world.assign(&v3);
    world.pass(60_000);
    assert_eq!(
        (world.state(), world.content("thing-x")),
        (AppState::Healthy, Some("x 3")),
        "it brings its kind"
    );
}
