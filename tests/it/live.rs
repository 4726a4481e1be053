//! Many live agents against one hub that is killed: what was acknowledged stays, and every chain is whole.

use std::collections::BTreeMap;
use std::process::Command;

use airlift_tests::components::product;
use serde_json::Value;

#[test]
fn a_hundred_live_sites_lose_nothing_when_the_hub_is_killed() {
    let said = live(&["--sites", "100", "--rate", "20", "--seconds", "5", "--kills", "1"]);
    assert_eq!(said["connected"], 100, "{said}");
    assert_eq!(said["kills"].as_array().map(Vec::len), Some(1), "{said}");
    assert!(said["rates"][0]["assignments"].as_u64() >= Some(90), "{said}");
    // Enrolled, installed, updated twice: at the least.
    assert!(said["receipts"].as_u64() >= Some(400), "{said}");
    for nothing in ["acknowledged_lost", "missing", "broken_chains"] {
        assert_eq!(said[nothing], 0, "{said}");
    }
}

#[test]
fn ten_thousand_receipts_are_stored_once_each_whoever_is_killed_at_the_endpoint() {
    let said = ten_thousand_receipts(&[]);
    assert_eq!(killed(&said), [("agents".to_owned(), 2), ("hub".to_owned(), 3)].into(), "{said}");
}

#[test]
fn ten_thousand_receipts_are_stored_once_each_whoever_is_killed_around_a_broker() {
    let said = ten_thousand_receipts(&["--broker"]);
    let blows = [("agents", 1), ("broker", 1), ("hub", 2), ("hub and broker", 1)];
    assert_eq!(killed(&said), blows.map(|(who, times)| (who.to_owned(), times)).into(), "{said}");
}

/// A hundred sites write a hundred each; every kill finds some acknowledged and others not.
fn ten_thousand_receipts(more: &[&str]) -> Value {
    let small = ["--sites", "100", "--rate", "20", "--seconds", "1", "--kills", "0", "--receipts", "100"];
    let said = live(&[&small, more].concat());
    let written = said["receipts_written"].as_u64();
    assert!(written >= Some(10_000), "{said}");
    let acknowledged =
        said["receipts_kills"].as_array().unwrap().iter().map(|kill| kill["acknowledged"].as_u64());
    for at in acknowledged {
        assert!(at > Some(0) && at < written, "{said}");
    }
    assert!(said["receipts"].as_u64() > written, "{said}");
    for nothing in ["acknowledged_lost", "missing", "broken_chains"] {
        assert_eq!(said[nothing], 0, "{said}");
    }
    println!("{} ms for {}: {}", said["receipts_ms"], said["receipts_written"], said["receipts_kills"]);
    said
}

/// How often who was killed while receipts were written.
fn killed(said: &Value) -> BTreeMap<String, u32> {
    let mut killed = BTreeMap::new();
    for kill in said["receipts_kills"].as_array().unwrap() {
        *killed.entry(kill["killed"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    killed
}

/// Runs `airlift-sim live`, and gives the object that it prints last.
fn live(arguments: &[&str]) -> Value {
    let mut command = Command::new(product("airlift-sim"));
    let output =
        command.arg("live").args(arguments).args(["-o", "json"]).output().expect("it can be started");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}{told}", output.status);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}
