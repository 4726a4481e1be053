//! A StatefulSet whose new version never becomes ready: its controller leaves the broken pod as it is even when the
//! good version is applied again, so the agent deletes that pod, once, by UID, and says so.

use std::fs;

use airlift_tests::agent::Agent;
use airlift_tests::clock::wait_until;
use airlift_tests::cluster::is_ready;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;
use serde_json::Value;

use crate::journey::{ROLLOUT, assign, enrol_online, image, receipt, sign};

/// Writes a version of the app: a StatefulSet of three, which `never_ready` or not.
fn build(hub: &Hub, image: &TestImage, seq: u32, never_ready: bool) -> String {
    let folder = hub.dir().join(format!("folder-{seq}"));
    let manifests = folder.join("manifests");
    fs::create_dir_all(&manifests).unwrap();
    let app = format!(
        "apiVersion: airlift.dev/v1alpha1
kind: App
name: greeter
version: {seq}.0.0
images:
- name: {}
  from: oci:{}
timeout: {}
soak: 3s
",
        image.name,
        image.layout.display(),
        if never_ready { "20s" } else { "120s" },
    );
    fs::write(folder.join("airlift.yaml"), app).unwrap();
    let argument = if never_ready { ", --never-ready" } else { "" };
    let objects = format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: greeter}}
---
apiVersion: v1
kind: Service
metadata: {{name: greeter, namespace: greeter}}
spec:
  clusterIP: None
  selector: {{app: greeter}}
  ports: [{{port: 8080}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: greeter, namespace: greeter}}
spec:
  serviceName: greeter
  replicas: 3
  selector: {{matchLabels: {{app: greeter}}}}
  template:
    metadata: {{labels: {{app: greeter}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: greeter
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [--port, '8080'{argument}]
        env: [{{name: GREETING, value: 'version {seq}'}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
",
        image = image.name,
    );
    fs::write(manifests.join("greeter.yaml"), objects).unwrap();
    sign(hub, &folder, seq)
}

/// The three pods by name, each with its UID and whether it is Ready.
fn pods(site: &Site) -> Vec<(String, String, bool)> {
    let list = site.get(&["-n", "greeter", "pods", "-l", "app=greeter"]).unwrap();
    let text = |pod: &Value, name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|pod| (text(pod, "name"), text(pod, "uid"), is_ready(pod))).collect()
}

#[test]
fn a_statefulset_is_healed_after_its_rollback() {
    let hub = Hub::start();
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let image = image(&hub, "1.0.0", 1 << 20);
    let _ = hub.airlift(&["publish", &build(&hub, &image, 1, false)]);
    assign(&hub, "anna", &[]);
    let _ = receipt(&hub, "anna", "healthy", "1.0.0");
    let before = pods(&site);
    assert_eq!(before.iter().filter(|(_, _, ready)| *ready).count(), 3, "{before:?}");

    let _ = hub.airlift(&["publish", &build(&hub, &image, 2, true)]);
    assign(&hub, "anna", &[]);
    wait_until("the highest pod to be the broken one", ROLLOUT, || {
        match pods(&site).into_iter().find(|(name, ..)| name == "greeter-2") {
            Some((_, uid, false)) if uid != before[2].1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    cable.cut();
    wait_until("three Ready pods of the version before, without a hub", ROLLOUT, || {
        let now = pods(&site);
        let whole = now.len() == 3 && now.iter().all(|(_, _, ready)| *ready);
        let status = agent.try_read(&["status"])?;
        let healthy = status["apps"][0]["state"] == "healthy" && status["apps"][0]["version"] == "1.0.0";
        if whole && healthy { Ok(()) } else { Err(format!("{now:?} {}", status["apps"])) }
    });
    let after = pods(&site);
    assert_eq!(after[..2], before[..2], "pods that were well are the same ones");

    cable.restore();
    let _ = receipt(&hub, "anna", "rolled-back", "2.0.0");
    let history = agent.try_read(&["history", "--app", "greeter"]).unwrap();
    let rows = history["items"].as_array().unwrap();
    let signed = rows.iter().find(|row| row["outcome"] == "rolled-back").unwrap();
    let deleted: Vec<&Value> =
        signed["evidence"].as_array().unwrap().iter().filter(|seen| seen["reason"] == "PodDeleted").collect();
    assert_eq!(deleted.len(), 1, "one deletion, told once: {signed}");
    assert_eq!(deleted[0]["object"], "Pod greeter/greeter-2");
}
