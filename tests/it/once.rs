//! What runs once has run: neither drift nor a restart nor a rollback runs a finished Job again.

use std::thread::sleep;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::sample::{Sample, configuration, job, pods, workload};
use airlift_tests::sightings::Sightings;
use airlift_tests::site::Site;
use serde_json::{Value, json};

use crate::journey::{ROLLOUT, assign_all, count_receipts, enrol_online, image, publish, wait_for_all};

const APP: &str = "once";

/// A Job that the cluster removes when it has ended, a pod that ends, and a workload beside them.
fn sample(version: &str, image: &TestImage, arguments: &[&str], task: &str) -> Sample {
    let mut migrate = job(APP, "migrate", image, &["--exit", "0"], json!({"ttlSecondsAfterFinished": 2}));
    migrate["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "TASK", "value": task}]);
    let spec = migrate["spec"]["template"]["spec"].clone();
    let check = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "check", "namespace": APP}, "spec": spec});
    Sample::new(APP, version)
        .carries(image)
        .says("recreate", json!(["batch/Job", "/Pod"]))
        .with(configuration("ConfigMap", APP, "settings", json!({"kept": "whole"})))
        .with(workload("Deployment", APP, pods(APP, image, version, arguments), json!({"replicas": 1})))
        .with(migrate)
        .with(check)
}

/// Deletes the ConfigMap and waits until the agent has made it again: then it has looked at everything of the app.
fn wait_for_upkeep(site: &Site, meanwhile: impl FnOnce()) {
    let _ = site.kubectl(&["delete", "-n", APP, "configmap/settings"]);
    meanwhile();
    wait_until("the ConfigMap to come back", Duration::from_secs(60), || {
        site.get(&["-n", APP, "configmap/settings"]).map(drop).ok_or_else(|| "gone".to_owned())
    });
    // What would be sent along with it is there by now.
    sleep(Duration::from_secs(2));
}

fn wait_until_gone(site: &Site, object: &str) {
    wait_until(&format!("{object} to go"), ROLLOUT, || match site.get(&["-n", APP, object]) {
        Some(object) => Err(object["status"].to_string()),
        None => Ok(()),
    });
}

#[test]
fn a_job_that_the_cluster_removed_runs_again_neither_on_drift_nor_restart_nor_rollback() {
    let starting = std::thread::spawn(Site::borrow);
    let hub = Hub::start();
    let image = image(&hub, "1.0.0", 0);
    publish(&hub, &sample("1.0.0", &image, &[], "first"), 1);
    publish(&hub, &sample("2.0.0", &image, &["--never-ready"], "second").says("timeout", json!("20s")), 2);

    let site = starting.join().expect("the site comes up");
    let _cable = hub.connect(&site);
    let mut jobs = Sightings::start(&site, "jobs", ".metadata.uid");
    let mut seen_pods = Sightings::start(&site, "pods", ".metadata.uid");
    let mut runs = move || {
        let of =
            |sightings: &mut Sightings, name: &str| sightings.of(APP).remove(name).unwrap_or_default().len();
        (of(&mut jobs, "migrate"), of(&mut seen_pods, "check"))
    };
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    assign_all(&hub, &[APP], 1, "anna");
    wait_for_all(&agent, &[APP], "1.0.0");
    wait_until_gone(&site, "job/migrate");
    let check = site.get(&["-n", APP, "pod/check"]).expect("an ended pod stays");
    assert_eq!(check["status"]["phase"], "Succeeded");
    let _ = site.kubectl(&["delete", "-n", APP, "pod/check"]);

    wait_for_upkeep(&site, || ());
    assert_eq!(runs(), (1, 1), "runs of the Job and of the pod after drift");
    agent.kill();
    wait_for_upkeep(&site, || agent.run());
    assert_eq!(runs(), (1, 1), "runs after a restart");

    assign_all(&hub, &[APP], 2, "anna");
    wait_until("the rollback", ROLLOUT, || match count_receipts(&hub, "anna", "rolled-back", APP) {
        1 => Ok(()),
        other => Err(format!("{other} rollbacks")),
    });
    wait_for_all(&agent, &[APP], "1.0.0");
    let ready = site.wait_for_ready_pods(APP, &format!("app={APP}"), 1);
    assert_eq!(ready[0].pointer("/spec/containers/0/env/0/value"), Some(&Value::from("1.0.0")));
    wait_for_upkeep(&site, || ());
    assert_eq!(runs(), (2, 2), "each version's ran once, and the first's not again on the way back");
    wait_until_gone(&site, "job/migrate");
}
