//! What `metadata` says about whose an object is.
//!
//! Membership is never read from labels: an object is ours when the API server recorded fields for our manager.

use std::collections::BTreeMap;

use airlift_bundles::ids::{AppName, Blake3Digest};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::others::Owner;
use crate::core::object::Uid;

/// Every manager of ours is this and the app's name.
pub const MANAGER_PREFIX: &str = "airlift/";

/// Marks of other tools that track objects: annotation or label, and the tool.
const TRACKERS: [(&str, &str); 9] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("meta.helm.sh/release-name", "Helm"),
    ("kapp.k14s.io/app", "kapp"),
    ("configsync.gke.io/resource-id", "Config Sync"),
    ("configmanagement.gke.io/managed", "Config Sync"),
    ("objectset.rio.cattle.io/hash", "K3s manifests"),
];

/// An object reduced to its metadata.
#[derive(Debug, Deserialize)]
pub struct MetadataOnly<'a> {
    /// The metadata.
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
}

/// The part of an object's metadata that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata<'a> {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its identity.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// Being deleted since.
    pub deletion_timestamp: Option<String>,
    labels: BTreeMap<String, IgnoredAny>,
    annotations: BTreeMap<String, IgnoredAny>,
    owner_references: Vec<OwnerReference>,
    #[serde(borrow)]
    managed_fields: Vec<Entry<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerReference {
    api_version: String,
    kind: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry<'a> {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    #[serde(borrow)]
    fields_v1: Option<&'a RawValue>,
}

/// A field set: nested maps all the way down. Sorted, because API servers do not promise an order.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Fields(BTreeMap<String, Self>);

impl Metadata<'_> {
    /// Hash of the entry of `airlift/<app>` (fields and apiVersion, not its time); `None` where there is none.
    #[must_use]
    pub fn hash_of(&self, app: &str) -> Option<Blake3Digest> {
        self.ours().find(|(name, _)| *name == app).map(|(_, entry)| entry.hash())
    }

    /// The first app of ours that has an entry, with its hash.
    #[must_use]
    pub fn entry(&self) -> Option<(AppName, Blake3Digest)> {
        self.ours().find_map(|(name, entry)| Some((AppName::new(name).ok()?, entry.hash())))
    }

    /// Another app of ours, or another tool that tracks this object by a mark that is not of our own making.
    #[must_use]
    pub fn other_owner(&self, app: &str) -> Option<String> {
        if let Some((name, _)) = self.ours().find(|(name, _)| *name != app) {
            return Some(format!("{MANAGER_PREFIX}{name}"));
        }
        let marked = |mark: &str| self.labels.contains_key(mark) || self.annotations.contains_key(mark);
        let (mark, tool) = TRACKERS.iter().find(|(mark, _)| marked(mark))?;
        let own = self.ours().any(|(_, entry)| entry.holds_mark(mark));
        (!own).then(|| (*tool).to_owned())
    }

    /// What it goes with.
    #[must_use]
    pub fn owners(&self) -> Vec<Owner> {
        let owner = |reference: &OwnerReference| {
            let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
            Owner { kind: format!("{group}/{}", reference.kind), uid: Uid(reference.uid.clone()) }
        };
        self.owner_references.iter().map(owner).collect()
    }

    fn ours(&self) -> impl Iterator<Item = (&str, &Entry<'_>)> {
        let applied = self.managed_fields.iter().filter(|entry| entry.operation == "Apply");
        applied
            .filter(|entry| entry.subresource.is_empty())
            .filter_map(|entry| Some((entry.manager.strip_prefix(MANAGER_PREFIX)?, entry)))
    }
}

impl Entry<'_> {
    fn fields(&self) -> Fields {
        // A set that is not nested maps is none that any API server writes; it then counts as empty.
        self.fields_v1.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    fn hash(&self) -> Blake3Digest {
        let fields = serde_json::to_string(&self.fields()).expect("maps of strings are always JSON");
        Blake3Digest::of(format!("{}\n{fields}", self.api_version).as_bytes())
    }

    fn holds_mark(&self, mark: &str) -> bool {
        let Fields(fields) = self.fields();
        let metadata = fields.get("f:metadata");
        ["f:labels", "f:annotations"].iter().any(|place| {
            let inner = metadata.and_then(|Fields(metadata)| metadata.get(*place));
            inner.is_some_and(|Fields(inner)| inner.contains_key(&format!("f:{mark}")))
        })
    }
}

/// Reads the metadata of one object.
///
/// # Errors
/// Where the bytes are not an object with metadata.
pub fn read(bytes: &[u8]) -> Result<MetadataOnly<'_>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(managed: &str, labels: &str) -> String {
        format!(r#"{{"metadata":{{"name":"x","uid":"u","labels":{labels},"managedFields":{managed}}}}}"#)
    }

    fn hash(managed: &str) -> Option<Blake3Digest> {
        read(object(managed, "{}").as_bytes()).expect("metadata").metadata.hash_of("shop")
    }

    const OURS: &str = r#"[{"manager":"airlift/shop","operation":"Apply","apiVersion":"v1","time":"T1",
        "fieldsV1":{"f:data":{"f:a":{},"f:b":{}}}}]"#;

    #[test]
    fn the_hash_ignores_order_and_time_and_sees_a_lost_field() {
        let other_order = OURS.replace(r#""f:a":{},"f:b":{}"#, r#""f:b":{},"f:a":{}"#).replace("T1", "T2");
        assert_eq!(hash(OURS), hash(&other_order));
        let shrunk = OURS.replace(r#","f:b":{}"#, "");
        assert!(hash(&shrunk).is_some() && hash(&shrunk) != hash(OURS));
        assert_ne!(hash(OURS), hash(&OURS.replace(r#""v1""#, r#""v2""#)));
    }

    #[test]
    fn an_object_that_we_only_updated_or_that_others_applied_is_not_ours() {
        assert_eq!(hash("[]"), None);
        assert_eq!(hash(&OURS.replace("Apply", "Update")), None);
        assert_eq!(hash(&OURS.replace("airlift/shop", "kubectl")), None);
    }

    #[test]
    fn another_app_and_another_tool_are_named() {
        let foreign = OURS.replace("airlift/shop", "airlift/other");
        let text = object(&foreign, "{}");
        let found = read(text.as_bytes()).expect("metadata").metadata;
        assert_eq!(found.other_owner("shop").as_deref(), Some("airlift/other"));
        assert_eq!(found.other_owner("other"), None);
        let text = object("[]", r#"{"kapp.k14s.io/app":"1"}"#);
        let found = read(text.as_bytes()).expect("metadata").metadata;
        assert_eq!(found.other_owner("shop").as_deref(), Some("kapp"));
    }

    #[test]
    fn a_mark_that_our_own_manifest_carries_is_no_other_owner() {
        let managed = OURS
            .replace("f:data", "f:metadata")
            .replace(r#"{"f:a":{},"f:b":{}}"#, r#"{"f:labels":{"f:kapp.k14s.io/app":{}}}"#);
        let text = object(&managed, r#"{"kapp.k14s.io/app":"1"}"#);
        assert_eq!(read(text.as_bytes()).expect("metadata").metadata.other_owner("shop"), None);
    }
}
