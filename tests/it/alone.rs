//! A site with no network at all, and everything that its agent says to anybody written down by the kernel.

use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::site::Site;

use crate::journey::{assert_absent, build, image, roll_out, wait_for_pods, wait_for_state};
use crate::usb_import::{carry_round, enrol_by_stick};

/// What a library reads before it looks a name up.
const NAME_SERVICE: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "libnss_"];

#[test]
fn a_stick_is_loaded_and_applied_with_no_word_to_anybody_but_the_api_server_and_containerd() {
    let hub = Hub::start();
    let site = Site::borrow();
    let mut agent = Agent::install(&site, &hub.root_sha256(), None).traced();
    let stick = enrol_by_stick(&hub, &mut agent, "clara");
    let image = image(&hub, "1.0.0", 2 << 20);
    assert_absent(&site, &image);
    roll_out(&hub, &build(&hub, &Greeter::new("1.0.0", &image), 1), "clara", &[]);
    let _ = hub.airlift(&["media", "save", &stick, "--site", "clara"]);
    carry_round(&hub, &agent, &stick);
    wait_for_state(&agent, "healthy", "1.0.0");
    wait_for_pods(&site, &image, "hello");
    // Whoever asks the agent, such as `media load`, does so over its own socket.
    let own = agent.dir().join("control.sock").display().to_string();
    let containerd = site.containerd_socket().display().to_string();
    agent.kill();
    wait_until("the tracer's last line", Duration::from_secs(10), || {
        let trace = agent.trace();
        if trace.contains("+++ killed by SIGKILL +++") { Ok(()) } else { Err("not yet".to_owned()) }
    });

    let trace = agent.trace();
    let (mut asked_server, mut asked_containerd) = (0, 0);
    for line in trace.lines() {
        assert!(NAME_SERVICE.iter().all(|file| !line.contains(file)), "a name is looked up: {line}");
        let Some((_, address)) = line.split_once("sa_family=") else { continue };
        if address.contains(&format!("sun_path=\"{containerd}\"")) {
            asked_containerd += 1;
        } else if address.starts_with("AF_INET, sin_port=htons(6443), sin_addr=inet_addr(\"127.0.0.1\")") {
            asked_server += 1;
        } else {
            assert!(address.contains(&format!("sun_path=\"{own}\"")), "somebody else is spoken to: {line}");
        }
    }
    println!("{asked_server} connections to the API server, {asked_containerd} to containerd, and no other");
    assert!(asked_server > 0 && asked_containerd > 0, "the trace has seen what the agent did: {trace}");
}
