//! Stories of images that vanish from the container runtime.

use airlift_bundles::document::status::AppState;

use super::world::World;
use crate::core::event::{Failure, FailureClass};
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 2")];

/// Tells of lost images, and gives the numbers of the versions that are imported then.
fn lose_images(world: &mut World) -> Vec<u64> {
    world.say(Event::ImagesLost { references: vec!["shop:1".into()] });
    let mut imported = Vec::new();
    while let Some(effect) = world.pending.pop_front() {
        if let Effect::Import { generation, .. } = &effect {
            imported.push(generation.counter.seq);
        }
        if let Some(event) = world.answer(&effect) {
            world.say(event);
        }
    }
    imported
}

#[test]
fn images_of_both_versions_come_back_and_tags_mean_those_of_the_present_one() {
    let mut world = World::new();
    world.install(1, V1);
    assert_eq!(lose_images(&mut world), [1]);
    world.install(2, V2);
    assert_eq!(lose_images(&mut world), [1, 2]);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn images_that_vanish_while_a_version_settles_come_back_before_its_time_is_over() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(1_000);
    assert_eq!(world.state(), AppState::Settling);
    assert_eq!(lose_images(&mut world).last(), Some(&2));
    world.pass(5_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn images_that_cannot_come_back_while_a_version_settles_are_no_fault_of_the_version() {
    let mut world = World::new();
    world.install(1, V1);
    world.install(2, V2);
    let v3 = world.release("shop", 3, V1);
    world.assign(&v3);
    world.pass(1_000);
    world.say(Event::ImagesLost { references: vec!["shop:1".into()] });
    let import = world.pending.iter().find_map(|effect| match effect {
        Effect::Import { op, .. } => Some(*op),
        _ => None,
    });
    let op = import.expect("what was lost is asked for");
    world.pending.retain(|effect| !matches!(effect, Effect::Import { .. }));
    let failure = Failure {
        class: FailureClass::App,
        code: airlift_bundles::code::Code::ImageNameTaken,
        reason: "somebody took the name".into(),
        evidence: vec![],
    };
    world.say(Event::ImportFailed { op, failure });
    world.pass(20_000);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.content("web-front"), Some("front 1"));
}
