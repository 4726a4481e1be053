//! Stories of changes that others make between what the API server did and the agent's hearing of it.

use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::Blake3Digest;

use super::world::{World, app, object};
use crate::core::api::{ApiCall, ApiReply};
use crate::core::{Effect, Event};

const V1: &[(&str, &str)] =
    &[("cm-notes", "notes 1"), ("cm-settings", "settings 1"), ("web-front", "front 1")];

/// The watch tells how an object is now.
fn tell(world: &mut World, name: &str) {
    let live = world.cluster[&object(name)].clone();
    let entry = live.entry.map(|hash| (app("shop"), hash));
    world.say(Event::Seen { object: object(name), uid: live.uid, resource_version: "7".into(), entry });
}

/// Somebody changes an object by hand, which takes fields away from us; the watch tells of it.
fn edit(world: &mut World, name: &str) {
    let live = world.cluster.get_mut(&object(name)).expect("it is there");
    (live.content, live.entry) = ("by hand".to_owned(), Some(Blake3Digest::of(b"fewer fields")));
    tell(world, name);
}

/// A site where an object was just edited.
fn edited() -> World {
    let mut world = World::new();
    world.install(1, V1);
    edit(&mut world, "cm-notes");
    world
}

fn delete(world: &mut World, name: &str) {
    let gone = world.cluster.remove(&object(name)).expect("it is there");
    world.say(Event::Gone { object: object(name), uid: gone.uid });
}

/// Goes on until the API server has answered a request, and holds the answer back.
fn held_back(world: &mut World, is: impl Fn(&ApiCall) -> bool) -> Event {
    loop {
        let effect = world.pending.pop_front().expect("it is asked for");
        let answer = world.answer(&effect);
        match (effect, answer) {
            (Effect::Api { call, .. }, Some(answer)) if is(&call) => return answer,
            (_, Some(answer)) => world.say(answer),
            (_, None) => {}
        }
    }
}

fn applies(name: &str) -> impl Fn(&ApiCall) -> bool {
    move |call| matches!(call, ApiCall::Apply { object: of, dry_run: false, .. } if *of == object(name))
}

fn is_kept(world: &World) {
    for (name, content) in V1 {
        assert_eq!(world.content(name), Some(*content));
    }
    assert_eq!(world.state(), AppState::Healthy);
}

/// Does what is asked for until nothing is, and counts the listings among it.
fn listings(world: &mut World) -> usize {
    let mut listings = 0;
    while let Some(effect) = world.pending.pop_front() {
        listings += usize::from(matches!(&effect, Effect::Api { call: ApiCall::List { .. }, .. }));
        if let Some(event) = world.answer(&effect) {
            world.say(event);
        }
    }
    listings
}

#[test]
fn an_edit_after_our_write_and_before_its_reply_is_put_right() {
    let mut world = edited();
    let reply = held_back(&mut world, applies("cm-notes"));
    tell(&mut world, "cm-notes");
    edit(&mut world, "cm-notes");
    world.say(reply);
    world.pass(60_000);
    is_kept(&world);
}

#[test]
fn a_deletion_after_our_write_and_before_its_reply_is_put_right() {
    let mut world = edited();
    let reply = held_back(&mut world, applies("cm-notes"));
    delete(&mut world, "cm-notes");
    world.say(reply);
    world.pass(60_000);
    is_kept(&world);
}

#[test]
fn an_edit_of_what_was_just_created_is_put_right_before_the_version_counts_as_healthy() {
    let mut world = World::new();
    let v1 = world.release("shop", 1, V1);
    world.assign(&v1);
    let reply = held_back(&mut world, applies("cm-notes"));
    edit(&mut world, "cm-notes");
    world.say(reply);
    while world.state() != AppState::Healthy {
        world.pass(100);
    }
    is_kept(&world);
}

#[test]
fn our_own_write_that_the_watch_tells_before_the_reply_is_no_reason_to_look_again() {
    let mut world = edited();
    let reply = held_back(&mut world, applies("cm-notes"));
    tell(&mut world, "cm-notes");
    world.say(reply);
    assert_eq!(listings(&mut world), 0);
    // What it was before that is older news, which one more look shows.
    edit(&mut world, "cm-settings");
    let Event::Api { op, reply } = held_back(&mut world, applies("cm-settings")) else { panic!("no reply") };
    let Ok(ApiReply::Applied(applied)) = &reply else { panic!("{reply:?}") };
    let old = Some((app("shop"), Blake3Digest::of(b"fewer fields")));
    let (uid, resource_version) = (applied.uid.clone(), "6".into());
    world.say(Event::Seen { object: object("cm-settings"), uid, resource_version, entry: old });
    world.say(Event::Api { op, reply });
    assert_eq!(listings(&mut world), 1);
    is_kept(&world);
}

#[test]
fn an_edit_that_a_listing_under_way_is_too_old_to_show_is_put_right() {
    let mut world = edited();
    let listed = held_back(&mut world, |call| matches!(call, ApiCall::List { .. }));
    edit(&mut world, "cm-settings");
    world.say(listed);
    world.pass(60_000);
    is_kept(&world);
}

#[test]
fn an_edit_during_work_that_ends_in_a_refusal_is_put_right() {
    let mut world = World::new();
    world.install(1, V1);
    let v2 = [("cm-notes", "notes 2"), ("cm-settings", "refused"), ("web-front", "front 2")];
    let v2 = world.release("shop", 2, &v2);
    world.assign(&v2);
    // Both before its objects are listed and after that.
    edit(&mut world, "web-front");
    let tried = held_back(&mut world, |call| matches!(call, ApiCall::Apply { dry_run: true, .. }));
    edit(&mut world, "cm-notes");
    world.say(tried);
    world.pass(60_000);
    assert_eq!(world.outcomes().last(), Some(&Outcome::Repaired));
    assert!(world.outcomes().contains(&Outcome::Refused));
    for (name, content) in V1 {
        assert_eq!(world.content(name), Some(*content));
    }
}

/// The version that is gone back to is planned anew, and its images are imported, before its plan is in force.
#[test]
fn an_edit_of_what_only_the_version_before_held_is_put_right_on_the_way_back() {
    let changes: [fn(&mut World, &str); 2] = [edit, delete];
    for change in changes {
        let mut world = World::new();
        world.install(1, V1);
        let bad = world.release("shop", 2, &[("cm-settings", "settings 2"), ("web-front", "front 2 bad")]);
        world.assign(&bad);
        let imported = loop {
            let Some(effect) = world.pending.pop_front() else {
                world.mono_ms = world.wake_at.take().expect("it wakes up");
                world.say(Event::Wake);
                continue;
            };
            let goes_back = world.state() == AppState::RollingBack;
            match (&effect, world.answer(&effect)) {
                (Effect::Import { .. }, Some(imported)) if goes_back => break imported,
                (_, Some(event)) => world.say(event),
                (_, None) => {}
            }
        };
        change(&mut world, "cm-notes");
        world.say(imported);
        world.pass(60_000);
        assert!(world.outcomes().contains(&Outcome::RolledBack));
        is_kept(&world);
    }
}

#[test]
fn what_vanished_while_the_watch_was_broken_during_an_update_is_made_again() {
    let mut world = World::new();
    world.install(1, V1);
    let gvk = object("cm-notes").gvk;
    world.say(Event::Listed { gvk: gvk.clone() });
    world.settle_down();
    let v2 = [("cm-notes", "notes 2"), ("cm-settings", "settings 2"), ("web-front", "front 2")];
    let v2 = world.release("shop", 2, &v2);
    world.assign(&v2);
    let reply = held_back(&mut world, applies("web-front"));
    // Nobody hears of this one; the watch lists again.
    world.cluster.remove(&object("cm-notes"));
    world.say(Event::Listed { gvk });
    world.say(reply);
    world.pass(60_000);
    assert_eq!((world.state(), world.content("cm-notes")), (AppState::Healthy, Some("notes 2")));
}
