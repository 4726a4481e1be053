//! The laws of the core's contract, over random lives: events in any order, late, twice, and crashes at any point.

use std::collections::BTreeSet;

use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::root::RevokeAction;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{AppName, Blake3Digest};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::world::{Live, World, app, desire, node, object, start};
use crate::core::api::{ApiCall, ApiErrorClass};
use crate::core::event::{ConnId, LocalCommand, RequestId};
use crate::core::live::{Deed, Op};
use crate::core::object::Uid;
use crate::core::state::Step;
use crate::core::write::CounterKey;
use crate::core::{Core, Effect, Event, Rows, Write};

#[derive(Debug, Clone)]
enum Move {
    /// Answers the n-th effect that waits, so that answers come in any order; twice where the flag is set.
    Answer(usize, bool),
    Pass(u64),
    Crash,
    /// A commit fails: the step is lost, the core is loaded again in the same process.
    LoseCommit,
    Assign {
        version: u64,
        retry: u64,
    },
    Retire,
    Drift(usize),
    Delete(usize),
    Api(bool),
    ApiError(usize),
    LinkUp,
    LinkDown,
    Acknowledge,
    Hold(bool),
    GoBack,
    Again,
    NewCluster,
    Ill(usize),
    Well,
    /// Whether the second node is Ready, and whether the first reports disk pressure.
    Nodes(bool, bool),
    ReadError(usize),
    /// A newer root stops or blocks the second version.
    Revoke(bool),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        30 => (any::<usize>(), any::<bool>()).prop_map(|(at, twice)| Move::Answer(at, twice)),
        6 => (1u64..8_000).prop_map(Move::Pass),
        2 => proptest::strategy::Just(Move::Crash),
        1 => proptest::strategy::Just(Move::LoseCommit),
        4 => (1u64..6, 0u64..3).prop_map(|(version, retry)| Move::Assign { version, retry }),
        1 => proptest::strategy::Just(Move::Retire),
        2 => any::<usize>().prop_map(Move::Drift),
        2 => any::<usize>().prop_map(Move::Delete),
        2 => any::<bool>().prop_map(Move::Api),
        2 => (0usize..5).prop_map(Move::ApiError),
        1 => proptest::strategy::Just(Move::LinkUp),
        1 => proptest::strategy::Just(Move::LinkDown),
        1 => proptest::strategy::Just(Move::Acknowledge),
        1 => any::<bool>().prop_map(Move::Hold),
        1 => proptest::strategy::Just(Move::GoBack),
        1 => proptest::strategy::Just(Move::Again),
        1 => proptest::strategy::Just(Move::NewCluster),
        2 => any::<usize>().prop_map(Move::Ill),
        1 => proptest::strategy::Just(Move::Well),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(ready, full)| Move::Nodes(ready, full)),
        1 => (0usize..5).prop_map(Move::ReadError),
        1 => any::<bool>().prop_map(Move::Revoke),
    ]
}

/// The shop's five versions; version 3 never becomes healthy, version 4 holds a name that a stranger has.
fn objects_of(version: u64) -> Vec<(String, String)> {
    let bad = if version == 3 { " bad" } else { "" };
    let mut objects = vec![
        ("ns-shop".to_owned(), "ns".to_owned()),
        ("cm-settings".to_owned(), format!("settings {}", version / 2)),
        ("web-front".to_owned(), format!("front {version}{bad}")),
        ("fixed-choice".to_owned(), format!("choice {}", version / 2)),
        ("job-once".to_owned(), format!("once {}", version / 2)),
    ];
    objects.push(("set-db".to_owned(), format!("db {version}{bad}")));
    objects.push(("each-probe".to_owned(), format!("probe {}{bad}", version / 2)));
    objects.push((format!("cm-only-{version}"), "x".to_owned()));
    if version == 4 {
        objects.push(("cm-foreign".to_owned(), "ours".to_owned()));
    }
    objects
}

fn statement(world: &mut World, version: u64) -> airlift_bundles::document::release::Statement {
    let objects = objects_of(version);
    let objects: Vec<(&str, &str)> =
        objects.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    let statement = world.release("shop", version, &objects);
    world.watch_of(&statement, if version.is_multiple_of(2) { 30_000 } else { 0 });
    statement
}

const CLASSES: [ApiErrorClass; 5] = [
    ApiErrorClass::Retryable,
    ApiErrorClass::Throttled { retry_after_ms: 100 },
    ApiErrorClass::Unavailable,
    ApiErrorClass::Conflict,
    ApiErrorClass::Final,
];

fn foreign() -> Live {
    Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None }
}

/// What an operation under way amounts to after a restart: a finer step may begin at its beginning again.
fn owed(core: &Core) -> BTreeSet<(AppName, &'static str)> {
    let live = |op: &&Op| core.live.apps.get(&op.app).is_some_and(|live| live.work == op.work);
    let owe = |op: &Op| {
        let step = core.rows().apps.get(&op.app).map(|row| row.step);
        let class = match (&op.deed, step?) {
            (Deed::Fetch(_), _) => "fetch",
            (_, Step::Prepare | Step::Import) => "prepare",
            (Deed::Import, _) => "import",
            _ => "cluster",
        };
        Some((op.app.clone(), class))
    };
    core.live.ops.values().filter(live).filter_map(owe).collect()
}

/// Checks whatever must hold of an effect at the moment at which it starts.
fn check_effect(world: &World, effect: &Effect) {
    let Effect::Api { call, .. } = effect else { return };
    match call {
        ApiCall::Delete { object, uid } => {
            let rows = world.rows.objects.get(&app("shop")).expect("deletions come from the inventory");
            let row = rows.get(object).expect("only inventoried objects are deleted");
            assert_eq!(row.applied.as_ref().map(|applied| &applied.uid), Some(uid), "by UID");
            let retiring = world.rows.apps[&app("shop")].step == Step::RetireDelete;
            let anew = row.traits.recreate || row.traits.once;
            assert!(row.wanted.is_none() || retiring || anew, "{object} is still wanted");
        }
        ApiCall::Apply { generation, object, .. } => {
            assert!(
                world.rows.accepted.values().any(|release| *release == generation.release),
                "only accepted content is applied"
            );
            assert!(world.rows.objects[&app("shop")].contains_key(object), "the intent is on disk first");
        }
        ApiCall::DeletePod { uid, .. } => {
            let crews =
                world.crews.iter().filter(|(_, crew)| crew.pods.iter().any(|(pod, _)| pod.uid == *uid));
            for (workload, crew) in crews {
                let rows = &world.rows.objects[&app("shop")];
                assert!(rows.contains_key(workload), "only pods of inventoried workloads are deleted");
                let (pod, _) = crew.pods.iter().find(|(pod, _)| pod.uid == *uid).unwrap();
                let evidence = world.rows.apps[&app("shop")].evidence.iter().chain(all_evidence(world));
                let name = format!("Pod shop/{}", pod.name);
                assert!(evidence.into_iter().any(|seen| seen.object == name), "told before it is done");
            }
        }
        ApiCall::List { .. } | ApiCall::Others { .. } | ApiCall::Pods { .. } => {}
    }
}

fn all_evidence(world: &World) -> impl Iterator<Item = &Evidence> {
    world.receipts.iter().flat_map(|receipt| &receipt.evidence)
}

/// What only rises.
fn check_rising(before: &Rows, after: &Rows) {
    for (key, row) in &before.counters {
        let now = after.counters.get(key).expect("counters are never dropped");
        assert!((now.epoch, now.seq) >= (row.epoch, row.seq), "{key:?} went down");
    }
    assert!(before.accepted.iter().all(|(number, release)| after.accepted.get(number) == Some(release)));
    assert!(before.roots.keys().all(|version| after.roots.contains_key(version)));
    let (before, after) = (before.meta.as_ref().unwrap(), after.meta.as_ref().unwrap());
    let numbers = |meta: &crate::core::write::MetaRow| {
        [meta.receipt_next, meta.receipt_acked_next, meta.receipt_first, meta.outbox_next, meta.conn_seq]
    };
    assert!(numbers(before).iter().zip(numbers(after)).all(|(before, after)| *before <= after));
    assert!(before.time_floor <= after.time_floor);
}

/// Law 1 and 2 at this very moment.
fn check_restart(world: &World) {
    let mut again = Core::load(start(), world.rows.clone()).unwrap();
    assert_eq!(again.rows(), world.core.rows(), "load(store) equals the live core");
    assert_eq!(again.meta, world.core.meta);
    assert_eq!(again.root, world.core.root);
    assert_eq!(again.releases, world.core.releases);
    let mut resumed = owed_after_resume(world, &mut again);
    // A start that found settling interrupted too often ends it: other work is owed then, or none.
    let ended = |app: &AppName| {
        let was = world.rows.apps.get(app).map(|row| row.step);
        was == Some(Step::Settle) && again.rows().apps.get(app).map(|row| row.step) != was
    };
    resumed.extend(again.rows().apps.keys().filter(|app| ended(app)).map(|app| (app.clone(), "cluster")));
    let missing: Vec<_> = owed(&world.core).difference(&resumed).cloned().collect();
    assert!(missing.is_empty(), "owed and not resumed: {missing:?} of {:?}", world.rows.apps);
}

/// What is asked for at once, and, of the cluster, as soon as it is known to answer.
fn owed_after_resume(world: &World, again: &mut Core) -> BTreeSet<(AppName, &'static str)> {
    again.resume(world.now());
    let at_once = owed(again);
    again.step(world.now(), Event::ApiState { up: true, cluster: None });
    let cluster = owed(again).into_iter().filter(|(_, class)| *class == "cluster");
    at_once.into_iter().chain(cluster).collect()
}

fn answer(world: &mut World, at: usize, twice: bool) {
    if world.pending.is_empty() {
        return;
    }
    let effect = world.pending.remove(at % world.pending.len()).unwrap();
    check_effect(world, &effect);
    let Some(event) = world.answer(&effect) else { return };
    world.say(event.clone());
    if twice {
        let step = world.core.step(world.now(), event);
        assert!(step.writes.is_empty(), "a completion delivered twice writes {:?}", step.writes);
        let quiet = |effect: &Effect| matches!(effect, Effect::Wake { .. });
        assert!(step.effects.iter().all(quiet), "a completion delivered twice asks for {:?}", step.effects);
        world.commit(step);
    }
}

fn go(world: &mut World, step: &Move, conns: &mut u64) {
    let names: Vec<_> = world.cluster.keys().cloned().collect();
    match step.clone() {
        Move::Answer(at, twice) => answer(world, at, twice),
        Move::Pass(ms) => {
            world.mono_ms += ms;
            world.say(Event::Wake);
        }
        Move::Crash => world.restart(),
        Move::LoseCommit => {
            drop(world.core.step(world.now(), Event::Disk { free_bytes: 1, free_inodes: 1 }));
            world.restart();
            world.say(Event::StoreFailed { reason: "scripted".into() });
        }
        Move::Assign { version, retry } => {
            let statement = statement(world, version);
            world.bring_release(&statement);
            let mut desired = desire(&statement);
            desired.retry = retry;
            let assignment = world.assignment(vec![desired], &[]);
            world.bring_assignment(&assignment);
        }
        Move::Retire => {
            let assignment = world.assignment(vec![], &["shop"]);
            world.bring_assignment(&assignment);
        }
        Move::Drift(at) if !names.is_empty() => {
            let name = &names[at % names.len()];
            let live = world.cluster.get_mut(name).unwrap();
            if live.entry.is_some() {
                live.entry = Some(Blake3Digest::of(b"drift"));
                let event = Event::Seen {
                    object: name.clone(),
                    uid: live.uid.clone(),
                    resource_version: String::new(),
                    entry: live.entry.map(|hash| (app("shop"), hash)),
                };
                world.say(event);
            }
        }
        Move::Delete(at) if !names.is_empty() => {
            let name = &names[at % names.len()];
            if *name != object("cm-foreign") {
                let live = world.cluster.remove(name).unwrap();
                world.say(Event::Gone { object: name.clone(), uid: live.uid });
            }
        }
        Move::Drift(_) | Move::Delete(_) => {}
        Move::Api(up) => world.say(Event::ApiState { up, cluster: None }),
        Move::ApiError(which) => world.api_errors.push_back(CLASSES[which]),
        Move::ReadError(which) => world.read_errors.push_back(CLASSES[which]),
        Move::Ill(at) => {
            let ours: Vec<_> = names.iter().filter(|name| world.cluster[*name].entry.is_some()).collect();
            if !ours.is_empty() {
                world.fall_ill(&ours[at % ours.len()].name);
            }
        }
        Move::Well => get_well(world),
        Move::Revoke(stop) => {
            let second = statement(world, 2);
            world.revoke(&second, if stop { RevokeAction::Stop } else { RevokeAction::Block });
        }
        Move::Nodes(ready, full) => {
            world.nodes = vec![node("node", true), node("other", ready)];
            world.nodes[0].disk_pressure = full;
            world.say(Event::Nodes(world.nodes.clone()));
        }
        Move::LinkUp => {
            *conns += 1;
            world.say(Event::LinkUp { conn: ConnId(*conns), session_present: false });
        }
        Move::LinkDown => world.say(Event::LinkDown { conn: ConnId(*conns), reason: String::new() }),
        Move::Acknowledge => world.acknowledge(),
        Move::Hold(true) => local(world, LocalCommand::Hold(app("shop"))),
        Move::Hold(false) => local(world, LocalCommand::Unhold(app("shop"))),
        Move::GoBack => local(world, LocalCommand::Rollback(app("shop"))),
        Move::Again => local(world, LocalCommand::Retry(app("shop"))),
        Move::NewCluster => {
            world.cluster.retain(|name, _| *name == object("cm-foreign"));
            let uid = Uid(format!("cluster {}", world.mono_ms));
            world.say(Event::ApiState { up: true, cluster: Some(uid) });
        }
    }
}

fn get_well(world: &mut World) {
    let ill = |live: &Live| live.content.contains(" bad") && live.entry.is_some();
    let ill: Vec<_> =
        world.cluster.iter().filter(|(_, live)| ill(live)).map(|(name, _)| name.clone()).collect();
    for object in ill {
        world.get_well(&object.name);
    }
}

fn local(world: &mut World, command: LocalCommand) {
    world.say(Event::Local { request: RequestId(1), command });
}

/// After all faults have ceased the site reaches what it was last told.
fn check_converges(world: &mut World) {
    world.api_errors.clear();
    world.read_errors.clear();
    world.nodes = vec![node("node", true), node("other", true)];
    world.say(Event::Nodes(world.nodes.clone()));
    get_well(world);
    world.say(Event::ApiState { up: true, cluster: None });
    local(world, LocalCommand::Unhold(app("shop")));
    let version = 9;
    let statement = statement(world, version);
    world.assign(&statement);
    // A retirement that had begun ends first; a failed version is rolled back first.
    world.pass(900_000);
    assert_eq!(world.state(), AppState::Healthy, "{:?}", world.rows.apps);
    let wanted: BTreeSet<_> = objects_of(version).into_iter().map(|(name, _)| object(&name)).collect();
    // A run may be gone again.
    for (name, content) in objects_of(version).into_iter().filter(|(name, _)| !name.starts_with("job-")) {
        assert_eq!(world.content(&name), Some(content.as_str()));
    }
    assert_eq!(world.cluster.get(&object("cm-foreign")), Some(&foreign()), "a stranger's object stays");
    let ours =
        world.cluster.iter().filter(|(_, live)| live.entry.is_some()).map(|(object, _)| object.clone());
    assert!(ours.collect::<BTreeSet<_>>().is_superset(&wanted));
    let inventory: BTreeSet<_> = world.rows.objects[&app("shop")].keys().cloned().collect();
    assert!(inventory.is_superset(&wanted));
}

#[test]
fn the_laws_hold_over_random_lives() {
    // `tests/run --long` lives longer.
    let cases = if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { 10_000 } else { 200 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let lives = proptest::collection::vec(moves(), 1..150);
    let outcome = runner.run(&lives, |life| {
        let mut world = World::new();
        world.cluster.insert(object("cm-foreign"), foreign());
        let mut conns = 0;
        for step in &life {
            let before = world.rows.clone();
            go(&mut world, step, &mut conns);
            check_rising(&before, &world.rows);
            assert_eq!(world.cluster.get(&object("cm-foreign")), Some(&foreign()), "never adopted");
            check_restart(&world);
        }
        check_converges(&mut world);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn doing_a_write_twice_is_doing_it_once() {
    let mut world = World::new();
    let mut twice = super::world::first_rows();
    let statement = statement(&mut world, 1);
    world.bring_release(&statement);
    let assignment = world.assignment(vec![desire(&statement)], &[]);
    let bytes = super::world::sign(&assignment, 3);
    let step = world.core.step(
        world.now(),
        Event::Document {
            expected: crate::core::event::DocumentKind::Assignment,
            carrier: crate::core::event::Carrier::Hub,
            bytes,
        },
    );
    let once = step.writes.iter().fold(twice.clone(), |mut rows, write| {
        rows.apply(write);
        rows
    });
    for write in step.writes.iter().chain(&step.writes) {
        twice.apply(write);
    }
    assert_eq!(once, twice);
    assert!(
        step.writes
            .iter()
            .any(|write| matches!(write, Write::PutCounter(row) if row.key == CounterKey::Assignment))
    );
}
