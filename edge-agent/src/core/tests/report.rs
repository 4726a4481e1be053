//! What people and the hub are told while an app lives: each wait by its name, and nothing as known that is not.

use airlift_bundles::code::Code;
use airlift_bundles::document::release::Requirement;
use airlift_bundles::document::status::{AppState, AppStatus, NodeStatus, Progress, SiteStatus, Waiting};

use super::world::{World, app, desire, start};
use crate::core::event::{ConnId, Failure, FailureClass, LocalCommand};
use crate::core::outbox::STATUS;
use crate::core::report::stored_status;
use crate::core::{Effect, Event};

const GOOD: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 1")];
const BAD: &[(&str, &str)] = &[("ns-shop", "ns"), ("web-front", "front 2 bad")];

fn shop(world: &World) -> AppStatus {
    world.report().status
}

fn node(ready: bool) -> NodeStatus {
    NodeStatus {
        name: "node".into(),
        ready,
        schedulable: true,
        disk_pressure: false,
        platform: start().platform,
        kubelet: String::new(),
    }
}

#[test]
fn fetching_tells_bytes_and_rate_and_nothing_of_it_is_left_afterwards() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, GOOD);
    world.bring_release(&v1);
    let assignment = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    let fetches = |effect: &Effect| matches!(effect, Effect::Fetch { .. });
    let at = world.pending.iter().position(fetches).expect("the content is asked for");
    let Some(Effect::Fetch { op, .. }) = world.pending.remove(at) else { panic!() };
    assert_eq!(shop(&world).waits, Some(Waiting::Content));
    for second in 0..30 {
        world.say(Event::ContentProgress { op, have_bytes: second * 1000, total_bytes: 100_000 });
        world.mono_ms += 1_000;
    }
    let status = shop(&world);
    assert_eq!(status.progress, Some(Progress { have: 29_000, want: 100_000 }));
    let rate = status.bytes_per_s.expect("thirty seconds are enough to tell");
    assert!((900..=1_000).contains(&rate), "{rate}");
    world.say(Event::ContentReady { op });
    world.pass(1_000);
    let report = world.report();
    assert_eq!((report.state, report.fetched), (AppState::Settling, None));
    assert_eq!((report.status.progress, report.status.bytes_per_s), (None, None));
}

#[test]
fn an_app_that_waits_for_another_names_it_with_both_numbers() {
    let mut world = World::new();
    let db = world.release("db", 3, &[("cm-db", "db")]);
    let needs = Requirement { app: app("db"), min_seq: 3 };
    let v1 = world.release_with("shop", 1, GOOD, |release| release.requires = vec![needs]);
    world.bring_release(&db);
    world.bring_release(&v1);
    let assignment = world.assignment(vec![desire(&db), desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    let waits = Waiting::App { app: app("db"), min_seq: 3, seq: None };
    assert_eq!((shop(&world).state, shop(&world).waits), (AppState::Waiting, Some(waits)));
    world.pass(10_000);
    assert_eq!(shop(&world).waits, None);
}

#[test]
fn settling_tells_its_clock_and_what_is_not_well() {
    let mut world = World::new();
    world.install(1, GOOD);
    let v2 = world.release("shop", 2, BAD);
    world.assign(&v2);
    world.pass(5_000);
    let status = shop(&world);
    assert_eq!((status.state, status.waits.clone()), (AppState::Settling, Some(Waiting::Health)));
    let clock = status.clock.expect("it runs");
    assert!((1_000..=5_000).contains(&clock.used_ms) && clock.limit_ms == 20_000 && clock.runs, "{clock:?}");
    assert_eq!(status.evidence[0].reason, "CrashLoopBackOff");
    assert_eq!(status.returns_to.map(|mark| mark.seq), Some(1));
    world.say(Event::Nodes(vec![node(false)]));
    assert_eq!(shop(&world).waits, Some(Waiting::Node));
    world.say(Event::ApiState { up: false, cluster: None });
    let status = shop(&world);
    assert_eq!((status.waits, status.clock.map(|clock| clock.runs)), (Some(Waiting::Cluster), Some(false)));
}

#[test]
fn a_pause_after_a_failure_of_the_surroundings_says_how_long_it_is() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, GOOD);
    world.bring_release(&v1);
    let assignment = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    let Some(Effect::Fetch { op, .. }) =
        world.pending.iter().find(|effect| matches!(effect, Effect::Fetch { .. })).cloned()
    else {
        panic!()
    };
    world.pending.clear();
    let reason = "no space left".to_owned();
    let failure =
        Failure { class: FailureClass::Environment, code: Code::DiskFull, reason, evidence: vec![] };
    world.say(Event::ContentFailed { op, failure });
    let status = shop(&world);
    assert_eq!((status.reason, status.detail.as_str()), (Some(Code::DiskFull), "no space left"));
    assert!(matches!(status.waits, Some(Waiting::Pause { left_s: 1..=2 })), "{:?}", status.waits);
}

#[test]
fn a_healthy_app_is_unknown_while_nobody_can_look_at_it() {
    let mut world = World::new();
    world.install(1, GOOD);
    assert_eq!(shop(&world).state, AppState::Healthy);
    world.say(Event::Nodes(vec![node(false)]));
    assert_eq!(shop(&world).state, AppState::Unknown);
    world.say(Event::Nodes(vec![node(true)]));
    world.say(Event::ApiState { up: false, cluster: None });
    assert_eq!(shop(&world).state, AppState::Unknown);
    let row = world.rows.apps[&app("shop")].clone();
    let stored = stored_status(&world.rows, &row, world.rows.meta.as_ref().unwrap().time_floor);
    assert_eq!((stored.state, stored.waits), (AppState::Healthy, None), "rows alone know no waits");
}

#[test]
fn leaving_counts_down_and_a_hold_is_told_as_such() {
    let mut world = World::new();
    world.install(1, GOOD);
    let assignment = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&assignment);
    world.settle_down();
    let status = shop(&world);
    assert_eq!(status.state, AppState::Retiring);
    assert!(
        matches!(status.waits, Some(Waiting::RetireDelay { left_s }) if left_s > 0),
        "{:?}",
        status.waits
    );
    world.local(LocalCommand::Hold(app("shop")));
    assert_eq!((shop(&world).state, shop(&world).waits), (AppState::Held, Some(Waiting::Person)));
}

#[test]
fn how_far_work_is_goes_to_the_hub_once_a_minute_and_no_oftener() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let v1 = world.release("shop", 1, GOOD);
    world.bring_release(&v1);
    let assignment = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    let at = world.pending.iter().position(|effect| matches!(effect, Effect::Fetch { .. })).unwrap();
    let Some(Effect::Fetch { op, .. }) = world.pending.remove(at) else { panic!() };
    world.pass(2_000);
    let mut told = Vec::new();
    for second in 0..300 {
        world.say(Event::ContentProgress { op, have_bytes: second * 1000, total_bytes: 1_000_000 });
        world.pass(1_000);
        let row = world.rows.outbox.get(STATUS).expect("a status waits for its acknowledgement");
        let status: SiteStatus = serde_json::from_slice(&row.payload).unwrap();
        told.push((row.seq, status.apps[&app("shop")].progress));
    }
    let have = |progress: Option<Progress>| progress.map_or(0, |progress| progress.have);
    told.dedup_by_key(|(seq, _)| *seq);
    assert!((4..=7).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| have(pair[0].1) < have(pair[1].1)), "each says more: {told:?}");
}

#[test]
fn a_silent_hub_makes_its_word_stale_and_nothing_else() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, GOOD);
    world.bring_release(&v1);
    let mut assignment = world.assignment(vec![desire(&v1)], &[]);
    assignment.stale_after_s = Some(3_600);
    world.bring_assignment(&assignment);
    world.pass(60_000);
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    world.pass(7_200_000);
    world.say(Event::Nodes(vec![node(true)]));
    assert!(!world.core.report(world.now()).stale, "connected");
    world.say(Event::LinkDown { conn: ConnId(1), reason: String::new() });
    world.pass(3_500_000);
    assert!(!world.core.report(world.now()).stale, "silent for less than an hour");
    world.pass(200_000);
    let report = world.core.report(world.now());
    assert!(report.stale && report.hub_heard.is_some());
    assert_eq!(world.state(), AppState::Healthy);
    world.restart();
    assert!(!world.core.report(world.now()).connected && world.core.report(world.now()).hub_heard.is_some());
}

#[test]
fn a_call_of_the_roll_is_answered_once_with_what_was_not_acknowledged() {
    let mut world = World::new();
    let conn = ConnId(1);
    let births = |world: &World| {
        let is_birth = |effect: &&Effect| matches!(effect, Effect::Birth { .. });
        world.pending.iter().filter(is_birth).count()
    };
    let sends = |world: &World| {
        let is_send = |effect: &&Effect| matches!(effect, Effect::Send { from: 1, .. });
        world.pending.iter().filter(is_send).count()
    };
    world.say(Event::LinkUp { conn, session_present: false });
    let call = |world: &mut World, id: u8, retained: bool| {
        let id = airlift_bundles::ids::RandomId::from_bytes([id; 16]);
        world.pending.clear();
        world.say(Event::RollCall { id, over_ms: 2_000, retained });
        world.mono_ms += 3_000;
        world.say(Event::Wake);
        (births(world), sends(world))
    };
    assert_eq!(call(&mut world, 1, true), (0, 0), "the connection's beginning has said it");
    assert_eq!(call(&mut world, 1, false), (0, 0), "the same call again");
    assert_eq!(call(&mut world, 2, false), (1, 1), "the hub was away meanwhile");
    world.say(Event::LinkDown { conn, reason: String::new() });
    world.say(Event::LinkUp { conn: ConnId(2), session_present: true });
    assert_eq!(call(&mut world, 3, false), (1, 1), "nobody listened when the connection began");
}
