//! The verdict on workloads: their own counters first, then what their pods and nodes explain.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Surroundings;
use super::judge::{Condition, Judgement, number, text};
use super::pod::Pod;
use crate::core::object::Verdict;

/// How an API server words that an admission webhook could not be asked.
const FAILING_WEBHOOK: &str = "failed calling webhook";

/// What the counters in a workload's status say.
enum Count {
    /// All there.
    Whole,
    /// On its way, for a reason that pods do not explain.
    Moving(String),
    /// So many pods are not ready; nodes that are away may explain it.
    Lacking(i64, String),
    /// All there on the nodes that are here.
    Here(Judgement),
}

/// Judges a Deployment, StatefulSet, DaemonSet, ReplicaSet or ReplicationController.
pub(super) fn judge_workload(object: &Value, around: &Surroundings) -> Judgement {
    let kind = text(object, "/kind");
    if object.pointer("/status/observedGeneration").is_none() && number(object, "/metadata/generation") > 0 {
        return Judgement::progressing("its controller has not seen it yet");
    }
    let (wanted, count) = match kind {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object, around),
        _ => replica_set(object),
    };
    let no_node = around.ready_nodes.as_ref().is_some_and(BTreeSet::is_empty);
    if wanted > 0 && no_node {
        return Judgement::new(Verdict::Unknown, "no node is Ready");
    }
    let (lacking, reason) = match count {
        Count::Whole => return Judgement::current(),
        Count::Here(judgement) => return judgement,
        Count::Moving(reason) => (None, reason),
        Count::Lacking(lacking, reason) => (Some(lacking), reason),
    };
    let away = away(kind, around);
    if kind == "StatefulSet" && !away.is_empty() {
        if let Some(judgement) = stateful_set_here(object, around, &away) {
            return judgement;
        }
    } else if let Some(lacking) = lacking
        && !away.is_empty()
        && lacking <= i64::try_from(away.len()).unwrap_or(i64::MAX)
    {
        return without_away_nodes(around, &away);
    }
    let here = around.pods.iter().filter(|pod| !away.contains(&pod.name()));
    if let Some(stuck) = here.filter(|pod| !pod.is_terminating()).find_map(|pod| pod.stuck_reason()) {
        return Judgement::stuck(stuck);
    }
    for name in ["ReplicaFailure", "Progressing"] {
        if let Some(condition) = Condition::find(object, name)
            && (name == "ReplicaFailure" && condition.is_true()
                || condition.reason == "ProgressDeadlineExceeded")
        {
            let words = condition.words();
            // No pod of any app can be made then: it says nothing of this one.
            return if words.contains(FAILING_WEBHOOK) {
                Judgement::new(Verdict::Unknown, words)
            } else {
                Judgement::stuck(words)
            };
        }
    }
    let detail = around.pods.iter().filter(|pod| !pod.is_terminating()).find_map(|pod| pod.waiting_for());
    Judgement::progressing(detail.map_or(reason.clone(), |detail| format!("{reason}; {detail}")))
}

/// Names of pods that are not ready because their node is not. One that is going has a successor elsewhere, but
/// for a StatefulSet's, which must be gone first.
fn away<'a>(kind: &str, around: &'a Surroundings) -> BTreeSet<&'a str> {
    let Some(ready) = &around.ready_nodes else { return BTreeSet::new() };
    let stays = |pod: &&Pod| kind == "StatefulSet" || !pod.is_terminating();
    let pods = around.pods.iter().filter(stays).filter(|pod| !pod.is_ready());
    pods.filter(|pod| pod.node().is_some_and(|node| !ready.contains(node))).map(|pod| pod.name()).collect()
}

/// Everything that lacks is on nodes that are away: judged by the nodes that are here.
fn without_away_nodes(around: &Surroundings, away: &BTreeSet<&str>) -> Judgement {
    let nodes = nodes_of(around, away);
    if around.pods.iter().any(|pod| pod.is_ready()) {
        Judgement::new(Verdict::Current, format!("pending nodes: {nodes}"))
    } else {
        Judgement::new(Verdict::Unknown, format!("all its pods are on nodes that are not Ready: {nodes}"))
    }
}

fn nodes_of(around: &Surroundings, pods: &BTreeSet<&str>) -> String {
    let pods = around.pods.iter().filter(|pod| pods.contains(pod.name()));
    names(pods.filter_map(Pod::node).collect())
}

fn names(nodes: BTreeSet<&str>) -> String {
    nodes.into_iter().collect::<Vec<_>>().join(", ")
}

/// A StatefulSet with pods on nodes that are away. Its controller goes no further before they are ready, so nobody
/// can say how the rest of it would do; `None` where a pod that is here speaks for itself.
fn stateful_set_here(object: &Value, around: &Surroundings, away: &BTreeSet<&str>) -> Option<Judgement> {
    let revision = text(object, "/status/updateRevision");
    let here = || around.pods.iter().filter(|pod| !away.contains(pod.name()) && !pod.is_terminating());
    if here().any(|pod| pod.revision() == revision && !pod.is_ready()) {
        return None;
    }
    let wanted = usize::try_from(wanted_replicas(object)).unwrap_or(usize::MAX);
    let left = text(object, "/spec/updateStrategy/type") == "OnDelete"
        || number(object, "/spec/updateStrategy/rollingUpdate/partition") > 0;
    let whole = here().count() + away.len() >= wanted
        && here().all(|pod| pod.is_ready() && (left || pod.revision() == revision));
    if whole || here().next().is_none() {
        return Some(without_away_nodes(around, away));
    }
    let nodes = nodes_of(around, away);
    Some(Judgement::new(
        Verdict::Unknown,
        format!("it waits for its pods on nodes that are not Ready: {nodes}"),
    ))
}

fn wanted_replicas(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn deployment(object: &Value) -> (i64, Count) {
    let wanted = wanted_replicas(object);
    let exist = number(object, "/status/replicas");
    let updated = number(object, "/status/updatedReplicas");
    let available = number(object, "/status/availableReplicas");
    let paused = object.pointer("/spec/paused").and_then(Value::as_bool) == Some(true);
    let count = if updated < wanted && !paused {
        Count::Moving(format!("{updated} of {wanted} pods are of the new version"))
    } else if exist > updated && !paused {
        Count::Moving(format!("{} pods of the old version are still there", exist - updated))
    } else if available < wanted {
        Count::Lacking(wanted - available, format!("{available} of {wanted} pods are available"))
    } else {
        Count::Whole
    };
    (wanted, count)
}

fn replica_set(object: &Value) -> (i64, Count) {
    let wanted = wanted_replicas(object);
    let exist = number(object, "/status/replicas");
    let available = number(object, "/status/availableReplicas");
    let count = if exist > wanted {
        Count::Moving(format!("{} pods too many are still there", exist - wanted))
    } else if available < wanted {
        Count::Lacking(wanted - available, format!("{available} of {wanted} pods are available"))
    } else {
        Count::Whole
    };
    (wanted, count)
}

fn stateful_set(object: &Value) -> (i64, Count) {
    let wanted = wanted_replicas(object);
    let exist = number(object, "/status/replicas");
    let ready = number(object, "/status/readyReplicas");
    let updated = number(object, "/status/updatedReplicas");
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let by_hand = text(object, "/spec/updateStrategy/type") == "OnDelete";
    let revision = text(object, "/status/updateRevision");
    let count = if exist > wanted {
        Count::Moving(format!("{} pods too many are still there", exist - wanted))
    } else if ready < wanted {
        Count::Lacking(wanted - ready, format!("{ready} of {wanted} pods are ready"))
    } else if !by_hand && partition > 0 && updated < wanted - partition {
        Count::Moving(format!("{updated} of {} pods are of the new version", wanted - partition))
    } else if !by_hand && partition == 0 && text(object, "/status/currentRevision") != revision {
        Count::Moving(format!("{updated} of {wanted} pods are of the new version"))
    } else {
        Count::Whole
    };
    (wanted, count)
}

/// A DaemonSet by its pods on Ready nodes: its counters and its rollout wait for every node, also for one that is
/// dead, whose pod takes up `maxUnavailable` for as long as it is.
fn daemon_set_here(object: &Value, around: &Surroundings, elsewhere: BTreeSet<&str>) -> Count {
    let wanted = number(object, "/status/desiredNumberScheduled");
    let wanted = wanted - i64::try_from(elsewhere.len()).unwrap_or(i64::MAX);
    let by_hand = text(object, "/spec/updateStrategy/type") == "OnDelete";
    let here = around.pods.iter().filter(|pod| pod.node().is_some_and(|node| !elsewhere.contains(node)));
    let (going, here): (Vec<&Pod>, Vec<&Pod>) = here.partition(|pod| pod.is_terminating());
    let count = |is: &dyn Fn(&Pod) -> bool| here.iter().filter(|pod| is(pod)).count();
    let updated = match &around.revision {
        _ if by_hand => here.len(),
        Some(revision) => count(&|pod| pod.revision() == revision),
        None => return Count::Moving("its controller has not seen the newest version yet".to_owned()),
    };
    let (there, ready) = (here.len(), count(&Pod::is_ready));
    if i64::try_from(there).unwrap_or(i64::MAX) < wanted {
        Count::Moving(format!("{there} of {wanted} Ready nodes have their pod"))
    } else if updated < there || !going.is_empty() {
        Count::Moving(format!("{updated} of {there} pods on Ready nodes are of the new version"))
    } else if ready < there {
        Count::Moving(format!("{ready} of {there} pods on Ready nodes are ready"))
    } else {
        Count::Here(Judgement::new(Verdict::Current, format!("pending nodes: {}", names(elsewhere))))
    }
}

fn daemon_set(object: &Value, around: &Surroundings) -> (i64, Count) {
    let wanted = number(object, "/status/desiredNumberScheduled");
    if let Some(ready) = &around.ready_nodes {
        let nodes = around.pods.iter().filter_map(Pod::node);
        let elsewhere: BTreeSet<&str> = nodes.filter(|node| !ready.contains(*node)).collect();
        if !elsewhere.is_empty() {
            return (wanted, daemon_set_here(object, around, elsewhere));
        }
    }
    let scheduled = number(object, "/status/currentNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    let by_hand = text(object, "/spec/updateStrategy/type") == "OnDelete";
    let count = if scheduled < wanted {
        Count::Moving(format!("{scheduled} of {wanted} nodes have their pod"))
    } else if !by_hand && updated < wanted {
        Count::Lacking(wanted - updated, format!("{updated} of {wanted} pods are of the new version"))
    } else if available < wanted {
        Count::Lacking(wanted - available, format!("{available} of {wanted} pods are available"))
    } else {
        Count::Whole
    };
    (wanted, count)
}
