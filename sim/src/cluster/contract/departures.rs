//! Where the model differs from a cluster, shown on both: a departure that is no more fails its check.

use airlift_agent::core::api::ApiErrorClass;
use airlift_agent::core::object::Verdict;
use serde_json::{Value, json};

use super::{Bench, OURS, Rule, deployment, object, request};

/// What the model does not model, each with a check that must hold on the model and on a real cluster alike.
pub const DEPARTURES: [Rule; 6] = [
    ("schemas: a field that a kind does not have is accepted", |bench| Box::pin(schemas(bench))),
    ("validation: a value that a field cannot have is accepted", |bench| Box::pin(validation(bench))),
    ("defaults: what a body leaves out stays out", |bench| Box::pin(defaults(bench))),
    ("list types: a list without names is one field, whose last writer has it all", |bench| {
        Box::pin(lists(bench))
    }),
    ("admission: webhooks are stored and not called", |bench| Box::pin(webhooks(bench))),
    ("controllers: a workload makes no objects", |bench| Box::pin(controllers(bench))),
];

async fn schemas(bench: &Bench<'_>) {
    let namespace = bench.namespace("schema").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    refused_by_clusters(bench, request(&map, OURS, json!({"dtaa": {}}))).await;
}

async fn validation(bench: &Bench<'_>) {
    let namespace = bench.namespace("value").await;
    let service = object("v1", "Service", Some(&namespace), "x");
    refused_by_clusters(bench, request(&service, OURS, json!({"spec": {"ports": [{"port": 70_000}]}}))).await;
}

async fn refused_by_clusters(bench: &Bench<'_>, request: super::ApplyRequest) {
    match bench.cluster.apply(request).await {
        Ok(_) => assert!(bench.is_model, "a cluster refuses this"),
        Err(refusal) => {
            assert!(!bench.is_model, "the model refuses now what it did not: {refusal}");
            assert_eq!(refusal.class, ApiErrorClass::Final, "{refusal}");
        }
    }
}

async fn defaults(bench: &Bench<'_>) {
    let namespace = bench.namespace("default").await;
    let service = object("v1", "Service", Some(&namespace), "x");
    bench.ours(&service, json!({"spec": {"ports": [{"port": 80}]}})).await;
    let live = bench.live(&service).await;
    assert_eq!(live["spec"]["type"] == "ClusterIP", !bench.is_model, "{}", live["spec"]);
}

async fn lists(bench: &Bench<'_>) {
    let namespace = bench.namespace("lists").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let finalizer = |name: &str| json!({"metadata": {"finalizers": [format!("contract.example/{name}")]}});
    bench.ours(&map, finalizer("ours")).await;
    bench.others(&map, finalizer("theirs")).await;
    let finalizers = bench.live(&map).await["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
    assert_eq!(finalizers, if bench.is_model { 1 } else { 2 }, "a cluster merges them as a set");
    bench.ours(&map, json!({})).await;
    bench.others(&map, json!({})).await;
}

async fn webhooks(bench: &Bench<'_>) {
    let namespace = bench.namespace("hook").await;
    let name = format!("{}.contract.example", bench.prefix);
    let config = object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None, &name);
    let made = bench.ours(&config, json!({ "webhooks": [dead_webhook(&name, &namespace)] })).await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let mut refusal = None;
    // A cluster calls it from some moment on.
    for _ in 0..50 {
        refusal = bench.cluster.apply(request(&map, OURS, json!({}))).await.err();
        if refusal.is_some() || bench.is_model {
            break;
        }
        (bench.pause)().await;
    }
    bench.delete(&config, &made.uid).await;
    match refusal {
        None => assert!(bench.is_model, "a cluster calls it, and it does not answer"),
        Some(refusal) => {
            assert!(!bench.is_model, "{refusal}");
            assert_eq!(refusal.class, ApiErrorClass::Unavailable, "{refusal}");
        }
    }
}

/// A webhook for one namespace's ConfigMaps that fails closed, at an address where nobody is.
#[must_use]
pub fn dead_webhook(name: &str, namespace: &str) -> Value {
    json!({
        "name": name, "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 2,
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
    })
}

async fn controllers(bench: &Bench<'_>) {
    if !bench.has_pods {
        return;
    }
    let namespace = bench.namespace("made").await;
    let set = object("apps/v1", "StatefulSet", Some(&namespace), "web");
    let mut body = deployment(1);
    body["spec"]["serviceName"] = json!("web");
    bench.ours(&set, body).await;
    bench.until_health(&set, Verdict::Stuck).await;
    let pod = object("v1", "Pod", Some(&namespace), "web-0");
    assert_eq!(bench.find(&pod).await.is_some(), !bench.is_model);
}
