//! Whether a rendered object stays inside what its release role may touch (trust rule 4).

use serde_json::Value;

use super::object::ObjectId;
use super::pods::{containers, find_images, find_template};
use crate::document::root::{Pattern, Scope};
use crate::layout::reference::ImageReference;

/// An object touches what its release role may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id}: {fault}")]
pub struct ScopeError {
    /// The object.
    pub id: ObjectId,
    /// What it touches.
    pub fault: String,
}

/// Checks a rendered object against a role's scope.
///
/// # Errors
/// [`ScopeError`], the first thing outside.
pub fn check_scope(id: &ObjectId, object: &Value, scope: &Scope) -> Result<(), ScopeError> {
    let refuse = |fault: String| Err(ScopeError { id: id.clone(), fault });
    let covers = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
    let kind = id.group_kind();
    match &id.namespace {
        Some(namespace) if !covers(&scope.namespaces, namespace) => {
            return refuse(format!("namespace {namespace} is outside the role's scope"));
        }
        None if kind == "/Namespace" && !covers(&scope.namespaces, &id.name) => {
            return refuse(format!("namespace {} is outside the role's scope", id.name));
        }
        None if kind != "/Namespace" && !covers(&scope.cluster_kinds, &kind) => {
            return refuse(format!("kind {kind} is outside the role's scope"));
        }
        _ => {}
    }
    for image in find_images(id, object) {
        let name: Result<ImageReference, _> = image.image.parse();
        if !name.is_ok_and(|name| covers(&scope.images, &name.to_string())) {
            return refuse(format!("image {} is outside the role's scope", image.image));
        }
    }
    if scope.privileged {
        return Ok(());
    }
    find_privilege(id, object)
        .map_or(Ok(()), |privilege| refuse(format!("{privilege}, and the role may not")))
}

/// The first thing by which the object reaches the node itself.
fn find_privilege(id: &ObjectId, object: &Value) -> Option<&'static str> {
    if id.group_kind() == "/PersistentVolume" {
        let local =
            ["/spec/hostPath", "/spec/local"].into_iter().any(|pointer| object.pointer(pointer).is_some());
        return local.then_some("it gives out a path of the node");
    }
    let spec = find_template(id, object)?.get("spec")?;
    let is_true = |value: &Value, pointer: &str| value.pointer(pointer) == Some(&Value::Bool(true));
    let has_items = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_array).is_some_and(|items| !items.is_empty())
    };
    if ["/hostNetwork", "/hostPID", "/hostIPC"].into_iter().any(|pointer| is_true(spec, pointer)) {
        return Some("its pods use the node's namespaces");
    }
    let volumes = spec.get("volumes").and_then(Value::as_array);
    if volumes.into_iter().flatten().any(|volume| volume.get("hostPath").is_some()) {
        return Some("its pods use paths of the node");
    }
    if has_items(spec, "/securityContext/sysctls")
        || is_true(spec, "/securityContext/windowsOptions/hostProcess")
    {
        return Some("its pods change settings of the node");
    }
    for container in containers(id, object) {
        if is_true(container, "/securityContext/privileged")
            || is_true(container, "/securityContext/windowsOptions/hostProcess")
            || container.pointer("/securityContext/procMount").is_some_and(|mount| mount != "Default")
        {
            return Some("it has a privileged container");
        }
        if has_items(container, "/securityContext/capabilities/add") {
            return Some("a container adds capabilities");
        }
        let ports = container.get("ports").and_then(Value::as_array);
        if ports
            .into_iter()
            .flatten()
            .any(|port| port.get("hostPort").is_some_and(|port| port.as_u64() != Some(0)))
        {
            return Some("a container uses a port of the node");
        }
    }
    None
}
