//! The verdict on workloads: their own counters first, then what their pods and nodes explain.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Surroundings;
use super::judge::{Condition, Judgement, number, text};
use crate::core::object::Verdict;

/// What the counters in a workload's status say.
enum Count {
    /// All there.
    Whole,
    /// On its way, for a reason that pods do not explain.
    Moving(String),
    /// So many pods are not ready; nodes that are away may explain it.
    Lacking(i64, String),
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
        "DaemonSet" => daemon_set(object),
        _ => replica_set(object),
    };
    let no_node = around.ready_nodes.as_ref().is_some_and(BTreeSet::is_empty);
    if wanted > 0 && no_node {
        return Judgement::new(Verdict::Unknown, "no node is Ready");
    }
    let (lacking, reason) = match count {
        Count::Whole => return Judgement::current(),
        Count::Moving(reason) => (None, reason),
        Count::Lacking(lacking, reason) => (Some(lacking), reason),
    };
    let away = away(around);
    if let Some(lacking) = lacking
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
            return Judgement::stuck(condition.words());
        }
    }
    let detail = around.pods.iter().filter(|pod| !pod.is_terminating()).find_map(|pod| pod.waiting_for());
    Judgement::progressing(detail.map_or(reason.clone(), |detail| format!("{reason}; {detail}")))
}

/// Names of pods that are not ready because their node is not.
fn away(around: &Surroundings) -> BTreeSet<&str> {
    let Some(ready) = &around.ready_nodes else { return BTreeSet::new() };
    let pods = around.pods.iter().filter(|pod| !pod.is_terminating() && !pod.is_ready());
    pods.filter(|pod| pod.node().is_some_and(|node| !ready.contains(node))).map(|pod| pod.name()).collect()
}

/// Everything that lacks is on nodes that are away: judged by the nodes that are here.
fn without_away_nodes(around: &Surroundings, away: &BTreeSet<&str>) -> Judgement {
    let pods = around.pods.iter().filter(|pod| away.contains(pod.name()));
    let nodes: BTreeSet<&str> = pods.filter_map(|pod| pod.node()).collect();
    let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
    if around.pods.iter().any(|pod| pod.is_ready()) {
        Judgement::new(Verdict::Current, format!("pending nodes: {nodes}"))
    } else {
        Judgement::new(Verdict::Unknown, format!("all its pods are on nodes that are not Ready: {nodes}"))
    }
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

fn daemon_set(object: &Value) -> (i64, Count) {
    let wanted = number(object, "/status/desiredNumberScheduled");
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
