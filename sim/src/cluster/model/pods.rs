//! The pods of StatefulSets and DaemonSets, as far as healing them is modelled.
//!
//! One behaviour of real controllers matters: a StatefulSet does not replace a pod that never became ready, whatever
//! is applied. So one that was in trouble stays as it is after its next change, until its highest pod is deleted.

use airlift_agent::core::api::{ApiError, PodFound};
use airlift_agent::core::object::{ObjectRef, Uid};

use super::{Model, Stored, behaviour};

impl Stored {
    /// Whether a change of this object leaves a pod behind that nobody replaces.
    pub(super) fn leaves_a_broken_pod(&self, object: &ObjectRef, troubled: bool) -> bool {
        object.gvk.kind == "StatefulSet" && (self.stuck || self.settled && troubled)
    }

    fn pod_uid(&self, number: u64) -> Uid {
        let made = if self.stuck { self.generation - 1 } else { self.generation };
        Uid(format!("{}-{number}-{made}", self.uid.0))
    }
}

impl Model {
    /// The pods that a workload controls.
    ///
    /// # Errors
    /// As an API server's.
    pub fn pods(&mut self, object: &ObjectRef) -> Result<Vec<PodFound>, ApiError> {
        self.door()?;
        self.known(&object.gvk)?;
        let Some(stored) = self.objects.get(object) else { return Ok(Vec::new()) };
        let nodes: Vec<String> = self.ready_nodes().map(|node| node.name.clone()).collect();
        let count = behaviour::wanted_pods(&object.gvk, &stored.content.body, nodes.len() as u64);
        let well = stored.settled && (self.settings.trouble)(&stored.content.body).is_none();
        let pod = |number: u64| PodFound {
            name: format!("{}-{number}", object.name),
            uid: stored.pod_uid(number),
            node: nodes.iter().cycle().nth(usize::try_from(number).unwrap_or(0)).cloned(),
            ready: well || stored.stuck && number + 1 < count,
            outdated: stored.stuck,
            terminating: false,
        };
        Ok((0..count).map(pod).collect())
    }

    /// Deletes a pod, if it is still that one; its controller goes on then.
    ///
    /// # Errors
    /// As an API server's.
    pub fn delete_pod(&mut self, now_ms: u64, pod: &ObjectRef, uid: &Uid) -> Result<(), ApiError> {
        self.door()?;
        let owner = self.objects.iter().find(|(object, stored)| {
            let number = pod.name.strip_prefix(&format!("{}-", object.name)).and_then(|n| n.parse().ok());
            behaviour::has_pods(&object.gvk)
                && object.namespace == pod.namespace
                && number.is_some_and(|number| stored.pod_uid(number) == *uid)
        });
        let Some(owner) = owner.map(|(object, _)| object.clone()) else { return Ok(()) };
        if let Some(stored) = self.objects.get_mut(&owner).filter(|stored| stored.stuck) {
            stored.stuck = false;
            self.expect_later(now_ms, &owner);
            self.touch(&owner);
        }
        Ok(())
    }
}
