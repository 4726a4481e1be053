use std::sync::atomic::{AtomicU64, Ordering};

use airlift_agent::core::api::ApiErrorClass;
use airlift_agent::core::object::Verdict;
use airlift_bundles::document::release::Platform;
use serde_json::json;

use super::contract::{Bench, Check, DEPARTURES, RULES, Rule};
use super::*;

fn node(ready: bool) -> NodeStatus {
    NodeStatus {
        name: "one".into(),
        ready,
        schedulable: true,
        disk_pressure: false,
        platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
        kubelet: "v1.34.4".into(),
    }
}

/// A cluster whose time stands still until it is moved.
fn cluster() -> (ModelCluster, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(1_000));
    let clock = Arc::clone(&time);
    let model = Model::new(7, vec![node(true)], Settings::default());
    (ModelCluster::new(model, Arc::new(move || clock.load(Ordering::Relaxed))), time)
}

async fn keeps(number: usize, (name, rule): Rule) {
    let (cluster, time) = cluster();
    let pause = || -> Check<'static> {
        time.fetch_add(100, Ordering::Relaxed);
        cluster.with(|_, _| ());
        Box::pin(tokio::task::yield_now())
    };
    let throttle = |on: bool| {
        let fault = on.then_some(Fault::Throttled { every: 1, retry_after_ms: 1000 });
        cluster.with(|model, _| model.set_fault(fault));
    };
    println!("{name}");
    let bench = Bench {
        cluster: &cluster,
        prefix: format!("c{number}"),
        pause: &pause,
        has_pods: true,
        throttle: Some(&throttle),
        is_model: true,
    };
    rule(&bench).await;
}

#[tokio::test(flavor = "current_thread")]
async fn the_model_keeps_every_rule_of_the_contract() {
    for (number, rule) in RULES.into_iter().enumerate() {
        keeps(number, rule).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_model_departs_from_a_cluster_where_it_says_so_and_the_design_lists_it() {
    for (number, departure) in DEPARTURES.into_iter().enumerate() {
        keeps(number, departure).await;
        assert_eq!(NOT_MODELLED[number], departure.0);
    }
    let design = include_str!("../../DESIGN.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let missing: Vec<_> = NOT_MODELLED.into_iter().filter(|words| !design.contains(words)).collect();
    assert!(missing.is_empty(), "sim/DESIGN.md does not say: {missing:?}");
}

fn request(kind: (&str, &str), namespace: Option<&str>, fields: Value) -> ApplyRequest {
    let gvk = Arc::new(Gvk::new(kind.0, kind.1));
    let object = ObjectRef { gvk, namespace: namespace.map(Into::into), name: "x".into() };
    let mut body = fields;
    body["apiVersion"] = json!(kind.0);
    body["kind"] = json!(kind.1);
    body["metadata"]["labels"] = json!({"airlift.dev/app": "shop"});
    let field_manager = "airlift/shop".to_owned();
    ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None }
}

fn deployment() -> ApplyRequest {
    request(("apps/v1", "Deployment"), Some("default"), json!({"spec": {"replicas": 2}}))
}

#[test]
fn a_workload_is_ready_after_its_delay_and_not_before() {
    let (cluster, time) = cluster();
    let request = deployment();
    let verdict = || cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up").verdict);
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    time.fetch_add(1_999, Ordering::Relaxed);
    assert_eq!(verdict(), Verdict::Progressing);
    time.fetch_add(1, Ordering::Relaxed);
    assert_eq!(verdict(), Verdict::Current);
}

#[test]
fn no_pod_becomes_ready_without_a_ready_node() {
    let (cluster, time) = cluster();
    let request = deployment();
    cluster.with(|model, now_ms| {
        model.set_nodes(vec![node(false)]);
        model.apply(now_ms, &request).expect("valid");
    });
    time.fetch_add(60_000, Ordering::Relaxed);
    let health = cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up"));
    assert_eq!(health.verdict, Verdict::Unknown);
    cluster.with(|model, _| model.set_nodes(vec![node(true)]));
    let health = cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up"));
    assert_eq!(health.verdict, Verdict::Current);
}

#[test]
fn a_crash_loop_counts_restarts_and_carries_evidence() {
    let (cluster, time) = cluster();
    let mut request = deployment();
    request.body["metadata"]["annotations"] = json!({"sim.airlift.dev/trouble": "crash"});
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    time.fetch_add(5_000, Ordering::Relaxed);
    let first = cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up"));
    time.fetch_add(60_000, Ordering::Relaxed);
    let later = cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up"));
    assert_eq!(later.verdict, Verdict::Progressing);
    assert!(first.restarts > 0 && later.restarts > first.restarts);
    assert!(later.evidence.iter().any(|item| item.reason == "BackOff"), "{later:?}");
}

#[test]
fn a_changed_specification_starts_readiness_anew_and_a_changed_label_does_not() {
    let (cluster, time) = cluster();
    let mut request = deployment();
    let verdict =
        |object: &ObjectRef| cluster.with(|model, now_ms| model.health(now_ms, object).expect("up").verdict);
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    time.fetch_add(5_000, Ordering::Relaxed);
    request.body["metadata"]["labels"]["more"] = json!("1");
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    assert_eq!(verdict(&request.object), Verdict::Current);
    request.body["spec"]["replicas"] = json!(3);
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    assert_eq!(verdict(&request.object), Verdict::Progressing);
}

#[test]
fn faults_refuse_requests_in_the_words_of_their_class() {
    let (cluster, _) = cluster();
    let class = |fault| {
        cluster.with(|model, _| {
            model.set_fault(Some(fault));
            model.cluster_uid().expect_err("a fault").class
        })
    };
    assert_eq!(class(Fault::Down), ApiErrorClass::Unavailable);
    let throttled = Fault::Throttled { every: 1, retry_after_ms: 500 };
    assert_eq!(class(throttled), ApiErrorClass::Throttled { retry_after_ms: 500 });
    assert_eq!(class(Fault::Broken { every: 1, status: 503 }), ApiErrorClass::Unavailable);
    assert!(cluster.with(|model, _| {
        model.set_fault(None);
        model.cluster_uid().is_ok()
    }));
}

#[test]
fn a_watch_is_silent_during_an_outage_and_lists_again_after_it() {
    let (cluster, _) = cluster();
    let request = request(("v1", "ConfigMap"), Some("default"), json!({}));
    let kinds = BTreeSet::from([Arc::clone(&request.object.gvk)]);
    let id = cluster.with(|model, _| model.watch(kinds));
    assert_eq!(cluster.with(|model, _| model.take_events(id)).len(), 1);
    cluster.with(|model, now_ms| {
        model.apply(now_ms, &request).expect("valid");
        model.set_fault(Some(Fault::Down));
    });
    assert!(cluster.with(|model, _| model.take_events(id)).is_empty());
    let events = cluster.with(|model, _| {
        model.set_fault(None);
        model.take_events(id)
    });
    assert!(matches!(events.as_slice(), [Event::Seen { .. }, Event::Listed { .. }]), "{events:?}");
}

#[test]
fn a_stateful_set_that_was_in_trouble_stays_so_until_its_broken_pod_is_deleted() {
    let (cluster, time) = cluster();
    let request = request(
        ("apps/v1", "StatefulSet"),
        Some("default"),
        json!({"spec": {"replicas": 3, "template": {
            "metadata": {"annotations": {"sim.airlift.dev/trouble": "not-ready"}}}}}),
    );
    let verdict = || {
        time.fetch_add(10_000, Ordering::Relaxed);
        cluster.with(|model, now_ms| model.health(now_ms, &request.object).expect("up").verdict)
    };
    cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    assert_eq!(verdict(), Verdict::Progressing);
    let mut good = request.clone();
    good.body["spec"]["template"] = json!({"metadata": {"annotations": {}}});
    cluster.with(|model, now_ms| model.apply(now_ms, &good).expect("valid"));
    assert_eq!(verdict(), Verdict::Progressing, "applying a good version heals nothing");
    let pods = cluster.with(|model, _| model.pods(&request.object).expect("up"));
    let broken: Vec<_> = pods.iter().filter(|pod| pod.outdated && !pod.ready).collect();
    assert_eq!(broken.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["x-2"]);
    let gvk = Arc::new(Gvk::new("v1", "Pod"));
    let pod = ObjectRef { gvk, namespace: Some("default".into()), name: broken[0].name.clone() };
    cluster.with(|model, now_ms| model.delete_pod(now_ms, &pod, &broken[0].uid).expect("up"));
    assert_eq!(verdict(), Verdict::Current);
}

#[test]
fn dependents_go_with_their_owner_unless_orphaned() {
    let (cluster, _) = cluster();
    for (how, left) in [(Propagation::Background, false), (Propagation::Orphan, true)] {
        let owner = request(("v1", "Secret"), Some("default"), json!({}));
        let applied = cluster.with(|model, now_ms| model.apply(now_ms, &owner).expect("valid"));
        let references = json!({"metadata": {"ownerReferences": [{"uid": applied.uid.0}]}});
        let dependent = request(("v1", "ConfigMap"), Some("default"), references);
        cluster.with(|model, now_ms| model.apply(now_ms, &dependent).expect("valid"));
        cluster.with(|model, now_ms| model.delete(now_ms, &owner.object, &applied.uid, how).expect("up"));
        assert_eq!(cluster.with(|model, now_ms| model.get(now_ms, &dependent.object).is_ok()), left);
    }
}

#[test]
fn an_object_with_finalizers_stays_until_they_are_gone() {
    let (cluster, _) = cluster();
    let held = json!({"metadata": {"finalizers": ["x.io/wait"]}});
    let mut request = request(("v1", "ConfigMap"), Some("default"), held);
    let applied = cluster.with(|model, now_ms| model.apply(now_ms, &request).expect("valid"));
    let delete = |model: &mut Model, now_ms| {
        model.delete(now_ms, &request.object, &applied.uid, Propagation::Background).expect("up");
        model.get(now_ms, &request.object).expect("held")["metadata"]["deletionTimestamp"].is_string()
    };
    assert!(cluster.with(delete));
    request.body["metadata"].as_object_mut().expect("an object").remove("finalizers");
    let applied = cluster.with(|model, now_ms| model.apply(now_ms, &request).map(drop));
    let left = cluster.with(|model, now_ms| model.get(now_ms, &request.object).is_ok());
    assert!(applied.is_ok() && !left);
}
