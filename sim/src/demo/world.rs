//! What a demo agent acts on: a model cluster and a model container runtime, which live and die with its process.
//!
//! A site that loses power loses both, so that everything there has to come back from the agent's own disk.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use airlift_agent::World;
use airlift_agent::clock::Clock;
use airlift_agent::config::{Config, host_platform};
use airlift_agent::core::object::{Gvk, ObjectRef};
use airlift_bundles::document::status::NodeStatus;
use serde_json::{Value, json};

use super::app::APP;
use super::sites::is_model;
use crate::cluster::{Model, ModelCluster, Settings, Trouble};
use crate::images::ModelImages;

/// From a change of a workload to its pods being ready.
const READY_AFTER_MS: u64 = 1_200;
/// What the import of an image takes.
const IMPORT_TAKES: Duration = Duration::from_millis(300);
/// Between two looks of the account that a cluster gives of itself.
const ACCOUNT_EVERY: Duration = Duration::from_millis(100);

/// The world for these arguments of `airlift-agent`: the model's where it is to run and its configuration names a
/// model cluster, else that of the machine.
#[must_use]
pub fn of(args: &[OsString]) -> World {
    let named = args.iter().position(|arg| arg == "--config").and_then(|at| args.get(at + 1));
    let runs = args.iter().any(|arg| arg == "run");
    match named.filter(|_| runs).map(|path| Config::load(Some(Path::new(path)))) {
        Some(Ok(config)) if is_model(&config.kubernetes.kubeconfig) => model(config.kubernetes.kubeconfig),
        // A configuration that cannot be read is told by the agent itself.
        _ => World::default(),
    }
}

fn model(account: PathBuf) -> World {
    let node = NodeStatus {
        name: "node".into(),
        ready: true,
        schedulable: true,
        disk_pressure: false,
        platform: host_platform(),
        kubelet: "model".into(),
    };
    let settings =
        Settings { ready_after_ms: READY_AFTER_MS, trouble: Arc::new(diagnose), ..Settings::default() };
    let clock = Clock::system();
    // A cluster that was rebuilt is another one, and says so by its UIDs.
    let number = clock.now().mono_ms;
    let cluster =
        ModelCluster::new(Model::new(number, vec![node], settings), Arc::new(move || clock.now().mono_ms));
    let watched = cluster.clone();
    thread::spawn(move || give_account(&watched, &account));
    World { cluster: Some(Arc::new(cluster)), images: Some(Arc::new(ModelImages::new(IMPORT_TAKES))) }
}

/// The sample program ends with an error when it is given an argument.
fn diagnose(object: &Value) -> Option<Trouble> {
    let containers = object.pointer("/spec/template/spec/containers")?.as_array()?;
    let fails = |container: &Value| container["args"].as_array().is_some_and(|args| !args.is_empty());
    containers.iter().any(fails).then_some(Trouble::Crash)
}

/// Writes what is in the cluster, whenever it changed, for whoever wants to look.
fn give_account(cluster: &ModelCluster, path: &Path) {
    let mut written = Value::Null;
    loop {
        let now = cluster.with(account);
        if now != written {
            let temporary = path.with_extension("new");
            // A full disk is told by the agent; here the next change tries again.
            let _ = fs::write(&temporary, format!("{now:#}\n")).and_then(|()| fs::rename(&temporary, path));
            written = now;
        }
        thread::sleep(ACCOUNT_EVERY);
    }
}

fn account(model: &mut Model, now_ms: u64) -> Value {
    let name = |object: &ObjectRef| {
        let namespace = object.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        format!("{} {namespace}{}", object.gvk.kind, object.name)
    };
    let objects: Vec<String> = model.objects().map(name).collect();
    let mut get = |api_version: &str, kind: &str, name: &str| {
        let object = ObjectRef {
            gvk: Arc::new(Gvk::new(api_version, kind)),
            namespace: Some(APP.into()),
            name: name.into(),
        };
        model.get(now_ms, &object).unwrap_or_default()
    };
    let deployment = get("apps/v1", "Deployment", APP);
    let screen = get("v1", "ConfigMap", "screen");
    let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
    let tag = image.and_then(|image| image.split('@').next()?.rsplit_once(':')).map(|(_, tag)| tag);
    json!({
        "version": tag,
        "wanted": deployment.pointer("/spec/replicas"),
        "ready": deployment.pointer("/status/readyReplicas"),
        "welcome": screen.pointer("/data/welcome"),
        "objects": objects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_container_with_arguments_is_in_trouble() {
        let of = |args: Value| json!({"spec": {"template": {"spec": {"containers": [{"args": args}]}}}});
        assert_eq!(diagnose(&of(json!(["fail"]))), Some(Trouble::Crash));
        assert_eq!(diagnose(&of(json!([]))), None);
        assert_eq!(diagnose(&json!({"data": {}})), None);
    }

    #[test]
    fn an_empty_cluster_has_no_version_and_no_pods() {
        let mut model = Model::new(1, Vec::new(), Settings::default());
        let account = account(&mut model, 1);
        assert!(account["version"].is_null() && account["ready"].is_null());
        assert_eq!(account["objects"], json!(["Namespace default", "Namespace kube-system"]));
    }

    #[test]
    fn only_run_with_a_model_configuration_gets_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.toml");
        let args =
            |verb: &str| ["airlift-agent", verb, "--config", config.to_str().unwrap()].map(OsString::from);
        fs::write(&config, format!("[kubernetes]\nkubeconfig = {:?}\n", folder.path().join("cluster.json")))
            .unwrap();
        assert!(of(&args("run")).cluster.is_some());
        assert!(of(&args("status")).cluster.is_none());
        fs::write(&config, "[kubernetes]\nkubeconfig = \"/etc/k3s.yaml\"\n").unwrap();
        assert!(of(&args("run")).cluster.is_none());
    }
}
