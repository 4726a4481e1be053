//! `apply`: a large app through the agent, against `kubectl apply --server-side` of the same file.
//!
//! Each round has two new control planes, an API server with its datastore and nothing else: one for the agent, one
//! for kubectl. Both apply the file for the first time, then again unchanged but for one object that was edited by
//! hand, then with one object in a hundred changed, in turn, and who begins changes from round to round. While one is
//! measured the other does not run.
//!
//! The agent is a new process each time. It is measured from the commit of the accepted assignment to the commit of
//! the last reply, as its own log tells them; everything between belongs to it, fetching from the hub too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use airlift_tests::agent::Agent;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::cluster::Cluster;
use airlift_tests::hub::Hub;
use airlift_tests::manifests::{NAMESPACE, many, write};
use airlift_tests::namespace::HUB;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::measure::{children_cpu_s, cpu_s, machine, median, memory_mb, rounded};
use crate::say;

const APP: &str = "bench";
/// For both, on a machine that does something else besides.
const LONGEST: Duration = Duration::from_secs(600);
/// What a new API server does by itself, such as its roles, is over by then.
const SETTLES: Duration = Duration::from_secs(10);

/// What is measured, in this order: the number of each is the release's.
const STEPS: [&str; 3] = ["first", "unchanged", "one_percent"];

/// How long one of the two needed, and what it cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall_s: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
}

/// One pair, measured one after the other.
#[derive(Debug)]
struct Pair {
    step: &'static str,
    ours: Cost,
    kubectl: Cost,
    rss_mb_peak: f64,
}

/// One of the two, by name, and its part of a pair.
type Side = (&'static str, fn(&Pair) -> Cost);

/// What both have to apply.
struct Load {
    objects: usize,
    /// The file of each step.
    files: [PathBuf; 3],
}

/// Measures, and gives the result.
pub(crate) fn run(program: &Path, objects: usize, rounds: usize) -> Value {
    let hub = Hub::start();
    let load = publish(&hub, objects);
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let number = u8::try_from(round % 90).expect("below 90") * 2 + 1;
        pairs.extend(measure_round(&hub, program, &load, number, round % 2 == 0));
    }
    result(objects, rounds, &pairs)
}

/// Builds, signs and publishes the three releases.
fn publish(hub: &Hub, objects: usize) -> Load {
    let one_percent = objects / 400;
    let texts = [(0, "hello"), (0, "hello"), (one_percent, "goodbye")];
    let mut number = 0;
    let files = texts.map(|(changed, word)| {
        number += 1;
        let folder = hub.dir().join(format!("folder-{number}"));
        let file = write(&folder, APP, number, &many(objects, changed, word));
        let bundle = hub.build(&folder, &format!("bundle-{number}"), number);
        let _ = hub.airlift(&["publish", &bundle]);
        file
    });
    Load { objects, files }
}

fn measure_round(hub: &Hub, program: &Path, load: &Load, number: u8, we_begin: bool) -> Vec<Pair> {
    let (site, reference) = (Cluster::start_api(number), Cluster::start_api(number + 1));
    let _cable = hub.connect(&site);
    let mut agent = Agent::install(&site, &hub.root_sha256(), Some(HUB)).as_packaged(program);
    agent.enrol(hub, site.name());
    for cluster in [&site, &reference] {
        let _ = cluster.kubectl(&["create", "namespace", NAMESPACE]);
    }
    std::thread::sleep(SETTLES);
    let mut pairs = Vec::new();
    for (step, name) in STEPS.into_iter().enumerate() {
        if step == 1 {
            edit_by_hand(&site);
            edit_by_hand(&reference);
        }
        let (mut ours, mut kubectl) = (None, None);
        for turn in [we_begin, !we_begin] {
            if turn {
                ours = Some(apply_ours(hub, &site, &mut agent, step));
            } else {
                kubectl = Some(apply_theirs(&reference, load, step));
            }
        }
        let ((ours, rss_mb_peak), kubectl) = (ours.expect("its turn came"), kubectl.expect("its turn came"));
        for cluster in [&site, &reference] {
            check(cluster, load.objects, step);
        }
        let tell = |cost: Cost| {
            format!(
                "{:.2} s (CPU client {:.2}, server {:.2})",
                cost.wall_s, cost.client_cpu_s, cost.server_cpu_s
            )
        };
        say(&format!("{name}: ours {}, {rss_mb_peak:.1} MB; kubectl {}", tell(ours), tell(kubectl)));
        pairs.push(Pair { step: name, ours, kubectl, rss_mb_peak });
    }
    pairs
}

/// Assigns the step's release, starts the agent, and reads its log until the last reply is committed.
fn apply_ours(hub: &Hub, site: &Cluster, agent: &mut Agent<'_>, step: usize) -> (Cost, f64) {
    let release = (step + 1).to_string();
    let _ = hub.airlift(&["assign", APP, "--release", &release, "--site", site.name()]);
    let server_before = server_cpu_s(site);
    let heard = agent.log().len();
    agent.run();
    let settling =
        ["app changes state", "state=settling", &format!("version={release}.0.0")].map(str::to_owned);
    let (accepted, applied) = wait_until("the last reply", LONGEST, || {
        let log = agent.log();
        let lines = log.get(heard..).unwrap_or_default();
        let moment = |words: &[String]| {
            let line = lines.lines().find(|line| words.iter().all(|word| line.contains(word.as_str())))?;
            line.split_whitespace().next()?.parse::<Timestamp>().ok()
        };
        let accepted = moment(&["assignment accepted".to_owned()]).ok_or("no assignment yet")?;
        Ok((accepted, moment(&settling).ok_or_else(|| lines.to_owned())?))
    });
    let cost = Cost {
        wall_s: (applied - accepted).total(jiff::Unit::Second).expect("seconds have one length"),
        client_cpu_s: cpu_s(agent.process()),
        server_cpu_s: server_cpu_s(site) - server_before,
    };
    let rss_mb_peak = memory_mb(agent.process(), "VmHWM");
    agent.kill();
    (cost, rss_mb_peak)
}

/// Applies the step's file with kubectl, as somebody would who wants the file's word to count.
fn apply_theirs(cluster: &Cluster, load: &Load, step: usize) -> Cost {
    let (server_before, client_before, start) = (server_cpu_s(cluster), children_cpu_s(), now());
    let file = load.files[step].display().to_string();
    let said = cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file]);
    let wall_s = start.elapsed().as_secs_f64();
    assert_eq!(said.lines().filter(|line| line.ends_with("serverside-applied")).count(), load.objects);
    Cost {
        wall_s,
        client_cpu_s: children_cpu_s() - client_before,
        server_cpu_s: server_cpu_s(cluster) - server_before,
    }
}

fn server_cpu_s(cluster: &Cluster) -> f64 {
    cluster.processes().iter().map(cpu_s).sum()
}

fn edit_by_hand(cluster: &Cluster) {
    let patch = r#"{"data":{"greeting":"edited by hand"}}"#;
    let _ = cluster.kubectl(&["-n", NAMESPACE, "patch", "configmap", "shop-7", "--type=merge", "-p", patch]);
}

/// What was measured has really happened: all objects are there, the hand edit is gone, what changed has changed.
fn check(cluster: &Cluster, objects: usize, step: usize) {
    for kind in ["serviceaccounts", "configmaps", "services", "deployments"] {
        let names = cluster.kubectl(&["-n", NAMESPACE, "get", kind, "-l", "app", "-o", "name"]);
        assert_eq!(names.lines().count(), objects / 4, "{kind}");
    }
    let words =
        [("shop-7", if step == 2 && objects / 400 > 7 { "goodbye" } else { "hello" }), ("shop-99", "hello")];
    for (name, word) in words {
        let found = cluster.get(&["-n", NAMESPACE, "configmap", name]).expect("it was counted above");
        assert_eq!(found["data"]["greeting"], word, "{name}");
    }
}

fn result(objects: usize, rounds: usize, pairs: &[Pair]) -> Value {
    let of = |step: &'static str| pairs.iter().filter(move |pair| pair.step == step);
    let mut result = json!({
        "bench": "apply", "objects": objects, "rounds": rounds, "machine": machine(),
        "rss_mb_peak": rounded(pairs.iter().map(|pair| pair.rss_mb_peak).fold(0.0, f64::max)),
    });
    let sides: [Side; 2] = [("ours", |pair| pair.ours), ("kubectl", |pair| pair.kubectl)];
    for step in STEPS {
        let times_faster = median(of(step).map(|pair| pair.kubectl.wall_s / pair.ours.wall_s));
        result[format!("{step}_times_faster")] = rounded(times_faster).into();
        for (who, cost) in sides {
            let middle = |part: fn(&Cost) -> f64| rounded(median(of(step).map(|pair| part(&cost(pair)))));
            result[format!("{step}_{who}")] = json!({
                "wall_s": middle(|cost| cost.wall_s),
                "client_cpu_s": middle(|cost| cost.client_cpu_s),
                "server_cpu_s": middle(|cost| cost.server_cpu_s),
            });
        }
    }
    result
}
