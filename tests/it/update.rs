//! Updating in place: pods change, what is left out goes, and nothing of anybody else does.

use std::process::Command;
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
    ROLLOUT, build, enrol_online, image, receipt, roll_out, state, wait_for_pods, wait_for_state,
};

fn exists(site: &Site, object: &str) -> bool {
    site.get(&["-n", "greeter", object]).is_some()
}

/// Makes a ConfigMap by hand that has all labels and annotations of ours.
fn make_lookalike(site: &Site, of: &str, name: &str) {
    let mut object = site.get(&["-n", "greeter", &format!("configmap/{of}")]).unwrap();
    let labels = object["metadata"]["labels"].take();
    let lookalike = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "greeter", "labels": labels},
        "data": {"made": "by hand"},
    });
    let file = site.bed().dir().join("lookalike.json");
    std::fs::write(&file, lookalike.to_string()).unwrap();
    let _ = site.kubectl(&["create", "-f", &file.display().to_string()]);
}

fn data(site: &Site, configmap: &str) -> Value {
    site.get(&["-n", "greeter", &format!("configmap/{configmap}")]).unwrap()["data"].clone()
}

/// Deletes every row of the agent's inventory, as a lying disk might; the agent does not run.
fn empty_inventory(agent: &Agent<'_>) {
    let script = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
assert database.execute('DELETE FROM object').rowcount > 0
database.commit()";
    let database = agent.dir().join("state/agent.db");
    let emptied = Command::new("/usr/bin/python3").args(["-c", script]).arg(&database).status().unwrap();
    assert!(emptied.success());
}

#[test]
fn an_update_prunes_what_it_leaves_out_and_nothing_of_others() {
    let hub = Hub::start();
    let site = Site::borrow();
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let first = image(&hub, "1.0.0", 1 << 20);
    roll_out(&hub, &build(&hub, &Greeter::new("1.0.0", &first), 1), "anna", &[]);
    let _ = receipt(&hub, "anna", "healthy", "1.0.0");
    make_lookalike(&site, "extra", "foreign");

    let second = image(&hub, "2.0.0", 1 << 20);
    let greeter = Greeter { extra: false, soak: "15s", ..Greeter::new("2.0.0", &second) };
    roll_out(&hub, &build(&hub, &greeter, 2), "anna", &[]);
    wait_until("version 2 to settle with the left-out object still there", ROLLOUT, || {
        let kept = exists(&site, "configmap/extra");
        let app = state(&agent)?;
        if app["state"] == "healthy" && app["version"] == "2.0.0" {
            panic!("version 2 was healthy before its settling was seen");
        }
        if app["state"] != "settling" || app["version"] != "2.0.0" {
            return Err(app.to_string());
        }
        assert!(kept, "nothing is pruned before the new version is healthy");
        Ok(())
    });
    let _ = receipt(&hub, "anna", "healthy", "2.0.0");
    wait_until("the prune", Duration::from_secs(30), || {
        if exists(&site, "configmap/extra") { Err("extra is there".to_owned()) } else { Ok(()) }
    });
    wait_for_pods(&site, &second, "hello");
    assert_eq!(data(&site, "foreign"), serde_json::json!({"made": "by hand"}));

    // With its inventory lost the agent owns nothing it did not apply again.
    agent.kill();
    empty_inventory(&agent);
    agent.run();
    let third = image(&hub, "3.0.0", 1 << 20);
    let greeter = Greeter { extra: false, ..Greeter::new("3.0.0", &third) };
    roll_out(&hub, &build(&hub, &greeter, 3), "anna", &[]);
    let _ = receipt(&hub, "anna", "healthy", "3.0.0");
    sleep(Duration::from_secs(3));
    assert_eq!(data(&site, "foreign"), serde_json::json!({"made": "by hand"}));

    // A name that somebody else took is refused, and theirs is left as it is.
    make_lookalike(&site, "greeter", "extra");
    let fourth = image(&hub, "4.0.0", 1 << 20);
    roll_out(&hub, &build(&hub, &Greeter::new("4.0.0", &fourth), 4), "anna", &[]);
    let row = receipt(&hub, "anna", "refused", "4.0.0");
    assert!(row["reason"].as_str().is_some_and(|code| code.starts_with("AL")), "{row}");
    assert_eq!(data(&site, "extra"), serde_json::json!({"made": "by hand"}));
    wait_for_pods(&site, &third, "hello");
}

#[test]
fn an_app_leaves_only_when_it_is_retired() {
    let hub = Hub::start();
    let site = Site::borrow();
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let image = image(&hub, "1.0.0", 1 << 20);
    roll_out(&hub, &build(&hub, &Greeter::new("1.0.0", &image), 1), "anna", &[]);
    let _ = receipt(&hub, "anna", "healthy", "1.0.0");
    make_lookalike(&site, "extra", "foreign");

    agent.kill();
    agent.run();
    wait_for_state(&agent, "healthy", "1.0.0");
    sleep(Duration::from_secs(5));
    assert!(exists(&site, "deployment/greeter"));

    let _ = hub.airlift(&["retire", "greeter", "--site", "anna", "--yes"]);
    wait_until("the app to leave", ROLLOUT, || {
        let left = ["deployment/greeter", "service/greeter", "configmap/greeter", "configmap/extra"];
        match left.iter().find(|object| exists(&site, object)) {
            Some(object) => Err(format!("{object} is there")),
            None => Ok(()),
        }
    });
    assert!(site.get(&["namespace", "greeter"]).is_some(), "a namespace goes only if the release says so");
    assert_eq!(data(&site, "foreign"), serde_json::json!({"made": "by hand"}));
    wait_until("the receipt", ROLLOUT, || {
        let rows = hub.read(&["receipt", "list", "--site", "anna"]);
        if rows.to_string().contains("\"retired\"") { Ok(()) } else { Err(rows.to_string()) }
    });
}
