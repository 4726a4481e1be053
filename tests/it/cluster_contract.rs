//! The agent's Kubernetes edge on a real cluster: the same contract that the simulator's model keeps, and what
//! only a real API server can show.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlift_agent::apply::KubeCluster;
use airlift_agent::clock::Clock;
use airlift_agent::core::api::ApiErrorClass;
use airlift_agent::core::object::{Gvk, ObjectRef};
use airlift_agent::ports::cluster::{ApplyRequest, Cluster as _};
use airlift_bundles::ids::AppName;
use airlift_sim::cluster::contract::{Bench, Check, DEPARTURES, RULES, Rule};
use airlift_tests::gate::Gate;
use airlift_tests::say;
use airlift_tests::site::Site;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::inside::inside;

/// Runs rules on a real cluster, by way of a gate that can throttle it.
fn check(rules: &'static [Rule]) {
    let site = Site::borrow();
    let gate = Gate::start(&site);
    inside(&site, move || async move {
        let cluster = KubeCluster::new(gate.kubeconfig());
        let pause = || -> Check<'static> { Box::pin(sleep(Duration::from_millis(100))) };
        let throttle = |on: bool| if on { gate.shut() } else { gate.open() };
        for (number, (name, rule)) in rules.iter().enumerate() {
            say(name);
            let bench = Bench {
                cluster: &cluster,
                prefix: format!("c{number}"),
                pause: &pause,
                has_pods: true,
                throttle: Some(&throttle),
                is_model: false,
            };
            timeout(Duration::from_secs(60), rule(&bench))
                .await
                .unwrap_or_else(|_| panic!("{name}: too slow"));
        }
    });
}

#[test]
fn a_real_cluster_keeps_every_rule_that_the_model_keeps() {
    check(&RULES);
}

#[test]
fn a_real_cluster_differs_from_the_model_where_the_model_says_so() {
    check(&DEPARTURES);
}

/// A connection, and the namespace in which these tests work: cleaning a site removes it.
async fn connect(kubeconfig: &Path) -> KubeCluster {
    let cluster = KubeCluster::new(kubeconfig);
    let object =
        ObjectRef { gvk: Arc::new(Gvk::new("v1", "Namespace")), namespace: None, name: "edge".into() };
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "edge"}});
    let field_manager = "somebody".to_owned();
    let request = ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None };
    cluster.apply(request).await.unwrap();
    cluster
}

fn config_map(name: &str, data: Value) -> ApplyRequest {
    let gvk = Arc::new(Gvk::new("v1", "ConfigMap"));
    let object = ObjectRef { gvk, namespace: Some("edge".into()), name: name.into() };
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": name, "namespace": "edge", "labels": {"airlift.dev/app": "shop"}}});
    let field_manager = "airlift/shop".to_owned();
    ApplyRequest { object, body, field_manager, force: true, dry_run: false, uid: None }
}

#[test]
fn a_field_that_the_api_server_does_not_know_is_refused_in_its_own_words() {
    let site = Site::borrow();
    let file = site.bed().dir().join("definition.json");
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"size": {"type": "integer"}}}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gauges.strict.example"},
        "spec": {"group": "strict.example", "scope": "Namespaced",
            "names": {"plural": "gauges", "singular": "gauge", "kind": "Gauge"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}]}});
    std::fs::write(&file, definition.to_string()).unwrap();
    let _ = site.kubectl(&["apply", "-f", &file.display().to_string()]);
    let crd = "crd/gauges.strict.example";
    let _ = site.kubectl(&["wait", "--for=condition=Established", crd, "--timeout=30s"]);
    let kubeconfig = site.kubeconfig().to_owned();
    inside(&site, move || async move {
        let cluster = connect(&kubeconfig).await;
        let mut of_its_own = config_map("strict", json!({}));
        of_its_own.body["dtaa"] = json!({"a": "1"});
        let mut of_a_definition = config_map("strict", json!({}));
        let gvk = Arc::new(Gvk::new("strict.example/v1", "Gauge"));
        of_a_definition.object = ObjectRef { gvk, ..of_a_definition.object };
        of_a_definition.body = json!({"apiVersion": "strict.example/v1", "kind": "Gauge",
            "metadata": {"name": "strict", "namespace": "edge"}, "spec": {"size": 1}});
        cluster.apply(of_a_definition.clone()).await.unwrap();
        of_a_definition.body["spec"]["sise"] = json!(2);
        for (request, field) in [(of_its_own, "dtaa"), (of_a_definition, "sise")] {
            let refusal = cluster.apply(request).await.unwrap_err();
            assert_eq!(refusal.class, ApiErrorClass::Final);
            assert!(refusal.message.contains(field), "{refusal}");
        }
    });
    let _ = site.kubectl(&["delete", "crd", "gauges.strict.example"]);
}

#[test]
fn a_broken_api_service_elsewhere_stops_nothing() {
    let site = Site::borrow();
    let file = site.bed().dir().join("broken-api.json");
    let broken = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.broken.example"},
        "spec": {"group": "broken.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": "nobody", "namespace": "default"}}});
    std::fs::write(&file, broken.to_string()).unwrap();
    let _ = site.kubectl(&["apply", "-f", &file.display().to_string()]);
    let kubeconfig = site.kubeconfig().to_owned();
    inside(&site, move || async move {
        let cluster = connect(&kubeconfig).await;
        cluster.apply(config_map("beside", json!({"a": "1"}))).await.unwrap();
        let refusal = cluster.resolve(&Gvk::new("broken.example/v1", "Thing")).await.unwrap_err();
        assert_eq!(refusal.class, ApiErrorClass::Unavailable, "{refusal}");
    });
    let _ = site.kubectl(&["delete", "apiservice", "v1.broken.example"]);
}

#[test]
fn a_thousand_objects_are_applied_listed_and_found_unchanged() {
    let site = Site::borrow();
    let kubeconfig = site.kubeconfig().to_owned();
    inside(&site, move || async move {
        let cluster = connect(&kubeconfig).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let cluster = cluster.clone();
            let request = config_map(&format!("many-{number}"), json!({"a": number.to_string()}));
            tasks.spawn(async move { (request.object.clone(), cluster.apply(request).await.unwrap()) });
        }
        let applied = tasks.join_all().await;
        let only: BTreeSet<ObjectRef> = applied.iter().map(|(object, _)| object.clone()).collect();
        let shop = AppName::new("shop").unwrap();
        let gvk = Gvk::new("v1", "ConfigMap");
        let found = cluster.list(&shop, &gvk, &only).await.unwrap();
        assert_eq!(found.len(), 1000);
        for (object, applied) in &applied {
            let found = found.iter().find(|found| found.object == *object).unwrap();
            assert_eq!((&found.uid, found.fields_hash), (&applied.uid, Some(applied.fields_hash)));
        }
    });
}

#[test]
fn a_kubeconfig_that_comes_or_changes_later_is_read_again() {
    let site = Site::borrow();
    let good = std::fs::read_to_string(site.kubeconfig()).unwrap();
    let file = site.bed().dir().join("late.kubeconfig");
    inside(&site, move || async move {
        let cluster = KubeCluster::new(&file);
        let refusal = cluster.cluster_uid().await.unwrap_err();
        assert_eq!(refusal.class, ApiErrorClass::Unavailable);
        std::fs::write(&file, good.replace("6443", "6444")).unwrap();
        let refusal = cluster.cluster_uid().await.unwrap_err();
        assert_eq!(refusal.class, ApiErrorClass::Unavailable, "{refusal}");
        std::fs::write(&file, good).unwrap();
        let again = async {
            while cluster.cluster_uid().await.is_err() {
                sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(Duration::from_secs(30), again).await.expect("the new file is seen");
    });
}

#[test]
fn only_the_holder_of_the_lease_writes_and_a_released_lease_is_taken() {
    let site = Site::borrow();
    let kubeconfig = site.kubeconfig().to_owned();
    inside(&site, move || async move {
        let open = connect(&kubeconfig).await;
        let one = KubeCluster::leased(&kubeconfig, "one".into(), Clock::system());
        one.apply(config_map("leased", json!({"by": "one"}))).await.unwrap();
        let other = KubeCluster::leased(&kubeconfig, "other".into(), Clock::system());
        let refusal = other.apply(config_map("leased", json!({"by": "other"}))).await.unwrap_err();
        assert_eq!(refusal.class, ApiErrorClass::Unavailable);
        drop(one);
        // As a person would who moves the site's agent: the record is emptied.
        let lease = ApplyRequest {
            object: ObjectRef {
                gvk: Arc::new(Gvk::new("coordination.k8s.io/v1", "Lease")),
                namespace: Some("airlift-system".into()),
                name: "agent".into(),
            },
            body: json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "agent", "namespace": "airlift-system"}, "spec": {"holderIdentity": ""}}),
            field_manager: "somebody".into(),
            force: true,
            dry_run: false,
            uid: None,
        };
        open.apply(lease).await.unwrap();
        let taken =
            async { while other.apply(config_map("leased", json!({"by": "other"}))).await.is_err() {} };
        timeout(Duration::from_secs(20), taken).await.expect("a released Lease is taken");
    });
}
