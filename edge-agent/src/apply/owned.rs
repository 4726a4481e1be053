//! Whether a field of a live object is recorded as one manager's, so that a field that was left to others is sent
//! only while nobody took it.

use serde_json::Value;

/// Whether `manager` owns the field that `pointer` names in `body`, by the live object's managed fields.
///
/// Elements of lists are found by the keys that the server uses for them; a list that it treats as one value is owned
/// as a whole.
#[must_use]
pub fn owns(live: &Value, manager: &str, body: &Value, pointer: &str) -> bool {
    entries(live, manager).any(|fields| holds(fields, body, pointer))
}

/// Whether `manager` owns every field of `body`, so that sending it puts nothing right.
///
/// The object's version does not tell that: a controller may have written its status in between.
#[must_use]
pub fn owns_all(live: &Value, manager: &str, body: &Value) -> bool {
    entries(live, manager).any(|fields| holds_all(fields, body, 0))
}

fn entries<'l>(live: &'l Value, manager: &'l str) -> impl Iterator<Item = &'l Value> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let ours = entries.into_iter().flatten().filter(move |entry| {
        entry["manager"] == manager && entry["operation"] == "Apply" && entry.get("subresource").is_none()
    });
    ours.filter_map(|entry| entry.get("fieldsV1"))
}

/// What names an object is recorded of nobody.
const NAMES: [&[&str]; 2] = [&["apiVersion", "kind"], &["name", "namespace", "uid"]];

fn holds_all(fields: &Value, value: &Value, depth: usize) -> bool {
    if fields.as_object().is_none_or(serde_json::Map::is_empty) {
        return true;
    }
    let inside =
        |inner: Option<&Value>, value: &Value| inner.is_some_and(|inner| holds_all(inner, value, depth + 1));
    match value {
        Value::Object(inner) => inner.iter().all(|(name, value)| {
            let named = NAMES.get(depth).is_some_and(|names| names.contains(&name.as_str()));
            named || value.is_null() || inside(fields.get(format!("f:{name}")), value)
        }),
        Value::Array(items) => items.iter().all(|item| inside(element(fields, item), item)),
        _ => true,
    }
}

fn holds(fields: &Value, body: &Value, pointer: &str) -> bool {
    let (mut fields, mut value) = (fields, Some(body));
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if fields.as_object().is_none_or(serde_json::Map::is_empty) {
            // Nothing is recorded below: it is owned as one value.
            return true;
        }
        let inner = match value {
            Some(Value::Array(items)) => {
                let item = segment.parse().ok().and_then(|at: usize| items.get(at));
                value = item;
                item.and_then(|item| element(fields, item))
            }
            other => {
                value = other.and_then(|value| value.get(&segment));
                fields.get(format!("f:{segment}"))
            }
        };
        let Some(inner) = inner else { return false };
        fields = inner;
    }
    true
}

/// What is recorded of a list's element: by its keys (`k:{…}`) or, in a set, by its value (`v:…`).
fn element<'f>(fields: &'f Value, item: &Value) -> Option<&'f Value> {
    let fits = |name: &str| {
        if let Some(keys) = name.strip_prefix("k:") {
            let keys: Option<serde_json::Map<String, Value>> = serde_json::from_str(keys).ok();
            // A key that the body leaves out has its default there, as a port's protocol.
            return keys.is_some_and(|keys| {
                keys.iter().all(|(key, value)| item.get(key).is_none_or(|own| own == value))
                    && keys.keys().any(|key| item.get(key).is_some())
            });
        }
        let value = name.strip_prefix("v:").and_then(|value| serde_json::from_str::<Value>(value).ok());
        value.as_ref() == Some(item)
    };
    fields.as_object()?.iter().find(|(name, _)| fits(name)).map(|(_, inner)| inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(fields: Value) -> Value {
        json!({"metadata": {"managedFields": [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "airlift/shop", "operation": "Apply", "fieldsV1": fields},
        ]}})
    }

    fn body() -> Value {
        json!({"metadata": {"annotations": {"a/b": "1"}},
            "spec": {"replicas": 2, "containers": [{"name": "app", "image": "x"}], "atomic": [{"a": 1}], "set": ["y"]}})
    }

    #[test]
    fn fields_are_owned_by_who_applied_them_alone() {
        let live = live(json!({"f:spec": {"f:size": {}, "f:atomic": {}, "f:set": {".": {}, "v:\"y\"": {}},
                "f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:name": {}, "f:image": {}}}},
            "f:metadata": {"f:annotations": {"f:a/b": {}}}}));
        for (pointer, owned) in [
            ("/spec/size", true),
            ("/spec/replicas", false),
            ("/spec/containers/0/image", true),
            ("/spec/containers/0/command", false),
            ("/spec/containers/1/image", false),
            ("/spec/atomic/0/a", true),
            ("/spec/set/0", true),
            ("/metadata/annotations/a~1b", true),
            ("/metadata/labels/x", false),
        ] {
            assert_eq!(owns(&live, "airlift/shop", &body(), pointer), owned, "{pointer}");
        }
        assert!(!owns(&live, "airlift/other", &body(), "/spec/size"));
    }

    #[test]
    fn everything_is_owned_until_one_field_is_lost() {
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "b", "labels": {"x": "1"}},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {"containers": [
                {"name": "app", "image": "x", "args": ["-v"], "ports": [{"containerPort": 80}]}]}}}});
        let container = json!({".": {}, "f:name": {}, "f:image": {}, "f:args": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}});
        let whole = json!({"f:metadata": {"f:labels": {"f:x": {}}}, "f:spec": {"f:selector": {},
            "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": container}}}}});
        assert!(owns_all(&live(whole.clone()), "airlift/shop", &body));
        assert!(!owns_all(&live(whole.clone()), "airlift/other", &body));
        for lost in [
            "/f:metadata/f:labels/f:x",
            "/f:spec/f:selector",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}/f:image",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}",
        ] {
            let mut fewer = whole.clone();
            let (parent, name) = lost.rsplit_once('/').unwrap();
            assert!(fewer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).is_some());
            let parent = fewer.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            parent.insert("f:else".into(), json!({}));
            assert!(!owns_all(&live(fewer), "airlift/shop", &body), "{lost}");
        }
    }

    #[test]
    fn an_object_without_records_is_nobodys() {
        assert!(!owns(&json!({}), "airlift/shop", &body(), "/spec/replicas"));
    }
}
