//! The hash of the configuration that a pod template names, so that a changed ConfigMap or Secret restarts its pods
//! now, under watch, and not at the next reboot.
//!
//! Two passes over the objects: [`ConfigHashes::learn`] sees every rendered object, then
//! [`ConfigHashes::annotate`] marks each template. Only configuration of the same app counts; what others own can
//! change at any time and is theirs to roll out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::object::ObjectId;
use super::pods::{containers, template_pointer};
use crate::ids::{Sha256Digest, encode_hex};

/// The annotation on pod templates.
pub const CONFIG_HASH: &str = "airlift.dev/config-hash";

/// Namespace, kind and name of a ConfigMap or Secret.
type ConfigKey = (String, &'static str, String);

/// Hashes of an app's ConfigMaps and Secrets.
#[derive(Debug, Clone, Default)]
pub struct ConfigHashes {
    known: BTreeMap<ConfigKey, Sha256Digest>,
}

impl ConfigHashes {
    /// Remembers a rendered object if it is a ConfigMap or Secret.
    pub fn learn(&mut self, id: &ObjectId, object: &Value) {
        let kind = match id.group_kind().as_str() {
            "/ConfigMap" => "ConfigMap",
            "/Secret" => "Secret",
            _ => return,
        };
        let content = json!([object.get("data"), object.get("binaryData"), object.get("stringData")]);
        let digest = Sha256Digest::of(content.to_string().as_bytes());
        let namespace = id.namespace.clone().unwrap_or_default();
        self.known.insert((namespace, kind, id.name.clone()), digest);
    }

    /// Writes the annotation into the object's pod template, where it names configuration that is known.
    ///
    /// Only kinds whose pods are replaced when the template changes: a Job's template and a bare pod cannot change.
    pub fn annotate(&self, id: &ObjectId, object: &mut Value) {
        let replaces =
            id.group() == "apps" && matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet");
        let Some(base) = template_pointer(id).filter(|_| replaces) else { return };
        let namespace = id.namespace.clone().unwrap_or_default();
        let mut sha256 = Sha256::new();
        let mut found = false;
        for (kind, name) in named_configuration(id, object, base) {
            if let Some(digest) = self.known.get(&(namespace.clone(), kind, name.clone())) {
                sha256.update(format!("{kind}/{name} {digest}\n"));
                found = true;
            }
        }
        let template = object.pointer_mut(base).and_then(Value::as_object_mut);
        if let Some(template) = template.filter(|_| found) {
            let mapping = || Value::Object(Map::new());
            let metadata = template.entry("metadata").or_insert_with(mapping);
            let notes = metadata
                .as_object_mut()
                .map(|metadata| metadata.entry("annotations").or_insert_with(mapping));
            if let Some(notes) = notes {
                if notes.is_null() {
                    *notes = mapping();
                }
                if let Some(notes) = notes.as_object_mut() {
                    notes.insert(CONFIG_HASH.into(), encode_hex(&sha256.finalize()[..16]).into());
                }
            }
        }
    }
}

/// The ConfigMaps and Secrets that a template's volumes and containers name.
fn named_configuration(id: &ObjectId, object: &Value, base: &str) -> BTreeSet<(&'static str, String)> {
    let mut names = BTreeSet::new();
    let mut add = |kind: &'static str, place: Option<&Value>| {
        if let Some(name) = place.and_then(Value::as_str) {
            names.insert((kind, name.to_owned()));
        }
    };
    let list = |value: &'_ Value, pointer: &str| -> Vec<Value> {
        value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for container in containers(id, object) {
        for source in list(container, "/envFrom") {
            add("ConfigMap", source.pointer("/configMapRef/name"));
            add("Secret", source.pointer("/secretRef/name"));
        }
        for variable in list(container, "/env") {
            add("ConfigMap", variable.pointer("/valueFrom/configMapKeyRef/name"));
            add("Secret", variable.pointer("/valueFrom/secretKeyRef/name"));
        }
    }
    for volume in list(object, &format!("{base}/spec/volumes")) {
        add("ConfigMap", volume.pointer("/configMap/name"));
        add("Secret", volume.pointer("/secret/secretName"));
        for source in list(&volume, "/projected/sources") {
            add("ConfigMap", source.pointer("/configMap/name"));
            add("Secret", source.pointer("/secret/name"));
        }
    }
    names
}
