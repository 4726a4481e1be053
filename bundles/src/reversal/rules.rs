//! How a row of the table decides whether one content of an object can follow another.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::remove;
use crate::quantity::billionths;

/// What may happen to a field in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It keeps its value; where it is absent it has this one (JSON; empty: none).
    Fixed(&'static str),
    /// Everything below it keeps its value but these fields.
    FixedBut(&'static [&'static str]),
    /// The quantity does not become less.
    Grows,
    /// It keeps its value once the object says `immutable: true`.
    Frozen,
    /// A cluster address keeps its value unless one of both Services is only a name (`ExternalName`).
    Address,
    /// The number of completions keeps its value unless the Job is indexed and its parallelism goes along.
    Completions,
    /// A pod keeps everything but its images and its deadline.
    PodSpec,
    /// No version goes in which objects are stored.
    StoredVersions,
}

impl Rule {
    /// The fields by which an update from one content to another is refused.
    pub(super) fn blocked(
        self,
        field: &str,
        from: &Value,
        to: &Value,
        stored: &BTreeSet<String>,
    ) -> Vec<String> {
        let this = |blocked: bool| if blocked { vec![field.to_owned()] } else { Vec::new() };
        let (old, new) = (at(from, field), at(to, field));
        match self {
            Self::Fixed(default) => {
                let default: Option<Value> = serde_json::from_str(default).ok();
                this(old.or(default.as_ref()) != new.or(default.as_ref()))
            }
            Self::FixedBut(free) => differing(field, old, new, free),
            Self::Grows => this(match (old, new) {
                (Some(old), Some(new)) => match (billionths(old), billionths(new)) {
                    (Some(old), Some(new)) => new < old,
                    _ => old != new,
                },
                (old, new) => old != new,
            }),
            Self::Frozen => {
                let frozen = at(from, "/immutable") == Some(&Value::Bool(true));
                this(frozen && old != new)
            }
            Self::Address => {
                let named =
                    |object: &Value| at(object, "/spec/type").and_then(Value::as_str) == Some("ExternalName");
                let address = |value: Option<&'_ Value>| {
                    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
                };
                this(!named(from) && !named(to) && address(old) != address(new))
            }
            Self::Completions => {
                let indexed = |object: &Value| {
                    at(object, "/spec/completionMode").and_then(Value::as_str) == Some("Indexed")
                };
                let elastic = indexed(from) && indexed(to) && at(to, "/spec/parallelism") == new;
                this(old != new && !elastic)
            }
            Self::PodSpec => {
                let bare = |value: Option<&Value>| value.map(without_images);
                let (old, new) = (bare(old), bare(new));
                differing(field, old.as_ref(), new.as_ref(), &["activeDeadlineSeconds"])
            }
            Self::StoredVersions => {
                let known: BTreeSet<&str> = versions(to).collect();
                let own = storage_version(from);
                let mut held = stored.iter().map(String::as_str).chain(own);
                this(held.any(|version| !known.contains(version)))
            }
        }
    }
}

/// What a pointer names; a null is as good as nothing.
fn at<'v>(object: &'v Value, pointer: &str) -> Option<&'v Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// The fields right below one that differ, but for the free ones.
fn differing(field: &str, old: Option<&Value>, new: Option<&Value>, free: &[&str]) -> Vec<String> {
    let none = Map::new();
    let fields = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let (old, new) = (fields(old), fields(new));
    let (old, new) = (old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |of: &Map<String, Value>, name: &str| of.get(name).filter(|value| !value.is_null()).cloned();
    let differs = |name: &&&String| {
        !free.contains(&name.as_str()) && value(old, name.as_str()) != value(new, name.as_str())
    };
    names.iter().filter(differs).map(|name| format!("{field}/{name}")).collect()
}

fn without_images(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(|container| remove(container, "/image"));
    }
    spec
}

fn versions(definition: &Value) -> impl Iterator<Item = &str> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    versions.into_iter().flatten().filter_map(|version| version.get("name")?.as_str())
}

/// The version in which a definition of a kind stores objects.
pub(super) fn storage_version(definition: &Value) -> Option<&str> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let stores = |version: &&Value| version.get("storage") == Some(&Value::Bool(true));
    versions.into_iter().flatten().find(stores)?.get("name")?.as_str()
}
