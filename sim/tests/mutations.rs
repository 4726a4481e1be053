//! Checkers that are awake: each deliberate break of agent or hub is caught, by the checker whose it is.
#![cfg(feature = "mutations")]

use airlift_agent::mutation::{self as agent, Mutation as InAgent};
use airlift_bundles::mutation::{self as bundles, Mutation as InBundles};
use airlift_hub::mutation::{self as hub, Mutation as InHub};
use airlift_sim::invariants::Invariant;
use airlift_sim::scenario::{FaultKind, Scenario};
use airlift_sim::shrink::{Failing, Found, Search};
use airlift_sim::world::{World, run_twice};

/// Seeds until one must have shown it.
const SEEDS: u64 = 3;

/// A small world with everything that the mutations need: a second version, forged documents, power cuts, silence.
const STORY: &str = r#"
name = "mutated"
about = "For the mutations."
duration = "12h"
quiet = "2h"
[[group]]
name = "town"
count = 4
[[release]]
app = "till"
version = "1.0.0"
seq = 1
[[release]]
app = "till"
version = "2.0.0"
seq = 2
[[action]]
at = "1m"
act = "assign"
app = "till"
version = "1.0.0"
[[action]]
at = "1h"
act = "assign"
app = "till"
version = "2.0.0"
[[fault]]
kind = "forged"
per_day = 60.0
[[fault]]
kind = "power-cut"
per_day = 6.0
lasts = ["10s", "1m"]
[[fault]]
kind = "partition"
per_day = 6.0
lasts = ["30m", "2h"]
[[fault]]
kind = "drift"
per_day = 24.0
[[expect]]
app = "till"
running = "2.0.0"
known = true
"#;

/// The same fleet with wrong clocks, documents beyond the limits, and disks that damage what they hold.
const ROUGH: &str = r#"
[[fault]]
kind = "clock"
per_day = 24.0
[[fault]]
kind = "oversized"
per_day = 60.0
[[fault]]
kind = "content-damaged"
per_day = 24.0
[[fault]]
kind = "images-lost"
per_day = 12.0
"#;

/// Power that goes while much is fetched.
const LONG_FETCHES: &str = r#"
name = "long-fetches"
about = "For the mutations."
duration = "6h"
quiet = "2h"
[[group]]
name = "town"
count = 3
[[release]]
app = "till"
version = "1.0.0"
seq = 1
bytes = 600000000
[[action]]
at = "1m"
act = "assign"
app = "till"
version = "1.0.0"
[[fault]]
kind = "power-cut"
per_day = 96.0
lasts = ["10s", "1m"]
[[expect]]
app = "till"
running = "1.0.0"
"#;

/// A neighbour of whom nobody has ever heard.
const SILENT_NEIGHBOUR: &str = r#"
[[group]]
name = "island"
count = 1
contact = "media"
"#;

/// A thief with the director's key.
const THIEF: &str = r#"
[[action]]
at = "2h"
act = "steal-director-key"
[[action]]
at = "9h"
act = "replace-director"
[[fault]]
kind = "thief"
per_day = 60.0
"#;

fn parse(story: &str) -> Scenario {
    Scenario::parse(story).expect("it is good")
}

/// The first violation that any of a few seeds shows.
#[expect(clippy::print_stdout, reason = "what was caught belongs to a run's protocol")]
fn found_in(story: &str) -> Option<Invariant> {
    (1..=SEEDS).find_map(|seed| {
        let outcome = World::new(parse(story), seed).expect("the world is made").run();
        for violation in &outcome.violations {
            println!("seed {seed}: {violation}");
        }
        outcome.violations.first().map(|violation| violation.invariant)
    })
}

fn found() -> Option<Invariant> {
    found_in(STORY)
}

/// The story with more in it; what it expects of all is not for the newcomers.
fn story_with(more: &str) -> String {
    STORY.replace("[[expect]]", "[[expect]]\nsites = \"group=town\"") + more
}

#[test]
fn nothing_is_found_where_nothing_is_broken() {
    assert_eq!(found(), None);
    assert_eq!(found_in(&format!("{STORY}{ROUGH}")), None);
}

#[test]
fn a_clock_that_refuses_is_caught() {
    agent::choose(Some(InAgent::ClockRefuses));
    assert_eq!(found_in(&format!("{STORY}{ROUGH}")), Some(Invariant::Clocks));
}

#[test]
fn content_that_nobody_hashed_is_caught() {
    agent::choose(Some(InAgent::UnreadDigests));
    assert_eq!(found_in(&format!("{STORY}{ROUGH}")), Some(Invariant::Content));
}

#[test]
fn a_document_beyond_the_limits_is_caught() {
    agent::choose(Some(InAgent::WideLimits));
    assert_eq!(found_in(&format!("{STORY}{ROUGH}")), Some(Invariant::Limits));
}

#[test]
fn nothing_is_found_in_the_other_stories_either() {
    assert_eq!(found_in(LONG_FETCHES), None);
    assert_eq!(found_in(&story_with(SILENT_NEIGHBOUR)), None);
    assert_eq!(found_in(&story_with(THIEF)), None);
}

#[test]
fn a_receipt_that_the_hub_loses_is_caught() {
    hub::choose(Some(InHub::LosesReceipts));
    assert_eq!(found(), Some(Invariant::Receipts));
}

#[test]
fn a_lock_that_a_killed_process_leaves_is_caught() {
    agent::choose(Some(InAgent::LeftLock));
    assert_eq!(found_in(LONG_FETCHES), Some(Invariant::Restarts));
}

#[test]
fn a_site_that_keeps_others_waiting_is_caught() {
    hub::choose(Some(InHub::OneStopsAll));
    assert_eq!(found_in(&story_with(SILENT_NEIGHBOUR)), Some(Invariant::Independence));
}

#[test]
fn a_value_that_only_the_director_wants_is_caught() {
    bundles::choose(Some(InBundles::AnyValue));
    assert_eq!(found_in(&story_with(THIEF)), Some(Invariant::Director));
}

#[test]
fn a_core_that_depends_on_more_than_its_seed_is_caught() {
    agent::choose(Some(InAgent::Unseeded));
    let outcome = run_twice(&parse(STORY), 1).expect("the worlds are made");
    let found: Vec<Invariant> = outcome.violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, [Invariant::Determinism]);
}

#[test]
fn a_release_with_too_few_signatures_is_caught() {
    agent::choose(Some(InAgent::OneSignature));
    assert_eq!(found(), Some(Invariant::Descent));
}

#[test]
fn an_older_assignment_is_caught() {
    agent::choose(Some(InAgent::OldAssignments));
    assert_eq!(found(), Some(Invariant::Counters));
}

#[test]
fn a_receipt_that_is_forgotten_too_early_is_caught() {
    agent::choose(Some(InAgent::EarlyForgetting));
    assert_eq!(found(), Some(Invariant::Durable));
}

#[test]
fn a_prune_of_what_is_wanted_is_caught() {
    agent::choose(Some(InAgent::WidePruning));
    assert_eq!(found(), Some(Invariant::Deletions));
}

#[test]
fn a_site_that_repairs_nothing_is_caught() {
    agent::choose(Some(InAgent::BlindWatch));
    assert_eq!(found(), Some(Invariant::Upkeep));
}

#[test]
fn a_silent_site_that_is_shown_as_done_is_caught() {
    hub::choose(Some(InHub::AlwaysFresh));
    assert_eq!(found(), Some(Invariant::Stale));
}

/// What a broken agent does in a day of a fleet is left with the one site, the one order and the one fault that show it.
/// Drift strikes so often that sites are left in peace at the end alone, where any of them shows it with any seed.
#[test]
fn a_run_that_shows_a_break_becomes_a_small_story_that_still_shows_it() {
    agent::choose(Some(InAgent::BlindWatch));
    let story = STORY.replace("kind = \"drift\"\nper_day = 24.0", "kind = \"drift\"\nper_day = 480.0");
    assert_ne!(story, STORY);
    let (mut goes_on, mut tell) = (|| true, |_: &Failing, _| ());
    let found = Search::new(2, &mut goes_on, &mut tell).shrink(&parse(&story), 1).expect("worlds are made");
    let Found::Smallest { first, failing, finished: true, .. } = found else { panic!("{found:?}") };
    assert_eq!((first.sites, first.parts), (4, 7));
    assert_eq!(failing.violation.invariant, Invariant::Upkeep);
    let size = failing.size();
    assert_eq!((size.sites, size.parts), (1, 2), "{:?}", failing.scenario);
    assert_eq!(failing.scenario.fault[0].kind, FaultKind::Drift);
    assert!(size.duration_ms < first.duration_ms);
    // What is written for people is the same story, and shows the same thing.
    let written = Scenario::parse(&failing.scenario.to_toml()).expect("it can be read again");
    let again = World::new(written.clone(), failing.seed).expect("the world is made").run();
    assert_eq!(again.violations.first(), Some(&failing.violation));
    agent::choose(None);
    let mended = World::new(written, failing.seed).expect("the world is made").run();
    assert!(mended.violations.is_empty(), "{:?}", mended.violations);
}
