//! Images that somebody removes under a running agent come back from the node's own disk.

use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;

use crate::journey::{build, enrol_online, image, receipt, roll_out, wait_for_pods};

/// Seconds, on a machine with two busy cores.
const BACK: Duration = Duration::from_secs(30);

const SYSTEM_POD: &str = r#"{"apiVersion": "v1", "kind": "Pod",
"metadata": {"name": "system", "namespace": "kube-system", "labels": {"app": "system"}},
"spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
"containers": [{"name": "system", "image": "airlift.test/system:1", "imagePullPolicy": "Never",
"args": ["--port", "8080"]}]}}"#;

fn make_system_pod(site: &Site) {
    let file = site.bed().dir().join("system-pod.json");
    std::fs::write(&file, SYSTEM_POD).unwrap();
    let _ = site.kubectl(&["create", "-f", &file.display().to_string()]);
    let _ = site.wait_for_ready_pods("kube-system", "app=system", 1);
}

fn names(site: &Site) -> Vec<String> {
    site.ctr(&["images", "list", "--quiet"]).lines().map(str::to_owned).collect()
}

#[test]
fn images_of_both_versions_and_of_kube_system_come_back_within_seconds_and_pods_start_from_them() {
    let mut hub = Hub::start();
    let mut site = Site::borrow();
    // The lease on kube-system's image would outlive this test.
    site.spoil();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let [first, second] = ["1.0.0", "2.0.0"].map(|version| image(&hub, version, 1 << 20));
    for (seq, (version, image)) in [("1.0.0", &first), ("2.0.0", &second)].into_iter().enumerate() {
        let seq = u32::try_from(seq).unwrap() + 1;
        roll_out(&hub, &build(&hub, &Greeter::new(version, image), seq), "anna", &[]);
        let _ = receipt(&hub, "anna", "healthy", version);
    }
    let system = TestImage::make(&hub.dir().join("system"), "airlift.test/system:1", 1 << 20);
    site.import(&system);
    make_system_pod(&site);
    cable.cut();
    hub.kill();

    let held = [&first, &second, &system].map(|image| image.name.clone());
    // The agent has seen the new pod when its image and its sandbox's are held by leases.
    wait_until("kube-system's images to be kept", BACK, || {
        let leases = site.ctr(&["leases", "list", "--quiet"]);
        let kept = leases.lines().filter(|lease| lease.starts_with("airlift-kept-")).count();
        if kept == 2 { Ok(()) } else { Err(leases) }
    });
    for round in 0..2 {
        let began = now();
        site.remove_images();
        wait_until("all images to be back", BACK, || {
            let names = names(&site);
            let all = held.iter().all(|name| names.contains(name));
            if all { Ok(()) } else { Err(format!("{names:?}")) }
        });
        println!("round {round}: images were back after {} ms", began.elapsed().as_millis());
    }
    let _ = site.kubectl(&["delete", "pods", "-n", "greeter", "--all", "--wait=false"]);
    let _ = site.kubectl(&["delete", "pod", "-n", "kube-system", "system"]);
    wait_for_pods(&site, &second, "hello");
    make_system_pod(&site);
}

#[test]
fn images_that_no_version_needs_any_more_leave_the_node() {
    let hub = Hub::start();
    let site = Site::borrow();
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let images = ["1.0.0", "2.0.0", "3.0.0"].map(|version| image(&hub, version, 1 << 20));
    for (seq, image) in (1..).zip(&images) {
        let version = format!("{seq}.0.0");
        roll_out(&hub, &build(&hub, &Greeter::new(&version, image), seq), "anna", &[]);
        let _ = receipt(&hub, "anna", "healthy", &version);
    }
    wait_until("the oldest image to leave", Duration::from_secs(60), || {
        let names = names(&site);
        let there = |image: &TestImage| names.contains(&image.name);
        let [oldest, previous, present] = &images;
        assert!(there(previous) && there(present), "{names:?}");
        if there(oldest) { Err(format!("{names:?}")) } else { Ok(()) }
    });
}
