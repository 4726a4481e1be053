//! Built-in scenarios at a small size: they hold, and one seed is one story.

use airlift_sim::scenario::Scenario;
use airlift_sim::world::{Outcome, World};

#[expect(clippy::print_stdout, reason = "the counts and seeds of a run belong to its protocol")]
fn run(name: &str, sites: u64, seed: u64) -> Outcome {
    let scenario = Scenario::find(name).expect("it is built in").with_sites(sites);
    let outcome = World::new(scenario, seed).expect("the world is made").run();
    println!(
        "{name} seed {seed}: {} sites, {} hours, {} steps, {} receipts",
        outcome.sites,
        outcome.passed_ms / 3_600_000,
        outcome.steps,
        outcome.receipts
    );
    for violation in &outcome.violations {
        println!("  {violation}\n  again: airlift-sim replay {name} --seed {seed} --sites {sites}");
    }
    outcome
}

/// Runs a scenario with these seeds; the first is run twice.
fn holds(name: &str, sites: u64, seeds: &[u64]) {
    let mut first: Option<String> = None;
    for seed in [seeds[0]].iter().chain(seeds) {
        let outcome = run(name, sites, *seed);
        assert!(outcome.violations.is_empty(), "{name} seed {seed}: {:?}", outcome.violations);
        assert!(outcome.steps > 100 && outcome.receipts > 0, "{name} seed {seed}: nothing happened");
        match &first {
            None => first = Some(outcome.trace_hash),
            Some(hash) if seed == &seeds[0] => assert_eq!(*hash, outcome.trace_hash, "one seed, two stories"),
            Some(hash) => assert_ne!(*hash, outcome.trace_hash, "two seeds, one story"),
        }
    }
}

#[test]
fn a_bad_release_is_rolled_back_everywhere() {
    holds("bad-release", 5, &[1, 2]);
}

#[test]
fn sites_that_only_sticks_reach_keep_up() {
    holds("usb-only", 2, &[1]);
}

#[test]
fn sites_outlive_their_hub_for_90_days() {
    holds("hub-lost-for-90-days", 1, &[1]);
}

#[test]
fn power_cuts_leave_no_work_for_hands() {
    holds("power-cuts", 3, &[1, 2]);
}

#[test]
fn sites_outlive_everything_that_happens_to_sticks() {
    holds("stick-chaos", 2, &[1, 2]);
}

#[test]
fn disks_that_fill_up_leave_no_work_for_hands() {
    holds("disk-full", 3, &[1, 2]);
}

#[test]
fn disks_that_lie_break_nothing_but_the_chain() {
    holds("lying-disks", 5, &[1, 2]);
}

#[test]
fn no_clock_refuses_anything() {
    holds("clock-1970", 4, &[1, 2]);
}

#[test]
fn thin_links_bring_every_version() {
    holds("thin-link-5000", 10, &[1]);
}

#[test]
fn a_large_fleet_takes_a_release_at_once() {
    holds("hundred-thousand", 20, &[1, 2]);
}

#[test]
fn a_region_that_reboots_as_one_does_so_in_turn() {
    holds("mass-reboot", 14, &[1, 2]);
}

#[test]
fn a_restored_hub_learns_from_its_sites() {
    holds("restored-hub", 4, &[1, 2]);
}

/// A hub that is restored, and backed up again before anybody has looked after it; a site that hears of all this late.
const BACKED_UP_IN_BETWEEN: &str = r#"
name = "backed-up-in-between"
about = "The second backup lacks what the first one lacked."
duration = "10h"
quiet = "1h"
[[group]]
name = "town"
count = 2
[[group]]
name = "late"
count = 1
link = { hours = ["5h", "23h"] }
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
act = "hub-backup"
[[action]]
at = "2h"
act = "assign"
app = "till"
version = "2.0.0"
[[action]]
at = "3h"
act = "hub-restore"
[[action]]
at = "185m"
act = "hub-backup"
[[action]]
at = "4h"
act = "hub-reconcile"
[[expect]]
app = "till"
running = "2.0.0"
"#;

#[test]
fn orders_that_a_backup_of_a_restored_hub_lacks_are_given_again() {
    let scenario = Scenario::parse(BACKED_UP_IN_BETWEEN).expect("it is good");
    let outcome = World::new(scenario, 1).expect("the world is made").run();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}

#[test]
fn keys_rotate_under_running_apps() {
    holds("rotating-keys", 5, &[1, 2]);
}

#[test]
fn a_stolen_director_key_only_chooses() {
    holds("stolen-director-key", 4, &[1, 2]);
}

#[test]
fn chaos_breaks_no_invariant() {
    holds("chaos", 8, &[1, 2]);
}
