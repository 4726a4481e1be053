//! What an API server refuses to change, and whose an object is: the product's own table and rules over the model.

use std::collections::BTreeSet;

use airlift_agent::apply::others::{Holding, Owner};
use airlift_agent::core::api::{ApiError, ApiErrorClass};
use airlift_agent::core::object::{ObjectRef, Uid};
use airlift_bundles::render::object::ObjectId;
use airlift_bundles::reversal::blocked_fields;
use serde_json::Value;

/// Refuses an update of a field that cannot change.
pub(super) fn check_update(
    object: &ObjectRef,
    from: &Value,
    to: &Value,
    stored: &BTreeSet<String>,
) -> Result<(), ApiError> {
    let id = ObjectId {
        api_version: object.gvk.api_version(),
        kind: object.gvk.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    match blocked_fields(&id, from, to, stored).first() {
        None => Ok(()),
        Some(field) => {
            let message = format!("{object} is invalid: {field}: field is immutable");
            Err(ApiError { class: ApiErrorClass::Final, status: 422, message })
        }
    }
}

/// The version in which a definition stores objects.
pub(super) fn storage_version(body: &Value) -> Option<&str> {
    let versions = body.pointer("/spec/versions").and_then(Value::as_array);
    versions.into_iter().flatten().find(|version| version["storage"] == true)?["name"].as_str()
}

/// An object by what decides whose it is.
pub(super) fn holding(object: &ObjectRef, terminating: bool, uid: &Uid, body: &Value) -> Holding {
    let references = body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owner = |reference: &Value| {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        Owner { kind: format!("{group}/{}", text("kind")), uid: Uid(text("uid").to_owned()) }
    };
    Holding {
        kind: format!("{}/{}", object.gvk.group, object.gvk.kind),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        uid: uid.clone(),
        owners: references.into_iter().flatten().map(owner).collect(),
        terminating,
    }
}

/// Whether a pod uses a claim.
pub(super) fn uses_claim(body: &Value, claim: &str) -> bool {
    let volumes = body.pointer("/spec/volumes").and_then(Value::as_array);
    volumes.into_iter().flatten().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
}

/// Whether an autoscaler scales an object.
pub(super) fn scales(autoscaler: &Value, object: &ObjectRef) -> bool {
    let Some(target) = autoscaler.pointer("/spec/scaleTargetRef") else { return false };
    target["kind"] == object.gvk.kind.as_str() && target["name"] == object.name.as_str()
}
