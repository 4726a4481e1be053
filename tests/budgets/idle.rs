//! `idle`: what an agent costs that has nothing to do: memory at its node, and bytes on its link to the hub.
//!
//! The site is a whole one, with kubelet and controllers; the agent is connected over TLS to a real hub and watches
//! fifty objects of ten kinds that are healthy. It is a new process, so that nothing is left of the work of applying.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::cluster::Cluster;
use airlift_tests::hub::Hub;
use airlift_tests::manifests::{fifty_of_ten_kinds, write};
use airlift_tests::namespace::HUB;
use serde_json::{Value, json};

use crate::measure::{cpu_s, ip_bytes, machine, memory_mb, rounded};
use crate::say;

const APP: &str = "shop";
/// Watches are listed and the first status is with the hub by then.
const SETTLES: Duration = Duration::from_secs(60);
const DAY_S: f64 = 86_400.0;

/// Measures, and gives the result; without a static build its figure is left out.
pub(crate) fn run(program: &Path, musl_program: Option<&Path>, minutes: u64) -> Value {
    let hub = Hub::start();
    let bundle = {
        let folder = hub.dir().join("folder-1");
        let _ = write(&folder, APP, 1, &fifty_of_ten_kinds());
        hub.build(&folder, "bundle-1", 1)
    };
    let _ = hub.airlift(&["publish", &bundle]);
    let site = Cluster::start(1);
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB)).as_packaged(program);
    agent.enrol(&hub, site.name());
    let _ = hub.airlift(&["assign", APP, "--release", "1", "--site", site.name()]);
    agent.run();
    wait_until("the app to be healthy", Duration::from_secs(240), || {
        let status = agent.try_read(&["status"])?;
        if status["apps"][0]["state"] == "healthy" { Ok(()) } else { Err(status.to_string()) }
    });
    agent.kill();

    let mut result = json!({ "bench": "idle", "minutes": minutes, "machine": machine() });
    if let Some(musl_program) = musl_program {
        let mut agent = agent.as_packaged(musl_program);
        rest(&mut agent);
        result["rss_mb_musl"] = rounded(memory_mb(agent.process(), "VmRSS")).into();
        result["rss_mb_musl_peak"] = rounded(memory_mb(agent.process(), "VmHWM")).into();
        say(&format!("static build: {result}"));
        agent.kill();
        measure(agent.as_packaged(program), &site, minutes, &mut result);
    } else {
        measure(agent, &site, minutes, &mut result);
    }
    result
}

fn measure(mut agent: Agent<'_>, site: &Cluster, minutes: u64, result: &mut Value) {
    rest(&mut agent);
    let at_first = memory_mb(agent.process(), "VmRSS");
    let (start, cpu_before) = (now(), cpu_s(agent.process()));
    let (packets_before, bytes_before) = link_bytes(site);
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        sleep(Duration::from_secs(60).min(Duration::from_secs(minutes * 60).saturating_sub(start.elapsed())));
        let (packets, bytes) = link_bytes(site);
        say(&format!(
            "{:.0} s: {} packets, {} bytes, {:.2} MB",
            start.elapsed().as_secs_f64(),
            packets - packets_before,
            bytes - bytes_before,
            memory_mb(agent.process(), "VmRSS")
        ));
    }
    let passed_s = start.elapsed().as_secs_f64();
    let (packets, bytes) = link_bytes(site);
    let status = agent.try_read(&["status"]).expect("it still runs");
    assert_eq!(status["connected"], true, "the link stood all the time: {status}");
    let at_last = memory_mb(agent.process(), "VmRSS");
    result["rss_mb_glibc"] = rounded(at_first.max(at_last)).into();
    result["rss_mb_glibc_peak"] = rounded(memory_mb(agent.process(), "VmHWM")).into();
    #[expect(clippy::cast_precision_loss, reason = "a day's bytes on an idle link are few")]
    let bytes_per_day = (bytes - bytes_before) as f64 * DAY_S / passed_s;
    result["ip_bytes_per_day"] = bytes_per_day.round().into();
    result["packets"] = (packets - packets_before).into();
    result["cpu_s_per_day"] = ((cpu_s(agent.process()) - cpu_before) * DAY_S / passed_s).round().into();
}

/// Starts the agent and waits until it is connected, has listed everything, and has gone quiet.
fn rest(agent: &mut Agent<'_>) {
    agent.run();
    wait_until("the link", Duration::from_secs(60), || {
        let status = agent.try_read(&["status"])?;
        let rests = status["connected"] == true && status["apps"][0]["state"] == "healthy";
        if rests { Ok(()) } else { Err(status.to_string()) }
    });
    sleep(SETTLES);
}

/// What has passed the cable to the hub, both ways.
fn link_bytes(site: &Cluster) -> (u64, u64) {
    let output =
        site.namespace().command("cat").arg("/proc/self/net/dev").output().expect("nsenter is installed");
    let text = String::from_utf8(output.stdout).expect("the kernel writes ASCII");
    ip_bytes(text.lines().find(|line| line.trim_start().starts_with("hub0:")).expect("the cable is laid"))
}
