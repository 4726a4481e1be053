//! Stories of content that was complete and is so no more.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::status::AppState;

use super::world::{World, object};
use crate::core::api::{ApiCall, ApiError, ApiErrorClass};
use crate::core::event::{ConnId, Failure, FailureClass};
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] = &[("cm-settings", "settings 1"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("cm-settings", "settings 2"), ("web-front", "front 2")];

fn damaged() -> Failure {
    Failure {
        class: FailureClass::Environment,
        code: Code::BlobDigest,
        reason: "damaged on this disk".into(),
        evidence: vec![],
    }
}

/// Lets things go on, while the first `failures` preparations and imports find damage; gives the versions fetched.
fn go_on(world: &mut World, failures: usize) -> Vec<u64> {
    let (mut fetched, mut failed) = (Vec::new(), 0);
    for _ in 0..200 {
        while let Some(effect) = world.pending.pop_front() {
            if let Effect::Fetch { generation, .. } = &effect {
                fetched.push(generation.counter.seq);
            }
            let event = match &effect {
                Effect::Prepare { op, .. } if failed < failures => {
                    failed += 1;
                    Some(Event::PrepareFailed { op: *op, failure: damaged() })
                }
                Effect::Import { op, .. } if failed < failures => {
                    failed += 1;
                    Some(Event::ImportFailed { op: *op, failure: damaged() })
                }
                _ => world.answer(&effect),
            };
            if let Some(event) = event {
                world.say(event);
            }
        }
        let Some(at) = world.wake_at.take() else { break };
        world.mono_ms = world.mono_ms.max(at);
        world.say(Event::Wake);
    }
    fetched
}

#[test]
fn content_that_is_damaged_before_it_is_applied_is_fetched_again() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    assert_eq!(go_on(&mut world, 3), [2, 2, 2, 2]);
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
    assert_eq!(world.content("web-front"), Some("front 2"));
}

#[test]
fn content_that_is_damaged_under_a_running_app_is_fetched_beside_it() {
    let mut world = World::new();
    world.install(1, V1);
    world.say(Event::ImagesLost { references: vec!["shop:1".into()] });
    assert_eq!(go_on(&mut world, 1), [1]);
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
    assert_eq!(world.outcomes().len(), 3, "enrolled, accepted, healthy: nothing was begun anew");
}

#[test]
fn a_body_that_cannot_be_rendered_is_fetched_again_and_then_sent() {
    let mut world = World::new();
    world.install(1, V1);
    world.api_errors.push_back(ApiErrorClass::ContentLost);
    let gone = world.cluster.remove(&object("web-front")).expect("it is there");
    world.say(Event::Gone { object: object("web-front"), uid: gone.uid });
    assert_eq!(go_on(&mut world, 0), [1]);
    assert_eq!(world.content("web-front"), Some("front 1"));
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
}

/// Lets time pass in which nobody brings content of one version, and what there was of it is damaged; gives how often
/// it was asked for.
fn live_without(world: &mut World, lost: u64, ms: u64) -> usize {
    let end = world.mono_ms + ms;
    let mut fetches = 0;
    loop {
        while let Some(effect) = world.pending.pop_front() {
            let event = match &effect {
                Effect::Fetch { generation, .. } if generation.counter.seq == lost => {
                    fetches += 1;
                    None
                }
                Effect::Prepare { op, generation, .. } if generation.counter.seq == lost => {
                    Some(Event::PrepareFailed { op: *op, failure: damaged() })
                }
                _ => world.answer(&effect),
            };
            if let Some(event) = event {
                world.say(event);
            }
        }
        let Some(at) = world.wake_at.take().filter(|at| *at <= end) else { break };
        world.mono_ms = world.mono_ms.max(at);
        world.say(Event::Wake);
    }
    world.mono_ms = end;
    fetches
}

#[test]
fn a_rollback_whose_content_is_lost_gives_way_to_a_newer_version() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, &[("cm-settings", "settings 2"), ("web-front", "front 2 bad")]);
    world.assign(&v2);
    assert!(live_without(&mut world, 1, 3_600_000) >= 1);
    assert_eq!(world.state(), AppState::RollingBack, "there is nothing else to do");
    let v3 = world.release("shop", 3, V2);
    world.assign(&v3);
    live_without(&mut world, 1, 1_200_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.last(Outcome::Degraded).reason, Some(Code::RollbackUnhealthy));
}

#[test]
fn a_rollback_whose_content_is_lost_gives_way_to_a_version_that_was_healthy_here_before() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    world.install(2, V2);
    let v3 = world.release("shop", 3, &[("cm-settings", "settings 3"), ("web-front", "front 3 bad")]);
    world.assign(&v3);
    live_without(&mut world, 2, 3_600_000);
    assert_eq!(world.state(), AppState::RollingBack);
    world.assign(&v1);
    live_without(&mut world, 2, 1_200_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
}

#[test]
fn content_that_nobody_brings_for_the_version_before_keeps_nothing_from_what_runs() {
    let mut world = World::new();
    world.install(1, V1);
    world.install(2, V2);
    // Images are lost, and with them content of the version to which the site might go back.
    world.say(Event::ImagesLost { references: vec!["shop:1".into()] });
    let lost = || ApiError { class: ApiErrorClass::ContentLost, status: 0, message: "lost".into() };
    let mut fetched = Vec::new();
    let end = world.mono_ms + 600_000;
    let mut repairs = false;
    loop {
        while let Some(effect) = world.pending.pop_front() {
            let event = match &effect {
                Effect::Fetch { generation, .. } => {
                    fetched.push(generation.counter.seq);
                    (generation.counter.seq == 2).then(|| world.answer(&effect)).flatten()
                }
                Effect::Import { op, generation } if generation.counter.seq == 1 => {
                    Some(Event::ImportFailed { op: *op, failure: damaged() })
                }
                Effect::Api { op, call: ApiCall::Apply { .. } } if !fetched.contains(&2) => {
                    Some(Event::Api { op: *op, reply: Err(lost()) })
                }
                _ => world.answer(&effect),
            };
            if let Some(event) = event {
                world.say(event);
            }
        }
        if fetched == [1] && !repairs {
            // Then content of what runs is found to be lost, too: it is needed for a repair.
            repairs = true;
            let gone = world.cluster.remove(&object("web-front")).expect("it is there");
            world.say(Event::Gone { object: object("web-front"), uid: gone.uid });
            continue;
        }
        let Some(at) = world.wake_at.take().filter(|at| *at <= end) else { break };
        world.mono_ms = world.mono_ms.max(at);
        world.say(Event::Wake);
    }
    assert_eq!(fetched, [1, 2]);
    assert_eq!(world.content("web-front"), Some("front 2"));
    assert_eq!((world.state(), world.report().code), (AppState::Healthy, None));
}

#[test]
fn a_database_that_went_back_says_so_once_and_numbers_on_beyond_what_the_hub_holds() {
    let mut world = World::new();
    world.install(1, V1);
    let (before, told) = (world.rows.clone(), world.receipts.clone());
    world.install(2, V2);
    let meta = world.rows.meta.clone().unwrap();
    // The disk has lost all that since: the hub's acks are of receipts that this database never made.
    (world.rows, world.receipts) = (before, told);
    world.restart();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    world.settle_down();
    for _ in 0..5 {
        world.acknowledge_as(&meta);
        world.pass(1_000);
    }
    let refusals: u64 = world.rows.refusals.values().map(|row| row.count).sum();
    assert_eq!(refusals, 1);
    assert!(world.rows.meta.as_ref().unwrap().outbox_next >= meta.outbox_next);
    let mut sent = 0;
    for _ in 0..6 * 60 {
        world.mono_ms += 10_000;
        world.say(Event::Wake);
        sent += world.pending.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count();
        world.settle_down();
    }
    assert!((1..=7).contains(&sent), "in an hour it is sent again {sent} times");
}

#[test]
fn drift_that_is_seen_while_other_drift_waits_is_put_right_too() {
    let mut world = World::new();
    world.install(1, V1);
    let lose = |world: &mut World, name: &str| {
        let gone = world.cluster.remove(&object(name)).expect("it is there");
        world.say(Event::Gone { object: object(name), uid: gone.uid });
    };
    // The first repair is refused for a while; then somebody deletes an object of another kind.
    world.api_errors.extend([ApiErrorClass::Unavailable; 3]);
    lose(&mut world, "cm-settings");
    world.settle_down();
    lose(&mut world, "web-front");
    world.pass(60_000);
    assert_eq!(world.content("cm-settings"), Some("settings 1"));
    assert_eq!(world.content("web-front"), Some("front 1"));
}
