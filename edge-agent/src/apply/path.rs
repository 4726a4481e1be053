//! Paths and queries of the Kubernetes API.

use std::fmt::Write;

use crate::core::object::{Gvk, ObjectRef};
use crate::ports::cluster::Resolved;

/// The root of a group-version: `/api/v1`, `/apis/apps/v1`.
#[must_use]
pub fn of_group_version(gvk: &Gvk) -> String {
    if gvk.group.is_empty() {
        format!("/api/{}", encode(&gvk.version))
    } else {
        format!("/apis/{}/{}", encode(&gvk.group), encode(&gvk.version))
    }
}

/// All objects of a kind, in one namespace or, without one, everywhere.
#[must_use]
pub fn of_kind(gvk: &Gvk, resolved: &Resolved, namespace: Option<&str>) -> String {
    let mut path = of_group_version(gvk);
    if let Some(namespace) = namespace.filter(|_| resolved.namespaced) {
        path.push_str("/namespaces/");
        path.push_str(&encode(namespace));
    }
    path.push('/');
    path.push_str(&encode(&resolved.plural));
    path
}

/// One object; `None` where a namespaced kind comes without a namespace.
#[must_use]
pub fn of_object(object: &ObjectRef, resolved: &Resolved) -> Option<String> {
    if resolved.namespaced && object.namespace.is_none() {
        return None;
    }
    let kind = of_kind(&object.gvk, resolved, object.namespace.as_deref());
    Some(format!("{kind}/{}", encode(&object.name)))
}

/// Adds a query; values are encoded.
#[must_use]
pub fn with_query(mut path: String, query: &[(&str, &str)]) -> String {
    for (number, (name, value)) in query.iter().enumerate() {
        path.push(if number == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.push_str(&encode(value));
    }
    path
}

/// Percent-encodes everything but what never has a meaning in a URL, so no name can leave its place in a path.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
    }
    // A path segment of dots alone would climb.
    if matches!(encoded.as_str(), "." | "..") { encoded.replace('.', "%2E") } else { encoded }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn resolved(plural: &str, namespaced: bool) -> Resolved {
        Resolved { plural: plural.into(), namespaced }
    }

    fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
        let gvk = Arc::new(Gvk::new(api_version, kind));
        ObjectRef { gvk, namespace: namespace.map(Into::into), name: name.into() }
    }

    #[test]
    fn core_and_named_groups_have_their_own_roots() {
        let pod = object("v1", "Pod", Some("shop"), "web");
        assert_eq!(
            of_object(&pod, &resolved("pods", true)).as_deref(),
            Some("/api/v1/namespaces/shop/pods/web")
        );
        let role = object("rbac.authorization.k8s.io/v1", "ClusterRole", None, "system:node");
        assert_eq!(
            of_object(&role, &resolved("clusterroles", false)).as_deref(),
            Some("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode")
        );
    }

    #[test]
    fn a_namespace_given_for_a_cluster_wide_kind_is_left_out() {
        let gvk = Gvk::new("v1", "Node");
        assert_eq!(of_kind(&gvk, &resolved("nodes", false), Some("shop")), "/api/v1/nodes");
    }

    #[test]
    fn a_namespaced_object_without_a_namespace_has_no_path() {
        let pod = object("v1", "Pod", None, "web");
        assert_eq!(of_object(&pod, &resolved("pods", true)), None);
    }

    #[test]
    fn a_name_cannot_leave_its_place() {
        let hostile = object("v1", "Pod", Some(".."), "../../secrets?watch=1#");
        assert_eq!(
            of_object(&hostile, &resolved("pods", true)).as_deref(),
            Some("/api/v1/namespaces/%2E%2E/pods/..%2F..%2Fsecrets%3Fwatch%3D1%23")
        );
    }

    #[test]
    fn query_values_are_encoded() {
        let query = with_query("/p".into(), &[("labelSelector", "a=b,c"), ("limit", "5")]);
        assert_eq!(query, "/p?labelSelector=a%3Db%2Cc&limit=5");
    }
}
