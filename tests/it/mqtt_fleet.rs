//! A connected site: from a folder to Running pods over the built-in endpoint, and a signed receipt back.

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;

use crate::journey::{assert_absent, build, enrol_online, image, receipt, roll_out, wait_for_pods};

#[test]
fn a_connected_site_runs_a_signed_bundle_and_its_receipt_is_verified() {
    let hub = Hub::start();
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");

    let image = image(&hub, "1.0.0", 3 << 20);
    assert_absent(&site, &image);
    let bundle = build(&hub, &Greeter::new("1.0.0", &image), 1);
    roll_out(&hub, &bundle, "anna", &[]);

    wait_for_pods(&site, &image, "hello");
    for object in ["service/greeter", "configmap/greeter", "configmap/extra", "widget/wheel"] {
        assert!(site.get(&["-n", "greeter", object]).is_some(), "{object} is there");
    }
    let row = receipt(&hub, "anna", "healthy", "1.0.0");
    assert_eq!(row["link"], "chained");
    assert_eq!(row["carrier"], "mqtt");
    let _ = hub.airlift(&["receipt", "verify", "--site", "anna"]);
    let passed = hub.relay().passed(cable.site());
    assert!(passed.to_site > 3 << 20, "the image passed the relay: {passed:?}");
}
