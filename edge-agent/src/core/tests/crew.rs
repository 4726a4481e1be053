//! The pods of a workload as its controller would move them: with what a real one leaves undone.

use airlift_bundles::document::status::NodeStatus;

use crate::core::api::PodFound;
use crate::core::object::{ObjectRef, Uid};

/// Pods of a StatefulSet of three, or of a DaemonSet; what `bad` content makes never becomes ready.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    name: String,
    on_each_node: bool,
    pub wanted: String,
    pub pods: Vec<(PodFound, String)>,
}

fn is_here(pod: &PodFound, nodes: &[NodeStatus]) -> bool {
    nodes.iter().any(|node| node.ready && pod.node.as_deref() == Some(&node.name))
}

impl Crew {
    pub(super) fn of(object: &ObjectRef) -> Option<Self> {
        let on_each_node = match object.gvk.kind.as_str() {
            "StatefulSet" => false,
            "DaemonSet" => true,
            _ => return None,
        };
        Some(Self { name: object.name.clone(), on_each_node, wanted: String::new(), pods: Vec::new() })
    }

    fn make(&mut self, name: String, node: &NodeStatus, uids: &mut u64) {
        *uids += 1;
        let pod = PodFound {
            name,
            uid: Uid(format!("pod-{uids}")),
            node: Some(node.name.clone()),
            ready: node.ready && !self.wanted.contains("bad"),
            outdated: false,
            terminating: false,
        };
        self.pods.push((pod, self.wanted.clone()));
    }

    /// Does what the controller does until it does no more.
    pub(super) fn roll(&mut self, nodes: &[NodeStatus], uids: &mut u64) -> Vec<PodFound> {
        for (pod, content) in &mut self.pods {
            let here = is_here(pod, nodes);
            pod.outdated = *content != self.wanted;
            pod.ready = here && !content.contains("bad");
        }
        while if self.on_each_node {
            self.roll_on_nodes(nodes, uids)
        } else {
            self.roll_in_order(nodes, uids)
        } {}
        self.pods.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        self.pods.iter().map(|(pod, _)| pod.clone()).collect()
    }

    /// Makes the lowest missing pod when all below are ready; replaces the highest old one when all are.
    fn roll_in_order(&mut self, nodes: &[NodeStatus], uids: &mut u64) -> bool {
        let Some(node) = nodes.iter().find(|node| node.ready) else { return false };
        for number in 0..3 {
            let name = format!("{}-{number}", self.name);
            match self.pods.iter().find(|(pod, _)| pod.name == name) {
                None => {
                    self.make(name, node, uids);
                    return true;
                }
                Some((pod, _)) if !pod.ready => return false,
                Some(_) => {}
            }
        }
        let old = self.pods.iter().filter(|(pod, _)| pod.outdated).map(|(pod, _)| pod.name.clone()).max();
        self.pods.retain(|(pod, _)| Some(&pod.name) != old.as_ref());
        old.is_some()
    }

    /// Gives each node its pod; one that is not ready, dead nodes' included, uses up `maxUnavailable`.
    fn roll_on_nodes(&mut self, nodes: &[NodeStatus], uids: &mut u64) -> bool {
        for node in nodes {
            if !self.pods.iter().any(|(pod, _)| pod.node.as_deref() == Some(&node.name)) {
                *uids += 1;
                self.make(format!("{}-{uids}", self.name), node, uids);
                return true;
            }
        }
        if let Some((pod, _)) =
            self.pods.iter_mut().find(|(pod, _)| pod.outdated && !pod.ready && !pod.terminating)
        {
            let uid = pod.uid.clone();
            self.delete(&uid, false, nodes);
            return true;
        }
        let unavailable = self.pods.iter().any(|(pod, _)| !pod.ready);
        let old =
            self.pods.iter().find(|(pod, _)| pod.outdated && !unavailable).map(|(pod, _)| pod.uid.clone());
        if let Some(uid) = &old {
            self.delete(uid, false, nodes);
        }
        old.is_some()
    }

    /// A pod on a dead node stays until somebody deletes it by force.
    pub(super) fn delete(&mut self, uid: &Uid, force: bool, nodes: &[NodeStatus]) {
        for (pod, _) in &mut self.pods {
            pod.terminating |= pod.uid == *uid;
        }
        self.pods.retain(|(pod, _)| pod.uid != *uid || !force && !is_here(pod, nodes));
    }

    /// Judged by the nodes that are Ready.
    pub(super) fn is_well(&self, nodes: &[NodeStatus]) -> bool {
        let here = || self.pods.iter().filter(|(pod, _)| is_here(pod, nodes));
        let ready_nodes = nodes.iter().filter(|node| node.ready).count();
        let wanted = if self.on_each_node { ready_nodes } else { 3 };
        here().count() == wanted && here().all(|(pod, _)| pod.ready && !pod.outdated && !pod.terminating)
    }
}
