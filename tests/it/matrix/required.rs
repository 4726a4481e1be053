//! Two apps of which one requires the other's newer version: when that fails after all, the requiring one goes first.

use std::thread;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::sample::{Sample, pods, workload};
use airlift_tests::site::Site;
use serde_json::{Value, json};

use super::cases::GREETINGS;
use crate::journey::{ROLLOUT, assign_all, enrol_online, image, publish, receipts, wait_for_all};

const APPS: [&str; 2] = ["lower", "upper"];

/// Both apps in one of their two versions, both well.
fn versions(image: &TestImage, number: usize) -> [Sample; 2] {
    let sample = |app| {
        let template = pods(app, image, GREETINGS[number - 1], &[]);
        let deployment = workload("Deployment", app, template, json!({"replicas": 1}));
        Sample::new(app, &format!("{number}.0.0")).carries(image).with(deployment)
    };
    let [lower, upper] = APPS.map(sample);
    [lower.says("watch", json!("10m")), upper.says("requires", json!([{"app": "lower", "min_seq": number}]))]
}

/// Asks the one pod of an app something, and gives its answer.
fn ask(site: &Site, app: &str, path: &str) -> Result<String, String> {
    let pods = site.wait_for_ready_pods(app, &format!("app={app}"), 1);
    site.ask(pods[0]["status"]["podIP"].as_str().ok_or("no address")?, 8080, path)
}

#[test]
fn an_app_that_breaks_in_its_watch_time_goes_back_and_what_requires_it_goes_back_before() {
    let starting = thread::spawn(Site::borrow);
    let hub = Hub::start();
    let image = image(&hub, "1.0.0", 0);
    for seq in [1, 2] {
        for sample in versions(&image, seq) {
            publish(&hub, &sample, u32::try_from(seq).unwrap());
        }
    }
    let site = starting.join().expect("the site comes up");
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    for (seq, version) in [(1, "1.0.0"), (2, "2.0.0")] {
        assign_all(&hub, &APPS, seq, "anna");
        wait_for_all(&agent, &APPS, version);
    }
    for app in APPS {
        assert_eq!(ask(&site, app, "/"), Ok(format!("{}\n{}\n", GREETINGS[1], image.content)));
    }

    cable.cut();
    let _ = ask(&site, "lower", "/break").unwrap();
    let broken = now();
    wait_for_all(&agent, &APPS, "1.0.0");
    println!("both are back {:.1} s after one broke", broken.elapsed().as_secs_f64());
    for app in APPS {
        wait_until(&format!("the pod of {app}'s version 1"), ROLLOUT, || match ask(&site, app, "/")? {
            first if first == format!("{}\n{}\n", GREETINGS[0], image.content) => Ok(()),
            other => Err(other),
        });
    }

    cable.restore();
    let order = wait_until("both receipts", ROLLOUT, || {
        let rows = receipts(&hub, "anna");
        let mut back: Vec<&Value> = rows.iter().filter(|row| row["outcome"] == "rolled-back").collect();
        back.sort_by_key(|row| row["receipt_seq"].as_u64());
        let back: Vec<Value> = back.iter().map(|row| row["app"].clone()).collect();
        if back.len() == 2 { Ok(back) } else { Err(format!("{rows:?}")) }
    });
    assert_eq!(order, ["upper", "lower"], "what requires the newer one went back first");
}
