//! Stories of going back: pods that nobody replaces, dead nodes, versions that must not be left, apps in groups.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::{Outcome, Receipt};
use airlift_bundles::document::release::{Requirement, RollbackRule, Statement};
use airlift_bundles::document::status::AppState;

use super::world::{World, app, desire, node, object};
use crate::core::Event;
use crate::core::event::LocalCommand;
use crate::core::status::LocalReply;

fn told(receipt: &Receipt, reason: &str) -> usize {
    receipt.evidence.iter().filter(|seen| seen.reason == reason).count()
}

/// Lets a version fail: it is assigned and given all the time that it may take.
fn let_fail(world: &mut World, seq: u64, objects: &[(&str, &str)]) {
    let statement = world.release("shop", seq, objects);
    world.assign(&statement);
    world.pass(200_000);
}

#[test]
fn a_stateful_set_comes_back_although_its_controller_leaves_the_broken_pod() {
    let mut world = World::new();
    world.install(1, &[("set-db", "db 1")]);
    let_fail(&mut world, 2, &[("set-db", "db 2 bad")]);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.pods_deleted, ["set-db-2"], "the only one that the bad version had reached");
    let crew = &world.crews[&object("set-db")];
    assert!(crew.pods.iter().all(|(pod, content)| pod.ready && content == "db 1"), "{crew:?}");
    let receipt = world.last(Outcome::RolledBack);
    assert_eq!(receipt.evidence[0].object, "Pod shop/set-db-2");
    assert_eq!(told(receipt, "PodDeleted"), 1);
    assert!(receipt.evidence.len() > 1, "what was seen of the failure is told too");
}

#[test]
fn a_stateful_set_whose_pods_are_all_broken_is_healed_one_by_one_from_the_highest() {
    let mut world = World::new();
    let_fail(&mut world, 1, &[("set-db", "db 1 bad")]);
    assert_eq!(world.state(), AppState::Failed);
    // Pods of a parallel set: all of the broken revision.
    let (mut uids, nodes) = (1_000, world.nodes.clone());
    let crew = world.crews.get_mut(&object("set-db")).unwrap();
    crew.wanted = "db 1".into();
    crew.pods.clear();
    crew.roll(&nodes, &mut uids);
    crew.pods.iter_mut().for_each(|(_, content)| content.push_str(" bad"));
    let v2 = world.release("shop", 2, &[("set-db", "db 2")]);
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.pods_deleted, ["set-db-2", "set-db-1", "set-db-0"]);
    assert_eq!(told(world.last(Outcome::Healthy), "PodDeleted"), 3);
}

#[test]
fn pods_of_an_update_that_goes_well_are_left_to_their_controller() {
    let mut world = World::new();
    world.install(1, &[("set-db", "db 1"), ("each-probe", "probe 1")]);
    world.install(2, &[("set-db", "db 2"), ("each-probe", "probe 2")]);
    assert!(world.pods_deleted.is_empty());
}

#[test]
fn a_daemon_set_is_updated_and_taken_back_on_the_nodes_that_are_ready() {
    let mut world = World::new();
    world.nodes = vec![node("n1", true), node("n2", true), node("n3", true)];
    world.say(Event::Nodes(world.nodes.clone()));
    world.install(1, &[("each-probe", "probe 1")]);
    world.nodes[2].ready = false;
    world.say(Event::Nodes(world.nodes.clone()));
    let v2 = world.release("shop", 2, &[("each-probe", "probe 2")]);
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Healthy, "one dead node does not block an update");
    assert_eq!(world.pods_deleted.len(), 2);
    let_fail(&mut world, 3, &[("each-probe", "probe 3 bad")]);
    assert_eq!(world.state(), AppState::Healthy, "nor a rollback");
    assert_eq!(world.last(Outcome::RolledBack).release.as_ref().unwrap().seq, 3);
    let crew = &world.crews[&object("each-probe")];
    let here = crew.pods.iter().filter(|(pod, _)| pod.node.as_deref() != Some("n3"));
    assert!(here.clone().all(|(pod, content)| pod.ready && content == "probe 2"), "{crew:?}");
    assert_eq!(here.count(), 2);
    // After five minutes the dead node's pod is given up, and that is receipted, once.
    world.pass(600_000);
    let forced = world.pods_deleted.iter().filter(|pod| pod.ends_with("by force")).count();
    assert_eq!(forced, 1);
    let told: usize = world.receipts.iter().map(|receipt| told(receipt, "PodDeleted")).sum();
    assert_eq!(told, world.pods_deleted.len(), "each deletion is told once");
}

#[test]
fn a_version_that_must_not_be_left_stays_and_is_never_gone_back_past() {
    let mut world = World::new();
    world.install(1, &[("web-front", "front 1")]);
    let v2 = world.release_with("shop", 2, &[("web-front", "front 2 bad")], |release| {
        release.rollback = RollbackRule::Never;
    });
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Degraded, Some("front 2 bad")));
    assert!(!world.last(Outcome::Degraded).evidence.is_empty());
    let refused = world.local(LocalCommand::Rollback(app("shop")));
    assert!(matches!(refused, LocalReply::Refused { .. }));
    let_fail(&mut world, 3, &[("web-front", "front 3 bad")]);
    assert_eq!(world.content("web-front"), Some("front 3 bad"), "what was before version 2 is past");
    assert_eq!(world.state(), AppState::Failed);
    world.install(4, &[("web-front", "front 4")]);
    assert_eq!(world.content("web-front"), Some("front 4"));
}

#[test]
fn a_change_of_configuration_alone_is_rolled_back() {
    let mut world = World::new();
    world.install(1, &[("cm-settings", "settings 1"), ("web-front", "front hash-1")]);
    let front = world.cluster[&object("web-front")].uid.clone();
    let_fail(&mut world, 2, &[("cm-settings", "settings 2"), ("web-front", "front hash-2 bad")]);
    assert_eq!(world.content("cm-settings"), Some("settings 1"));
    assert_eq!(world.content("web-front"), Some("front hash-1"));
    assert_eq!(world.cluster[&object("web-front")].uid, front, "nothing was made anew");
    assert!(world.deleted.is_empty());
}

#[test]
fn objects_that_the_failed_version_dropped_are_still_there_and_stay() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a"), ("cm-b", "b"), ("web-front", "front 1")]);
    let before = world.cluster[&object("cm-b")].clone();
    let_fail(&mut world, 2, &[("cm-a", "a"), ("web-front", "front 2 bad")]);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.cluster.get(&object("cm-b")), Some(&before), "the same object, by its UID");
    let row = &world.rows.objects[&app("shop")][&object("cm-b")];
    assert!(row.wanted.is_some() && row.applied.as_ref().map(|applied| &applied.uid) == Some(&before.uid));
    assert!(world.deleted.is_empty());
}

#[test]
fn objects_that_were_pruned_after_success_come_back_with_the_version_that_held_them() {
    let mut world = World::new();
    world.install(1, &[("cm-a", "a"), ("cm-b", "b"), ("web-front", "front 1")]);
    let before = world.cluster[&object("cm-b")].uid.clone();
    world.install(2, &[("cm-a", "a"), ("web-front", "front 2")]);
    assert_eq!(world.content("cm-b"), None);
    world.local(LocalCommand::Rollback(app("shop")));
    world.pass(20_000);
    assert_eq!((world.state(), world.content("cm-b")), (AppState::Healthy, Some("b")));
    let uid = &world.cluster[&object("cm-b")].uid;
    assert_ne!(*uid, before);
    let row = &world.rows.objects[&app("shop")][&object("cm-b")];
    assert_eq!(row.applied.as_ref().map(|applied| &applied.uid), Some(uid));
}

#[test]
fn a_finished_job_that_is_gone_holds_up_neither_a_rollback_nor_rest() {
    let mut world = World::new();
    world.install(1, &[("job-migrate", "job 1"), ("web-front", "front 1")]);
    world.cluster.remove(&object("job-migrate"));
    let_fail(&mut world, 2, &[("job-migrate", "job 1"), ("web-front", "front 2 bad")]);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
    assert_eq!(world.content("job-migrate"), None, "it does not run again");
}

/// Two apps, of which `front` from version 2 on requires `back` at 2.
fn group(world: &mut World, seq: u64, back: &str) -> [Statement; 2] {
    let back = world.release("back", seq, &[("web-back", back)]);
    let front = world.release_with("front", seq, &[("web-shown", &format!("shown {seq}"))], |release| {
        release.requires = vec![Requirement { app: app("back"), min_seq: seq }];
    });
    for statement in [&back, &front] {
        world.bring_release(statement);
    }
    let desired = vec![desire(&back), desire(&front)];
    let assignment = world.assignment(desired, &[]);
    world.bring_assignment(&assignment);
    [back, front]
}

fn both(world: &World) -> (Option<&str>, Option<&str>) {
    (world.content("web-back"), world.content("web-shown"))
}

fn outcomes_of(world: &World, name: &str) -> Vec<(Outcome, u64)> {
    let of = world.receipts.iter().filter(|receipt| receipt.app == Some(app(name)));
    of.filter_map(|receipt| Some((receipt.outcome, receipt.release.as_ref()?.seq))).collect()
}

#[test]
fn an_app_waits_for_what_it_requires_and_runs_on_as_it_was_meanwhile() {
    let mut world = World::new();
    group(&mut world, 1, "back 1");
    world.pass(30_000);
    group(&mut world, 2, "back 2 bad");
    world.pass(100_000);
    assert_eq!(both(&world), (Some("back 1"), Some("shown 1")));
    let report = world.report_of("front");
    assert_eq!(report.state, AppState::Healthy);
    assert!(report.reason.contains("waits for app back at seq 2"), "{}", report.reason);
    // Drift of what runs is still put right.
    let gone = world.cluster.remove(&object("web-shown")).unwrap();
    world.say(Event::Gone { object: object("web-shown"), uid: gone.uid });
    world.settle_down();
    assert_eq!(both(&world), (Some("back 1"), Some("shown 1")));
}

#[test]
fn apps_that_require_the_newer_one_go_back_first() {
    let mut world = World::new();
    group(&mut world, 1, "back 1");
    world.pass(30_000);
    group(&mut world, 2, "back 2");
    world.pass(30_000);
    assert_eq!(both(&world), (Some("back 2"), Some("shown 2")));
    world.local(LocalCommand::Rollback(app("back")));
    world.pass(1_000);
    assert_eq!(
        both(&world),
        (Some("back 2"), Some("shown 1")),
        "the upper one settles before the lower moves"
    );
    let report = world.report_of("back");
    assert_eq!(report.state, AppState::RollingBack);
    assert!(report.reason.contains("app front"), "{}", report.reason);
    world.pass(30_000);
    assert_eq!(both(&world), (Some("back 1"), Some("shown 1")));
    assert_eq!(outcomes_of(&world, "front").last(), Some(&(Outcome::RolledBack, 2)));
    let receipt = world.last_of("front", Outcome::RolledBack);
    assert_eq!(receipt.reason, Some(Code::RequiredLeft));
    world.pass(600_000);
    assert_eq!(both(&world), (Some("back 1"), Some("shown 1")), "and both stay");
    // What it requires is there again: the upper one follows by itself.
    world.local(LocalCommand::Retry(app("back")));
    world.pass(60_000);
    assert_eq!(both(&world), (Some("back 2"), Some("shown 2")));
}

#[test]
fn a_lower_app_that_fails_in_its_watch_time_takes_the_upper_ones_back_whatever_they_are_doing() {
    for after_ms in [0, 500, 2_000, 20_000] {
        let mut world = World::new();
        group(&mut world, 1, "back 1");
        world.pass(30_000);
        let [back, _] = group(&mut world, 2, "back 2");
        world.watch_of(&back, 300_000);
        world.pass(4_000);
        let healthy = |world: &World| outcomes_of(world, "back").contains(&(Outcome::Healthy, 2));
        while !healthy(&world) {
            world.pass(500);
        }
        world.pass(after_ms);
        world.fall_ill("web-back");
        world.pass(120_000);
        assert_eq!(both(&world), (Some("back 1"), Some("shown 1")), "after {after_ms}");
        assert_eq!(world.report_of("front").state, AppState::Healthy, "after {after_ms}");
        assert_eq!(world.report_of("back").state, AppState::Healthy, "after {after_ms}");
    }
}

#[test]
fn an_app_is_not_taken_back_from_under_one_that_cannot_follow() {
    let mut world = World::new();
    group(&mut world, 1, "back 1");
    world.pass(30_000);
    group(&mut world, 2, "back 2");
    world.pass(30_000);
    world.local(LocalCommand::Hold(app("front")));
    let refused = world.local(LocalCommand::Rollback(app("back")));
    assert!(matches!(refused, LocalReply::Refused { code: Code::Conflict, .. }));
    world.pass(60_000);
    assert_eq!(both(&world), (Some("back 2"), Some("shown 2")));
}
