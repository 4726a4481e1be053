//! A site with no hub and no network keeps, repairs and restarts what it runs, from its own disk.

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;

use crate::journey::{assert_absent, build, enrol_online, image, receipt, roll_out, wait_for_pods};

#[test]
fn objects_and_images_removed_by_hand_come_back_from_disk_with_hub_and_network_gone() {
    let mut hub = Hub::start();
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");
    let image = image(&hub, "1.0.0", 1 << 20);
    let bundle = build(&hub, &Greeter::new("1.0.0", &image), 1);
    roll_out(&hub, &bundle, "anna", &[]);
    let _ = receipt(&hub, "anna", "healthy", "1.0.0");

    cable.cut();
    hub.kill();
    let remove = ["delete", "-n", "greeter", "deployment/greeter", "configmap/greeter", "widget/wheel"];

    agent.kill();
    let _ = site.kubectl(&remove);
    agent.run();
    wait_for_pods(&site, &image, "hello");
    assert!(site.get(&["-n", "greeter", "widget/wheel"]).is_some());

    agent.kill();
    let _ = site.kubectl(&remove);
    site.remove_images();
    assert_absent(&site, &image);
    agent.run();
    wait_for_pods(&site, &image, "hello");
}
