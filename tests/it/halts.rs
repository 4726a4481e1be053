//! The agent killed between each change that it stores and what the change asks for, and at each object of an app.
//!
//! A kill from outside comes at random instants (`kills`); here the agent ends itself at the named ones, and is started
//! again by nobody but the test: no rows are mended, and no order is repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use airlift_agent::store::halt::{Transition, VARIABLE};
use airlift_tests::agent::Agent;
use airlift_tests::app::Greeter;
use airlift_tests::clock::{now, wait_until};
use airlift_tests::hub::Hub;
use airlift_tests::namespace::HUB;
use airlift_tests::sample::{Sample, configuration};
use airlift_tests::site::Site;
use serde_json::{Value, json};

use crate::databases::{AgentRows, HubRows};
use crate::journey::{assign_all, build, image, publish, receipts, roll_out, wait_for_pods};

/// One stage of the story: a rollout with a dozen starts of the agent in it.
const STAGE: Duration = Duration::from_secs(600);
/// ConfigMaps of the app whose objects are applied one by one.
const LINKS: u64 = 5;
/// What an agent that halts writes before the names of what it halts at.
const LAST_WORDS: &str = "process ends here at=";

/// An agent that ends at each of the named transitions.
struct Doomed<'a> {
    agent: Agent<'a>,
    /// Where it has not ended yet.
    left: BTreeSet<String>,
    /// Where it ends every time.
    always: Option<&'static str>,
    /// How often it has ended, by what it ended at.
    ends: BTreeMap<String, u32>,
    /// Of this app: how many objects were applied, and how many there were, at each end.
    seen: Vec<(u64, u64)>,
    app: &'static str,
}

impl<'a> Doomed<'a> {
    fn new(agent: Agent<'a>) -> Self {
        let (left, ends) = (BTreeSet::new(), BTreeMap::new());
        Self { agent, left, always: None, ends, seen: Vec::new(), app: "chain" }
    }

    fn start(&mut self) {
        let names: Vec<&str> = self.left.iter().map(String::as_str).chain(self.always).collect();
        self.agent.start(&[(VARIABLE, &names.join(","))]);
    }

    /// Starts it again, where it has ended as it was told to.
    fn revive(&mut self) {
        if self.has_ended() {
            self.start();
        }
    }

    /// Kills it from outside, and starts it again.
    fn restart(&mut self, meanwhile: impl FnOnce(&Agent<'_>)) {
        let _ = self.has_ended(); // what it ended at counts
        self.agent.kill();
        meanwhile(&self.agent);
        self.start();
    }

    /// Whether it has ended, and then notes where.
    fn has_ended(&mut self) -> bool {
        let Some(status) = self.agent.ended() else { return false };
        let log = self.agent.log();
        let newest: Vec<&str> = log.lines().rev().take(15).collect();
        assert_eq!(status.signal(), Some(9), "it ends where it is told to and nowhere else: {newest:#?}");
        let (_, names) = log.rsplit_once(LAST_WORDS).expect("it says where it ends");
        for name in names.lines().next().unwrap_or_default().split(',') {
            self.left.remove(name);
            *self.ends.entry(name.to_owned()).or_default() += 1;
        }
        let rows = AgentRows::left_by_a_kill(&self.agent);
        rows.assert_whole();
        self.seen.push(rows.objects(self.app));
        true
    }

    /// Waits for something, and lets the agent live again and again until then.
    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&Agent<'_>) -> Result<T, String>) -> T {
        wait_until(what, STAGE, || {
            self.revive();
            done(&self.agent)
        })
    }

    /// Waits until the hub has this receipt.
    fn until_told(&mut self, hub: &Hub, outcome: &str, version: &str) {
        let start = now();
        self.until(&format!("the receipt {outcome} of {version}"), |_| {
            let all = receipts(hub, "anna");
            let found = all.iter().any(|row| row["outcome"] == outcome && row["version"] == version);
            if found { Ok(()) } else { Err(Value::Array(all).to_string()) }
        });
        println!(
            "{outcome} {version}: {:.0?}, {} ends so far",
            start.elapsed(),
            self.ends.values().sum::<u32>()
        );
    }

    /// How many objects were applied, and how many there were, at the ends since this was last asked.
    fn take_seen(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.seen)
    }
}

#[test]
fn an_agent_killed_at_every_stored_transition_and_at_every_object_converges_and_loses_nothing() {
    let mut hub = Hub::start();
    let site = Site::borrow();
    let _cable = hub.connect(&site);
    let agent = Agent::install(&site, &hub.root_sha256(), Some(HUB));
    agent.enrol(&hub, "anna");
    let mut doomed = Doomed::new(agent);

    killed_at_each_object(&hub, &mut doomed);
    doomed.left = Transition::all().iter().map(Transition::to_string).collect();
    let transitions = doomed.left.len();
    doomed.restart(|_| ());
    there(&hub, &site, &mut doomed);
    and_back_again(&hub, &site, &mut doomed);
    retired_at_each_object(&hub, &mut doomed);
    assert!(doomed.left.is_empty(), "the agent came to none of {:?}", doomed.left);

    doomed.until("every receipt to be acknowledged", |agent| {
        let status = agent.try_read(&["status"])?;
        if status["receipts_waiting"] == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    assert_each_thing_happened_once(&hub);
    let _ = hub.airlift(&["receipt", "verify", "--site", "anna"]);
    hub.kill();
    let rows = HubRows::left_by_a_kill(&hub);
    rows.assert_whole();
    rows.assert_holds_what_is_acknowledged(&AgentRows::of_running(&doomed.agent));
    let ends: u32 = doomed.ends.values().sum();
    println!("{transitions} transitions, {ends} ends: {:?}", doomed.ends);
}

/// An app of objects that go one after the other: the agent ends after the first of them, then after the second, …
fn killed_at_each_object(hub: &Hub, doomed: &mut Doomed<'_>) {
    let links = (1..=LINKS).map(|link| {
        let mut object =
            configuration("ConfigMap", "chain", &format!("link-{link}"), json!({"link": "whole"}));
        object["metadata"]["annotations"] = json!({"airlift.dev/order": link.to_string()});
        object
    });
    publish(hub, &links.fold(Sample::new("chain", "0.1.0"), Sample::with), 1);
    assign_all(hub, &["chain"], 1, "anna");
    doomed.always = Some("object-applied");
    doomed.start();
    doomed.until_told(hub, "healthy", "0.1.0");
    // With the namespace they are one more.
    let each: Vec<(u64, u64)> = (1..=LINKS + 1).map(|applied| (applied, LINKS + 1)).collect();
    assert_eq!(doomed.take_seen(), each);
    doomed.always = None;
}

/// Installed, updated, and refused: with every transition on the way.
fn there(hub: &Hub, site: &Site, doomed: &mut Doomed<'_>) {
    let first = image(hub, "1.0.0", 12 << 20);
    roll_out(hub, &build(hub, &Greeter::new("1.0.0", &first), 1), "anna", &[]);
    doomed.until_told(hub, "healthy", "1.0.0");
    wait_for_pods(site, &first, "hello");

    next_root(hub);
    let second = image(hub, "2.0.0", 1 << 20);
    let update = Greeter { extra: false, ..Greeter::new("2.0.0", &second) };
    roll_out(hub, &build(hub, &update, 2), "anna", &[]);
    doomed.until_told(hub, "healthy", "2.0.0");
    doomed.until("what the update leaves out to go", |_| {
        site.get(&["-n", "greeter", "configmap/extra"]).map_or(Ok(()), |_| Err("it is there".to_owned()))
    });
    wait_for_pods(site, &second, "hello");

    let _ = site.kubectl(&["create", "configmap", "-n", "greeter", "extra", "--from-literal=made=by-hand"]);
    roll_out(hub, &build(hub, &Greeter::new("3.0.0", &second), 3), "anna", &[]);
    doomed.until_told(hub, "refused", "3.0.0");
    let theirs = site.get(&["-n", "greeter", "configmap/extra"]).unwrap();
    assert_eq!(theirs["data"], json!({"made": "by-hand"}), "what others made is left as it is");
    let _ = site.kubectl(&["delete", "configmap", "-n", "greeter", "extra"]);
}

/// Rolled back by itself, by hand, and repaired: with every transition on the way.
fn and_back_again(hub: &Hub, site: &Site, doomed: &mut Doomed<'_>) {
    let bad = image(hub, "4.0.0", 1 << 20);
    let never = Greeter { extra: false, ..Greeter::never_ready("4.0.0", &bad) };
    roll_out(hub, &build(hub, &never, 4), "anna", &[]);
    doomed.until_told(hub, "rolled-back", "4.0.0");

    doomed.until("the agent to answer", |agent| agent.try_read(&["status"]).map(drop));
    // It ends before it answers; what was ordered is stored by then.
    let _ = doomed.agent.try_command(&["rollback", "greeter"]);
    doomed.until_told(hub, "rolled-back", "2.0.0");

    doomed.restart(|agent| AgentRows::lose_objects(agent, "greeter"));
    doomed.until_told(hub, "repaired", "1.0.0");
    let deployment = site.get(&["-n", "greeter", "deployment/greeter"]).unwrap();
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    assert!(containers[0]["image"].as_str().unwrap().contains("greeter:1.0.0"), "{containers}");
    let _ = site.wait_for_ready_pods("greeter", airlift_tests::app::PODS, 2);
}

/// Both apps leave; of the one whose objects go one after the other the agent ends after each.
fn retired_at_each_object(hub: &Hub, doomed: &mut Doomed<'_>) {
    let _ = hub.airlift(&["retire", "greeter", "--site", "anna", "--yes"]);
    doomed.until_told(hub, "retired", "1.0.0");
    doomed.always = Some("object-dropped");
    doomed.restart(|_| ());
    let _ = doomed.take_seen();
    let _ = hub.airlift(&["retire", "chain", "--site", "anna", "--yes"]);
    doomed.until_told(hub, "retired", "0.1.0");
    let left: BTreeSet<u64> = doomed.take_seen().into_iter().map(|(_, all)| all).collect();
    // The namespace, which stays in the cluster since the release does not say that it may go, leaves with the last.
    assert_eq!(left, (2..=LINKS).chain([0]).collect());
    doomed.always = None;
    doomed.restart(|_| ());
}

/// Publishes another root, by the same holders.
fn next_root(hub: &Hub) {
    let _ = hub.airlift(&["root", "edit", "roots/1.json", "root-2.json"]);
    let _ = hub.airlift(&["root", "set-policy", "root-2.json", "--retire-delay", "3"]);
    for holder in ["a.key", "b.key"] {
        let _ = hub.airlift(&["root", "sign", "root-2.json", "--previous", "roots/1.json", "--key", holder]);
    }
    let _ = hub.airlift(&[
        "root",
        "finalize",
        "root-2.json",
        "--previous",
        "roots/1.json",
        "--out",
        "roots/2.json",
    ]);
    let _ = hub.airlift(&["root", "publish", "roots"]);
}

/// However often the agent died: one receipt for what happened once.
fn assert_each_thing_happened_once(hub: &Hub) {
    let all = receipts(hub, "anna");
    let once = [
        ("healthy", "0.1.0"),
        ("healthy", "1.0.0"),
        ("healthy", "2.0.0"),
        ("refused", "3.0.0"),
        ("rolled-back", "4.0.0"),
        ("rolled-back", "2.0.0"),
        ("repaired", "1.0.0"),
        ("retired", "1.0.0"),
        ("retired", "0.1.0"),
    ];
    for (outcome, version) in once {
        let found = all.iter().filter(|row| row["outcome"] == outcome && row["version"] == version);
        assert_eq!(found.count(), 1, "{outcome} {version}: {all:?}");
    }
    assert!(all.iter().all(|row| row["link"] == "chained"), "{all:?}");
}
