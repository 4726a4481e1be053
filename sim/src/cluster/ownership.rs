//! Field ownership of server-side apply, on leaf paths.
//!
//! Without schemas a list is a map when all its elements are objects with a `name` (containers, variables,
//! volumes); every other list is one leaf. That is what API servers do for the objects that the tests use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Into an object.
    Field(String),
    /// To the element of that `name`.
    Item(String),
}

pub(super) type Path = Vec<Key>;

/// What each manager owns.
pub(super) type Managers = BTreeMap<String, Owned>;

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) api_version: String,
    paths: BTreeSet<Path>,
}

/// Metadata that the server keeps, and that nobody owns.
const SERVERS_OWN: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
];

/// Applies `body` for `manager`: values are set, what it owned alone and left out goes, and fields of others are
/// conflicts or, with `force`, taken. A refusal names the conflicting managers.
pub(super) fn apply(
    live: &mut Value,
    managers: &mut Managers,
    manager: &str,
    body: &Value,
    force: bool,
) -> Result<(), BTreeSet<String>> {
    let wanted = leaves(body);
    let present = leaves(live);
    let mut conflicts = BTreeSet::new();
    for (name, owned) in managers.iter().filter(|(name, _)| *name != manager) {
        let differs = |path: &&Path| wanted.get(*path).is_some_and(|value| present.get(*path) != Some(value));
        if owned.paths.iter().any(|path| differs(&path)) {
            conflicts.insert(name.clone());
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    for (_, owned) in managers.iter_mut().filter(|(name, _)| *name != manager) {
        owned.paths.retain(|path| wanted.get(path).is_none_or(|value| present.get(path) == Some(value)));
    }
    let before = managers.remove(manager).map(|owned| owned.paths).unwrap_or_default();
    managers.retain(|_, owned| !owned.paths.is_empty());
    let kept: BTreeSet<&Path> = managers.values().flat_map(|owned| &owned.paths).collect();
    for path in before.iter().filter(|path| !wanted.contains_key(*path) && !kept.contains(path)) {
        remove(live, path);
    }
    for (path, value) in &wanted {
        set(live, path, value);
    }
    if !wanted.is_empty() {
        let api_version = body["apiVersion"].as_str().unwrap_or_default().to_owned();
        managers.insert(manager.to_owned(), Owned { api_version, paths: wanted.into_keys().collect() });
    }
    Ok(())
}

/// The managers as `metadata.managedFields` shows them.
pub(super) fn managed_fields(managers: &Managers) -> Value {
    let entry = |(manager, owned): (&String, &Owned)| {
        let mut fields = json!({});
        for path in &owned.paths {
            let mut at = &mut fields;
            for key in path {
                let name = match key {
                    Key::Field(name) => format!("f:{name}"),
                    Key::Item(name) => format!("k:{}", json!({ "name": name })),
                };
                at = at.as_object_mut().expect("only objects are made here").entry(name).or_insert(json!({}));
            }
        }
        json!({"manager": manager, "operation": "Apply", "apiVersion": owned.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    managers.iter().map(entry).collect()
}

fn leaves(body: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (name, value) in body.as_object().into_iter().flatten() {
        let path = vec![Key::Field(name.clone())];
        match name.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !SERVERS_OWN.contains(&name.as_str()) {
                        walk(value, [path.clone(), vec![Key::Field(name.clone())]].concat(), &mut found);
                    }
                }
            }
            _ => walk(value, path, &mut found),
        }
    }
    found
}

fn walk(value: &Value, path: Path, found: &mut BTreeMap<Path, Value>) {
    let deeper = |key: Key| [path.clone(), vec![key]].concat();
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                walk(value, deeper(Key::Field(name.clone())), found);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item["name"].is_string()) => {
            for item in items {
                let name = item["name"].as_str().unwrap_or_default().to_owned();
                walk(item, deeper(Key::Item(name)), found);
            }
        }
        leaf => {
            found.insert(path, leaf.clone());
        }
    }
}

fn set(at: &mut Value, path: &[Key], value: &Value) {
    let Some((key, rest)) = path.split_first() else {
        // An empty map or list owns no more than that there is one: what others put into it stays.
        let is_there = match value {
            Value::Object(_) => at.is_object(),
            Value::Array(items) => items.is_empty() && at.is_array(),
            _ => false,
        };
        if !is_there {
            *at = value.clone();
        }
        return;
    };
    match key {
        Key::Field(name) => {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            set(&mut at[name], rest, value);
        }
        Key::Item(name) => {
            if !at.is_array() {
                *at = json!([]);
            }
            let items = at.as_array_mut().expect("made an array just above");
            let found = items.iter().position(|item| item["name"] == name.as_str());
            let index = found.unwrap_or_else(|| {
                items.push(json!({ "name": name }));
                items.len() - 1
            });
            set(&mut items[index], rest, value);
        }
    }
}

/// Takes a leaf away, and whatever is empty then.
fn remove(at: &mut Value, path: &[Key]) {
    let Some((key, rest)) = path.split_first() else { return };
    let is_empty = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match (key, at) {
        (Key::Field(name), Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(name) {
                remove(inner, rest);
                if rest.is_empty() || is_empty(inner) {
                    fields.remove(name);
                }
            }
        }
        (Key::Item(name), Value::Array(items)) => {
            if let Some(index) = items.iter().position(|item| item["name"] == name.as_str()) {
                remove(&mut items[index], rest);
                if is_empty(&items[index]) {
                    items.remove(index);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
    }

    #[test]
    fn what_a_manager_leaves_out_goes_unless_another_owns_it_too() {
        let (mut live, mut managers) = (body(&json!({})), Managers::new());
        apply(&mut live, &mut managers, "a", &body(&json!({"one": "1", "two": "2"})), false).expect("new");
        apply(&mut live, &mut managers, "b", &body(&json!({"two": "2"})), false).expect("the same value");
        apply(&mut live, &mut managers, "a", &body(&json!({"three": "3"})), false).expect("its own");
        assert_eq!(live["data"], json!({"two": "2", "three": "3"}));
    }

    #[test]
    fn anothers_value_is_a_conflict_and_with_force_it_is_taken_from_its_owner() {
        let (mut live, mut managers) = (body(&json!({})), Managers::new());
        apply(&mut live, &mut managers, "a", &body(&json!({"one": "1", "two": "2"})), false).expect("new");
        let other = body(&json!({"one": "9"}));
        let refused = apply(&mut live, &mut managers, "b", &other, false).expect_err("a conflict");
        assert!(refused.contains("a") && live["data"]["one"] == "1");
        apply(&mut live, &mut managers, "b", &other, true).expect("forced");
        assert_eq!(live["data"]["one"], "9");
        assert_eq!(managers["a"].paths.len(), 1);
        apply(&mut live, &mut managers, "b", &body(&json!({})), false).expect("its own");
        assert_eq!(live["data"], json!({"two": "2"}));
    }

    #[test]
    fn elements_of_named_lists_have_owners_of_their_own_and_other_lists_one() {
        let (mut live, mut managers) = (json!({}), Managers::new());
        let one = json!({"spec": {"containers": [{"name": "app", "args": ["a"]}]}});
        let two = json!({"spec": {"containers": [{"name": "side", "image": "s"}]}});
        apply(&mut live, &mut managers, "a", &one, false).expect("new");
        apply(&mut live, &mut managers, "b", &two, false).expect("another element");
        assert_eq!(live["spec"]["containers"].as_array().map(Vec::len), Some(2));
        apply(&mut live, &mut managers, "a", &json!({}), false).expect("nothing any more");
        assert_eq!(live["spec"]["containers"], json!([{"name": "side", "image": "s"}]));
    }
}
