//! Reads one object's health from a real cluster: the object, its pods and nodes, and evidence where it is not well.

use std::sync::Arc;

use airlift_bundles::document::receipt::Evidence;
use serde::Deserialize;
use serde_json::Value;

use super::Surroundings;
use super::evidence::{LogTail, Warning, compose};
use super::judge::{judge, text};
use super::pod::Pod;
use super::roster::{is_seen, newest_revision, roster};
use crate::apply::path::{of_kind, of_object, with_query};
use crate::apply::refusal::unusable;
use crate::apply::{Ask, KubeCluster};
use crate::core::api::{ApiError, ApiErrorClass, PodFound};
use crate::core::object::{Gvk, Health, ObjectRef, Verdict};
use crate::ports::cluster::Resolved;

/// Pods of one workload that are looked at; a site's workloads have a few.
const PODS_MAX: &str = "100";
/// Revisions of one workload that are looked at; controllers keep ten.
const REVISIONS_MAX: &str = "100";
/// Warnings that are read, of a namespace; the last hour's on a busy site.
const EVENTS_MAX: &str = "500";
/// Containers whose log is asked for, and how much of it.
const LOGS_MAX: usize = 2;
const LOG_LINES: &str = "10";
const LOG_BYTES: &str = "1500";

/// Judges the live object.
///
/// # Errors
/// Where the object or its pods cannot be read. What is evidence only may be missing.
pub(crate) async fn read_health(cluster: &KubeCluster, object: &ObjectRef) -> Result<Health, ApiError> {
    let live = match cluster.get_one(object).await {
        Err(error) if error.class == ApiErrorClass::NotFound => {
            return Ok(Health::missing());
        }
        other => other?,
    };
    let mut around = Surroundings::default();
    if let Some(selector) = pod_selector(&live) {
        around.pods = pods(cluster, object, &selector).await?;
        let nodes = cluster.recent_nodes().await?;
        let away = nodes.iter().any(|node| !node.ready);
        around.ready_nodes =
            Some(nodes.into_iter().filter(|node| node.ready).map(|node| node.name).collect());
        if away && object.gvk.kind == "DaemonSet" {
            around.revision = revision(cluster, object, &live).await?;
        }
    }
    if object.gvk.kind == "PersistentVolumeClaim" && text(&live, "/status/phase") == "Pending" {
        around.waits_for_consumer = waits_for_consumer(cluster, &live).await;
    }
    let judgement = judge(&live, &around);
    let restarts = around.pods.iter().filter(|pod| !pod.is_terminating()).map(Pod::restarts).sum();
    let (verdict, reason) = (judgement.verdict, judgement.reason);
    let evidence = match verdict {
        Verdict::Current => Vec::new(),
        _ => gather(cluster, object, &reason, &around.pods).await,
    };
    Ok(Health { verdict, restarts, reason, evidence })
}

/// The pods that a StatefulSet or DaemonSet controls.
///
/// # Errors
/// Where the workload, its pods or its revisions cannot be read.
pub(crate) async fn read_roster(
    cluster: &KubeCluster,
    object: &ObjectRef,
) -> Result<Vec<PodFound>, ApiError> {
    let live = cluster.get_one(object).await?;
    let Some(selector) = pod_selector(&live) else { return Ok(Vec::new()) };
    let pods = pods(cluster, object, &selector).await?;
    let revision = revision(cluster, object, &live).await?;
    Ok(roster(&live, revision.as_deref(), &pods))
}

/// The revision that a DaemonSet's controller wants: nothing but its ControllerRevisions tells.
async fn revision(
    cluster: &KubeCluster,
    object: &ObjectRef,
    live: &Value,
) -> Result<Option<String>, ApiError> {
    if object.gvk.kind != "DaemonSet" || !is_seen(live) {
        return Ok(None);
    }
    let Some((name, selector)) = pod_selector(live) else { return Ok(None) };
    let resolved = Resolved { plural: "controllerrevisions".into(), namespaced: true };
    let path = of_kind(&Gvk::new("apps/v1", ""), &resolved, object.namespace.as_deref());
    let query = [("limit", REVISIONS_MAX), (name, selector.as_str())];
    let revisions: Vec<Value> = read_list(cluster, with_query(path, &query)).await?;
    Ok(newest_revision(live, &revisions))
}

/// The query that finds a workload's pods, as name and value; `None` for kinds without pods.
fn pod_selector(live: &Value) -> Option<(&'static str, String)> {
    match text(live, "/kind") {
        "Pod" => Some(("fieldSelector", format!("metadata.name={}", text(live, "/metadata/name")))),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            selector(live.pointer("/spec/selector")?).map(|selector| ("labelSelector", selector))
        }
        "ReplicationController" => {
            let labels = equalities(live.pointer("/spec/selector")?)?;
            Some(("labelSelector", labels.join(",")))
        }
        _ => None,
    }
}

/// Writes a LabelSelector as a query does; `None` for one that selects everything, which no workload means.
fn selector(selector: &Value) -> Option<String> {
    let mut terms = selector.pointer("/matchLabels").and_then(equalities).unwrap_or_default();
    for rule in selector.pointer("/matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = text(rule, "/key");
        let values = rule.pointer("/values").and_then(Value::as_array).into_iter().flatten();
        let values = values.filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        terms.push(match text(rule, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

fn equalities(labels: &Value) -> Option<Vec<String>> {
    let pairs = labels.as_object()?.iter();
    Some(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect())
}

#[derive(Debug, Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

async fn read_list<T: serde::de::DeserializeOwned>(
    cluster: &KubeCluster,
    path: String,
) -> Result<Vec<T>, ApiError> {
    let reply = cluster.ask(&Ask::get(path, "application/json")).await?;
    let list: List<T> =
        serde_json::from_slice(&reply).map_err(|error| unusable(&format!("list cannot be read: {error}")))?;
    Ok(list.items)
}

fn in_namespace(object: &ObjectRef, plural: &str) -> String {
    of_kind(
        &Gvk::new("v1", ""),
        &Resolved { plural: plural.to_owned(), namespaced: true },
        object.namespace.as_deref(),
    )
}

async fn pods(
    cluster: &KubeCluster,
    object: &ObjectRef,
    (name, selector): &(&'static str, String),
) -> Result<Vec<Pod>, ApiError> {
    let query = [("limit", PODS_MAX), (*name, selector.as_str())];
    read_list(cluster, with_query(in_namespace(object, "pods"), &query)).await
}

/// Whether a claim's class binds at first use; a class that is not there binds nothing, so it does not.
async fn waits_for_consumer(cluster: &KubeCluster, claim: &Value) -> bool {
    let class = text(claim, "/spec/storageClassName");
    let classes: Vec<Value> = read_list(cluster, "/apis/storage.k8s.io/v1/storageclasses?limit=100".into())
        .await
        .unwrap_or_default();
    let found = classes.iter().find(|found| text(found, "/metadata/name") == class);
    found.is_some_and(|found| text(found, "/volumeBindingMode") == "WaitForFirstConsumer")
}

/// Collects what explains an object that is not well. Whatever cannot be read is left out: it is no verdict.
async fn gather(cluster: &KubeCluster, object: &ObjectRef, reason: &str, pods: &[Pod]) -> Vec<Evidence> {
    let mut warnings: Vec<Warning> = Vec::new();
    if object.namespace.is_some() {
        let query = [("fieldSelector", "type=Warning"), ("limit", EVENTS_MAX)];
        let path = with_query(in_namespace(object, "events"), &query);
        warnings = read_list(cluster, path).await.unwrap_or_default();
        warnings.retain(|warning| warning.concerns(&object.name));
    }
    let mut logs = Vec::new();
    for (pod, container, previous) in worth_reading(pods) {
        if let Some(tail) = log_tail(cluster, object, pod, container, previous).await {
            logs.push(tail);
        }
    }
    compose(&object.to_string(), reason, pods, warnings, &logs)
}

/// Containers whose log may say why: those that ended or were started again, then those that are not ready.
fn worth_reading(pods: &[Pod]) -> Vec<(&str, &str, bool)> {
    let mut found: Vec<(u8, (&str, &str, bool))> = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.is_ready() && !pod.is_terminating()) {
        for container in pod.containers() {
            let ended = container.state.terminated.as_ref().is_some_and(|end| end.exit_code != 0);
            let before = container.last_state.terminated.is_some();
            let waits = container.state.waiting.is_some();
            let rank = match (ended || before, container.ready, waits) {
                (true, ..) => 0,
                (false, false, false) => 1,
                _ => continue,
            };
            found.push((rank, (pod.name(), container.name.as_str(), before && !ended)));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, container)| container).take(LOGS_MAX).collect()
}

async fn log_tail(
    cluster: &KubeCluster,
    object: &ObjectRef,
    pod: &str,
    container: &str,
    previous: bool,
) -> Option<LogTail> {
    let flag = if previous { "true" } else { "false" };
    let query =
        [("container", container), ("tailLines", LOG_LINES), ("limitBytes", LOG_BYTES), ("previous", flag)];
    let pod_ref = ObjectRef {
        gvk: Arc::new(Gvk::new("v1", "Pod")),
        namespace: object.namespace.clone(),
        name: pod.to_owned(),
    };
    let resolved = Resolved { plural: "pods".into(), namespaced: true };
    let place = of_object(&pod_ref, &resolved)?;
    let reply = cluster.ask(&Ask::get(with_query(format!("{place}/log"), &query), "*/*")).await.ok()?;
    let text = String::from_utf8_lossy(&reply).into_owned();
    let namespace = object.namespace.clone().unwrap_or_default();
    Some(LogTail { namespace, pod: pod.to_owned(), container: container.to_owned(), previous, text })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_become_queries_and_one_that_selects_everything_becomes_none() {
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
        ]});
        assert_eq!(selector(&both).as_deref(), Some("app=web,tier in (a,b),!old"));
        assert_eq!(selector(&json!({})), None);
        assert_eq!(selector(&json!({"matchExpressions": [{"key": "a", "operator": "New"}]})), None);
    }

    #[test]
    fn logs_of_containers_that_ended_come_before_those_that_are_only_not_ready() {
        let pods: Vec<Pod> = serde_json::from_value(json!([
            {"metadata": {"name": "slow"}, "status": {"containerStatuses": [{"name": "c", "ready": false}]}},
            {"metadata": {"name": "crash"}, "status": {"containerStatuses": [
                {"name": "c", "lastState": {"terminated": {"exitCode": 1}}, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}},
            {"metadata": {"name": "pull"}, "status": {"containerStatuses": [
                {"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]}},
        ]))
        .expect("pods");
        assert_eq!(worth_reading(&pods), [("crash", "c", true), ("slow", "c", false)]);
    }
}
