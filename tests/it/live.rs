//! Many live agents against one hub that is killed: what was acknowledged stays, and every chain is whole.

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
