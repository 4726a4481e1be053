//! One test a row of the health table in `DESIGN.md`.

use serde_json::{Value, json};

use super::evidence::{LogTail, Warning, compose};
use super::pod::Pod;
use super::*;
use crate::core::object::Verdict;

fn verdict(object: &Value) -> Verdict {
    judge(object, &Surroundings::default()).verdict
}

fn workload(kind: &str, spec: Value, status: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"generation": 2}});
    object["spec"] = spec;
    object["status"] = status;
    if object["status"]["observedGeneration"].is_null() {
        object["status"]["observedGeneration"] = json!(2);
    }
    object
}

fn pod(name: &str, node: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "metadata": {"namespace": "shop", "name": name}, "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn waiting(name: &str, node: &str, reason: &str) -> Value {
    let mut pod = pod(name, node, false);
    pod["status"]["containerStatuses"] =
        json!([{"name": "app", "state": {"waiting": {"reason": reason, "message": "no"}}}]);
    pod
}

fn around(pods: Value, nodes: &[&str]) -> Surroundings {
    Surroundings {
        pods: serde_json::from_value(pods).expect("pods"),
        ready_nodes: Some(nodes.iter().map(|node| (*node).to_owned()).collect()),
        ..Surroundings::default()
    }
}

fn of_revision(mut pod: Value, revision: &str) -> Value {
    pod["metadata"]["labels"] = json!({"controller-revision-hash": revision});
    pod
}

fn with_conditions(api_version: &str, kind: &str, conditions: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "status": {"conditions": conditions}})
}

fn half_ready() -> Value {
    workload(
        "Deployment",
        json!({"replicas": 2}),
        json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1}),
    )
}

#[test]
fn any_object_that_is_being_deleted_or_not_yet_seen_by_its_controller_progresses() {
    let going = json!({"kind": "ConfigMap", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(verdict(&going), Verdict::Progressing);
    let stale = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"generation": 3},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(verdict(&stale), Verdict::Progressing);
}

#[test]
fn a_deployment_is_current_when_all_pods_are_new_and_available_and_no_old_one_is_left() {
    let spec = json!({"replicas": 2});
    let status = |all: i64, new: i64, available: i64| {
        json!({"replicas": all, "updatedReplicas": new, "readyReplicas": available,
            "availableReplicas": available})
    };
    let judge = |status| verdict(&workload("Deployment", spec.clone(), status));
    assert_eq!(judge(status(2, 2, 2)), Verdict::Current);
    assert_eq!(judge(status(3, 2, 3)), Verdict::Progressing);
    assert_eq!(judge(status(2, 1, 2)), Verdict::Progressing);
    assert_eq!(judge(status(2, 2, 1)), Verdict::Progressing);
}

#[test]
fn a_workload_whose_controller_never_wrote_a_status_progresses() {
    let mut fresh = workload("Deployment", json!({"replicas": 0}), json!({}));
    fresh["status"] = json!({});
    assert_eq!(verdict(&fresh), Verdict::Progressing);
}

#[test]
fn a_deployment_without_replicas_is_current_even_where_no_node_is_ready() {
    let none = workload("Deployment", json!({"replicas": 0}), json!({}));
    assert_eq!(judge(&none, &around(json!([]), &[])).verdict, Verdict::Current);
    assert_eq!(judge(&half_ready(), &around(json!([]), &[])).verdict, Verdict::Unknown);
}

#[test]
fn quota_trouble_and_a_passed_progress_deadline_are_stuck() {
    let mut object = half_ready();
    object["status"]["conditions"] =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    assert_eq!(verdict(&object), Verdict::Stuck);
    object["status"]["conditions"] =
        json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]);
    let judgement = judge(&object, &Surroundings::default());
    assert_eq!(judgement.verdict, Verdict::Stuck);
    assert!(judgement.reason.contains("quota"));
}

#[test]
fn pods_that_a_dead_webhook_keeps_from_being_made_say_nothing_of_the_app() {
    let mut object = half_ready();
    object["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "Internal error occurred: failed calling webhook \"pods.x.io\": connection refused"}]);
    assert_eq!(verdict(&object), Verdict::Unknown);
}

#[test]
fn image_and_configuration_errors_of_a_pod_are_stuck_and_a_crash_loop_only_progresses() {
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError"] {
        let around = around(json!([pod("a", "n1", true), waiting("b", "n1", reason)]), &["n1"]);
        let judgement = judge(&half_ready(), &around);
        assert_eq!(judgement.verdict, Verdict::Stuck);
        assert!(judgement.reason.contains("pod b") && judgement.reason.contains(reason));
    }
    let around = around(json!([pod("a", "n1", true), waiting("b", "n1", "CrashLoopBackOff")]), &["n1"]);
    let judgement = judge(&half_ready(), &around);
    assert_eq!(judgement.verdict, Verdict::Progressing);
    assert!(judgement.reason.contains("CrashLoopBackOff"));
}

#[test]
fn an_old_pod_that_goes_away_holds_nothing_up() {
    let mut old = waiting("old", "n1", "ErrImagePull");
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let around = around(json!([old]), &["n1"]);
    assert_eq!(judge(&half_ready(), &around).verdict, Verdict::Progressing);
}

#[test]
fn pods_on_nodes_that_are_away_are_pending_nodes() {
    let around = around(json!([pod("a", "n1", true), pod("b", "n2", false)]), &["n1"]);
    let judgement = judge(&half_ready(), &around);
    assert_eq!(judgement.verdict, Verdict::Current);
    assert_eq!(judgement.reason, "pending nodes: n2");
}

#[test]
fn a_workload_with_all_its_pods_on_nodes_that_are_away_is_unknown() {
    let around = around(json!([pod("a", "n2", false), pod("b", "n2", false)]), &["n1"]);
    assert_eq!(judge(&half_ready(), &around).verdict, Verdict::Unknown);
}

#[test]
fn a_stateful_set_is_current_when_ready_and_of_one_revision() {
    let status = |ready: i64, updated: i64, current: &str| {
        json!({"replicas": 3, "readyReplicas": ready, "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": "r2"})
    };
    let judge = |spec: &Value, status| verdict(&workload("StatefulSet", spec.clone(), status));
    let plain = json!({"replicas": 3});
    assert_eq!(judge(&plain, status(3, 3, "r2")), Verdict::Current);
    assert_eq!(judge(&plain, status(3, 1, "r1")), Verdict::Progressing);
    assert_eq!(judge(&plain, status(2, 3, "r2")), Verdict::Progressing);
    let parted = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    assert_eq!(judge(&parted, status(3, 1, "r1")), Verdict::Current);
    let by_hand = json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
    assert_eq!(judge(&by_hand, status(3, 0, "r1")), Verdict::Current);
}

#[test]
fn a_daemon_set_is_current_when_every_node_that_is_here_runs_the_new_pod() {
    let set = |updated: i64, available: i64| {
        let status = json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 2,
            "updatedNumberScheduled": updated, "numberAvailable": available, "numberReady": available});
        workload("DaemonSet", json!({}), status)
    };
    assert_eq!(verdict(&set(2, 2)), Verdict::Current);
    assert_eq!(verdict(&set(1, 2)), Verdict::Progressing);
    assert_eq!(verdict(&set(2, 1)), Verdict::Progressing);
}

#[test]
fn a_daemon_set_is_judged_by_its_pods_on_ready_nodes_where_a_node_is_dead() {
    let status = json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 2,
        "updatedNumberScheduled": 0, "numberAvailable": 1, "numberReady": 1});
    let set = workload("DaemonSet", json!({}), status);
    let judged = |here: Value, revision: Option<&str>| {
        let mut stuck = of_revision(pod("b", "n2", false), "old");
        stuck["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let revision = revision.map(str::to_owned);
        judge(&set, &Surroundings { revision, ..around(json!([here, stuck]), &["n1"]) })
    };
    let new = |ready| of_revision(pod("a", "n1", ready), "new");
    let judgement = judged(new(true), Some("new"));
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Current, "pending nodes: n2"));
    assert_eq!(judged(new(false), Some("new")).verdict, Verdict::Progressing);
    assert_eq!(judged(of_revision(pod("a", "n1", true), "old"), Some("new")).verdict, Verdict::Progressing);
    assert_eq!(judged(new(true), None).verdict, Verdict::Progressing, "its controller has not looked");
    let broken = of_revision(waiting("a", "n1", "ErrImageNeverPull"), "new");
    assert_eq!(judged(broken, Some("new")).verdict, Verdict::Stuck);
}

#[test]
fn a_stateful_set_that_waits_for_a_dead_node_is_unknown_until_a_pod_here_speaks_for_itself() {
    let status =
        json!({"replicas": 2, "readyReplicas": 1, "updateRevision": "new", "currentRevision": "old"});
    let set = workload("StatefulSet", json!({"replicas": 2}), status);
    let judged = |here: Value| {
        let away = of_revision(pod("db-0", "n2", false), "old");
        judge(&set, &around(json!([away, here]), &["n1"])).verdict
    };
    let here = |revision, ready| of_revision(pod("db-1", "n1", ready), revision);
    assert_eq!(judged(here("old", true)), Verdict::Unknown);
    assert_eq!(judged(here("new", true)), Verdict::Current);
    assert_eq!(judged(here("new", false)), Verdict::Progressing);
}

#[test]
fn a_replica_set_is_current_with_exactly_its_pods_available() {
    let set = |all: i64, available: i64| {
        workload(
            "ReplicaSet",
            json!({"replicas": 2}),
            json!({"replicas": all, "availableReplicas": available}),
        )
    };
    assert_eq!(verdict(&set(2, 2)), Verdict::Current);
    assert_eq!(verdict(&set(2, 1)), Verdict::Progressing);
    assert_eq!(verdict(&set(3, 2)), Verdict::Progressing);
}

#[test]
fn a_bare_pod_is_current_when_ready_or_succeeded_and_failed_when_failed() {
    let bare = |pod: Value| {
        let mut object = pod;
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("Pod");
        object
    };
    let mut done = pod("a", "n1", false);
    done["status"]["phase"] = json!("Succeeded");
    let mut failed = pod("a", "n1", false);
    failed["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "disk"});
    assert_eq!(verdict(&bare(pod("a", "n1", true))), Verdict::Current);
    assert_eq!(verdict(&bare(done)), Verdict::Current);
    assert_eq!(verdict(&bare(pod("a", "n1", false))), Verdict::Progressing);
    assert_eq!(verdict(&bare(waiting("a", "n1", "ErrImagePull"))), Verdict::Stuck);
    let judgement = judge(&bare(failed), &Surroundings::default());
    assert_eq!(judgement, Judgement::new(Verdict::Failed, "the pod has failed: Evicted: disk"));
    let gone = judge(&bare(pod("a", "n2", true)), &around(json!([]), &["n1"]));
    assert_eq!(gone.verdict, Verdict::Unknown);
}

#[test]
fn a_job_is_current_when_complete_and_failed_when_its_backoff_is_used_up() {
    let job = |conditions| with_conditions("batch/v1", "Job", conditions);
    assert_eq!(verdict(&job(json!([]))), Verdict::Progressing);
    assert_eq!(verdict(&job(json!([{"type": "Complete", "status": "True"}]))), Verdict::Current);
    let failed = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]);
    assert_eq!(verdict(&job(failed)), Verdict::Failed);
    let around = around(json!([waiting("a", "n1", "ErrImagePull")]), &["n1"]);
    assert_eq!(judge(&job(json!([])), &around).verdict, Verdict::Stuck);
    let mut suspended = job(json!([]));
    suspended["spec"] = json!({"suspend": true});
    assert_eq!(verdict(&suspended), Verdict::Current);
}

#[test]
fn cron_jobs_ingresses_configuration_and_addressless_load_balancers_hold_nothing_up() {
    let objects = [
        json!({"apiVersion": "batch/v1", "kind": "CronJob"}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "status": {"loadBalancer": {}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer"}}),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP"}}),
    ];
    assert!(objects.iter().all(|object| verdict(object) == Verdict::Current));
    assert!(!judge(&objects[3], &Surroundings::default()).reason.is_empty());
}

#[test]
fn autoscalers_and_disruption_budgets_are_evidence_only() {
    let idle = json!([{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}]);
    let scaler = with_conditions("autoscaling/v2", "HorizontalPodAutoscaler", idle);
    let judgement = judge(&scaler, &Surroundings::default());
    assert_eq!(judgement.verdict, Verdict::Current);
    assert!(judgement.reason.contains("FailedGetResourceMetric"));
    let blocked = json!([{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods"}]);
    let budget = with_conditions("policy/v1", "PodDisruptionBudget", blocked);
    assert_eq!(verdict(&budget), Verdict::Current);
}

#[test]
fn a_claim_is_current_when_bound_or_waiting_for_its_consumer_and_stuck_when_lost() {
    let claim = |phase: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase}});
    assert_eq!(verdict(&claim("Bound")), Verdict::Current);
    assert_eq!(verdict(&claim("Pending")), Verdict::Progressing);
    assert_eq!(verdict(&claim("Lost")), Verdict::Stuck);
    let patient = Surroundings { waits_for_consumer: true, ..Surroundings::default() };
    assert_eq!(judge(&claim("Pending"), &patient).verdict, Verdict::Current);
}

#[test]
fn a_terminating_namespace_progresses() {
    let namespace =
        |phase: &str| json!({"apiVersion": "v1", "kind": "Namespace", "status": {"phase": phase}});
    assert_eq!(verdict(&namespace("Active")), Verdict::Current);
    assert_eq!(verdict(&namespace("Terminating")), Verdict::Progressing);
}

#[test]
fn a_definition_must_be_established_and_its_names_free() {
    let crd = |conditions| with_conditions("apiextensions.k8s.io/v1", "CustomResourceDefinition", conditions);
    assert_eq!(verdict(&crd(json!([]))), Verdict::Progressing);
    assert_eq!(verdict(&crd(json!([{"type": "Established", "status": "True"}]))), Verdict::Current);
    let taken = json!([{"type": "NamesAccepted", "status": "False", "reason": "PluralConflict"}]);
    assert_eq!(verdict(&crd(taken)), Verdict::Stuck);
}

#[test]
fn an_api_service_must_be_available() {
    let service = |status: &str| {
        let conditions = json!([{"type": "Available", "status": status}]);
        with_conditions("apiregistration.k8s.io/v1", "APIService", conditions)
    };
    assert_eq!(verdict(&service("True")), Verdict::Current);
    assert_eq!(verdict(&service("False")), Verdict::Progressing);
}

#[test]
fn any_other_kind_goes_by_ready_reconciling_and_stalled() {
    let thing = |conditions| with_conditions("x.io/v1", "Thing", conditions);
    assert_eq!(verdict(&thing(json!([]))), Verdict::Current);
    assert_eq!(verdict(&thing(json!([{"type": "Ready", "status": "True"}]))), Verdict::Current);
    assert_eq!(verdict(&thing(json!([{"type": "Ready", "status": "Unknown"}]))), Verdict::Progressing);
    assert_eq!(verdict(&thing(json!([{"type": "Reconciling", "status": "True"}]))), Verdict::Progressing);
    assert_eq!(verdict(&thing(json!([{"type": "Stalled", "status": "True"}]))), Verdict::Stuck);
}

#[test]
fn a_kind_of_a_foreign_group_that_is_named_like_a_built_in_one_is_judged_as_foreign() {
    let job = with_conditions("batch.x.io/v1", "Job", json!([{"type": "Ready", "status": "True"}]));
    assert_eq!(verdict(&job), Verdict::Current);
}

fn pods(value: Value) -> Vec<Pod> {
    serde_json::from_value(value).expect("pods")
}

#[test]
fn evidence_tells_waits_ends_warnings_and_log_lines_in_this_order() {
    let mut crashed = waiting("b", "n1", "CrashLoopBackOff");
    crashed["status"]["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"exitCode": 137, "signal": 9, "reason": "OOMKilled"}});
    let warnings: Vec<Warning> = serde_json::from_value(json!([
        {"involvedObject": {"kind": "Pod", "namespace": "shop", "name": "b"}, "reason": "Old",
            "message": "m", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"involvedObject": {"kind": "Pod", "namespace": "shop", "name": "b"}, "reason": "Unhealthy",
            "message": "Readiness probe failed", "count": 4, "lastTimestamp": "2026-01-02T00:00:00Z"},
    ]))
    .expect("events");
    let log = LogTail {
        namespace: "shop".into(),
        pod: "b".into(),
        container: "app".into(),
        previous: true,
        text: "panic: \u{1b}[31mno database\n\n".into(),
    };
    let told = compose("Deployment shop/b", "1 of 2", &pods(json!([crashed])), warnings, &[log]);
    let words: Vec<(&str, &str)> =
        told.iter().map(|item| (item.reason.as_str(), item.message.as_str())).collect();
    assert_eq!(
        words,
        [
            ("NotHealthy", "1 of 2"),
            ("CrashLoopBackOff", "container app: no"),
            ("OOMKilled", "container app ended before with 137, signal 9"),
            ("Unhealthy", "Readiness probe failed (×4)"),
            ("Old", "m (×1)"),
            ("LogBefore", "app: panic:  [31mno database"),
            ("LogBefore", "app:"),
        ]
    );
    assert_eq!(told[3].object, "Pod shop/b");
}

#[test]
fn evidence_stays_within_its_bound_whatever_the_cluster_says() {
    let long = "ä".repeat(100_000);
    let mut all = Vec::new();
    for number in 0..200 {
        let mut pod = waiting(&format!("p{number}"), "n1", &long);
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = json!(long);
        all.push(pod);
    }
    let told = compose("Deployment shop/web", &long, &pods(Value::Array(all)), Vec::new(), &[]);
    let bytes: usize = told.iter().map(|e| e.object.len() + e.reason.len() + e.message.len()).sum();
    assert!(bytes > 7000 && bytes <= 8192, "{bytes} bytes");
}

#[test]
fn warnings_concern_an_object_and_what_was_made_for_it() {
    let warning = |name: &str| -> Warning {
        serde_json::from_value(json!({"involvedObject": {"name": name}})).expect("an event")
    };
    assert!(warning("web").concerns("web"));
    assert!(warning("web-5d8f-x2x").concerns("web"));
    assert!(!warning("website").concerns("web"));
}
