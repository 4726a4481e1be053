//! What an API server refuses: changes of what cannot change, dry runs of what would fail, and too many requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_agent::core::api::ApiErrorClass;
use airlift_agent::core::object::Uid;
use airlift_agent::ports::cluster::{ApplyRequest, Propagation};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Bench, OURS, entry_of, generation, next_about, object, request, shop};

pub(super) async fn immutable(bench: &Bench<'_>) {
    let namespace = bench.namespace("fixed").await;
    let role = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    let cases = [
        (
            "v1",
            "ConfigMap",
            json!({"immutable": true, "data": {"a": "1"}}),
            json!({"immutable": true, "data": {"a": "2"}}),
        ),
        (
            "v1",
            "Secret",
            json!({"immutable": true, "data": {"a": "MQ=="}}),
            json!({"immutable": true, "data": {"a": "Mg=="}}),
        ),
        ("apps/v1", "Deployment", deployment_of("one"), deployment_of("two")),
        ("batch/v1", "Job", job_of("airlift.test/one:1"), job_of("airlift.test/two:1")),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"roleRef": role("one")}),
            json!({"roleRef": role("two")}),
        ),
    ];
    for (api_version, kind, before, after) in cases {
        let it = object(api_version, kind, Some(&namespace), "x");
        let made = bench.ours(&it, before).await;
        for dry_run in [true, false] {
            let request = ApplyRequest { dry_run, ..request(&it, OURS, after.clone()) };
            let refusal = bench.cluster.apply(request).await.expect_err(kind);
            assert_eq!(refusal.class, ApiErrorClass::Final, "{kind}: {refusal}");
        }
        let found = bench.find(&it).await.expect("it was left as it was");
        assert_eq!((found.uid, found.fields_hash), (made.uid.clone(), Some(made.fields_hash)));
        bench.delete(&it, &made.uid).await;
        bench.until("it to go", async || bench.find(&it).await.is_none()).await;
        assert_ne!(bench.ours(&it, after).await.uid, made.uid, "{kind} can be made anew");
    }
}

fn deployment_of(app: &str) -> Value {
    let labels = json!({"app": app});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [container("airlift.test/x:1")]}});
    json!({"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}})
}

fn job_of(image: &str) -> Value {
    let spec = json!({"restartPolicy": "Never", "containers": [container(image)]});
    json!({"spec": {"suspend": true, "template": {"spec": spec}}})
}

fn container(image: &str) -> Value {
    json!({"name": "app", "image": image})
}

pub(super) async fn dry_refusals(bench: &Bench<'_>) {
    let namespace = bench.namespace("dryno").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let lost = object("v1", "ConfigMap", Some(&format!("{namespace}-not")), "x");
    let unknown = object("nobody.example/v1", "Chaos", Some(&namespace), "x");
    bench.others(&map, json!({"data": {"a": "theirs"}})).await;
    let dry = |object, fields| ApplyRequest { dry_run: true, ..request(object, OURS, fields) };
    let polite = ApplyRequest { force: false, ..dry(&map, json!({"data": {"a": "ours"}})) };
    let stranger = ApplyRequest {
        uid: Some(Uid("00000000-dead-4000-8000-000000000000".into())),
        ..dry(&map, json!({}))
    };
    let cases = [
        (dry(&lost, json!({})), ApiErrorClass::NotFound),
        (dry(&unknown, json!({})), ApiErrorClass::KindUnknown),
        (polite, ApiErrorClass::Conflict),
        (stranger, ApiErrorClass::Conflict),
    ];
    for (request, class) in cases {
        let refusal = bench.cluster.apply(request).await.expect_err("it would fail");
        assert_eq!(refusal.class, class, "{refusal}");
    }
    let found = bench.find(&map).await.expect("it is there");
    assert_eq!((found.fields_hash, &bench.live(&map).await["data"]), (None, &json!({"a": "theirs"})));
}

pub(super) async fn throttled(bench: &Bench<'_>) {
    let Some(throttle) = bench.throttle else { return };
    let namespace = bench.namespace("busy").await;
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let (before, during, after) = (map("before"), map("during"), map("after"));
    let made = bench.ours(&before, json!({})).await;
    let (sender, mut receiver) = mpsc::channel(64);
    let watching = bench.cluster.watch(BTreeSet::from([Arc::clone(&before.gvk)]), sender);
    let checking = async {
        assert_eq!(next_about(&mut receiver, &before).await, entry_of(&before, &made));
        throttle(true);
        // So that connections which end with it are noticed to have ended.
        (bench.pause)().await;
        let only = BTreeSet::from([before.clone()]);
        let refusals = [
            bench.cluster.apply(request(&during, OURS, json!({}))).await.map(drop),
            bench.cluster.delete(&before, &made.uid, Propagation::Background).await,
            bench.cluster.get(&before).await.map(drop),
            bench.cluster.list(&shop(), &before.gvk, &only).await.map(drop),
            bench.cluster.health(&generation(), &before).await.map(drop),
            bench.cluster.cluster_uid().await.map(drop),
            bench.cluster.nodes().await.map(drop),
        ];
        throttle(false);
        for refusal in refusals {
            let refusal = refusal.expect_err("every request is one too many");
            assert!(matches!(refusal.class, ApiErrorClass::Throttled { .. }), "{refusal}");
        }
        assert!(
            bench.find(&before).await.is_some() && bench.find(&during).await.is_none(),
            "nothing was done"
        );
        let made = bench.ours(&after, json!({})).await;
        assert_eq!(next_about(&mut receiver, &after).await, entry_of(&after, &made), "watches go on");
    };
    tokio::select! {
        () = watching => panic!("a watch does not end by itself"),
        () = checking => {}
    }
}
