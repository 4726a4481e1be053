//! The rollback matrix: for each kind of change a site takes a bad version back alone, and the pods of before are Ready.

mod cases;
mod required;
mod second_node;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::cluster::is_ready;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::sightings::Sightings;
use airlift_tests::site::Site;
use cases::{Case, GREETINGS, Objects, TWO_NODES};
use second_node::SecondNode;
use serde_json::Value;

use crate::journey::{
    ROLLOUT, assign_all, count_receipts, enrol_online, image, publish, receipts, states, wait_for_all,
};

/// What is there of each app.
fn objects(site: &Site) -> BTreeMap<String, Objects> {
    let list = site.get(&["pods,configmaps,services,jobs", "-A"]).expect("a list is always found");
    let mut objects: BTreeMap<String, Objects> = BTreeMap::new();
    for object in list["items"].as_array().unwrap() {
        let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = format!("{}/{}", word("/kind"), word("/metadata/name"));
        let app = objects.entry(word("/metadata/namespace").to_owned()).or_default();
        app.insert(name, word("/metadata/uid").to_owned());
    }
    objects
}

/// The pods of an app's workload on the node that lives.
fn pods_of<'a>(list: &'a Value, app: &str) -> Vec<&'a Value> {
    let items = list["items"].as_array().into_iter().flatten();
    let of_app =
        items.filter(|pod| pod["metadata"]["namespace"] == app && pod["metadata"]["labels"]["app"] == app);
    of_app.filter(|pod| !second_node::holds(pod)).collect()
}

/// Says why the first version is not back, whole and well, as agent and cluster tell.
fn look(site: &Site, case: &Case, said: &Value, pods: &[&Value], image: &TestImage) -> Result<(), String> {
    if case.starts && (said["state"] != "healthy" || said["version"] != "1.0.0") {
        return Err(said.to_string());
    }
    if pods.len() != case.pods || !pods.iter().all(|pod| is_ready(pod)) {
        let seen: Vec<String> = pods.iter().map(|pod| pod["status"].to_string()).collect();
        return Err(format!("{} pods: {}", pods.len(), seen.join("\n")));
    }
    for pod in pods {
        let answer = site.ask(pod["status"]["podIP"].as_str().ok_or("no address")?, 8080, "/")?;
        if answer != format!("{}\n{}\n", GREETINGS[0], image.content) {
            return Err(answer);
        }
    }
    Ok(())
}

/// Waits until every app is working on version 2; none may have left it yet.
fn wait_for_the_bad_versions(agent: &Agent<'_>, apps: &[&str]) {
    wait_until("all bad versions to settle", ROLLOUT, || {
        let states = states(agent)?;
        for app in apps {
            let said = &states[*app];
            let state = said["state"].as_str().unwrap_or_default();
            assert!(!["rolling-back", "degraded", "failed", "refused"].contains(&state), "{said}");
            if state != "settling" || said["version"] != "2.0.0" {
                return Err(said.to_string());
            }
        }
        Ok(())
    });
}

/// Waits until all are back, and gives a line for each that is not.
fn wait_for_the_good_versions(
    site: &Site,
    agent: &Agent<'_>,
    cases: &[Case],
    before: &BTreeMap<String, Objects>,
    image: &TestImage,
) -> Vec<String> {
    let cut = now();
    let mut away: Vec<(&Case, String)> = cases.iter().map(|case| (case, String::new())).collect();
    while !away.is_empty() && cut.elapsed() < ROLLOUT {
        let states = states(agent).unwrap_or_default();
        let list = site.get(&["pods", "-A"]).expect("a list is always found");
        away.retain_mut(|(case, seen)| {
            let said = states.get(case.app()).unwrap_or(&Value::Null);
            let looked = look(site, case, said, &pods_of(&list, case.app()), image)
                .and_then(|()| (case.also)(site, &before[case.app()], &objects(site)[case.app()]));
            if looked.is_ok() {
                println!("{} is back {:.1} s after the cut", case.app(), cut.elapsed().as_secs_f64());
            }
            looked.is_err_and(|why| {
                *seen = why;
                true
            })
        });
        thread::sleep(Duration::from_secs(1));
    }
    away.iter().map(|(case, seen)| format!("{} is not back: {seen}", case.app())).collect()
}

#[test]
fn each_kind_of_change_is_taken_back_offline_and_the_previous_pods_are_ready() {
    let starting = thread::spawn(Site::borrow);
    let hub = Hub::start();
    let image = image(&hub, "1.0.0", 0);
    let cases = cases::all(&image);
    for case in &cases {
        for (sample, seq) in case.versions.iter().zip(1..) {
            publish(&hub, sample, seq);
        }
    }
    let apps: Vec<&str> = cases.iter().map(Case::app).collect();
    let failing: Vec<&str> = cases.iter().filter(|case| case.starts).map(Case::app).collect();

    let site = starting.join().expect("the site comes up");
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let mut second_node = SecondNode::register(&site);
    assign_all(&hub, &apps, 1, "anna");
    second_node.run_pod(TWO_NODES);
    wait_for_all(&agent, &apps, "1.0.0");
    let before = objects(&site);
    let mut pods = Sightings::start(&site, "pods", ".metadata.uid");
    let mut jobs = Sightings::start(&site, "jobs", ".metadata.uid");
    second_node.vanish(TWO_NODES);

    let start = now();
    assign_all(&hub, &apps, 2, "anna");
    wait_for_the_bad_versions(&agent, &failing);
    cable.cut();
    println!("all bad versions settle {:.1} s after the first was assigned", start.elapsed().as_secs_f64());
    let mut wrong = wait_for_the_good_versions(&site, &agent, &cases, &before, &image);

    let after = objects(&site);
    for case in &cases {
        let kept =
            |uid: &&String| [&before, &after].iter().any(|all| all[case.app()].values().any(|is| is == *uid));
        let seen: BTreeSet<String> = pods.of(case.app()).into_values().flatten().collect();
        let bad = seen.iter().filter(|uid| !kept(uid)).count();
        if (bad > 0) != case.starts {
            wrong.push(format!("{}: {bad} bad pods came and went", case.app()));
        }
    }
    let ran = jobs.of("changed-job").remove("migrate").unwrap_or_default();
    if ran.len() != 2 {
        wrong.push(format!("the Job of each version runs once, and these did: {ran:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    cable.restore();
    let told = |app: &&&str| count_receipts(&hub, "anna", "rolled-back", app) != 1;
    wait_until("one receipt of each rollback", ROLLOUT, || {
        let missing: Vec<_> = failing.iter().filter(told).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}: {:?}", receipts(&hub, "anna"))) }
    });
    second_node.remove(TWO_NODES);
}
