//! What is under namespaces, definitions of kinds and claims, and who scales what.

use std::collections::BTreeSet;

use airlift_agent::core::object::{ObjectRef, Uid};
use serde_json::{Value, json};

use super::{Bench, object};

async fn found(bench: &Bench<'_>, holder: &ObjectRef, ours: &[&Uid], claims: bool) -> Vec<String> {
    let ours: BTreeSet<Uid> = ours.iter().map(|uid| (*uid).clone()).collect();
    let others = bench.cluster.others(holder, &ours, claims).await;
    others.unwrap_or_else(|error| panic!("others in {holder}: {error}"))
}

pub(super) async fn namespaces(bench: &Bench<'_>) {
    let namespace = bench.namespace("hold").await;
    let holder = object("v1", "Namespace", None, &namespace);
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let ours = bench.ours(&map("ours"), json!({})).await.uid;
    assert_eq!(found(bench, &holder, &[&ours], false).await, [""; 0]);
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "ours", "uid": ours.0}]);
    bench.others(&map("owned"), json!({"metadata": {"ownerReferences": owner}})).await;
    assert_eq!(found(bench, &holder, &[&ours], false).await, [""; 0]);
    let theirs = bench.others(&map("theirs"), json!({"data": {"a": "1"}})).await.uid;
    assert_eq!(found(bench, &holder, &[&ours], false).await, [format!("ConfigMap {namespace}/theirs")]);
    assert_eq!(found(bench, &holder, &[], false).await.len(), 3);
    bench.delete(&map("theirs"), &theirs).await;
    bench.until("theirs to go", async || found(bench, &holder, &[&ours], false).await.is_empty()).await;
}

pub(super) async fn claims(bench: &Bench<'_>) {
    let namespace = bench.namespace("claims").await;
    let holder = object("v1", "Namespace", None, &namespace);
    let set = object("apps/v1", "StatefulSet", Some(&namespace), "db");
    let labels = json!({"app": "db"});
    let container = json!({"name": "app", "image": "airlift.test/nowhere:1", "imagePullPolicy": "Never"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 0, "serviceName": "db", "selector": {"matchLabels": labels}, "template": template});
    let ours = bench.ours(&set, json!({ "spec": spec })).await.uid;
    let claim = object("v1", "PersistentVolumeClaim", Some(&namespace), "data-db-0");
    let asks = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
        "resources": {"requests": {"storage": "1Mi"}}});
    let uid = bench.others(&claim, json!({ "spec": asks })).await.uid;
    let named = [format!("PersistentVolumeClaim {namespace}/data-db-0")];
    assert_eq!(found(bench, &holder, &[&ours], false).await, named);
    assert_eq!(found(bench, &holder, &[&ours], true).await, [""; 0]);
    let pod = object("v1", "Pod", Some(&namespace), "user");
    assert_eq!(found(bench, &claim, &[&ours, &uid], false).await, [""; 0]);
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}});
    let container = json!({"name": "app", "image": "airlift.test/nowhere:1", "imagePullPolicy": "Never"});
    bench.others(&pod, json!({"spec": {"containers": [container], "volumes": [volume]}})).await;
    assert_eq!(found(bench, &claim, &[&ours, &uid], false).await, [format!("Pod {namespace}/user")]);
}

pub(super) async fn definitions(bench: &Bench<'_>) {
    let namespace = bench.namespace("kinds").await;
    let group = format!("{}.holder", bench.prefix);
    let definition =
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, &format!("gadgets.{group}"));
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let spec = json!({
        "group": group, "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
    });
    let made = bench.ours(&definition, json!({ "spec": spec })).await;
    let gadget = |name: &str| object(&format!("{group}/v1"), "Gadget", Some(&namespace), name);
    let mut ours = None;
    bench
        .until("the kind to be served", async || {
            let applied = bench.cluster.apply(super::request(&gadget("ours"), super::OURS, json!({}))).await;
            ours = applied.ok().map(|applied| applied.uid);
            ours.is_some()
        })
        .await;
    let ours = ours.expect("it was just made");
    assert_eq!(found(bench, &definition, &[&made.uid, &ours], false).await, [""; 0]);
    bench.others(&gadget("theirs"), json!({"spec": {"size": 1}})).await;
    let named = [format!("Gadget {namespace}/theirs")];
    assert_eq!(found(bench, &definition, &[&made.uid, &ours], false).await, named);
    let stored: Value = bench.live(&definition).await["status"]["storedVersions"].clone();
    assert_eq!(stored, json!(["v1"]));
    bench.delete(&definition, &made.uid).await;
}

pub(super) async fn autoscalers(bench: &Bench<'_>) {
    let namespace = bench.namespace("scale").await;
    let scaler = object("autoscaling/v2", "HorizontalPodAutoscaler", Some(&namespace), "front");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "front"});
    bench.others(&scaler, json!({"spec": {"scaleTargetRef": target, "maxReplicas": 3}})).await;
    for (kind, name, scaled) in
        [("Deployment", "front", true), ("Deployment", "back", false), ("StatefulSet", "front", false)]
    {
        let workload = object("apps/v1", kind, Some(&namespace), name);
        let answer = bench.cluster.is_autoscaled(&workload).await;
        assert_eq!(answer, Ok(scaled), "{kind} {name}");
    }
    let elsewhere = object("apps/v1", "Deployment", Some("default"), "front");
    assert_eq!(bench.cluster.is_autoscaled(&elsewhere).await, Ok(false));
}
