//! The verdict on one object: kstatus for built-in kinds, `Ready` and `observedGeneration` for all others.
//!
//! It departs from kstatus where a site differs from a cluster in a data centre: a load balancer without an
//! address, an unbound claim that waits for its consumer, an autoscaler and a disruption budget hold nothing up;
//! a Job is as desired when it is complete, not when it has begun; and a deadline that the cluster counts on its
//! own clock (`progressDeadlineSeconds`) is `Stuck`, so that the settle clock has the last word.

use serde_json::Value;

use super::{Surroundings, pod, workload};
use crate::core::object::Verdict;

/// A verdict with one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What it waits for or why it fails; empty where all is well and there is nothing to add.
    pub reason: String,
}

impl Judgement {
    pub(crate) fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into() }
    }

    pub(crate) fn current() -> Self {
        Self::new(Verdict::Current, "")
    }

    pub(crate) fn progressing(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Progressing, reason)
    }

    pub(crate) fn stuck(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Stuck, reason)
    }
}

/// Judges a live object.
#[must_use]
pub fn judge(object: &Value, around: &Surroundings) -> Judgement {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Judgement::progressing("it is being deleted");
    }
    let generation = number(object, "/metadata/generation");
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if generation > 0 && observed.is_some_and(|observed| observed < generation) {
        return Judgement::progressing("its controller has not seen the newest version yet");
    }
    let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    match (group, text(object, "/kind")) {
        (
            "apps" | "",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController",
        ) => workload::judge_workload(object, around),
        ("", "Pod") => pod::judge_bare(object, around),
        ("batch", "Job") => job(object, around),
        ("", "Namespace") => namespace(object),
        ("", "PersistentVolumeClaim") => claim(object, around),
        ("", "Service") => service(object),
        ("autoscaling", "HorizontalPodAutoscaler") => neutral(object, "ScalingActive"),
        ("policy", "PodDisruptionBudget") => neutral(object, "DisruptionAllowed"),
        ("batch", "CronJob") | ("networking.k8s.io", "Ingress") => Judgement::current(),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("apiregistration.k8s.io", "APIService") => must(object, "Available"),
        _ => any_other(object),
    }
}

fn job(object: &Value, around: &Surroundings) -> Judgement {
    if let Some(failed) = Condition::find(object, "Failed").filter(Condition::is_true) {
        return Judgement::new(Verdict::Failed, failed.words());
    }
    let done = ["Complete", "SuccessCriteriaMet"];
    if done.iter().any(|name| Condition::find(object, name).is_some_and(|condition| condition.is_true())) {
        return Judgement::current();
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Judgement::new(Verdict::Current, "suspended by its own specification");
    }
    if let Some(reason) = around.pods.iter().find_map(pod::Pod::stuck_reason) {
        return Judgement::stuck(reason);
    }
    let wanted = object.pointer("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
    Judgement::progressing(format!("{} of {wanted} runs have succeeded", number(object, "/status/succeeded")))
}

fn namespace(object: &Value) -> Judgement {
    match text(object, "/status/phase") {
        "Terminating" => Judgement::progressing("the namespace is being deleted"),
        _ => Judgement::current(),
    }
}

fn claim(object: &Value, around: &Surroundings) -> Judgement {
    match text(object, "/status/phase") {
        "Bound" => Judgement::current(),
        "Lost" => Judgement::stuck("its volume is lost"),
        _ if around.waits_for_consumer => {
            Judgement::new(Verdict::Current, "not bound: it waits for a pod to use it")
        }
        _ => Judgement::progressing("the claim is not bound to a volume yet"),
    }
}

fn service(object: &Value) -> Judgement {
    let balanced = text(object, "/spec/type") == "LoadBalancer";
    let addresses = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    if balanced && addresses.is_none_or(Vec::is_empty) {
        return Judgement::new(Verdict::Current, "no load balancer has given it an address");
    }
    Judgement::current()
}

/// Holds nothing up; an untrue condition is told beside the verdict.
fn neutral(object: &Value, condition: &str) -> Judgement {
    match Condition::find(object, condition) {
        Some(found) if !found.is_true() => Judgement::new(Verdict::Current, found.words()),
        _ => Judgement::current(),
    }
}

fn definition(object: &Value) -> Judgement {
    if let Some(names) = Condition::find(object, "NamesAccepted").filter(Condition::is_false) {
        return Judgement::stuck(names.words());
    }
    must(object, "Established")
}

fn must(object: &Value, name: &str) -> Judgement {
    match Condition::find(object, name) {
        Some(condition) if condition.is_true() => Judgement::current(),
        Some(condition) => Judgement::progressing(condition.words()),
        None => Judgement::progressing(format!("condition {name} is not there yet")),
    }
}

fn any_other(object: &Value) -> Judgement {
    if let Some(stalled) = Condition::find(object, "Stalled").filter(Condition::is_true) {
        return Judgement::stuck(stalled.words());
    }
    if let Some(busy) = Condition::find(object, "Reconciling").filter(Condition::is_true) {
        return Judgement::progressing(busy.words());
    }
    match Condition::find(object, "Ready") {
        Some(ready) if !ready.is_true() => Judgement::progressing(ready.words()),
        _ => Judgement::current(),
    }
}

/// One entry of `status.conditions`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition<'a> {
    name: &'a str,
    status: &'a str,
    pub(crate) reason: &'a str,
    message: &'a str,
}

impl<'a> Condition<'a> {
    pub(crate) fn find(object: &'a Value, name: &str) -> Option<Self> {
        let all = object.pointer("/status/conditions")?.as_array()?;
        let found = all.iter().find(|condition| text(condition, "/type") == name)?;
        Some(Self {
            name: text(found, "/type"),
            status: text(found, "/status"),
            reason: text(found, "/reason"),
            message: text(found, "/message"),
        })
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub(crate) fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// `Ready is False: NotYet: still thinking`, without what is empty.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} is {}", self.name, self.status);
        for part in [self.reason, self.message] {
            if !part.is_empty() {
                words.push_str(": ");
                words.push_str(part);
            }
        }
        words
    }
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

pub(crate) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}
