use super::*;

/// Version 2 crashes, so nobody can have it: with or without all that goes wrong beside it.
const IMPOSSIBLE: &str = r#"
name = "impossible"
about = "A broken version is expected to run."
duration = "8h"
quiet = "2h"
[[group]]
name = "town"
count = 6
[[group]]
name = "island"
count = 2
contact = "media"
[[release]]
app = "till"
version = "1.0.0"
seq = 1
[[release]]
app = "till"
version = "2.0.0"
seq = 2
works = false
[[release]]
app = "sign"
version = "1.0.0"
seq = 1
[[action]]
at = "1m"
act = "assign"
app = "till"
version = "1.0.0"
[[action]]
at = "10m"
act = "assign"
app = "sign"
version = "1.0.0"
[[action]]
at = "1h"
act = "assign"
app = "till"
version = "2.0.0"
[[fault]]
kind = "power-cut"
per_day = 6.0
lasts = ["10s", "1m"]
[[fault]]
kind = "partition"
per_day = 6.0
lasts = ["1m", "10m"]
[[expect]]
at = "30m"
sites = "group=town"
app = "sign"
running = "1.0.0"
[[expect]]
at = "5h"
sites = "group=town"
app = "till"
running = "2.0.0"
"#;

fn shrunk(text: &str, seed: u64) -> Failing {
    let scenario = Scenario::parse(text).unwrap();
    let (mut goes_on, mut told) = (|| true, 0);
    let mut tell = |_: &Failing, _| told += 1;
    let found = Search::new(2, &mut goes_on, &mut tell).shrink(&scenario, seed).unwrap();
    let Found::Smallest { failing, finished: true, .. } = found else { panic!("{found:?}") };
    assert!(told > 0, "nobody was told of smaller ones");
    *failing
}

#[test]
fn an_impossible_expectation_is_left_with_one_site_and_what_was_done_for_its_app() {
    let failing = shrunk(IMPOSSIBLE, 1);
    let scenario = &failing.scenario;
    assert_eq!(failing.violation.invariant, Invariant::Expectation);
    assert_eq!((scenario.sites(), scenario.fault.len(), scenario.expect.len()), (1, 0, 1), "{scenario:?}");
    assert_eq!(scenario.group[0].name.as_str(), "town");
    // What makes the version come stays; what another app does not.
    let apps: Vec<_> = scenario.action.iter().map(|action| action.app.as_ref().unwrap().as_str()).collect();
    assert_eq!(apps, ["till", "till"]);
    assert_eq!(scenario.release.len(), 2);
    assert!(scenario.duration.ms() <= 5 * 3_600_000 + 1);
}

#[test]
fn the_smaller_story_is_written_and_fails_again_in_the_same_way() {
    let failing = shrunk(IMPOSSIBLE, 3);
    let read = Scenario::parse(&failing.scenario.to_toml()).unwrap();
    assert_eq!(read, failing.scenario);
    let again = World::new(read, failing.seed).unwrap().run();
    assert_eq!(again.violations.first().map(ToString::to_string), Some(failing.violation.to_string()));
}

#[test]
fn a_story_that_ends_with_its_violation_is_the_same_story_until_then() {
    let scenario = Scenario::parse(IMPOSSIBLE).unwrap();
    let whole = World::new(scenario.clone(), 5).unwrap().run();
    let violation = &whole.violations[0];
    let prefix = parts::prefix(&scenario, violation);
    assert!(prefix.expect.len() == 1 && prefix.duration < scenario.duration);
    let cut = World::new(prefix, 5).unwrap().run();
    assert_eq!(cut.violations[0].text, violation.text);
    assert_eq!((cut.violations[0].at_ms, &cut.violations[0].site), (violation.at_ms, &violation.site));
}

#[test]
fn a_run_that_holds_is_not_shrunk_and_time_ends_a_search() {
    let good = IMPOSSIBLE.replace("works = false\n", "");
    let scenario = Scenario::parse(&good).unwrap().with_sites(2);
    let (mut goes_on, mut tell) = (|| true, |_: &Failing, _| ());
    assert_eq!(Search::new(2, &mut goes_on, &mut tell).shrink(&scenario, 1).unwrap(), Found::Holds);
    let mut no_time = || false;
    assert_eq!(Search::new(2, &mut no_time, &mut tell).shrink(&scenario, 1).unwrap(), Found::NoTime);
}
