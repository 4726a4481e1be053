//! Every row of the table of fields that cannot change, on a real API server: what it calls blocked is refused and
//! can be made anew, and what it calls free is accepted there and back.

use std::collections::BTreeSet;
use std::time::Duration;

use airlift_agent::apply::KubeCluster;
use airlift_agent::core::api::{ApiError, ApiErrorClass};
use airlift_agent::core::object::{Uid, Verdict};
use airlift_agent::ports::cluster::{ApplyRequest, Cluster as _, Propagation};
use airlift_bundles::render::object::ObjectId;
use airlift_bundles::reversal::{TABLE, blocked_fields};
use airlift_sim::cluster::contract;
use airlift_tests::api_server::api_server;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::objects::reference;
use crate::inside::inside;

const DEFINITION: &str = "apiextensions.k8s.io/CustomResourceDefinition";
/// What a definition's name repeats: with another value no definition of that name is valid, new or not.
const NAMED: [&str; 2] = ["/spec/group", "/spec/names/plural"];
/// The one field that may change in one direction and not in the other.
const GROWS: &str = "/spec/resources/requests/storage";
const EXAMPLES: &str = include_str!("../../../bundles/tests/data/reversal.json");

#[test]
fn what_the_reversal_table_blocks_is_refused_by_a_real_api_server_and_can_be_made_anew() {
    // Addresses of Services have to be in this server's range.
    let examples: Vec<Value> = serde_json::from_str(&EXAMPLES.replace("\"10.96.", "\"10.90.")).unwrap();
    let has_example = |kind: &str, field: &str| {
        let field_of = |example: &Value| example["field"].as_str().unwrap().starts_with(field);
        examples.iter().any(|example| example["kind"] == kind && field_of(example))
    };
    let untested: Vec<_> = TABLE.iter().filter(|row| !has_example(row.kind, row.field)).collect();
    assert!(untested.is_empty(), "{untested:?}");
    let server = api_server();
    let kubeconfig = server.kubeconfig().to_owned();
    inside(server, move || async move {
        let server = Server::connect(KubeCluster::new(&kubeconfig)).await;
        let mut wrong = Vec::new();
        for example in &examples {
            let (before, after) = (&example["before"], &example["after"]);
            let blocked = example["blocked"].as_str().unwrap();
            println!("{} {}: {blocked}", example["kind"], example["field"]);
            server.apply(before).await.unwrap_or_else(|error| panic!("{before}: {error}"));
            if NAMED.iter().any(|field| example["kind"] == DEFINITION && example["field"] == *field) {
                server.remove(before).await;
                let refusal = server.apply(after).await.expect_err("its name says something else");
                assert_eq!(refusal.class, ApiErrorClass::Final, "{refusal}");
                continue;
            }
            for (direction, to) in [("forward", after), ("back", before)] {
                let refused = server.step(to).await;
                if example["field"] == GROWS && direction != blocked {
                    // A claim grows when it is bound and its class lets it, of which this server has neither.
                    continue;
                }
                if refused != (blocked == "both" || blocked == direction) {
                    wrong.push(format!(
                        "{} {} {direction}: refused {refused}",
                        example["kind"], example["field"]
                    ));
                }
            }
            server.remove(before).await;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn what_the_reversal_table_leaves_free_is_accepted_by_a_real_api_server_there_and_back() {
    let kinds: BTreeSet<&str> = TABLE.iter().map(|row| row.kind).collect();
    let free = free_changes();
    let covered: BTreeSet<String> =
        free.iter().map(|(before, _)| ObjectId::of(before).unwrap().group_kind()).collect();
    // Kinds that are fixed as a whole, but for their labels, have nothing else to change.
    assert!(covered.iter().filter(|kind| kinds.contains(kind.as_str())).count() >= 12, "{covered:?}");
    let server = api_server();
    let kubeconfig = server.kubeconfig().to_owned();
    inside(server, move || async move {
        let server = Server::connect(KubeCluster::new(&kubeconfig)).await;
        for (before, after) in &free {
            let id = ObjectId::of(before).unwrap();
            println!("{id}");
            server.apply(before).await.unwrap_or_else(|error| panic!("{before}: {error}"));
            for (from, to) in [(before, after), (after, before)] {
                assert_eq!(blocked_fields(&id, from, to, &BTreeSet::new()), BTreeSet::new());
                assert!(!server.step(to).await, "{id} is free by the table, and refused");
            }
            server.remove(before).await;
        }
    });
}

/// One change a kind that its API server accepts in both directions.
fn free_changes() -> Vec<(Value, Value)> {
    let named = |api_version: &str, kind: &str, rest: Value| {
        let mut object = rest;
        (object["apiVersion"], object["kind"]) = (json!(api_version), json!(kind));
        object["metadata"] = json!({"name": "free", "namespace": "reversal"});
        object
    };
    let everywhere = |api_version: &str, kind: &str, rest: Value| {
        let mut object = named(api_version, kind, rest);
        object["metadata"]["namespace"].take();
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        object
    };
    let template = |image: &str| json!({"metadata": {"labels": {"app": "free"}}, "spec": {"containers": [{"name": "app", "image": image}]}});
    let workload = |kind: &str, image: &str, more: Value| {
        let mut spec = more;
        spec["selector"] = json!({"matchLabels": {"app": "free"}});
        spec["template"] = template(image);
        named("apps/v1", kind, json!({ "spec": spec }))
    };
    let map = |kind: &str, value: &str| named("v1", kind, json!({"data": {"k": value}}));
    let set = |image: &str, replicas: u8| {
        workload("StatefulSet", image, json!({"serviceName": "free", "replicas": replicas}))
    };
    let job = |parallelism: u8| {
        let mut pods = template("a:1");
        pods["spec"]["restartPolicy"] = json!("Never");
        named(
            "batch/v1",
            "Job",
            json!({"spec": {"completions": 4, "parallelism": parallelism, "template": pods}}),
        )
    };
    let service = |port: u16| named("v1", "Service", json!({"spec": {"ports": [{"port": port}]}}));
    let pod =
        |image: &str| named("v1", "Pod", json!({"spec": {"containers": [{"name": "app", "image": image}]}}));
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "free"});
    let binding = |user: &str| {
        let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user});
        named("rbac.authorization.k8s.io/v1", "RoleBinding", json!({"roleRef": role, "subjects": [subject]}))
    };
    let class = |expand: bool| {
        everywhere(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "x.example/y", "allowVolumeExpansion": expand}),
        )
    };
    let priority = |words: &str| {
        everywhere("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 7, "description": words}))
    };
    let slice = |address: &str| {
        named(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}]}),
        )
    };
    let definition = |served: bool| {
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let version = |name: &str, storage: bool, served: bool| json!({"name": name, "served": served, "storage": storage, "schema": schema});
        let mut object = everywhere(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({"spec": {
            "group": "free.example", "scope": "Namespaced",
            "names": {"plural": "frees", "singular": "free", "kind": "Free", "listKind": "FreeList"},
            "versions": [version("v1", true, true), version("v2", false, served)]}}),
        );
        object["metadata"]["name"] = json!("frees.free.example");
        object
    };
    vec![
        (map("ConfigMap", "a"), map("ConfigMap", "b")),
        (map("Secret", "YQ=="), map("Secret", "Yg==")),
        (pod("a:1"), pod("a:2")),
        (service(80), service(81)),
        (
            workload("Deployment", "a:1", json!({"replicas": 1})),
            workload("Deployment", "a:2", json!({"replicas": 2})),
        ),
        (workload("ReplicaSet", "a:1", json!({})), workload("ReplicaSet", "a:2", json!({}))),
        (workload("DaemonSet", "a:1", json!({})), workload("DaemonSet", "a:2", json!({}))),
        (set("a:1", 1), set("a:2", 2)),
        (job(1), job(2)),
        (binding("one"), binding("two")),
        (class(false), class(true)),
        (priority("one"), priority("two")),
        (slice("10.0.0.1"), slice("10.0.0.2")),
        (definition(true), definition(false)),
    ]
}

struct Server(KubeCluster);

impl Server {
    async fn connect(cluster: KubeCluster) -> Self {
        let server = Self(cluster);
        for name in ["reversal", "shop"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            server.apply(&namespace).await.unwrap();
        }
        server
    }

    async fn apply(&self, body: &Value) -> Result<(), ApiError> {
        self.send(body, false).await
    }

    async fn send(&self, body: &Value, dry_run: bool) -> Result<(), ApiError> {
        let (object, body) = (reference(body), body.clone());
        let field_manager = "airlift/reversal".to_owned();
        let name = object.clone();
        let request = ApplyRequest { object, body, field_manager, force: true, dry_run, uid: None };
        self.0.apply(request).await?;
        // Until it is established a definition may still change everything.
        let established = async {
            while self.0.health(&contract::generation(), &name).await.unwrap().verdict != Verdict::Current {
                sleep(Duration::from_millis(200)).await;
            }
        };
        if name.gvk.kind == "CustomResourceDefinition" && !dry_run {
            timeout(Duration::from_secs(20), established).await.expect("it is established");
        }
        Ok(())
    }

    /// Brings an object to another content, by making it anew where an update is refused; answers whether it was.
    async fn step(&self, to: &Value) -> bool {
        let dry = self.send(to, true).await;
        let real = self.apply(to).await;
        match (dry, real) {
            (Ok(()), Ok(())) => false,
            (Err(dry), Err(real)) => {
                assert_eq!(
                    (dry.class, real.class),
                    (ApiErrorClass::Final, ApiErrorClass::Final),
                    "{dry}, {real}"
                );
                self.remove(to).await;
                self.apply(to).await.unwrap_or_else(|error| panic!("made anew: {to}: {error}"));
                true
            }
            (dry, real) => panic!("{to}: a dry run says {dry:?}, and then {real:?}"),
        }
    }

    async fn remove(&self, body: &Value) {
        let object = reference(body);
        let live = self.0.get(&object).await.unwrap();
        let uid = Uid(live["metadata"]["uid"].as_str().unwrap().to_owned());
        self.0.delete(&object, &uid, Propagation::Background).await.unwrap();
        let gone = async {
            while self.0.get(&object).await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.unwrap_or_else(|_| panic!("{object} does not go"));
    }
}
