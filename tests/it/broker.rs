//! mosquitto between hub and site: from a folder to Running pods, a broker that dies and forgets, and topics of others.

mod doctor;
mod hazards;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::limits::Limits;
use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::broker::Broker;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;

use crate::journey::{build, enrol_online, image, receipt, receipts, roll_out, wait_for_pods};

#[test]
fn a_site_behind_a_broker_converges_although_the_broker_dies_and_forgets_everything() {
    let mut hub = Hub::start();
    let mut broker = Broker::put_before(&mut hub);
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");

    let first = image(&hub, "1.0.0", 1 << 20);
    roll_out(&hub, &build(&hub, &Greeter::new("1.0.0", &first), 1), "anna", &[]);
    wait_for_pods(&site, &first, "hello");
    assert_eq!(receipt(&hub, "anna", "healthy", "1.0.0")["carrier"], "mqtt");
    assert!(hub.relay().passed(cable.site()).to_site > 1 << 20, "the image came by this way");

    // It dies while the next version is ordered: the hub has nobody to tell, and then somebody who knows nothing.
    broker.kill();
    let second = image(&hub, "2.0.0", 1 << 20);
    roll_out(&hub, &build(&hub, &Greeter::new("2.0.0", &second), 2), "anna", &[]);
    broker.run(&hub);
    wait_for_pods(&site, &second, "hello");
    let _ = receipt(&hub, "anna", "healthy", "2.0.0");
    wait_until("every receipt to be acknowledged", Duration::from_secs(120), || {
        let status = agent.try_read(&["status"])?;
        if status["receipts_waiting"] == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(receipts(&hub, "anna").iter().all(|row| row["link"] == "chained"));
    let _ = hub.airlift(&["receipt", "verify", "--site", "anna"]);

    others_topics_deliver_nothing(&hub, &site, agent);
}

/// With the keys of one site, asks the broker for everything, and says something in another's name.
fn others_topics_deliver_nothing(hub: &Hub, site: &Site, mut anna: Agent<'_>) {
    anna.kill();
    let keys = hub.dir().join("anna");
    fs::create_dir_all(&keys).unwrap();
    let kept = anna.dir().join("state/keys");
    let grant = Envelope::parse(&fs::read(kept.join("grant.json")).unwrap(), &Limits::DEFAULT).unwrap();
    let grant: Grant = grant.read_unverified(&Limits::DEFAULT).unwrap();
    fs::write(keys.join("site.pem"), &grant.certificate).unwrap();
    fs::copy(kept.join("tls.pem"), keys.join("tls.pem")).unwrap();

    // Another site, for which something stands at the broker.
    Agent::install(site, &hub.root_sha256(), Some(HUB)).enrol(hub, "bert");
    let _ = hub.airlift(&["assign", "greeter", "--release", "newest", "--site", "bert"]);

    let all = client(hub, site, &keys, "mosquitto_sub", &["-t", "airlift/v1/#", "-v", "-W", "5"]);
    let heard = String::from_utf8_lossy(&all.stdout);
    assert!(heard.contains("airlift/v1/s/anna/d/desired"), "what is its own: {heard} {all:?}");
    assert!(!heard.contains("bert"), "{heard}");
    let forged = ["-t", "airlift/v1/s/bert/u/s", "-m", "forged", "-q", "1"];
    let said = client(hub, site, &keys, "mosquitto_pub", &forged);
    assert!(String::from_utf8_lossy(&said.stderr).contains("Not authorized"), "{said:?}");
}

/// How often the hub has come to its broker.
fn connections(hub: &mut Hub) -> usize {
    hub.process().log().matches("connected to the broker").count()
}

/// Runs a client of mosquitto's at the site, with these keys, as anna.
fn client(hub: &Hub, site: &Site, keys: &Path, program: &str, more: &[&str]) -> Output {
    let mut command: Command = site.namespace().command(program);
    command.args(["-h", &HUB.to_string(), "-p", "8883", "-V", "mqttv5", "-i", "anna", "-c", "-x", "60"]);
    command.arg("--cafile").arg(hub.dir().join("hub/hub-ca.pem"));
    command.arg("--cert").arg(keys.join("site.pem")).arg("--key").arg(keys.join("tls.pem"));
    command.args(more).output().expect("it is installed")
}
