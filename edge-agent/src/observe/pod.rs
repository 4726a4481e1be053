//! Pods as far as a verdict and its evidence need them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Surroundings;
use super::judge::Judgement;
use crate::core::object::Verdict;

/// Reasons for which a container waits and that seldom go away by themselves: images that cannot be had, and
/// configuration that names something that is not there.
const STUCK: [&str; 11] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "PreCreateHookError",
    "RegistryUnavailable",
    "RunContainerError",
    "SignatureValidationFailed",
];

/// The part of a pod that is read; everything else is skipped while parsing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
    labels: BTreeMap<String, String>,
    owner_references: Vec<Owner>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Owner {
    uid: String,
    controller: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    affinity: Value,
}

/// Where a DaemonSet's pod says which node it is made for, before a scheduler binds it there.
const MADE_FOR: &str =
    "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
/// The label by which controllers mark a pod with the revision that it was made from.
const REVISION: &str = "controller-revision-hash";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    message: String,
    conditions: Vec<PodCondition>,
    init_container_statuses: Vec<Container>,
    container_statuses: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    name: String,
    status: String,
    reason: String,
    message: String,
}

/// One container of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// It answers its readiness probe, or has none.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: u64,
    /// What it does now.
    pub state: State,
    /// What it did before.
    pub last_state: State,
}

/// What a container does; one of these at most.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct State {
    /// It waits.
    pub waiting: Option<Waiting>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Why a container waits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// How a container ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i64,
    /// The signal that ended it, or 0.
    pub signal: i64,
    /// A word: `Error`, `OOMKilled`.
    pub reason: String,
    /// Its termination message.
    pub message: String,
}

impl Pod {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// Its identity.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// Whether the object of this UID is the controller that made it.
    #[must_use]
    pub fn is_of(&self, controller: &str) -> bool {
        self.metadata.owner_references.iter().any(|owner| owner.controller && owner.uid == controller)
    }

    /// The revision that it was made from; empty where its controller keeps none.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.metadata.labels.get(REVISION).map_or("", String::as_str)
    }

    /// Where it was scheduled to, or the one node that it was made for.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let made_for = || self.spec.affinity.pointer(MADE_FOR)?.as_str();
        self.spec.node_name.as_deref().or_else(made_for)
    }

    /// It is being deleted.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Its Ready condition is true.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// Restarts of all its containers.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.containers().map(|container| container.restart_count).sum()
    }

    /// Its containers, those that run first in front.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.status.init_container_statuses.iter().chain(&self.status.container_statuses)
    }

    fn condition(&self, name: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.name == name)
    }

    /// Why a container waits for something that seldom comes by itself.
    #[must_use]
    pub fn stuck_reason(&self) -> Option<String> {
        let mut waiting = self.containers().filter_map(|c| Some((c, c.state.waiting.as_ref()?)));
        let (container, waiting) = waiting.find(|(_, waiting)| STUCK.contains(&waiting.reason.as_str()))?;
        Some(self.tell(&container.name, waiting))
    }

    /// What the pod waits for, where it says so: a place, or a container that does not run.
    #[must_use]
    pub fn waiting_for(&self) -> Option<String> {
        if let Some((reason, message)) = self.unscheduled() {
            return Some(format!("pod {}: {reason}: {message}", self.name()));
        }
        let waiting = self.containers().find_map(|c| Some((c, c.state.waiting.as_ref()?)));
        waiting.map(|(container, waiting)| self.tell(&container.name, waiting))
    }

    /// Why no node takes it: a word and a sentence.
    #[must_use]
    pub fn unscheduled(&self) -> Option<(&str, &str)> {
        let scheduled = self.condition("PodScheduled").filter(|scheduled| scheduled.status == "False")?;
        Some((&scheduled.reason, &scheduled.message))
    }

    fn tell(&self, container: &str, waiting: &Waiting) -> String {
        let words = format!("pod {}: container {container}: {}", self.name(), waiting.reason);
        if waiting.message.is_empty() { words } else { format!("{words}: {}", waiting.message) }
    }
}

/// Judges a pod that no controller owns.
pub(super) fn judge_bare(object: &Value, around: &Surroundings) -> Judgement {
    let Ok(pod) = Pod::deserialize(object) else {
        return Judgement::new(Verdict::Unknown, "its status cannot be read");
    };
    let away = match (&around.ready_nodes, pod.node()) {
        (Some(ready), Some(node)) => !ready.contains(node),
        _ => false,
    };
    match pod.status.phase.as_str() {
        "Succeeded" => Judgement::current(),
        "Failed" => {
            let words = [pod.status.reason.as_str(), pod.status.message.as_str()];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let words = if words.is_empty() { "a container failed".to_owned() } else { words.join(": ") };
            Judgement::new(Verdict::Failed, format!("the pod has failed: {words}"))
        }
        _ if away => {
            let node = pod.node().unwrap_or_default();
            Judgement::new(Verdict::Unknown, format!("its node {node} is not Ready"))
        }
        "Running" if pod.is_ready() => Judgement::current(),
        _ => match pod.stuck_reason() {
            Some(reason) => Judgement::stuck(reason),
            None => Judgement::progressing(
                pod.waiting_for().unwrap_or_else(|| format!("pod {} is not ready", pod.name())),
            ),
        },
    }
}
