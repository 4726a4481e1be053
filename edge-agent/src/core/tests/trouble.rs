//! Stories of what comes after success, of surroundings that fail, and of what is only said once.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::root::RevokeAction;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::Counter;

use super::world::{World, app, node, object};
use crate::core::Event;
use crate::core::api::ApiErrorClass;
use crate::core::object::Uid;

const V1: &[(&str, &str)] = &[("cm-settings", "settings 1"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("cm-settings", "settings 2"), ("web-front", "front 2")];

fn count(world: &World, outcome: Outcome) -> usize {
    world.outcomes().iter().filter(|told| **told == outcome).count()
}

/// Installs two versions, of which the second one asks to be watched.
fn watched(watch_ms: u64) -> World {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, V2);
    world.watch_of(&v2, watch_ms);
    world.assign(&v2);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
    world
}

#[test]
fn trouble_after_success_is_reported_once_with_evidence_and_its_end_too() {
    let mut world = World::new();
    world.install(1, V1);
    world.install(2, V2);
    world.fall_ill("web-front");
    world.pass(2_000);
    assert_eq!(world.state(), AppState::Healthy, "it may be over in a moment");
    world.pass(20_000);
    assert_eq!(world.state(), AppState::Degraded);
    assert_eq!(world.content("web-front"), Some("front 2 bad"), "nothing was rolled back");
    let receipt = world.last(Outcome::Degraded);
    assert_eq!(receipt.reason, Some(Code::TroubleAfterSuccess));
    assert_eq!(receipt.evidence[0].reason, "CrashLoopBackOff");
    world.pass(3_600_000);
    assert_eq!(count(&world, Outcome::Degraded), 1);
    let healthy = count(&world, Outcome::Healthy);
    world.get_well("web-front");
    world.pass(30_000);
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
    assert_eq!(count(&world, Outcome::Healthy), healthy + 1);
}

#[test]
fn trouble_that_is_over_in_a_moment_is_no_news() {
    let mut world = World::new();
    world.install(1, V1);
    let receipts = world.receipts.len();
    for _ in 0..20 {
        world.fall_ill("web-front");
        world.pass(1_000);
        world.get_well("web-front");
        world.pass(9_000);
    }
    assert_eq!((world.state(), world.receipts.len()), (AppState::Healthy, receipts));
}

#[test]
fn an_app_that_comes_and_goes_tells_it_ever_more_seldom() {
    let mut world = World::new();
    world.install(1, V1);
    for _ in 0..60 {
        world.fall_ill("web-front");
        world.pass(20_000);
        world.get_well("web-front");
        world.pass(40_000);
    }
    let told = count(&world, Outcome::Degraded);
    assert!((2..=6).contains(&told), "{told} receipts in an hour");
}

#[test]
fn trouble_is_remembered_over_a_restart() {
    let mut world = World::new();
    world.install(1, V1);
    world.fall_ill("web-front");
    world.pass(20_000);
    world.restart();
    world.pass(20_000);
    assert_eq!((world.state(), count(&world, Outcome::Degraded)), (AppState::Degraded, 1));
    world.get_well("web-front");
    world.restart();
    world.pass(20_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn trouble_in_the_watch_time_rolls_back_once() {
    let mut world = watched(60_000);
    world.pass(30_000);
    world.fall_ill("web-front");
    world.pass(30_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
    let receipt = world.last(Outcome::RolledBack);
    assert_eq!(receipt.reason, Some(Code::TroubleAfterSuccess));
    assert_eq!(receipt.release.as_ref().unwrap().seq, 2);
    assert_eq!(receipt.evidence[0].reason, "CrashLoopBackOff");
    // The version that came back has no watch time, and the one that was left is not tried again.
    world.fall_ill("web-front");
    world.pass(600_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Degraded, Some("front 1 bad")));
    assert_eq!(count(&world, Outcome::RolledBack), 1);
}

#[test]
fn the_watch_time_ends_and_counts_over_restarts() {
    let mut world = watched(60_000);
    for _ in 0..4 {
        world.pass(15_000);
        world.restart();
    }
    world.pass(30_000);
    world.fall_ill("web-front");
    world.pass(30_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Degraded, Some("front 2 bad")));
}

#[test]
fn the_watch_time_stands_while_nobody_could_see_trouble() {
    let mut world = watched(60_000);
    world.say(Event::ApiState { up: false, cluster: None });
    world.pass(600_000);
    world.say(Event::ApiState { up: true, cluster: None });
    world.fall_ill("web-front");
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
}

#[test]
fn no_good_version_is_left_in_its_watch_time_for_want_of_disk_space() {
    let mut world = watched(60_000);
    world.nodes[0].disk_pressure = true;
    world.say(Event::Nodes(world.nodes.clone()));
    world.fall_ill("web-front");
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Degraded, Some("front 2 bad")));
}

#[test]
fn what_nobody_can_say_is_never_shown_as_healthy() {
    let mut world = World::new();
    world.install(1, V1);
    let receipts = world.receipts.len();
    world.say(Event::ApiState { up: false, cluster: None });
    assert_eq!(world.state(), AppState::Unknown);
    assert_eq!(world.report().code, Some(Code::ClusterUnavailable));
    world.pass(600_000);
    world.say(Event::ApiState { up: true, cluster: None });
    world.pass(1_000);
    assert_eq!(world.state(), AppState::Healthy);
    world.nodes[0].ready = false;
    world.say(Event::Nodes(world.nodes.clone()));
    assert_eq!(world.state(), AppState::Unknown);
    assert!(world.report().reason.contains("no node is Ready"));
    world.pass(600_000);
    world.nodes[0].ready = true;
    world.say(Event::Nodes(world.nodes.clone()));
    world.pass(1_000);
    assert_eq!((world.state(), world.receipts.len()), (AppState::Healthy, receipts));
    // Neither is what a restart has not looked at yet.
    world.restart();
    assert_eq!(world.state(), AppState::Unknown);
    world.settle_down();
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn time_in_which_the_cluster_could_not_be_read_is_not_the_apps() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, &[("web-front", "front 2 bad")]);
    world.assign(&v2);
    world.pass(10_000);
    let class = ApiErrorClass::Throttled { retry_after_ms: 1_000 };
    world.read_errors = std::iter::repeat_n(class, 100_000).collect();
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Settling, "a minute of 429 fails nobody");
    assert_eq!(world.report().code, Some(Code::ClusterUnavailable));
    assert!(world.report().reason.contains("cannot be read"), "{}", world.report().reason);
    world.read_errors.clear();
    world.get_well("web-front");
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
}

#[test]
fn a_reading_that_fails_once_is_asked_for_again() {
    let mut world = World::new();
    world.install(1, V1);
    world.read_errors = [ApiErrorClass::Unavailable].into();
    world.get_well("web-front");
    world.settle_down();
    assert_eq!(world.state(), AppState::Unknown);
    world.pass(5_000);
    assert_eq!(world.state(), AppState::Healthy);
    // Nor does it hold up a version that settles.
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(1_000);
    assert_eq!(world.state(), AppState::Settling);
    world.read_errors = [ApiErrorClass::Unavailable].into();
    world.get_well("web-front");
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
}

#[test]
fn nothing_that_is_held_up_keeps_the_agent_awake() {
    let mut world = World::new();
    world.nodes = vec![node("n1", true), node("n2", true)];
    world.say(Event::Nodes(world.nodes.clone()));
    world.install(1, &[("each-probe", "probe 1"), ("web-front", "front 1")]);
    world.nodes[1].ready = false;
    world.say(Event::Nodes(world.nodes.clone()));
    world.fall_ill("web-front");
    world.read_errors = std::iter::repeat_n(ApiErrorClass::Unavailable, 100_000).collect();
    let wakes = world.wakes;
    world.pass(60_000);
    world.say(Event::ApiState { up: false, cluster: None });
    world.pass(60_000);
    assert!(world.wakes - wakes < 200, "{} wake-ups in two minutes", world.wakes - wakes);
}

#[test]
fn a_hanging_api_server_uses_up_no_time_either() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, &[("web-front", "front 1 bad")]);
    world.assign(&v1);
    world.pass(2_000);
    for _ in 0..20 {
        // Each reading takes 25 seconds, and then fails.
        let reading = loop {
            let effect = world.pending.pop_front();
            match effect {
                Some(effect @ crate::core::Effect::ReadHealth { .. }) => break effect,
                Some(effect) => {
                    if let Some(event) = world.answer(&effect) {
                        world.say(event);
                    }
                }
                None => {
                    world.mono_ms += 500;
                    world.say(Event::Wake);
                }
            }
        };
        world.mono_ms += 25_000;
        world.read_errors = [ApiErrorClass::Unavailable].into();
        let event = world.answer(&reading).unwrap();
        world.say(event);
    }
    assert_eq!(world.state(), AppState::Settling);
}

#[test]
fn nodes_that_cannot_run_pods_are_no_fault_of_the_app_and_are_named() {
    let mut world = World::new();
    world.install(1, V1);
    world.nodes = vec![node("n1", true), node("n2", false)];
    world.nodes[0].disk_pressure = true;
    world.say(Event::Nodes(world.nodes.clone()));
    let v2 = world.release("shop", 2, &[("web-front", "front 2 bad")]);
    world.assign(&v2);
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Settling);
    assert!(world.report().reason.contains("n1 reports disk pressure"), "{}", world.report().reason);
    world.nodes[0].disk_pressure = false;
    world.say(Event::Nodes(world.nodes.clone()));
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
}

#[test]
fn an_api_server_in_trouble_stops_applying_and_rolls_nothing_back() {
    let mut world = World::new();
    world.install(1, V1);
    let class = ApiErrorClass::Unavailable;
    world.api_errors = std::iter::repeat_n(class, 100_000).collect();
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(3_600_000);
    assert_eq!((world.state(), count(&world, Outcome::RolledBack)), (AppState::Prepared, 0));
    assert_eq!(world.report().code, Some(Code::ClusterUnavailable));
    world.api_errors.clear();
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.report().code, None);
}

#[test]
fn a_name_that_stays_taken_uses_up_the_settle_clock() {
    let mut world = World::new();
    world.install(1, V1);
    world.api_errors = std::iter::repeat_n(ApiErrorClass::Retryable, 1_000).collect();
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(15_000);
    assert_eq!(world.state(), AppState::Applying);
    world.pass(15_000);
    assert_eq!(count(&world, Outcome::RolledBack), 1, "and ends with it");
}

#[test]
fn an_assignment_that_only_acknowledges_makes_no_receipt() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    let receipts = world.receipts.len();
    let again = world.assignment(vec![super::world::desire(&v1)], &[]);
    world.bring_assignment(&again);
    world.settle_down();
    assert_eq!(world.receipts.len(), receipts);
    let counter = Counter { epoch: 0, seq: again.assignment_seq };
    assert_eq!(world.core.assignment_counter(), Some(counter), "but it is the one in force");
    let retire = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&retire);
    assert_eq!(world.receipts.len(), receipts + 1);
}

#[test]
fn a_prune_has_its_own_word() {
    let mut world = World::new();
    world.install(1, V1);
    world.install(2, &[("web-front", "front 2")]);
    let outcomes = world.outcomes();
    let told = &outcomes[outcomes.len() - 2..];
    assert_eq!(told, [Outcome::Healthy, Outcome::Pruned]);
    assert_eq!(world.last(Outcome::Pruned).counts.pruned, 1);
}

#[test]
fn a_stopped_release_keeps_its_data_and_has_no_pods() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    let settings = world.cluster[&object("cm-settings")].clone();
    world.revoke(&v1, RevokeAction::Stop);
    world.pass(10_000);
    assert_eq!(world.content("web-front"), Some("no pods"));
    assert_eq!(world.cluster.get(&object("cm-settings")), Some(&settings));
    assert_eq!(world.report().code, Some(Code::ReleaseStopped));
    let applied = world.applied;
    world.restart();
    world.pass(60_000);
    assert_eq!((world.content("web-front"), world.applied), (Some("no pods"), applied), "and it stays so");
    world.install(2, V2);
    assert_eq!((world.content("web-front"), world.report().code), (Some("front 2"), None));
}

#[test]
fn a_release_that_is_revoked_while_it_settles_is_taken_back_and_not_begun_again() {
    for action in [RevokeAction::Block, RevokeAction::Stop] {
        let mut world = World::new();
        world.install(1, V1);
        let v2 = world.release("shop", 2, V2);
        world.assign(&v2);
        world.pass(2_000);
        assert_eq!(world.content("web-front"), Some("front 2"));
        world.revoke(&v2, action);
        world.pass(60_000);
        assert_eq!((world.state(), world.content("web-front")), (AppState::Refused, Some("front 1")));
        let receipts = world.receipts.len();
        world.restart();
        world.pass(60_000);
        assert_eq!((world.receipts.len(), world.content("web-front")), (receipts, Some("front 1")));
    }
}

#[test]
fn a_blocked_release_that_runs_is_flagged_and_kept() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    world.revoke(&v1, RevokeAction::Block);
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, Some(Code::ReleaseRevoked)));
    let gone = world.cluster.remove(&object("web-front")).unwrap();
    world.say(Event::Gone { object: object("web-front"), uid: Uid(gone.uid.0) });
    world.pass(10_000);
    assert_eq!((world.content("web-front"), world.state()), (Some("front 1"), AppState::Healthy));
    assert_eq!(world.report().app, app("shop"));
}
