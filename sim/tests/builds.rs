//! One seed is one story in every build: the simulator with its optimisations and without tells the same one.
//!
//! `tests/run` names the other build in `AIRLIFT_SIM_RELEASE`; without it there is nothing to compare with.

use std::process::Command;

use serde_json::Value;

/// Sites of each story: every kind of happening comes, and the slow build is done within minutes.
const SITES: &str = "4";
/// And where there is time, as `tests/run --long` says.
const SITES_LONG: &str = "50";

fn sites() -> &'static str {
    if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { SITES_LONG } else { SITES }
}

/// Runs the simulator and reads the last line that it prints.
fn ask(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().expect("the simulator starts");
    let text = String::from_utf8(output.stdout).expect("it writes UTF-8");
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}: {last}"))
}

fn trace(program: &str, name: &str) -> String {
    let result = ask(program, &["run", name, "--sites", sites(), "-o", "json"]);
    result["trace_hash"].as_str().expect("every run has one").to_owned()
}

#[test]
#[ignore = "needs the release build, which tests/run names"]
fn every_scenario_has_one_story_on_two_runs_and_in_two_builds() {
    let (dev, release) = (env!("CARGO_BIN_EXE_airlift-sim"), std::env::var("AIRLIFT_SIM_RELEASE"));
    let release = release.expect("AIRLIFT_SIM_RELEASE is the path of the release build");
    let listed = ask(dev, &["list", "-o", "json"]);
    let names: Vec<&str> =
        listed["items"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.len() > 5, "{listed}");
    for name in names {
        let [first, again] = [trace(&release, name), trace(&release, name)];
        assert_eq!(first, again, "{name}: two runs of one build differ");
        assert_eq!(first, trace(dev, name), "{name}: two builds differ");
        println!("{name} at {} sites: {first}", sites());
    }
}

/// The one hook by which tests reach into agents: a kill after a commit.
#[test]
#[ignore = "needs the release build, which tests/run names"]
fn what_is_released_cannot_be_told_to_halt() {
    let name = b"AIRLIFT_HALT_AT";
    let names_it = |program: &str| {
        let bytes = std::fs::read(program).expect("the program can be read");
        bytes.windows(name.len()).any(|part| part == name)
    };
    let release = std::env::var("AIRLIFT_SIM_RELEASE").expect("the path of the release build");
    assert!(names_it(env!("CARGO_BIN_EXE_airlift-sim")), "the search finds what is there");
    assert!(!names_it(&release), "{release} can be told to halt");
}
