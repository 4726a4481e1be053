//! Objects as the tests write them.

use std::sync::Arc;

use airlift_agent::core::object::{Gvk, ObjectRef};
use serde_json::Value;

/// The name of an object by its body.
pub(super) fn reference(object: &Value) -> ObjectRef {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let gvk = Gvk::new(&text("/apiVersion").unwrap(), &text("/kind").unwrap());
    let name = text("/metadata/name").unwrap();
    ObjectRef { gvk: Arc::new(gvk), namespace: text("/metadata/namespace"), name }
}
