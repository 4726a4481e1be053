//! A version whose pods never become ready is taken back by the site alone, whole, and not tried again unasked.

use std::thread::sleep;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;
use serde_json::Value;

use crate::journey::{
    ROLLOUT, assign, build, count_receipts, enrol_online, image, receipt, roll_out, state, wait_for_pods,
    wait_for_state,
};

fn rolled_back(hub: &Hub) -> usize {
    count_receipts(hub, "anna", "rolled-back", "greeter")
}

fn template(site: &Site) -> Value {
    site.get(&["-n", "greeter", "deployment/greeter"]).unwrap()["spec"]["template"].clone()
}

#[test]
fn a_version_that_is_never_ready_is_rolled_back_offline_and_tried_again_only_when_asked() {
    let hub = Hub::start();
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let good = image(&hub, "2.0.0", 1 << 20);
    let bundle = build(&hub, &Greeter::new("2.0.0", &good), 2);
    roll_out(&hub, &bundle, "anna", &["--set", "greeting=good day"]);
    let _ = receipt(&hub, "anna", "healthy", "2.0.0");
    wait_for_pods(&site, &good, "good day");

    let bad = image(&hub, "3.0.0", 1 << 20);
    let bundle = build(&hub, &Greeter::never_ready("3.0.0", &bad), 3);
    roll_out(&hub, &bundle, "anna", &["--set", "greeting=bad day"]);
    wait_for_state(&agent, "settling", "3.0.0");
    cable.cut();
    wait_until("the rollback without a hub", ROLLOUT, || {
        let app = state(&agent)?;
        if app["state"] == "healthy" && app["version"] == "2.0.0" { Ok(()) } else { Err(app.to_string()) }
    });
    wait_for_pods(&site, &good, "good day");

    cable.restore();
    let row = receipt(&hub, "anna", "rolled-back", "3.0.0");
    assert!(row["reason"].is_string(), "{row}");
    let _ = hub.airlift(&["receipt", "verify", "--site", "anna"]);
    let history = agent.try_read(&["history", "--app", "greeter"]).unwrap();
    let rows = history["items"].as_array().unwrap();
    let signed = rows.iter().find(|row| row["outcome"] == "rolled-back").unwrap();
    let evidence = signed["evidence"].as_array().unwrap();
    assert!(!evidence.is_empty(), "the receipt says what was seen: {signed}");

    // Neither time nor a restart tries it again.
    let before = template(&site);
    agent.kill();
    agent.run();
    sleep(Duration::from_secs(8));
    assert_eq!(template(&site), before);
    assert_eq!(rolled_back(&hub), 1);

    assign(&hub, "anna", &["--set", "greeting=bad day", "--retry"]);
    wait_until("the second rollback", ROLLOUT, || match rolled_back(&hub) {
        2 => Ok(()),
        other => Err(format!("{other} rollbacks")),
    });
    wait_for_pods(&site, &good, "good day");
}
