//! What people are told while the API server does not answer.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::status::AppState;

use super::world::World;
use crate::core::Event;
use crate::core::object::Uid;

const V1: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 2")];
const V2_BAD: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 2 bad")];

fn go_down(world: &mut World, reason: &str) {
    world.say(Event::ApiTrouble { reason: reason.into() });
    world.say(Event::ApiState { up: false, cluster: None });
}

fn come_up(world: &mut World) {
    world.say(Event::ApiState { up: true, cluster: Some(Uid("cluster".into())) });
}

#[test]
fn an_app_that_waits_for_the_api_server_says_so_in_the_servers_words_as_long_as_it_waits() {
    let mut world = World::new();
    world.install(1, V1);
    go_down(&mut world, "HTTP 429: too many requests");
    let report = world.report();
    assert_eq!((report.state, report.code), (AppState::Unknown, Some(Code::ClusterUnavailable)));
    assert!(report.reason.ends_with("HTTP 429: too many requests"), "{}", report.reason);

    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(600_000);
    let report = world.report();
    assert_eq!((report.state, report.code), (AppState::Prepared, Some(Code::ClusterUnavailable)));
    assert!(report.reason.ends_with("HTTP 429: too many requests"), "{}", report.reason);

    come_up(&mut world);
    world.pass(10_000);
    let report = world.report();
    assert_eq!((report.state, report.code, report.reason.as_str()), (AppState::Healthy, None, ""));
    assert!(!world.outcomes().contains(&Outcome::RolledBack));
}

#[test]
fn the_settle_clock_stands_through_an_outage_however_long() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, V2_BAD);
    world.assign(&v2);
    world.pass(5_000);
    assert_eq!(world.state(), AppState::Settling);
    go_down(&mut world, "connection refused");
    world.pass(3_600_000);
    let report = world.report();
    assert_eq!((report.state, report.code), (AppState::Settling, Some(Code::ClusterUnavailable)));
    come_up(&mut world);
    world.pass(5_000);
    assert_eq!(world.state(), AppState::Settling, "of its 20 s it has had ten");
    world.pass(60_000);
    assert_eq!(world.last(Outcome::RolledBack).reason, Some(Code::NotHealthyInTime));
}
