//! Which Kubernetes object a value is: its identity, checked so that it can stand in a URL.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::release::ParameterTarget;
use crate::ids::is_dns_label;

/// A value is not an object that can be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct ObjectError {
    /// JSON pointer of the field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: String,
}

/// One object of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectId {
    /// `apps/v1`, or `v1` in the core group.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl ObjectId {
    /// Reads and checks the identity of an object.
    ///
    /// # Errors
    /// [`ObjectError`] naming the field that is missing or has no valid form.
    pub fn of(object: &Value) -> Result<Self, ObjectError> {
        let text = |field: &'static str| match object.pointer(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(ObjectError { field, fault: "is not text".into() }),
            None => Err(ObjectError { field, fault: "is missing".into() }),
        };
        let namespace = match object.pointer("/metadata/namespace") {
            None | Some(Value::Null) => None,
            Some(_) => Some(text("/metadata/namespace")?),
        };
        let id = Self {
            api_version: text("/apiVersion")?,
            kind: text("/kind")?,
            namespace,
            name: text("/metadata/name")?,
        };
        id.check()?;
        Ok(id)
    }

    /// Checks each part's form.
    ///
    /// # Errors
    /// [`ObjectError`] for the first part that has none.
    pub fn check(&self) -> Result<(), ObjectError> {
        let refuse = |field, text: &str, form: &str| {
            let text: String = text.chars().take(80).collect();
            Err(ObjectError { field, fault: format!("{text:?} is not {form}") })
        };
        let (group, version) = split_api_version(&self.api_version);
        let group_fits = group.is_empty() && !self.api_version.contains('/') || is_dns_name(group);
        if !group_fits || !is_dns_label(version) {
            return refuse("/apiVersion", &self.api_version, "a group and version such as apps/v1");
        }
        let word = |text: &str| text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !word(&self.kind) || !self.kind.starts_with(|first: char| first.is_ascii_uppercase()) {
            return refuse("/kind", &self.kind, "a kind such as Deployment");
        }
        if let Some(namespace) = self.namespace.as_deref().filter(|name| !is_dns_label(name)) {
            return refuse("/metadata/namespace", namespace, "a namespace (DNS label)");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        let dots = self.name == "." || self.name == "..";
        if self.name.is_empty() || self.name.len() > 253 || dots || !self.name.bytes().all(plain) {
            return refuse("/metadata/name", &self.name, "a name (letters, digits, '-', '.', '_', ':')");
        }
        Ok(())
    }

    /// The API group, empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        split_api_version(&self.api_version).0
    }

    /// `group/Kind` (core group: `/Kind`), as release scopes write it.
    #[must_use]
    pub fn group_kind(&self) -> String {
        format!("{}/{}", self.group(), self.kind)
    }

    /// Whether both name the same object of a cluster, whatever version of the API they speak.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.group() == other.group()
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

impl From<&ParameterTarget> for ObjectId {
    fn from(target: &ParameterTarget) -> Self {
        Self {
            api_version: target.api_version.clone(),
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, "{namespace}/"))?;
        f.write_str(&self.name)
    }
}

fn split_api_version(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_identity_that_could_leave_its_url_is_refused() {
        let object = |api: &str, kind: &str, namespace: Value, name: &str| json!({"apiVersion": api, "kind": kind, "metadata": {"namespace": namespace, "name": name}});
        let good = ObjectId::of(&object("apps/v1", "Deployment", json!("shop"), "web")).unwrap();
        assert_eq!((good.group(), good.to_string().as_str()), ("apps", "Deployment shop/web"));
        assert!(ObjectId::of(&object("v1", "Namespace", json!(null), "shop")).is_ok());
        assert!(
            ObjectId::of(&object("rbac.authorization.k8s.io/v1", "ClusterRole", json!(null), "a:b")).is_ok()
        );
        for (bad, field) in [
            (object("apps/v1/x", "Deployment", json!("a"), "web"), "/apiVersion"),
            (object("/v1", "Pod", json!("a"), "web"), "/apiVersion"),
            (object("../v1", "Pod", json!("a"), "web"), "/apiVersion"),
            (object("v1", "pod", json!("a"), "web"), "/kind"),
            (object("v1", "", json!("a"), "web"), "/kind"),
            (object("v1", "Pod", json!("a/b"), "web"), "/metadata/namespace"),
            (object("v1", "Pod", json!(""), "web"), "/metadata/namespace"),
            (object("v1", "Pod", json!(7), "web"), "/metadata/namespace"),
            (object("v1", "Pod", json!("a"), "../x"), "/metadata/name"),
            (object("v1", "Pod", json!("a"), ".."), "/metadata/name"),
            (object("v1", "Pod", json!("a"), "x?y"), "/metadata/name"),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}}),
                "/metadata/name",
            ),
            (json!([]), "/apiVersion"),
        ] {
            assert_eq!(ObjectId::of(&bad).unwrap_err().field, field, "{bad}");
        }
    }
}
