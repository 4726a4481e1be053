//! A second node that is only a row in the API: it was Ready once, and then it is gone.

use airlift_tests::clock::wait_until;
use airlift_tests::site::Site;
use serde_json::{Value, json};

use crate::journey::ROLLOUT;

const NAME: &str = "attic";
/// Only pods that tolerate this come here: nothing starts them.
const TAINT: &str = "airlift.test/no-kubelet";

/// The toleration that lets a pod come to the second node and stay: of everything, as pods that each node needs have it.
pub(super) fn toleration() -> Value {
    json!({"operator": "Exists"})
}

/// Says whether a pod is bound to the second node.
pub(super) fn holds(pod: &Value) -> bool {
    pod["spec"]["nodeName"] == NAME
}

/// The node; removed together with its pods by [`SecondNode::remove`].
pub(super) struct SecondNode<'a> {
    site: &'a Site,
    beats: u32,
}

impl<'a> SecondNode<'a> {
    /// Registers it, Ready.
    pub(super) fn register(site: &'a Site) -> Self {
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/hostname": NAME});
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": labels},
            "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
        });
        let file = site.bed().dir().join("second-node.json");
        std::fs::write(&file, node.to_string()).unwrap();
        let _ = site.kubectl(&["create", "-f", &file.display().to_string()]);
        let mut node = Self { site, beats: 0 };
        node.beat("True");
        node
    }

    /// Writes the condition Ready, as a kubelet would. Any new time is a sign of life, also one of 2001.
    fn beat(&mut self, ready: &str) {
        self.beats += 1;
        let time = format!("2001-01-01T00:{:02}:{:02}Z", self.beats / 60, self.beats % 60);
        let room = json!({"cpu": "4", "memory": "4Gi", "pods": "20"});
        let condition = json!({
            "type": "Ready", "status": ready, "reason": "ByHand", "message": "written by a test",
            "lastHeartbeatTime": time, "lastTransitionTime": time,
        });
        let status = json!({"capacity": room, "allocatable": room, "conditions": [condition]});
        self.patch_status(&["node", NAME], &status);
    }

    /// Waits for a pod of this app on the node, and says of it what a kubelet would: it runs and is ready.
    pub(super) fn run_pod(&mut self, app: &str) {
        let name = wait_until(&format!("a pod of {app} on {NAME}"), ROLLOUT, || {
            self.beat("True");
            let pods = self.site.get(&["pods", "-n", app]).ok_or("no list")?;
            let here = pods["items"].as_array().into_iter().flatten().find(|pod| holds(pod));
            let name = here.and_then(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned);
            name.ok_or_else(|| pods.to_string())
        });
        self.mark_pod(app, &name, "True");
    }

    /// Lets the node vanish: it is not Ready any more, nor are its pods, and nothing ends them.
    pub(super) fn vanish(&mut self, app: &str) {
        self.beat("Unknown");
        let pods = self.site.get(&["pods", "-n", app]).unwrap();
        for pod in pods["items"].as_array().unwrap().iter().filter(|pod| holds(pod)) {
            self.mark_pod(app, pod["metadata"]["name"].as_str().unwrap(), "False");
        }
        wait_until("the node to be tainted", ROLLOUT, || {
            let node = self.site.get(&["node", NAME]).ok_or("gone")?;
            let taints = node["spec"]["taints"].to_string();
            if taints.contains("node.kubernetes.io/unreachable") { Ok(()) } else { Err(taints) }
        });
    }

    /// Removes the node and what is bound to it: no kubelet would.
    pub(super) fn remove(self, app: &str) {
        let selector = format!("--field-selector=spec.nodeName={NAME}");
        let _ = self.site.kubectl(&["delete", "node", NAME]);
        let _ = self.site.kubectl(&["delete", "pods", "-n", app, &selector, "--force", "--grace-period=0"]);
    }

    fn mark_pod(&self, app: &str, name: &str, ready: &str) {
        let condition =
            |kind: &str| json!({"type": kind, "status": ready, "lastTransitionTime": "2001-01-01T00:00:00Z"});
        let status =
            json!({"phase": "Running", "conditions": [condition("Ready"), condition("ContainersReady")]});
        self.patch_status(&["pod", name, "-n", app], &status);
    }

    fn patch_status(&self, object: &[&str], status: &Value) {
        let patch = json!({"status": status}).to_string();
        let mut arguments = vec!["patch"];
        arguments.extend(object);
        arguments.extend(["--subresource=status", "--type=merge", "-p", &patch]);
        let _ = self.site.kubectl(&arguments);
    }
}
