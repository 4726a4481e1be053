//! Agent and hub killed at random instants over ten rollouts: each converges, nothing is lost, little is sent twice, and
//! both databases are whole after every kill.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::chance::Chance;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::site::Site;
use serde_json::Value;

use crate::databases::{AgentRows, HubRows};
use crate::journey::{build, enrol_online, image, receipt, roll_out, wait_for_pods};

const ROLLOUTS: u32 = 10;
/// With `tests/run --long`.
const ROLLOUTS_LONG: u32 = 100;
const KILLS_PER_ROLLOUT: u32 = 5;
const IMAGE_BYTES: usize = 12 << 20;
/// Sent again after a kill, by section 5 of the design.
const AGAIN_PER_KILL: u64 = 8 << 20;
/// Documents, TLS, MQTT's framing and status of one rollout, whatever its image weighs.
const PROTOCOL_PER_ROLLOUT: u64 = 1 << 20;

fn rollouts() -> u32 {
    if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { ROLLOUTS_LONG } else { ROLLOUTS }
}

pub(crate) fn seed() -> u64 {
    let given = std::env::var("AIRLIFT_TESTS_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    })
}

#[test]
fn fifty_kills_over_ten_rollouts_lose_nothing_and_cost_at_most_8_mib_each() {
    let (seed, rollouts) = (seed(), rollouts());
    println!("AIRLIFT_TESTS_SEED={seed} repeats the instants of this run");
    let mut chance = Chance(seed);
    let mut hub = Hub::start();
    let site = Site::borrow();
    let cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    enrol_online(&hub, &mut agent, "anna");

    let (mut content, mut agent_up, mut hub_up) = (0, Vec::new(), Vec::new());
    for seq in 1..=rollouts {
        let version = format!("{seq}.0.0");
        let image = image(&hub, &version, IMAGE_BYTES);
        let bundle = build(&hub, &Greeter::new(&version, &image), seq);
        content += size_of(&hub.dir().join(&bundle));
        roll_out(&hub, &bundle, "anna", &[]);
        for _ in 0..KILLS_PER_ROLLOUT {
            sleep(Duration::from_millis(chance.below(2_500)));
            if chance.below(2) == 0 {
                agent_up.push(kill_agent(&mut agent));
            } else {
                hub_up.push(kill_hub(&mut hub, &agent));
            }
        }
        let _ = receipt(&hub, "anna", "healthy", &version);
        wait_for_pods(&site, &image, "hello");
        // The hub and the site have it; five hundred kills would fill a disk with what nobody needs.
        for left in [hub.dir().join(&bundle), image.layout] {
            fs::remove_dir_all(left).unwrap();
        }
    }

    let kills = u64::from(rollouts * KILLS_PER_ROLLOUT);
    let passed = hub.relay().passed(cable.site());
    let allowed = content + u64::from(rollouts) * PROTOCOL_PER_ROLLOUT + kills * AGAIN_PER_KILL;
    println!("{} MiB of content, {passed:?}, {kills} kills", content >> 20);
    println!("up again after a kill: the agent {}, the hub {}", spread(&mut agent_up), spread(&mut hub_up));
    assert!(passed.to_site + passed.to_hub <= allowed, "{passed:?} is more than {allowed}");
    let _ = hub.airlift(&["receipt", "verify", "--site", "anna"]);
    assert_nothing_acknowledged_is_lost(&hub, &agent);
    // Each process that died in a transfer had subscribed to its pieces; the hub keeps no more than sixteen for a site.
    agent.kill();
    agent.run();
    wait_until("what dead processes listened to to be given up", Duration::from_secs(30), || {
        match &HubRows::subscriptions(&hub).iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["airlift/v1/h/state", "airlift/v1/s/anna/d/#"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Kills the agent, looks at what that has left, and gives how long it then takes until it answers.
fn kill_agent(agent: &mut Agent<'_>) -> Duration {
    agent.kill();
    AgentRows::left_by_a_kill(agent).assert_whole();
    let start = now();
    agent.run();
    start.elapsed()
}

/// Kills the hub, looks at what that has left, and gives how long it then takes until it is ready.
fn kill_hub(hub: &mut Hub, agent: &Agent<'_>) -> Duration {
    hub.kill();
    let left = HubRows::left_by_a_kill(hub);
    left.assert_whole();
    // Nobody can acknowledge any more: what the site has been told by now was said by the process that is dead.
    left.assert_holds_what_is_acknowledged(&AgentRows::of_running(agent));
    let start = now();
    hub.run();
    start.elapsed()
}

/// The median and the worst of these times.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default().as_secs_f64();
    let (median, worst) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
    format!("{} times: median {median:.2} s, worst {worst:.2} s", times.len())
}

/// Whatever the site was told that the hub has, the hub has.
fn assert_nothing_acknowledged_is_lost(hub: &Hub, agent: &Agent<'_>) {
    let numbers = |list: &Value, take: &dyn Fn(&Value) -> bool| -> BTreeSet<u64> {
        let rows = list["items"].as_array().unwrap();
        rows.iter().filter(|row| take(row)).map(|row| row["receipt_seq"].as_u64().unwrap()).collect()
    };
    let told = agent.try_read(&["history", "--limit", "1000"]).unwrap();
    let told = numbers(&told, &|row| row["acknowledged"] == true);
    let had = hub.read(&["receipt", "list", "--site", "anna", "--limit", "1000"]);
    let had = numbers(&had, &|_| true);
    assert!(told.len() >= rollouts() as usize, "{told:?}");
    assert!(told.is_subset(&had), "acknowledged {told:?}, at the hub {had:?}");
}

fn size_of(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            kind if kind.is_dir() => size_of(&entry.path()),
            file => file.len(),
        })
        .sum()
}
