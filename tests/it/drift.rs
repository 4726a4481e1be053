//! What others change is put right within a minute and told once; what the app leaves to others is left alone.

use std::thread::sleep;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::sample::{Sample, configuration, pods, service, workload};
use airlift_tests::sightings::Sightings;
use airlift_tests::site::Site;
use serde_json::{Value, json};

use crate::journey::{ROLLOUT, assign_all, count_receipts, enrol_online, image, publish, wait_for_all};

/// The longest that a correction may take, and the time within which an app's repairs share one receipt.
const MINUTE: Duration = Duration::from_secs(60);

/// Something that a person does by hand; each to an app of its own, whose receipts tell of nothing else.
struct Deed {
    app: &'static str,
    object: Value,
    /// What kubectl is told to do.
    command: &'static [&'static str],
    /// Where it is seen, and what stands there when it is put right.
    sign: (&'static str, Value),
}

impl Deed {
    fn name(&self) -> String {
        let word = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str).unwrap();
        format!("{}/{}", word("/kind"), word("/metadata/name"))
    }

    /// What stands there now; nothing where the object or the field is gone.
    fn seen(&self, site: &Site) -> Value {
        let object = site.get(&["-n", self.app, &self.name()]);
        object.and_then(|object| object.pointer(self.sign.0).cloned()).unwrap_or_default()
    }
}

fn deeds(image: &TestImage) -> Vec<Deed> {
    let labelled = |app: &str| {
        let mut map = configuration("ConfigMap", app, "settings", json!({"mode": "right"}));
        map["metadata"]["labels"] = json!({"tier": "one"});
        map
    };
    vec![
        Deed {
            app: "edited-data",
            object: labelled("edited-data"),
            command: &["patch", "configmap/settings", "--type=merge", r#"-p={"data":{"mode":"wrong"}}"#],
            sign: ("/data/mode", json!("right")),
        },
        Deed {
            app: "edited-image",
            object: workload(
                "Deployment",
                "edited-image",
                pods("edited-image", image, "hello", &[]),
                json!({"replicas": 1}),
            ),
            command: &["set", "image", "deployment/edited-image", "greeter=airlift.test/other:9"],
            sign: (
                "/spec/template/spec/containers/0/image",
                json!(format!("{}@{}", image.name, image.digest)),
            ),
        },
        Deed {
            app: "deleted-service",
            object: service("deleted-service", "door"),
            command: &["delete", "service/door"],
            sign: ("/spec/selector/app", json!("deleted-service")),
        },
        Deed {
            app: "removed-label",
            object: labelled("removed-label"),
            command: &["label", "configmap/settings", "tier-"],
            sign: ("/metadata/labels/tier", json!("one")),
        },
        Deed {
            app: "removed-mark",
            object: labelled("removed-mark"),
            command: &["label", "configmap/settings", "airlift.dev/app-"],
            sign: ("/metadata/labels/airlift.dev~1app", json!("removed-mark")),
        },
        Deed {
            app: "edited-secret",
            object: configuration("Secret", "edited-secret", "key", json!({"word": "right"})),
            command: &["patch", "secret/key", "--type=merge", r#"-p={"stringData":{"word":"wrong"}}"#],
            sign: ("/data/word", json!("cmlnaHQ=")),
        },
    ]
}

/// One app that leaves fields of a ConfigMap to others, and its replicas to an autoscaler.
fn left_alone(version: &str, value: &str, image: &TestImage) -> Sample {
    let app = "left-alone";
    let ignore = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "namespace": app, "name": "settings",
        "pointers": ["/data/tuned", "/data/untouched"],
    }]);
    let data = json!({"tuned": value, "untouched": value, "ours": value});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": app, "namespace": app},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": app},
            "minReplicas": 2, "maxReplicas": 4,
        },
    });
    Sample::new(app, version)
        .carries(image)
        .says("ignore", ignore)
        .with(configuration("ConfigMap", app, "settings", data))
        .with(workload("Deployment", app, pods(app, image, value, &[]), json!({"replicas": 1})))
        .with(autoscaler)
}

fn replicas(site: &Site) -> Value {
    site.get(&["-n", "left-alone", "deployment/left-alone"]).unwrap()["spec"]["replicas"].clone()
}

fn data(site: &Site) -> Value {
    site.get(&["-n", "left-alone", "configmap/settings"]).unwrap()["data"].clone()
}

#[test]
fn what_others_change_is_put_right_and_told_once_but_for_what_is_left_to_them() {
    let starting = std::thread::spawn(Site::borrow);
    let hub = Hub::start();
    let image = image(&hub, "1.0.0", 0);
    let deeds = deeds(&image);
    for deed in &deeds {
        let sample = Sample::new(deed.app, "1.0.0").says("allow_secret_data", json!(["edited-secret/key"]));
        publish(&hub, &sample.carries(&image).with(deed.object.clone()), 1);
    }
    publish(&hub, &left_alone("1.0.0", "first", &image), 1);
    publish(&hub, &left_alone("2.0.0", "second", &image), 2);
    let mut apps: Vec<&str> = deeds.iter().map(|deed| deed.app).collect();
    apps.push("left-alone");

    let site = starting.join().expect("the site comes up");
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    assign_all(&hub, &apps, 1, "anna");
    wait_for_all(&agent, &apps, "1.0.0");

    for deed in &deeds {
        assert_eq!(deed.seen(&site), deed.sign.1, "{} before the deed", deed.app);
        let mut command = vec!["-n", deed.app];
        command.extend(deed.command);
        let start = now();
        let _ = site.kubectl(&command);
        wait_until(&format!("{} to be put right", deed.app), MINUTE, || match deed.seen(&site) {
            seen if seen == deed.sign.1 => Ok(()),
            seen => Err(seen.to_string()),
        });
        println!("{} is put right after {:.2} s", deed.app, start.elapsed().as_secs_f64());
    }
    let done = now();
    for deed in &deeds {
        let told = repaired(&agent, deed.app);
        assert!(told.contains(deed.object["kind"].as_str().unwrap()), "{told}");
    }

    leave_alone(&hub, &site, &mut agent);

    // Repairs of one app are told at most once a minute: a second one would be told by now.
    sleep((MINUTE + Duration::from_secs(5)).saturating_sub(done.elapsed()));
    let told: Vec<(&str, usize)> =
        apps.iter().map(|app| (*app, count_receipts(&hub, "anna", "repaired", app))).collect();
    assert!(told.iter().all(|(_, count)| *count == 1), "{told:?}");
    for deed in &deeds {
        assert_eq!(deed.seen(&site), deed.sign.1, "{} at the end", deed.app);
    }
}

/// Waits for the receipt of a repair, and gives the names of what was put right.
fn repaired(agent: &Agent<'_>, app: &str) -> String {
    wait_until(&format!("the receipt about {app}"), MINUTE, || {
        let history = agent.try_read(&["history", "--app", app])?;
        let rows = history["items"].as_array().cloned().unwrap_or_default();
        let told = rows.iter().find(|row| row["outcome"] == "repaired").ok_or("not told")?;
        let evidence = told["evidence"].as_array().cloned().unwrap_or_default();
        Ok(evidence.iter().filter_map(|seen| seen["object"].as_str()).collect::<Vec<_>>().join(", "))
    })
}

/// The second half, on the same site: what an app leaves to others stays as they want it, also over an update.
fn leave_alone(hub: &Hub, site: &Site, agent: &mut Agent<'_>) {
    wait_until("the autoscaler to act", ROLLOUT, || match replicas(site) {
        two if two == 2 => Ok(()),
        other => Err(other.to_string()),
    });
    // Between its bounds an autoscaler without figures keeps what somebody else, or it itself, chose before.
    let _ = site.kubectl(&["scale", "-n", "left-alone", "deployment/left-alone", "--replicas=3"]);
    let mut deployments = Sightings::start(site, "deployments", ".spec.replicas");
    let edit = r#"-p={"data":{"tuned":"by hand"}}"#;
    let _ = site.kubectl(&["patch", "-n", "left-alone", "configmap/settings", "--type=merge", edit]);
    sleep(Duration::from_secs(8));
    assert_eq!(data(site), json!({"tuned": "by hand", "untouched": "first", "ours": "first"}));
    assert_eq!(replicas(site), 3);

    assign_all(hub, &["left-alone"], 2, "anna");
    wait_for_all(agent, &["left-alone"], "2.0.0");
    assert_eq!(data(site), json!({"tuned": "by hand", "untouched": "second", "ours": "second"}));

    agent.kill();
    let _ = site.kubectl(&["delete", "-n", "left-alone", "horizontalpodautoscaler/left-alone"]);
    agent.run();
    wait_until("the start's round of repairs", MINUTE, || {
        let autoscaler = site.get(&["-n", "left-alone", "horizontalpodautoscaler/left-alone"]);
        autoscaler.map(drop).ok_or_else(|| "the autoscaler is gone".to_owned())
    });
    assert_eq!(data(site), json!({"tuned": "by hand", "untouched": "second", "ours": "second"}));
    assert_eq!(repaired(agent, "left-alone"), "HorizontalPodAutoscaler left-alone/left-alone");
    let seen = deployments.of("left-alone").remove("left-alone").unwrap_or_default();
    assert!(seen.iter().eq(["3"]), "the replicas were at all times what others chose: {seen:?}");
}
