//! The pods of a workload, and what its controller wants of each: what healing decides on.

use serde_json::Value;

use super::judge::{number, text};
use super::pod::Pod;
use crate::core::api::PodFound;
use crate::core::object::Uid;

/// Reads a StatefulSet's or DaemonSet's pods; pods that it does not control are nobody's business.
///
/// `revision` is what a DaemonSet's controller wants; a StatefulSet says it itself.
#[must_use]
pub fn roster(workload: &Value, revision: Option<&str>, pods: &[Pod]) -> Vec<PodFound> {
    let uid = text(workload, "/metadata/uid");
    let wanted = wanted_revision(workload, revision);
    let partition = number(workload, "/spec/updateStrategy/rollingUpdate/partition");
    let ours = pods.iter().filter(|pod| !uid.is_empty() && pod.is_of(uid));
    let found = |pod: &Pod| PodFound {
        name: pod.name().to_owned(),
        uid: Uid(pod.uid().to_owned()),
        node: pod.node().map(str::to_owned),
        ready: pod.is_ready(),
        outdated: wanted.is_some_and(|wanted| pod.revision() != wanted)
            && ordinal(pod.name()).unwrap_or(i64::MAX) >= partition,
        terminating: pod.is_terminating(),
    };
    ours.map(found).collect()
}

/// The revision that every pod should be of; `None` where that is left to a person's hand, or where the controller
/// has not seen the newest specification, so that its word is of yesterday.
fn wanted_revision<'a>(workload: &'a Value, revision: Option<&'a str>) -> Option<&'a str> {
    let by_hand = text(workload, "/spec/updateStrategy/type") == "OnDelete";
    if by_hand || !is_seen(workload) {
        return None;
    }
    let told = match text(workload, "/kind") {
        "StatefulSet" => workload.pointer("/status/updateRevision").and_then(Value::as_str),
        _ => revision,
    };
    told.filter(|revision| !revision.is_empty())
}

/// Whether the controller has seen the newest specification.
pub(crate) fn is_seen(workload: &Value) -> bool {
    number(workload, "/status/observedGeneration") >= number(workload, "/metadata/generation")
}

/// The number at the end of a StatefulSet's pod; pods of others have none that means anything.
#[must_use]
pub fn ordinal(name: &str) -> Option<i64> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// The revision with the greatest number among those that a workload controls, as its pods name it.
#[must_use]
pub(crate) fn newest_revision(workload: &Value, revisions: &[Value]) -> Option<String> {
    let uid = workload.pointer("/metadata/uid")?;
    let owns = |revision: &&Value| {
        let owners = revision.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.is_some_and(|owners| owners.iter().any(|owner| owner.pointer("/uid") == Some(uid)))
    };
    let newest = revisions.iter().filter(owns).max_by_key(|revision| number(revision, "/revision"))?;
    newest.pointer("/metadata/labels/controller-revision-hash")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: &str, revision: &str) -> Pod {
        let pod = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"controller-revision-hash": revision},
            "ownerReferences": [{"uid": owner, "controller": true}]}});
        serde_json::from_value(pod).expect("a pod")
    }

    fn stateful_set(strategy: Value, observed: i64) -> Value {
        json!({"kind": "StatefulSet", "metadata": {"uid": "db", "generation": 3},
            "spec": {"updateStrategy": strategy},
            "status": {"observedGeneration": observed, "updateRevision": "db-new"}})
    }

    fn outdated(workload: &Value) -> Vec<bool> {
        let pods = [pod("db-0", "db", "db-old"), pod("db-1", "db", "db-old"), pod("db-2", "db", "db-new")];
        roster(workload, None, &pods).iter().map(|pod| pod.outdated).collect()
    }

    #[test]
    fn pods_of_another_revision_than_the_newest_are_outdated() {
        assert_eq!(outdated(&stateful_set(json!({"type": "RollingUpdate"}), 3)), [true, true, false]);
    }

    #[test]
    fn nothing_is_outdated_below_a_partition_by_hand_or_before_the_controller_looked() {
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
        assert_eq!(outdated(&stateful_set(partition, 3)), [false, true, false]);
        assert_eq!(outdated(&stateful_set(json!({"type": "OnDelete"}), 3)), [false; 3]);
        assert_eq!(outdated(&stateful_set(json!({"type": "RollingUpdate"}), 2)), [false; 3]);
    }

    #[test]
    fn pods_that_only_bear_the_labels_are_not_listed() {
        let set = stateful_set(json!({}), 3);
        assert!(roster(&set, None, &[pod("db-0", "somebody", "db-old")]).is_empty());
    }

    #[test]
    fn the_revision_with_the_greatest_number_is_the_wanted_one() {
        let revision = |name: &str, number: u64, owner: &str| {
            json!({"revision": number, "metadata": {"labels": {"controller-revision-hash": name},
                "ownerReferences": [{"uid": owner}]}})
        };
        let set = json!({"kind": "DaemonSet", "metadata": {"uid": "ds"}});
        let all = [revision("old", 3, "ds"), revision("new", 2, "ds"), revision("theirs", 9, "other")];
        assert_eq!(newest_revision(&set, &all).as_deref(), Some("old"), "a rollback renumbers the old one");
    }

    #[test]
    fn a_daemon_sets_pod_tells_its_node_before_it_is_bound() {
        let made_for = json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}}});
        let pod: Pod = serde_json::from_value(made_for).expect("a pod");
        assert_eq!(pod.node(), Some("n2"));
    }
}
