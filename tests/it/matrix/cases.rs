//! The kinds of change: each an app at a version that is well, a version of it that never becomes well, and what must
//! be true when the first is back.

use std::collections::BTreeMap;

use airlift_tests::image::TestImage;
use airlift_tests::sample::{Sample, configuration, job, pods, service, workload};
use airlift_tests::site::Site;
use serde_json::{Value, json};

use super::second_node;

/// The objects of an app by `Kind/name`, each with its UID.
pub(super) type Objects = BTreeMap<String, String>;

/// One kind of change.
pub(super) struct Case {
    /// Version 1, which is well, and version 2, which is not.
    pub(super) versions: [Sample; 2],
    /// How many pods version 1 has on the node that lives.
    pub(super) pods: usize,
    /// Whether version 2 starts pods at all.
    pub(super) starts: bool,
    /// What else must be true at the end, told the objects from before version 2 and those of now.
    pub(super) also: fn(&Site, &Objects, &Objects) -> Result<(), String>,
}

impl Case {
    pub(super) fn app(&self) -> &str {
        &self.versions[0].name
    }
}

/// What pods of version 1 answer, and those of version 2 would.
pub(super) const GREETINGS: [&str; 2] = ["first", "second"];
const BAD: [&str; 1] = ["--never-ready"];
/// The app with a pod on the second node.
pub(super) const TWO_NODES: &str = "on-two-nodes";

/// All cases, with pods of this image.
pub(super) fn all(image: &TestImage) -> Vec<Case> {
    vec![
        stateful_set(image),
        daemon_set("daemon-set", image),
        daemon_set(TWO_NODES, image),
        changed_job(image),
        added_definition(image),
        configuration_only(image),
        dropped_objects(image),
        lower(image),
        upper(image),
    ]
}

fn versions(app: &str, image: &TestImage) -> [Sample; 2] {
    // The second node never runs anything, so that one agent is enough here.
    let sample = |version| Sample::new(app, version).carries(image).says("one_node", json!(true));
    [sample("1.0.0"), sample("2.0.0").says("timeout", json!("20s"))]
}

fn case(versions: [Sample; 2], also: fn(&Site, &Objects, &Objects) -> Result<(), String>) -> Case {
    Case { versions, pods: 1, starts: true, also }
}

/// A Deployment whose second version never becomes ready.
fn failing_deployment(app: &str, image: &TestImage) -> [Value; 2] {
    let one = json!({"replicas": 1});
    [
        workload("Deployment", app, pods(app, image, GREETINGS[0], &[]), one.clone()),
        workload("Deployment", app, pods(app, image, GREETINGS[1], &BAD), one),
    ]
}

/// The controller waits for the bad pod of the higher number for ever, unless somebody deletes it.
fn stateful_set(image: &TestImage) -> Case {
    let app = "stateful-set";
    let spec = json!({"replicas": 2, "serviceName": app});
    let [one, two] = versions(app, image);
    let one = one.with(workload("StatefulSet", app, pods(app, image, GREETINGS[0], &[]), spec.clone()));
    let two = two.with(workload("StatefulSet", app, pods(app, image, GREETINGS[1], &BAD), spec));
    let also = |_: &Site, before: &Objects, now: &Objects| {
        let kept = "Pod/stateful-set-0";
        if before.contains_key(kept) && before.get(kept) == now.get(kept) {
            return Ok(());
        }
        Err(format!("{kept} served all the time and was replaced: {before:?} became {now:?}"))
    };
    Case { pods: 2, ..case([one, two], also) }
}

/// With a second node that is gone, its pod is the one unavailable pod that an update may have, until somebody helps.
fn daemon_set(app: &str, image: &TestImage) -> Case {
    let objects = [&[][..], &BAD].map(|arguments| {
        let greeting = GREETINGS[usize::from(!arguments.is_empty())];
        let mut template = pods(app, image, greeting, arguments);
        if app == TWO_NODES {
            template["spec"]["tolerations"] = json!([second_node::toleration()]);
        }
        workload("DaemonSet", app, template, json!({}))
    });
    let [one, two] = versions(app, image);
    let [first, second] = objects;
    case([one.with(first), two.with(second)], |_, _, _| Ok(()))
}

/// The second version's Job is another one and never ends; the first one's ran, and does not run again.
fn changed_job(image: &TestImage) -> Case {
    let app = "changed-job";
    let [one, two] = versions(app, image).map(|sample| sample.says("recreate", json!(["batch/Job"])));
    let deployment =
        |greeting| workload("Deployment", app, pods(app, image, greeting, &[]), json!({"replicas": 1}));
    let one =
        one.with(deployment(GREETINGS[0])).with(job(app, "migrate", image, &["--exit", "0"], json!({})));
    let two =
        two.with(deployment(GREETINGS[1])).with(job(app, "migrate", image, &["--port", "8080"], json!({})));
    case([one, two], |site, _, _| {
        let list = site.get(&["pods", "-n", "changed-job", "-l", "job-name=migrate"]).ok_or("no list")?;
        let running =
            |pod: &&Value| pod["status"]["phase"] == "Running" || pod["status"]["phase"] == "Pending";
        match list["items"].as_array().into_iter().flatten().find(running) {
            Some(pod) => Err(format!("a Job runs: {pod}")),
            None => Ok(()),
        }
    })
}

/// A kind of its own and an object of it come with the second version, and go with it.
fn added_definition(image: &TestImage) -> Case {
    let app = "added-definition";
    let [first, second] = failing_deployment(app, image);
    let [one, two] = versions(app, image).map(|sample| sample.says("prune", json!({"crds": true})));
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.airlift.test"},
        "spec": {
            "group": "airlift.test", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let gadget = json!({
        "apiVersion": "airlift.test/v1", "kind": "Gadget", "metadata": {"name": "lever", "namespace": app},
        "spec": {"length": 3},
    });
    case([one.with(first), two.with(definition).with(gadget).with(second)], |site, _, _| {
        match site.get(&["crd/gadgets.airlift.test"]) {
            Some(left) => Err(format!("the definition is there: {}", left["metadata"])),
            None => Ok(()),
        }
    })
}

/// Nothing but the data of a ConfigMap changes; the program does not know the option that it then says.
fn configuration_only(image: &TestImage) -> Case {
    let app = "configuration";
    let from = |key: &str| json!({"configMapKeyRef": {"name": "options", "key": key}});
    let mut template = pods(app, image, "", &["$(OPTION)", "8080"]);
    template["spec"]["containers"][0]["env"] = json!([
        {"name": "GREETING", "valueFrom": from("greeting")}, {"name": "OPTION", "valueFrom": from("option")},
    ]);
    let deployment = workload("Deployment", app, template, json!({"replicas": 1}));
    let options = |greeting, option| {
        configuration("ConfigMap", app, "options", json!({"greeting": greeting, "option": option}))
    };
    let [one, two] = versions(app, image).map(|sample| sample.with(deployment.clone()));
    case(
        [one.with(options(GREETINGS[0], "--port")), two.with(options(GREETINGS[1], "--prot"))],
        |site, _, _| {
            let map =
                site.get(&["configmap/options", "-n", "configuration"]).ok_or("the ConfigMap is gone")?;
            if map["data"]["option"] == "--port" { Ok(()) } else { Err(map["data"].to_string()) }
        },
    )
}

/// The second version drops a ConfigMap and a Service, which must be the same ones at the end.
fn dropped_objects(image: &TestImage) -> Case {
    let app = "dropped-objects";
    let [first, second] = failing_deployment(app, image);
    let [one, two] = versions(app, image);
    let more = configuration("ConfigMap", app, "more", json!({"kept": "whole"}));
    case([one.with(first).with(more).with(service(app, "more")), two.with(second)], |_, before, now| {
        for object in ["ConfigMap/more", "Service/more"] {
            if !before.contains_key(object) || before.get(object) != now.get(object) {
                return Err(format!("{object} is not as it was: {before:?} became {now:?}"));
            }
        }
        Ok(())
    })
}

/// The lower of two apps: its second version, which the other's requires, fails.
fn lower(image: &TestImage) -> Case {
    let [first, second] = failing_deployment("lower", image);
    let [one, two] = versions("lower", image);
    case([one.with(first), two.with(second)], |_, _, _| Ok(()))
}

/// The upper of two apps: its second version is well, and has to wait for one that never comes.
fn upper(image: &TestImage) -> Case {
    let app = "upper";
    let [one, two] = versions(app, image);
    let requires = |seq: u32| json!([{"app": "lower", "min_seq": seq}]);
    let deployment =
        |greeting| workload("Deployment", app, pods(app, image, greeting, &[]), json!({"replicas": 1}));
    let one = one.says("requires", requires(1)).with(deployment(GREETINGS[0]));
    let two = two.says("requires", requires(2)).with(deployment(GREETINGS[1]));
    Case { starts: false, ..case([one, two], |_, _, _| Ok(())) }
}
