//! What MQTT clients and brokers are known to do to messages, tried with the product on both sides of a mosquitto:
//! T1b (a broker that forgets what it had taken), T2 (a packet over the reader's limit), T3 (one over the broker's).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use airlift_tests::broker::Broker;
use airlift_tests::chance::Chance;
use airlift_tests::clock::wait_until;
use airlift_tests::hub::Hub;
use airlift_tests::image::TestImage;
use airlift_tests::model_site::ModelSite;
use airlift_tests::sample::{Sample, configuration, workload};
use serde_json::{Value, json};

use super::connections;
use crate::journey::{publish, receipt, receipts};

const APP: &str = "counter";
/// Messages of one burst; five hundred with `tests/run --long`.
const BURST: usize = 60;
const BURST_LONG: usize = 500;
/// A value of so many random letters makes an assignment of some 30 KB.
const WORDS_LENGTH: usize = 50_000;
/// What sites and hub may take to find each other again, and to catch up.
const AGAIN: Duration = Duration::from_secs(90);

fn burst() -> usize {
    if std::env::var_os("AIRLIFT_TESTS_LONG").is_some() { BURST_LONG } else { BURST }
}

/// A hub, its broker, and sites with agents, whose clusters are models.
struct Line {
    sites: Vec<ModelSite>,
    broker: Broker,
    hub: Hub,
}

impl Line {
    fn lay(names: &[&str], settings: &[(&str, &str)], rights: &str) -> Self {
        let mut hub = Hub::start();
        let broker = Broker::put_before_with(&mut hub, settings, rights);
        wait_until("the hub to be at its broker", Duration::from_secs(30), || {
            if connections(&mut hub) == 1 { Ok(()) } else { Err(broker.log()) }
        });
        let install = |name: &&str| {
            let mut site = ModelSite::install(&hub, name);
            site.enrol(&hub);
            site.run(&hub);
            site
        };
        let sites = names.iter().map(install).collect();
        Self { sites, broker, hub }
    }

    /// Publishes a version of the app, with an image of these random bytes where there is one, and long words to set.
    fn publish(&self, seq: u32, image_bytes: Option<usize>) {
        let version = format!("{seq}.0.0");
        let words = json!({"type": "string", "pattern": "[0-9a-f]*", "max_length": WORDS_LENGTH, "targets": [
            {"apiVersion": "v1", "kind": "ConfigMap", "namespace": APP, "name": "settings", "pointer": "/data/words"},
        ]});
        let mut sample = Sample::new(APP, &version)
            .says("timeout", json!("60s"))
            .says("soak", json!("1s"))
            .says("parameters", json!({"words": words}))
            .with(configuration("ConfigMap", APP, "settings", json!({"version": version, "words": "none"})));
        if let Some(bytes) = image_bytes {
            let layout = self.hub.dir().join(format!("image-{seq}"));
            let image = TestImage::make(&layout, &format!("airlift.test/{APP}:{version}"), bytes);
            let template = json!({
                "metadata": {"labels": {"app": APP}},
                "spec": {"containers": [{"name": APP, "image": image.name, "imagePullPolicy": "IfNotPresent"}]},
            });
            sample =
                sample.carries(&image).with(workload("Deployment", APP, template, json!({"replicas": 1})));
        }
        publish(&self.hub, &sample, seq);
    }

    fn assign(&self, site: &str, seq: u32) {
        let _ = self.hub.airlift(&["assign", APP, "--release", &seq.to_string(), "--site", site]);
    }

    /// Waits until every receipt of a site is acknowledged, and gives those that the hub has.
    fn all_receipts(&self, at: usize, name: &str) -> Vec<Value> {
        wait_until("every receipt to be acknowledged", AGAIN, || {
            let status = self.sites[at].try_read(&self.hub, &["status"])?;
            if status["receipts_waiting"] == 0 { Ok(()) } else { Err(status.to_string()) }
        });
        let rows = receipts(&self.hub, name);
        assert!(rows.iter().all(|row| row["link"] == "chained"), "{rows:?}");
        let _ = self.hub.airlift(&["receipt", "verify", "--site", name]);
        rows
    }

    /// How often a client has connected to the broker.
    fn connects(&self, name: &str) -> usize {
        self.broker.log().matches(&format!(" as {name} (")).count()
    }
}

#[test]
fn t1b_what_a_killed_broker_had_taken_and_forgot_arrives_in_both_directions() {
    let mut line = Line::lay(&["anna"], &[], "");
    line.publish(1, None);
    line.publish(2, None);
    line.assign("anna", 1);
    let _ = receipt(&line.hub, "anna", "healthy", "1.0.0");
    let before = line.all_receipts(0, "anna").len();

    // The broker stands still: both ends go on handing it messages, which only its sockets take.
    line.broker.freeze();
    for act in 0..burst() {
        let word = if act % 2 == 0 { "hold" } else { "unhold" };
        let done = line.sites[0].try_command(&line.hub, &[word, APP]);
        assert!(done.status.success(), "{done:?}");
    }
    line.assign("anna", 2);
    let waiting = line.sites[0].try_read(&line.hub, &["status"]).unwrap();
    assert!(waiting["receipts_waiting"].as_u64() >= Some(burst() as u64), "{waiting}");
    // It dies with them, and comes back with no session of anybody.
    line.broker.kill();
    line.broker.run(&line.hub);

    let _ = receipt(&line.hub, "anna", "healthy", "2.0.0");
    let rows = line.all_receipts(0, "anna");
    let acts = rows.iter().filter(|row| row["outcome"] == "local-act").count();
    assert_eq!(acts, burst(), "each is there, and once: {rows:?}");
    assert!(rows.len() > before + burst(), "{} receipts after {before}", rows.len());
}

#[test]
fn t2_packets_over_the_limit_of_hub_and_site_stop_nothing_behind_them() {
    // A broker that passes on whatever size, and somebody who may write everywhere.
    let rights = "user _flood\ntopic write airlift/v1/#\n";
    let line = Line::lay(&["anna"], &[("message_size_limit 131584", "message_size_limit 0")], rights);
    line.publish(1, Some(300 << 10));
    line.assign("anna", 1);
    let _ = receipt(&line.hub, "anna", "healthy", "1.0.0");
    let (hub_connects, site_connects) = (line.connects("_hub"), line.connects("anna"));
    assert!(hub_connects > 0 && site_connects > 0, "{}", line.broker.log());

    // 30 KB is over what the client library takes by default, 1 MiB over what hub and site announce.
    let sizes = [("more", 30 << 10), ("too-much", 1 << 20)];
    let flood = |topic: &str, file: &PathBuf| {
        let mut client = Broker::client(&line.hub, "mosquitto_pub", "_flood");
        let said = client.args(["-t", topic, "-q", "1", "-f"]).arg(file).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    };
    for (name, bytes) in sizes {
        let file = line.hub.dir().join(name);
        fs::write(&file, vec![b'x'; bytes]).unwrap();
        for _ in 0..5 {
            for topic in ["airlift/v1/s/anna/u/s", "airlift/v1/s/anna/d/cmd", "airlift/v1/s/anna/d/ack"] {
                flood(topic, &file);
            }
        }
    }
    line.publish(2, Some(300 << 10));
    line.assign("anna", 2);
    let _ = receipt(&line.hub, "anna", "healthy", "2.0.0");
    let _ = line.all_receipts(0, "anna");
    assert_eq!(line.connects("_hub"), hub_connects, "the hub had no reason to connect anew");
    assert_eq!(line.connects("anna"), site_connects, "the site had no reason to connect anew");
}

#[test]
fn t3_a_message_that_the_broker_will_not_take_stops_no_other() {
    // A broker that says at connecting that it takes less than a piece of content, which is 64 KiB.
    let small = [("message_size_limit 131584", "max_packet_size 20000")];
    let mut line = Line::lay(&["anna", "bert"], &small, "");
    line.publish(1, Some(300 << 10));
    line.publish(2, None);
    line.assign("bert", 1);
    wait_until("content that is too large to be on its way", AGAIN, || {
        let log = line.hub.process().log();
        if log.contains("is the most") { Ok(()) } else { Err("the hub has not said so".into()) }
    });
    let before = connections(&mut line.hub);
    // Behind it, and beside it, the others go on.
    line.assign("anna", 2);
    let _ = receipt(&line.hub, "anna", "healthy", "2.0.0");
    line.assign("bert", 2);
    let _ = receipt(&line.hub, "bert", "healthy", "2.0.0");
    let _ = (line.all_receipts(0, "anna"), line.all_receipts(1, "bert"));
    assert_eq!(connections(&mut line.hub), before, "the hub had no reason to connect anew");
}

#[test]
fn t3_a_message_whose_size_the_broker_only_refuses_ends_one_connection_and_no_more() {
    // A broker that says nothing at connecting, and answers what is too large as the client library does not expect.
    let small = [("message_size_limit 131584", "message_size_limit 20000")];
    let mut line = Line::lay(&["anna", "bert"], &small, "");
    line.publish(1, None);
    let before = connections(&mut line.hub);
    let mut chance = Chance(1);
    let words: String = (0..WORDS_LENGTH)
        .map(|_| char::from(b"0123456789abcdef"[usize::try_from(chance.below(16)).unwrap()]))
        .collect();
    let set = format!("words={words}");
    let _ = line.hub.airlift(&["assign", APP, "--release", "1", "--site", "bert", "--set", &set]);
    wait_until("the hub to have learnt what is too large", AGAIN, || {
        let log = line.hub.process().log();
        if log.contains("the broker takes no message as large as the hub's") {
            Ok(())
        } else {
            Err("the hub has not said so".into())
        }
    });
    // Bert's is held back, and everybody else's goes on; so does bert's when it is smaller.
    line.assign("anna", 1);
    let _ = receipt(&line.hub, "anna", "healthy", "1.0.0");
    let _ = line.hub.airlift(&["assign", APP, "--release", "1", "--site", "bert", "--set", "words=00"]);
    let _ = receipt(&line.hub, "bert", "healthy", "1.0.0");
    let _ = (line.all_receipts(0, "anna"), line.all_receipts(1, "bert"));
    assert_eq!(connections(&mut line.hub), before + 1, "once is enough to learn it");
}
