//! Documents: what is accepted, parked, refused and remembered.

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::root::Root;
use airlift_bundles::document::status::AppState;
use airlift_bundles::envelope::Envelope;

use super::world::{World, app, desire, key, root_1, sign};
use crate::core::effect::WantedDocument;
use crate::core::event::{Carrier, ConnId, DocumentKind};
use crate::core::write::{CounterKey, Slot};
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] = &[("cm-settings", "settings 1"), ("web-front", "front 1")];

fn bring(world: &mut World, expected: DocumentKind, bytes: Vec<u8>) {
    world.say(Event::Document { expected, carrier: Carrier::Hub, bytes });
}

fn refusals(world: &World, code: Code) -> u64 {
    world.rows.refusals.get(&(code, "hub".to_owned())).map_or(0, |row| row.count)
}

#[test]
fn an_assignment_waits_for_its_releases_and_moves_no_counter_meanwhile() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let v1 = world.release("shop", 1, V1);
    let assignment = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    assert!(world.rows.assignments.contains_key(&Slot::Parked));
    assert!(!world.rows.counters.contains_key(&CounterKey::Assignment));
    let wanted = WantedDocument::Release(desire(&v1).release);
    assert!(world.pending.contains(&Effect::Want([wanted].into())));
    world.restart();
    world.bring_release(&v1);
    assert!(!world.rows.assignments.contains_key(&Slot::Parked));
    assert_eq!(world.rows.counters[&CounterKey::Assignment].seq, 1);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn an_older_assignment_is_refused_after_a_restart_and_the_same_changes_nothing() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, V1);
    world.bring_release(&v1);
    let older = world.assignment(vec![], &[]);
    let newer = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&newer);
    world.restart();
    let before = world.rows.clone();
    world.bring_assignment(&newer);
    assert_eq!(world.rows.counters, before.counters);
    assert_eq!(world.rows.refusals, before.refusals);
    world.bring_assignment(&older);
    assert_eq!(refusals(&world, Code::AssignmentOlder), 1);
    assert_eq!(world.rows.counters, before.counters);
}

#[test]
fn documents_that_nobody_entitled_signed_are_counted_and_change_nothing() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, V1);
    let assignment = world.assignment(vec![], &[]);
    let (release, assignment) = (sign(&v1, 3), sign(&assignment, 2));
    bring(&mut world, DocumentKind::Release, release);
    bring(&mut world, DocumentKind::Assignment, assignment);
    bring(&mut world, DocumentKind::Root, sign(&root_1(), 7));
    bring(&mut world, DocumentKind::Ack, b"{}".to_vec());
    assert!(world.rows.documents.is_empty() && world.rows.assignments.is_empty());
    assert_eq!(world.rows.roots.len(), 1);
    assert!(refusals(&world, Code::TooFewSignatures) >= 2);
    assert_eq!(world.outcomes(), [Outcome::Enrolled], "refusals are counted, not receipted");
}

#[test]
fn a_rotated_release_key_never_takes_a_running_app_away() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    let first = root_1();
    let rotated = key(12).public();
    let mut root = Root { version: 2, prev_sha256: Some(Envelope::draft(&first).digest()), ..first.clone() };
    root.roles.releases[0].keyids = vec![rotated.key_id()];
    root.keys.remove(&key(2).public().key_id());
    root.keys.insert(rotated.key_id(), rotated);
    bring(&mut world, DocumentKind::Root, sign(&root, 1));
    assert_eq!(world.rows.roots.len(), 2);
    let again = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&again);
    world.cluster.clear();
    world.restart();
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
    // A new version by the old key is refused.
    let v2 = world.release("shop", 2, V1);
    world.bring_release(&v2);
    assert_eq!(refusals(&world, Code::TooFewSignatures), 1);
}

#[test]
fn a_hint_of_newer_roots_asks_for_the_next_one() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    world.say(Event::RootHint { version: 3 });
    assert!(world.pending.contains(&Effect::Want([WantedDocument::Root(2)].into())));
}

#[test]
fn an_entry_that_is_refused_stops_no_other_app() {
    let mut world = World::new();
    let good = world.release("good", 1, &[("cm-good", "g")]);
    let bad = world.release("shop", 1, V1);
    world.bring_release(&good);
    world.bring_release(&bad);
    let mut undeclared = desire(&bad);
    undeclared.overlays = vec![airlift_bundles::ids::Name::new("nowhere").unwrap()];
    let assignment = world.assignment(vec![desire(&good), undeclared], &[]);
    world.bring_assignment(&assignment);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Refused);
    assert_eq!(world.report().code, Some(Code::OverlayUnknown));
    assert_eq!(world.rows.apps[&app("good")].state, AppState::Healthy);
    // What ran before is assigned again: nothing is refused any more.
    let declared = world.assignment(vec![desire(&good), desire(&bad)], &[]);
    world.bring_assignment(&declared);
    world.pass(10_000);
    let mut undeclared = desire(&bad);
    undeclared.overlays = vec![airlift_bundles::ids::Name::new("nowhere").unwrap()];
    let assignment = world.assignment(vec![desire(&good), undeclared], &[]);
    world.bring_assignment(&assignment);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Refused, Some("front 1")));
    let declared = world.assignment(vec![desire(&good), desire(&bad)], &[]);
    world.bring_assignment(&declared);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn a_floor_counts_from_the_moment_its_release_is_healthy() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    let v5 = world.release_with("shop", 5, V1, |release| release.floor = 5);
    world.assign(&v5);
    assert!(!world.rows.counters.contains_key(&CounterKey::Floor(app("shop"))));
    world.pass(10_000);
    assert_eq!(world.rows.counters[&CounterKey::Floor(app("shop"))].seq, 5);
    let back = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&back);
    assert_eq!(world.state(), AppState::Refused);
    assert_eq!(world.report().code, Some(Code::ReleaseBelowFloor));
}

#[test]
fn an_ack_frees_receipts_only_on_a_match() {
    let mut world = World::new();
    world.install(1, V1);
    let honest = world.receipts.clone();
    world.receipts.last_mut().unwrap().counts.applied = 99;
    world.acknowledge();
    assert_eq!(refusals(&world, Code::ChainForked), 1);
    assert_eq!(world.rows.meta.as_ref().unwrap().receipt_acked_next, 1);
    world.receipts = honest;
    world.acknowledge();
    assert_eq!(world.rows.meta.as_ref().unwrap().receipt_acked_next, 4);
}
