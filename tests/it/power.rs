//! Power cuts under the real hub and agent, whose disks lose what was not synced: what was acknowledged is there after
//! each, no counter goes back, and everything goes on by itself.

mod damaged;
mod full;
mod ledger;
mod stand;

use crate::journey::receipt;
use crate::kills::seed;
use stand::Stand;

const CUTS: u32 = 50;
/// With `tests/run --long`.
const CUTS_LONG: u32 = 500;
const CUTS_PER_ROLLOUT: u32 = 5;

fn cuts() -> u32 {
    if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { CUTS_LONG } else { CUTS }
}

#[test]
fn fifty_power_cuts_at_sync_boundaries_lose_nothing_that_was_acknowledged() {
    let seed = seed();
    println!("AIRLIFT_TESTS_SEED={seed} repeats the cuts of this run, as far as processes repeat themselves");
    let mut stand = Stand::set_up(seed);
    let (mut at_syncs, rollouts) = (0, cuts() / CUTS_PER_ROLLOUT);
    for seq in 1..=rollouts {
        stand.begin(seq);
        for _ in 0..CUTS_PER_ROLLOUT {
            let at_a_sync = stand.cut().unwrap_or_else(|lost| panic!("rollout {seq}: {lost}"));
            at_syncs += u32::from(at_a_sync);
        }
        stand.finish();
        let _ = receipt(&stand.hub, "anna", "healthy", &format!("{seq}.0.0"));
    }
    let cuts = rollouts * CUTS_PER_ROLLOUT;
    println!("{cuts} cuts, {at_syncs} of them at a sync; {}", stand.ledger);
    assert!(at_syncs * 2 > cuts, "only {at_syncs} of {cuts} cuts were at a sync");
    let _ = stand.hub.airlift(&["receipt", "verify", "--site", "anna"]);
}

#[test]
fn a_disk_that_only_says_that_it_synced_is_caught_by_the_same_test() {
    let mut stand = Stand::set_up(seed());
    stand.begin(1);
    stand.ignore_syncs();
    let lost = (0..20).find_map(|_| stand.cut().err());
    println!("{lost:?}");
    assert!(lost.is_some(), "20 cuts of disks that sync nothing, and nothing is missing");
}
