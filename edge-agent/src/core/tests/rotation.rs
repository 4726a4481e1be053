//! Keys that change, a hub that forgot, and documents that nobody has.

use airlift_bundles::code::Code;
use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::assignment::ReceiptMark;
use airlift_bundles::document::receipt::Receipt;
use airlift_bundles::document::root::Root;
use airlift_bundles::document::status::AppState;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, SiteId};

use super::world::{FLEET, World, desire, first_meta, key, root_1, sign};
use crate::core::effect::WantedDocument;
use crate::core::event::{Carrier, ConnId, DocumentKind};
use crate::core::write::Slot;
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] = &[("cm-settings", "settings 1"), ("web-front", "front 1")];

fn bring(world: &mut World, expected: DocumentKind, bytes: Vec<u8>) {
    world.say(Event::Document { expected, carrier: Carrier::Hub, bytes });
}

/// Lets time pass; what was asked for on the way.
fn pass(world: &mut World, ms: u64) -> Vec<Effect> {
    let end = world.mono_ms + ms;
    let mut asked = Vec::new();
    loop {
        while let Some(effect) = world.pending.pop_front() {
            if let Some(event) = world.answer(&effect) {
                world.say(event);
            }
            asked.push(effect);
        }
        let Some(at) = world.wake_at.filter(|at| *at <= end) else { break };
        world.mono_ms = world.mono_ms.max(at);
        world.wake_at = None;
        world.say(Event::Wake);
    }
    world.mono_ms = end;
    asked
}

/// Root 2, with another key for releases.
fn rotated() -> Root {
    let first = root_1();
    let new = key(12).public();
    let mut root = Root { version: 2, prev_sha256: Some(Envelope::draft(&first).digest()), ..first };
    root.roles.releases[0].keyids = vec![new.key_id()];
    root.keys.remove(&key(2).public().key_id());
    root.keys.insert(new.key_id(), new);
    root
}

/// An ack by the key of this seed, up to a receipt.
fn ack(world: &World, receipt: &Receipt, seed: u8) -> Vec<u8> {
    let mark = ReceiptMark {
        chain_id: receipt.chain_id.clone(),
        upto: receipt.receipt_seq,
        sha256: Envelope::draft(receipt).digest(),
    };
    let ack = Ack {
        fleet_id: FleetId::new(FLEET).unwrap(),
        site: SiteId::new("ship").unwrap(),
        incarnation: 1,
        outbox_epoch: first_meta().outbox_epoch,
        upto: world.rows.meta.as_ref().unwrap().outbox_next,
        receipts: Some(mark),
        crit: vec![],
    };
    sign(&ack, seed)
}

#[test]
fn documents_that_nobody_has_are_asked_for_less_and_less() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let v1 = world.release("shop", 1, V1);
    let waits = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&waits);
    let wanted = |asked: &[Effect]| asked.iter().filter(|effect| matches!(effect, Effect::Want(_))).count();
    let first = pass(&mut world, 60_000);
    assert!((2..=4).contains(&wanted(&first)), "soon at first: {}", wanted(&first));
    let day = pass(&mut world, 86_400_000);
    assert!((100..=150).contains(&wanted(&day)), "and every ten minutes in the end: {}", wanted(&day));
    world.bring_release(&v1);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn an_assignment_whose_documents_nobody_has_keeps_no_other_out_for_ever() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let (v1, v9) = (world.release("shop", 1, V1), world.release("shop", 9, V1));
    let honest = world.assignment(vec![desire(&v1)], &[]);
    let hollow = world.assignment(vec![desire(&v9)], &[]);
    world.bring_assignment(&hollow);
    world.bring_assignment(&honest);
    assert_eq!(world.core.parked_counter(), Some(hollow.counter()), "the greatest waits");
    let asked = pass(&mut world, 600_000);
    let births = asked.iter().filter(|effect| matches!(effect, Effect::Birth { .. })).count();
    assert_eq!(births, 2, "the hub is told again what is in force");
    world.bring_assignment(&honest);
    let wanted = WantedDocument::Release(desire(&v1).release);
    assert!(world.pending.contains(&Effect::Want([wanted].into())));
    world.bring_release(&v1);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn a_release_that_was_signed_again_takes_the_place_of_the_old_signatures() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let v1 = world.release("shop", 1, V1);
    world.bring_release(&v1);
    bring(&mut world, DocumentKind::Root, sign(&rotated(), 1));
    let assignment = world.assignment(vec![desire(&v1)], &[]);
    world.bring_assignment(&assignment);
    assert!(world.rows.assignments.contains_key(&Slot::Parked), "nobody of the new root signed it");
    world.restart();
    world.say(Event::LinkUp { conn: ConnId(2), session_present: false });
    let wanted = WantedDocument::Release(desire(&v1).release);
    assert!(world.pending.contains(&Effect::Want([wanted].into())));
    bring(&mut world, DocumentKind::Release, sign(&v1, 12));
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn a_new_root_is_told_to_the_hub_at_once() {
    let mut world = World::new();
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    let before = world.rows.meta.as_ref().unwrap().conn_seq;
    world.settle_down();
    bring(&mut world, DocumentKind::Root, sign(&rotated(), 1));
    let birth = |effect: &Effect| match effect {
        Effect::Birth { root_version, conn_seq, .. } => Some((*root_version, *conn_seq)),
        _ => None,
    };
    assert_eq!(world.pending.iter().find_map(birth), Some((2, before + 1)));
}

#[test]
fn what_a_restored_hub_lost_is_sent_again_once_over_a_connection() {
    let mut world = World::new();
    world.install(1, V1);
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    pass(&mut world, 1_000);
    world.acknowledge();
    let last = world.receipts.len() as u64;
    assert_eq!(world.rows.meta.as_ref().unwrap().receipt_acked_next, last + 1);
    pass(&mut world, 1_000);
    let older = ack(&world, &world.receipts[0], 3);
    bring(&mut world, DocumentKind::Ack, older.clone());
    let sent = |asked: &[Effect]| {
        let range = |effect: &Effect| match effect {
            Effect::Send { from, upto, .. } if from <= upto => Some((*from, *upto)),
            _ => None,
        };
        asked.iter().filter_map(range).collect::<Vec<_>>()
    };
    assert_eq!(sent(&pass(&mut world, 1_000)), [(2, last)]);
    bring(&mut world, DocumentKind::Ack, older);
    assert_eq!(sent(&pass(&mut world, 1_000)), []);
    assert_eq!(world.rows.meta.as_ref().unwrap().receipt_acked_next, last + 1, "nothing is taken back");
}

#[test]
fn a_refused_ack_is_not_answered_with_a_status() {
    let mut world = World::new();
    world.install(1, V1);
    world.say(Event::LinkUp { conn: ConnId(1), session_present: false });
    pass(&mut world, 5_000);
    for _ in 0..3 {
        let foreign = ack(&world, world.receipts.last().unwrap(), 9);
        bring(&mut world, DocumentKind::Ack, foreign);
        let asked = pass(&mut world, 5_000);
        assert!(!asked.iter().any(|effect| matches!(effect, Effect::Send { .. })), "{asked:?}");
    }
    let refused = &world.rows.refusals[&(Code::TooFewSignatures, "hub".to_owned())];
    assert_eq!(refused.count, 3, "it is counted");
}
