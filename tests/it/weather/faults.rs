//! Faults of the surroundings, one after the other at one site: each is told, waited out, and blamed on no release.

use std::fs;
use std::time::Duration;

use airlift_sim::cluster::contract::dead_webhook;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::site::Site;
use serde_json::{Value, json};

use super::station::{Station, Version};
use crate::journey::ROLLOUT;

/// Longer than any timeout of the versions that meet a fault.
const LONG: Duration = Duration::from_secs(12);
const SHORT_TIMEOUT: &str = "8s";

#[test]
fn every_fault_of_the_surroundings_is_told_waited_out_and_blamed_on_no_release() {
    let hub = Hub::start();
    let site = Site::borrow();
    let station = Station::start(&hub, &site);
    let image = station.image(1, 1 << 20);
    station.roll_out(&Version::new(1, &image));
    station.converges(1);

    type Fault = fn(&Station<'_>, &TestImage);
    let story: [(&str, Fault); 5] = [
        ("a dead webhook that fails closed", webhook),
        ("a dead API service, and a namespace that cannot go", namespace),
        ("an API server that answers 429 for a minute", throttled),
        ("a full disk", disk),
        ("an empty datastore", datastore),
    ];
    for (fault, act) in story {
        let start = now();
        act(&station, &image);
        station.assert_no_release_was_blamed();
        println!("{fault}: {:?}", start.elapsed());
    }
}

fn create(station: &Station<'_>, object: &Value) {
    let file = station.site.bed().dir().join("weather.json");
    fs::write(&file, object.to_string()).unwrap();
    let _ = station.site.kubectl(&["create", "-f", &file.display().to_string()]);
}

fn webhook(station: &Station<'_>, image: &TestImage) {
    create(
        station,
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "dead"}, "webhooks": [dead_webhook("dead.weather.example", "station")],
        }),
    );
    wait_until("the webhook to be called", Duration::from_secs(20), || {
        let touch = ["annotate", "--overwrite", "-n", "station", "configmap/door", "weather=calm"];
        if station.site.try_kubectl(&touch).status.success() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    station.roll_out(&Version { timeout: SHORT_TIMEOUT, ..Version::new(2, image) });
    station.waits_out(LONG, &["AL0706"], "failed calling webhook");
    let _ = station.site.kubectl(&["delete", "validatingwebhookconfiguration", "dead"]);
    station.converges(2);
}

fn namespace(station: &Station<'_>, image: &TestImage) {
    create(
        station,
        &json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.example"},
            "spec": {"group": "metrics.example", "version": "v1beta1", "groupPriorityMinimum": 100,
                "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": {"name": "nobody", "namespace": "default"}},
        }),
    );
    wait_until("the API service to be dead", Duration::from_secs(30), || {
        let service = station.site.get(&["apiservice", "v1beta1.metrics.example"]).ok_or("not there")?;
        let conditions = service["status"]["conditions"].to_string();
        if conditions.contains("\"False\"") { Ok(()) } else { Err(conditions) }
    });
    // Of no concern to an app without such objects.
    station.roll_out(&Version::new(3, image));
    station.converges(3);

    create(
        station,
        &json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": "station", "finalizers": ["weather.example/wait"]}}),
    );
    let _ = station.site.kubectl(&["delete", "namespace", "station", "--wait=false"]);
    // Everything of the app goes and cannot come back: first by the dead service, then by the finalizer.
    station.waits_out(LONG, &["AL0706", "AL0715"], "");
    station.roll_out(&Version { timeout: SHORT_TIMEOUT, ..Version::new(4, image) });
    station.waits_out(LONG, &["AL0706"], "being deleted");
    let _ = station.site.kubectl(&["delete", "apiservice", "v1beta1.metrics.example"]);
    let free = r#"{"metadata":{"finalizers":null}}"#;
    let _ = station.site.kubectl(&["patch", "-n", "station", "configmap/held", "--type=merge", "-p", free]);
    station.converges(4);
}

fn throttled(station: &Station<'_>, image: &TestImage) {
    let timeout = "30s";
    station.roll_out(&Version { timeout, waits_at_the_door: true, ..Version::new(5, image) });
    station.wait_for("settling", 5);
    station.gate.shut();
    station.waits_out(Duration::from_secs(60), &["AL0706"], "429");
    assert!(station.gate.refused() > 10, "{} requests were refused", station.gate.refused());
    station.gate.open();
    open_the_door(station);
    station.converges(5);
}

fn open_the_door(station: &Station<'_>) {
    let open = r#"{"data":{"open":"yes"}}"#;
    let _ = station.site.kubectl(&["patch", "-n", "station", "configmap/door", "--type=merge", "-p", open]);
}

fn disk(station: &Station<'_>, _: &TestImage) {
    let large = station.image(6, 12 << 20);
    station.state.fill(10 << 20);
    station.roll_out(&Version { timeout: SHORT_TIMEOUT, ..Version::new(6, &large) });
    station.waits_out(LONG, &["AL0607"], "free");
    // Now not even a row fits; the agent can write nothing down, and goes on when it can.
    station.state.free();
    station.state.fill(0);
    std::thread::sleep(Duration::from_secs(5));
    station.state.free();
    station.converges(6);
}

fn datastore(station: &Station<'_>, _: &TestImage) {
    // One app is at rest, and the other on its way to a version that no longer holds `extra`.
    station.install_lamp();
    let image = station.image(7, 1 << 20);
    let version = Version { waits_at_the_door: true, extra: false, ..Version::new(7, &image) };
    station.roll_out(&version);
    station.wait_for("settling", 7);
    let uid =
        |name: &str| station.site.get(&["namespace", name]).map(|found| found["metadata"]["uid"].clone());
    let before = uid("kube-system");
    station.site.replace_datastore();
    assert_ne!(uid("kube-system"), before);

    wait_until("everything to be made again", ROLLOUT, || {
        for object in [["-n", "lamp", "configmap/light"], ["-n", "station", "configmap/door"]] {
            station.site.get(&object).ok_or_else(|| object.join(" "))?;
        }
        Ok(())
    });
    // What is to be pruned has this name and all marks of ours, but in this cluster nobody of us made it.
    create(
        station,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"made": "by hand"}, "metadata":
            {"name": "extra", "namespace": "station", "labels": {"airlift.dev/app": "station"}}}),
    );
    let made = ["lamp", "station"].map(|name| uid(name).unwrap());
    open_the_door(station);
    station.converges(7);
    wait_until("the receipt of the repair", Duration::from_secs(60), || station.lamp_receipt("repaired"));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(["lamp", "station"].map(|name| uid(name).unwrap()), made, "what was made again stays");
    let extra = station.site.get(&["-n", "station", "configmap/extra"]).unwrap();
    assert_eq!(extra["data"], json!({"made": "by hand"}), "nothing is pruned");
}
