//! A site that nothing reaches but a stick: enrolment, bundle, update and receipts by one directory.

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::site::Site;
use serde_json::Value;

use crate::journey::{
    ROLLOUT, assert_absent, build, image, receipt, roll_out, wait_for_pods, wait_for_state,
};

/// Enrols an agent by a stick, which it gives, and starts it.
pub(crate) fn enrol_by_stick(hub: &Hub, agent: &mut Agent<'_>, site: &str) -> String {
    let stick = hub.dir().join("stick");
    std::fs::create_dir_all(&stick).unwrap();
    let stick = stick.display().to_string();
    // The request goes out, a person compares fingerprints, the grant comes back.
    let asked = agent.command(&["enrol", "--media", &stick, "--site", site]);
    let _ = hub.airlift(&["media", "load", &stick]);
    let pending = hub.read(&["site", "pending"]);
    let request = &pending["items"][0];
    let fingerprint = request["fingerprint"].as_str().unwrap();
    assert!(asked.contains(fingerprint), "the site shows {fingerprint}: {asked}");
    let _ = hub.airlift(&["site", "approve", "--fingerprint", fingerprint, "--site", site]);
    let _ = hub.airlift(&["media", "save", &stick, "--site", site]);
    let _ = agent.command(&["media", "load", &stick]);
    agent.run();
    stick
}

/// Takes the stick to the site and back, so that both have seen what the other wrote.
pub(crate) fn carry_round(hub: &Hub, agent: &Agent<'_>, stick: &str) {
    let _ = agent.command(&["media", "load", stick]);
    let _ = agent.command(&["media", "save", stick]);
    let _ = hub.airlift(&["media", "load", stick]);
}

#[test]
fn a_site_without_network_is_enrolled_served_updated_and_heard_by_a_stick() {
    let hub = Hub::start();
    let site = Site::borrow();
    let mut agent = Agent::install(&site, &hub.root_sha256(), None);
    let stick = enrol_by_stick(&hub, &mut agent, "berta");

    for (version, seq) in [("1.0.0", 1), ("2.0.0", 2)] {
        let image = image(&hub, version, 2 << 20);
        assert_absent(&site, &image);
        roll_out(&hub, &build(&hub, &Greeter::new(version, &image), seq), "berta", &[]);
        let _ = hub.airlift(&["media", "save", &stick, "--site", "berta"]);
        carry_round(&hub, &agent, &stick);
        wait_for_state(&agent, "healthy", version);
        wait_for_pods(&site, &image, "hello");
        carry_round(&hub, &agent, &stick);
        let row = receipt(&hub, "berta", "healthy", version);
        assert_eq!(row["carrier"], "media");
    }
    // With the hub's acknowledgement on the next stick the site knows what arrived.
    let _ = hub.airlift(&["receipt", "verify", "--site", "berta"]);
    let _ = hub.airlift(&["media", "save", &stick, "--site", "berta"]);
    let _ = agent.command(&["media", "load", &stick]);
    wait_until("the receipts to be acknowledged", ROLLOUT, || {
        let history = agent.try_read(&["history"])?;
        let rows = history["items"].as_array().cloned().unwrap_or_default();
        let of_apps: Vec<&Value> = rows.iter().filter(|row| row["app"] == "greeter").collect();
        let acknowledged = of_apps.iter().all(|row| row["acknowledged"] == true);
        if of_apps.len() == 2 && acknowledged { Ok(()) } else { Err(history.to_string()) }
    });
}
