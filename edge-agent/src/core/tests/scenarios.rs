//! Stories of one app at one site.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::release::{DeletePermissions, RollbackRule, Scalar};
use airlift_bundles::document::status::{AppState, SiteStatus};
use airlift_bundles::ids::{Blake3Digest, Name};

use super::world::{Live, World, app, desire, object};
use crate::core::api::ApiErrorClass;
use crate::core::event::{ConnId, LocalCommand, MediaId};
use crate::core::object::{Gvk, Uid};
use crate::core::outbox::STATUS;
use crate::core::status::LocalReply;
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] = &[("ns-shop", "ns"), ("cm-settings", "settings 1"), ("web-front", "front 1")];
const V2: &[(&str, &str)] = &[("ns-shop", "ns"), ("cm-other", "other 2"), ("web-front", "front 2")];
const V3_BAD: &[(&str, &str)] =
    &[("ns-shop", "ns"), ("cm-other", "other 3"), ("cm-more", "more 3"), ("web-front", "front 3 bad")];

#[test]
fn an_assigned_app_is_installed_soaks_and_is_receipted() {
    let mut world = World::new();
    world.install(1, V1);
    assert_eq!(world.content("web-front"), Some("front 1"));
    assert_eq!(world.outcomes(), [Outcome::Enrolled, Outcome::Accepted, Outcome::Healthy]);
    let receipt = world.last(Outcome::Healthy);
    assert_eq!((receipt.counts.objects, receipt.counts.applied, receipt.counts.images), (3, 3, 1));
    assert_eq!(receipt.release.as_ref().unwrap().version.as_str(), "1.0.0");
    assert_eq!(world.watched.len(), 3);
}

#[test]
fn healthy_is_said_only_after_the_soak() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, V1);
    world.assign(&v1);
    world.pass(2_900);
    assert_eq!(world.state(), AppState::Settling);
    world.pass(300);
    assert_eq!(world.state(), AppState::Healthy);
}

#[test]
fn an_update_sends_only_what_changed_and_prunes_after_healthy() {
    let mut world = World::new();
    world.install(1, V1);
    let applied = world.applied;
    let foreign = Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None };
    world.cluster.insert(object("cm-foreign"), foreign);
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(2_000);
    assert!(world.content("cm-settings").is_some(), "nothing is pruned before the new version is healthy");
    world.pass(8_000);
    assert_eq!(world.applied - applied, 2, "the namespace did not change");
    assert_eq!(world.content("cm-settings"), None);
    assert_eq!(world.deleted, [object("cm-settings")]);
    assert!(world.content("cm-foreign").is_some());
}

#[test]
fn a_bad_version_is_rolled_back_whole_with_evidence_and_not_tried_again() {
    let mut world = World::new();
    world.install(1, V1);
    world.install(2, V2);
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.content("web-front"), Some("front 2"));
    assert_eq!(world.content("cm-other"), Some("other 2"));
    assert_eq!(world.content("cm-more"), None, "what only the bad version held is pruned again");
    let receipt = world.last(Outcome::RolledBack).clone();
    assert_eq!(receipt.reason, Some(Code::NotHealthyInTime));
    assert_eq!(receipt.release.as_ref().unwrap().seq, 3, "the receipt names what failed");
    assert_eq!(receipt.evidence[0].reason, "CrashLoopBackOff");
    let applied = world.applied;
    world.restart();
    world.pass(600_000);
    assert_eq!(world.applied, applied, "the failed version is not tried again");
    // The same tuple with a raised `retry` is.
    let mut again = desire(&v3);
    again.retry = 1;
    let assignment = world.assignment(vec![again], &[]);
    world.bring_assignment(&assignment);
    world.settle_down();
    assert_eq!(world.state(), AppState::Settling);
}

#[test]
fn parameters_are_part_of_what_is_rolled_back() {
    let mut world = World::new();
    let declared = serde_json::json!({"type": "string", "enum": ["good", "bad"], "targets": [
        {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "cm-settings", "pointer": "/data/a"}]});
    let declaration = serde_json::from_value(declared).unwrap();
    let name = Name::new("mood").unwrap();
    let v1 = world.release_with("shop", 1, V1, |release| {
        release.parameters.insert(name.clone(), declaration);
    });
    world.bring_release(&v1);
    let mut good = desire(&v1);
    good.parameters.insert(name.clone(), serde_json::from_str::<Scalar>("\"good\"").unwrap());
    let mut bad = desire(&v1);
    bad.parameters.insert(name, serde_json::from_str::<Scalar>("\"bad\"").unwrap());
    let assignment = world.assignment(vec![good], &[]);
    world.bring_assignment(&assignment);
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1 good")));
    let assignment = world.assignment(vec![bad], &[]);
    world.bring_assignment(&assignment);
    world.pass(10_000);
    assert_eq!(world.content("web-front"), Some("front 1 bad"));
    world.pass(60_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1 good")));
}

#[test]
fn a_first_install_that_fails_leaves_its_objects_for_inspection() {
    let mut world = World::new();
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Failed);
    assert!(world.content("web-front").is_some());
    assert_eq!(world.last(Outcome::Failed).reason, Some(Code::NotHealthyInTime));
}

#[test]
fn an_unhealthy_rollback_stays_and_says_so() {
    let mut world = World::new();
    world.install(1, V1);
    // The bad version's release forbids nothing, but the world breaks the old version too.
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.settle_down();
    for content in world.contents.values_mut() {
        content.objects.iter_mut().for_each(|(_, content)| content.push_str(" bad"));
    }
    world.pass(120_000);
    assert_eq!(world.state(), AppState::Degraded);
    assert_eq!(world.last(Outcome::Degraded).reason, Some(Code::RollbackUnhealthy));
    let receipts = world.receipts.len();
    world.pass(3_600_000);
    assert_eq!(world.receipts.len(), receipts, "no ping-pong");
}

#[test]
fn a_release_that_must_not_be_left_degrades_in_place() {
    let mut world = World::new();
    world.install(1, V1);
    let v3 = world.release_with("shop", 3, V3_BAD, |release| release.rollback = RollbackRule::Never);
    world.assign(&v3);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Degraded);
    assert_eq!(world.content("web-front"), Some("front 3 bad"));
}

#[test]
fn an_object_that_others_made_is_refused_before_anything_changes() {
    let mut world = World::new();
    world.install(1, V1);
    let applied = world.applied;
    let foreign = Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None };
    world.cluster.insert(object("cm-other"), foreign.clone());
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(60_000);
    assert_eq!(world.state(), AppState::Refused);
    assert_eq!(world.report().code, Some(Code::ObjectNotOurs));
    assert_eq!(world.last(Outcome::Refused).reason, Some(Code::ObjectNotOurs));
    assert_eq!((world.applied, world.cluster.get(&object("cm-other"))), (applied, Some(&foreign)));
    assert_eq!(world.content("web-front"), Some("front 1"), "what ran before goes on");
    // It is gone by the owner's hand, and a person asks for another try.
    world.cluster.remove(&object("cm-other"));
    world.local(LocalCommand::Retry(app("shop")));
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
}

#[test]
fn objects_deleted_by_hand_come_back_after_a_restart_with_no_hub() {
    let mut world = World::new();
    world.install(1, V1);
    world.cluster.remove(&object("web-front"));
    world.cluster.get_mut(&object("cm-settings")).unwrap().entry =
        Some(Blake3Digest::of(b"others took fields"));
    world.restart();
    world.pass(5_000);
    assert_eq!(world.content("web-front"), Some("front 1"));
    assert_eq!(world.state(), AppState::Healthy);
    let receipt = world.last(Outcome::Repaired);
    assert_eq!((receipt.counts.applied, receipt.evidence.len()), (2, 2));
}

#[test]
fn drift_that_a_watch_sees_is_put_right_at_once() {
    let mut world = World::new();
    world.install(1, V1);
    let gone = world.cluster.remove(&object("web-front")).unwrap();
    world.say(Event::Gone { object: object("web-front"), uid: gone.uid });
    world.settle_down();
    assert_eq!(world.content("web-front"), Some("front 1"));
    let live = world.cluster.get_mut(&object("cm-settings")).unwrap();
    live.entry = Some(Blake3Digest::of(b"shrunk"));
    let (uid, entry) = (live.uid.clone(), live.entry);
    let resource_version = "9".to_owned();
    world.say(Event::Seen {
        object: object("cm-settings"),
        uid,
        resource_version,
        entry: entry.map(|hash| (app("shop"), hash)),
    });
    let applied = world.applied;
    world.settle_down();
    assert_eq!(world.applied, applied + 1);
    // A listing of the watch finds what vanished while nobody watched.
    world.cluster.remove(&object("web-front"));
    world.say(Event::Listed { gvk: Arc::new(Gvk::new("apps/v1", "Deployment")) });
    world.settle_down();
    assert_eq!(world.content("web-front"), Some("front 1"));
}

#[test]
fn a_new_kind_is_watched_once_it_was_applied_and_a_known_one_throughout() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, V1);
    world.api_errors = [ApiErrorClass::Throttled { retry_after_ms: 8_000 }].into();
    world.assign(&v1);
    world.pass(5_000);
    assert_eq!((world.state(), world.watched.len()), (AppState::Applying, 0));
    world.pass(30_000);
    assert_eq!((world.state(), world.watched.len()), (AppState::Healthy, 3));

    let v2 = world.release("shop", 2, &[V1, &[("set-store", "store 2")]].concat());
    world.api_errors = [ApiErrorClass::Throttled { retry_after_ms: 8_000 }].into();
    world.assign(&v2);
    world.pass(5_000);
    assert_eq!((world.state(), world.watched.len()), (AppState::Applying, 3));
    world.pass(30_000);
    assert_eq!((world.state(), world.watched.len()), (AppState::Healthy, 4));
}

#[test]
fn a_strangers_object_under_our_name_is_left_alone_at_rest() {
    let mut world = World::new();
    world.install(1, V1);
    let theirs = Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None };
    world.cluster.insert(object("cm-settings"), theirs.clone());
    world.restart();
    world.pass(60_000);
    assert_eq!(world.cluster.get(&object("cm-settings")), Some(&theirs));
    assert_eq!(world.report().code, Some(Code::ObjectNotOurs));
}

#[test]
fn a_rebuilt_cluster_gets_everything_and_loses_nothing() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.settle_down();
    world.cluster.clear();
    let deleted = world.deleted.len();
    world.say(Event::ApiState { up: true, cluster: Some(Uid("another".into())) });
    world.pass(20_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.deleted.len(), deleted);
    world.cluster.clear();
    world.say(Event::ApiState { up: true, cluster: Some(Uid("a third".into())) });
    world.pass(20_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
}

#[test]
fn an_app_leaves_only_by_retire_and_only_after_the_delay() {
    let mut world = World::new();
    world.install(1, V1);
    let nothing = world.assignment(vec![], &[]);
    world.bring_assignment(&nothing);
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Healthy, "an app that no assignment names stays");
    let retire = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&retire);
    world.pass(50_000);
    assert_eq!(world.state(), AppState::Retiring);
    world.restart();
    world.pass(30_000);
    assert!(world.rows.apps.is_empty(), "the delay that passed before the restart counts");
    assert_eq!(world.deleted, [object("web-front"), object("cm-settings")]);
    assert!(world.content("ns-shop").is_some(), "the release did not permit deleting namespaces");
    assert_eq!(world.last(Outcome::Retired).counts.pruned, 2);
    assert!(world.rows.objects.is_empty() && world.rows.generations.is_empty());
}

#[test]
fn retiring_takes_namespaces_along_where_the_release_permits_it() {
    let mut world = World::new();
    let v1 = world.release_with("shop", 1, V1, |release| {
        release.retire = DeletePermissions { namespaces: true, ..DeletePermissions::default() };
    });
    world.assign(&v1);
    world.pass(10_000);
    let retire = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&retire);
    world.pass(90_000);
    assert!(world.cluster.is_empty());
}

#[test]
fn a_retire_order_can_be_held_and_taken_back() {
    let mut world = World::new();
    let v1 = world.install(1, V1);
    let retire = world.assignment(vec![], &["shop"]);
    world.bring_assignment(&retire);
    world.local(LocalCommand::Hold(app("shop")));
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Held);
    world.assign(&v1);
    world.local(LocalCommand::Unhold(app("shop")));
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Healthy);
    assert!(world.deleted.is_empty());
}

#[test]
fn a_held_app_begins_nothing_until_unhold() {
    let mut world = World::new();
    world.install(1, V1);
    assert!(matches!(world.local(LocalCommand::Hold(app("shop"))), LocalReply::Done(_)));
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(600_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Held, Some("front 1")));
    world.local(LocalCommand::Unhold(app("shop")));
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.outcomes().iter().filter(|outcome| **outcome == Outcome::LocalAct).count(), 2);
}

#[test]
fn a_person_can_go_back_and_the_left_version_stays_left() {
    let mut world = World::new();
    world.install(1, V1);
    let refused = world.local(LocalCommand::Rollback(app("shop")));
    assert!(matches!(refused, LocalReply::Refused { code: Code::NotFound, .. }));
    world.install(2, V2);
    world.local(LocalCommand::Rollback(app("shop")));
    world.pass(600_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 1")));
    assert_eq!(world.last(Outcome::RolledBack).release.as_ref().unwrap().seq, 2);
    world.local(LocalCommand::Retry(app("shop")));
    world.pass(10_000);
    assert_eq!(world.content("web-front"), Some("front 2"));
}

#[test]
fn a_prune_over_the_budget_stops_until_a_version_or_a_person_allows_it() {
    let mut world = World::new();
    let names: Vec<String> = (0..60).map(|number| format!("cm-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    world.install(1, &many);
    world.install(2, V2);
    world.pass(60_000);
    assert!(world.deleted.is_empty());
    assert_eq!(world.report().code, Some(Code::DeletionBudget));
    assert_eq!(world.last(Outcome::Refused).reason, Some(Code::DeletionBudget));
}

#[test]
fn a_restart_in_any_step_converges() {
    for at in 0..60 {
        let mut world = World::new();
        world.install(1, V1);
        let v2 = world.release("shop", 2, V2);
        world.assign(&v2);
        for _ in 0..at {
            if let Some(effect) = world.pending.pop_front()
                && let Some(event) = world.answer(&effect)
            {
                world.say(event);
            }
        }
        world.restart();
        world.pass(30_000);
        assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")), "{at}");
        assert_eq!(world.content("cm-settings"), None, "{at}");
    }
}

#[test]
fn a_lost_inventory_is_made_anew_and_prunes_nothing() {
    let mut world = World::new();
    world.install(1, V1);
    world.cluster.insert(
        object("cm-foreign"),
        Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None },
    );
    world.rows.objects.clear();
    world.restart();
    world.pass(30_000);
    assert_eq!(world.state(), AppState::Healthy);
    assert_eq!(world.rows.objects[&app("shop")].len(), 3);
    assert!(world.deleted.is_empty());
}

#[test]
fn the_settle_clock_stands_while_the_cluster_does() {
    let mut world = World::new();
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.pass(10_000);
    world.say(Event::Nodes(vec![]));
    world.pass(600_000);
    assert_eq!(world.state(), AppState::Settling, "with no Ready node nothing can be said");
    world.restart();
    world.pass(5_000);
    assert_eq!(world.state(), AppState::Settling);
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Failed, "the ten seconds before count");
}

#[test]
fn three_process_starts_without_progress_have_failed() {
    let mut world = World::new();
    world.install(1, V1);
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.settle_down();
    for _ in 0..3 {
        assert_eq!(world.state(), AppState::Settling);
        world.restart();
    }
    world.restart();
    world.settle_down();
    world.pass(10_000);
    assert_eq!(world.content("web-front"), Some("front 1"));
    assert_eq!(world.last(Outcome::RolledBack).reason, Some(Code::InterruptedThrice));
}

#[test]
fn errors_that_pass_are_tried_again_and_final_ones_roll_back() {
    let mut world = World::new();
    world.install(1, V1);
    world.api_errors = [
        ApiErrorClass::Throttled { retry_after_ms: 2_000 },
        ApiErrorClass::Unavailable,
        ApiErrorClass::Retryable,
        ApiErrorClass::Conflict,
    ]
    .into();
    let v2 = world.release("shop", 2, V2);
    world.assign(&v2);
    world.pass(30_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    world.api_errors = [ApiErrorClass::Final].into();
    let v4 = world.release("shop", 4, V1);
    world.assign(&v4);
    world.pass(30_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.last(Outcome::RolledBack).reason, Some(Code::ApplyRefused));
}

#[test]
fn what_upkeep_had_to_tell_is_cleared_when_it_is_over() {
    let mut world = World::new();
    world.install(1, V1);
    let ours = world.cluster[&object("cm-settings")].clone();
    let theirs = Live { uid: Uid("theirs".into()), content: "theirs".into(), entry: None };
    world.cluster.insert(object("cm-settings"), theirs);
    world.restart();
    world.pass(10_000);
    assert_eq!(world.report().code, Some(Code::ObjectNotOurs));
    world.cluster.insert(object("cm-settings"), ours);
    world.pass(600_000);
    assert_eq!((world.report().code, world.report().reason.as_str()), (None, ""));
}

#[test]
fn a_newer_target_takes_the_place_of_one_that_settles() {
    let mut world = World::new();
    world.install(1, V1);
    let v3 = world.release("shop", 3, V3_BAD);
    world.assign(&v3);
    world.pass(1_000);
    assert_eq!(world.state(), AppState::Settling);
    let v4 = world.release("shop", 4, V2);
    world.assign(&v4);
    world.pass(10_000);
    assert_eq!((world.state(), world.content("web-front")), (AppState::Healthy, Some("front 2")));
    assert_eq!(world.content("cm-more"), None);
}

#[test]
fn receipts_and_status_go_out_once_and_again_until_acknowledged() {
    let mut world = World::new();
    world.install(1, V1);
    let conn = ConnId(1);
    world.say(Event::LinkUp { conn, session_present: false });
    let sends = |world: &World| -> Vec<(u64, u64, bool)> {
        let send = |effect: &Effect| match effect {
            Effect::Send { from, upto, status, .. } => Some((*from, *upto, *status)),
            _ => None,
        };
        world.pending.iter().filter_map(send).collect()
    };
    assert_eq!(sends(&world), [(1, 3, true)]);
    world.settle_down();
    world.mono_ms += 61_000;
    world.say(Event::Wake);
    assert_eq!(sends(&world), [(1, 3, true)], "what nobody acknowledged is sent again");
    world.settle_down();
    world.acknowledge_some(2);
    world.mono_ms += 61_000;
    world.say(Event::Wake);
    assert_eq!(sends(&world), [(3, 3, false)], "what was lost on the way is sent again though more arrived");
    world.settle_down();
    world.acknowledge();
    assert_eq!(world.rows.meta.as_ref().unwrap().receipt_acked_next, 4);
    world.mono_ms += 61_000;
    world.say(Event::Wake);
    assert!(sends(&world).iter().all(|(from, upto, _)| from > upto));
}

#[test]
fn a_stick_takes_the_status_along_with_the_receipts() {
    let mut world = World::new();
    world.install(1, V1);
    world.say(Event::MediaIn { media: MediaId("stick".into()) });
    let row = world.rows.outbox.get(STATUS).expect("the stick is the only way out");
    let status: SiteStatus = serde_json::from_slice(&row.payload).unwrap();
    assert_eq!(status.apps[&app("shop")].state, AppState::Healthy);
    let writes = |effect: &&Effect| matches!(effect, Effect::WriteMedia { from: 1, upto: 3, .. });
    assert_eq!(world.pending.iter().filter(writes).count(), 1);
}

#[test]
fn crds_are_established_before_their_objects_are_sent() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, &[("crd-tills", "crd bad"), ("cm-a", "a")]);
    world.assign(&v1);
    world.pass(3_000);
    assert!(world.content("crd-tills").is_some() && world.content("cm-a").is_none());
    world.cluster.get_mut(&object("crd-tills")).unwrap().content = "crd established".into();
    world.pass(10_000);
    assert_eq!(world.state(), AppState::Healthy);
}
