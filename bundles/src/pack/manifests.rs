//! Reads `manifests/**` into objects: one identity each, nothing that only a cluster may set, in a stable order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::kinds::{KindScope, Kinds};
use super::source::AppSource;
use super::yaml::{Node, NodeKind, YamlFile, read_yaml};
use super::{Findings, PackError, Place};
use crate::code::Code;
use crate::limits::Limits;
use crate::render::object::ObjectId;

/// A source file larger than this is no manifest: bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The annotation that orders objects within an app.
pub(super) const ORDER: &str = "airlift.dev/order";

/// One object, and where it came from.
#[derive(Debug)]
pub(super) struct SourceObject {
    pub(super) id: ObjectId,
    pub(super) value: Value,
    pub(super) file: String,
    pub(super) node: Node,
    order: i32,
}

impl SourceObject {
    pub(super) fn place(&self, pointer: &str) -> Place {
        Place::new(&self.file, self.node.line_at(pointer))
    }

    /// CRDs, namespaces, then the app's own order; within one order configuration before what reads it.
    fn sort_key(&self) -> impl Ord + use<> {
        let id = &self.id;
        let group = match id.group_kind().as_str() {
            "apiextensions.k8s.io/CustomResourceDefinition" => 0,
            "/Namespace" => 1,
            "admissionregistration.k8s.io/MutatingWebhookConfiguration"
            | "admissionregistration.k8s.io/ValidatingWebhookConfiguration" => 3,
            _ => 2,
        };
        let configuration = crate::render::pods::template_pointer(id).is_some();
        let names = (id.group().to_owned(), id.kind.clone(), id.namespace.clone(), id.name.clone());
        (group, self.order, configuration, names)
    }
}

/// Reads a YAML or JSON file of the folder.
pub(super) fn read_file(folder: &Path, file: &str, limits: &Limits) -> Result<YamlFile, PackError> {
    let path = folder.join(file);
    let size = fs::metadata(&path).map_err(PackError::io(&path))?.len();
    if size > FILE_BYTES_MAX {
        return Err(PackError::invalid(Place::new(file, 0), "larger than 64 MiB"));
    }
    let bytes = fs::read(&path).map_err(PackError::io(&path))?;
    let text =
        String::from_utf8(bytes).map_err(|_| PackError::invalid(Place::new(file, 0), "is not UTF-8 text"))?;
    read_yaml(&text, limits.object_depth).map_err(|error| {
        let mut findings = Findings::default();
        findings.yaml_fault(file, error);
        PackError::Invalid(findings.faults)
    })
}

/// Reads every manifest of the folder.
pub(super) fn read_manifests(
    folder: &Path,
    source: &AppSource,
    limits: &Limits,
    findings: &mut Findings,
) -> Result<Vec<SourceObject>, PackError> {
    let mut files = Vec::new();
    let root = folder.join("manifests");
    if root.is_dir() {
        list_files(&root, "manifests", &mut files, findings)?;
    }
    files.sort();
    let mut objects = Vec::new();
    for file in &files {
        let Some(yaml) = findings.take(read_file(folder, file, limits))? else { continue };
        findings.yaml_warnings(file, yaml.warnings);
        for node in yaml.documents {
            read_document(file, node, source, findings, &mut objects);
        }
    }
    if objects.is_empty() && findings.faults.is_empty() {
        findings.invalid(Place::new("manifests", 0), "there are no objects");
    }
    if objects.len() > limits.objects {
        findings.invalid(Place::new("manifests", 0), format!("more than {} objects", limits.objects));
    }
    check_scopes(&objects, source, findings);
    check_sizes(&objects, limits, findings);
    objects.sort_by_cached_key(SourceObject::sort_key);
    Ok(objects)
}

fn list_files(
    dir: &Path,
    name: &str,
    files: &mut Vec<String>,
    findings: &mut Findings,
) -> Result<(), PackError> {
    for entry in fs::read_dir(dir).map_err(PackError::io(dir))? {
        let entry = entry.map_err(PackError::io(dir))?;
        let kind = entry.file_type().map_err(PackError::io(entry.path()))?;
        let Ok(own) = entry.file_name().into_string() else {
            findings.invalid(Place::new(name, 0), "holds a name that is not UTF-8");
            continue;
        };
        let path = format!("{name}/{own}");
        if own.starts_with('.') {
            continue; // editors and version control keep their own files there
        }
        if kind.is_dir() {
            list_files(&entry.path(), &path, files, findings)?;
        } else if own.ends_with(".yaml") || own.ends_with(".yml") || own.ends_with(".json") {
            if kind.is_file() {
                files.push(path);
            } else {
                findings.invalid(Place::new(&path, 0), "is not a plain file; links are not followed");
            }
        }
    }
    Ok(())
}

fn read_document(
    file: &str,
    node: Node,
    source: &AppSource,
    findings: &mut Findings,
    objects: &mut Vec<SourceObject>,
) {
    let is_list = match node.get("kind").map(|kind| &kind.kind) {
        Some(NodeKind::Scalar(Value::String(kind))) => kind.ends_with("List"),
        _ => false,
    };
    if is_list && let NodeKind::Mapping(entries) = &node.kind {
        let items = entries.iter().find(|(key, _, _)| key == "items").map(|(_, _, items)| items.clone());
        if let Some(Node { kind: NodeKind::Sequence(items), .. }) = items {
            for item in items {
                read_document(file, item, source, findings, objects);
            }
            return;
        }
    }
    let mut value = node.to_value();
    let place = |pointer: &str| Place::new(file, node.line_at(pointer));
    refuse_cluster_fields(&mut value, &place, findings);
    let id = match ObjectId::of(&value) {
        Ok(id) => id,
        // What lacks a name because it has generateName was refused for that already.
        Err(_) if value.pointer("/metadata/generateName").is_some() => return,
        Err(error) => return findings.invalid(place(error.field), error.to_string()),
    };
    settle_secret(&id, &mut value, source, &place, findings);
    let order = match value.pointer("/metadata/annotations").and_then(|notes| notes.get(ORDER)) {
        None => 0,
        Some(order) => match order.as_str().and_then(|text| text.parse().ok()) {
            Some(order) => order,
            None => {
                let pointer = format!("/metadata/annotations/{}", ORDER.replace('/', "~1"));
                return findings.invalid(place(&pointer), format!("{ORDER} must be a quoted whole number"));
            }
        },
    };
    objects.push(SourceObject { id, value, file: file.to_owned(), node, order });
}

/// Refuses fields that belong to the cluster, and drops the empty creation time that tools write.
fn refuse_cluster_fields(value: &mut Value, place: &dyn Fn(&str) -> Place, findings: &mut Findings) {
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        if metadata.get("creationTimestamp").is_some_and(Value::is_null) {
            metadata.remove("creationTimestamp");
        }
        if metadata.contains_key("generateName") {
            findings.invalid(
                place("/metadata/generateName"),
                "generateName makes another object at every apply; write metadata.name",
            );
        }
        let fields =
            ["managedFields", "resourceVersion", "uid", "selfLink", "creationTimestamp", "deletionTimestamp"];
        for field in fields.into_iter().filter(|field| metadata.contains_key(*field)) {
            let message = format!("metadata.{field} is set by the cluster; remove it");
            findings.invalid(place(&format!("/metadata/{field}")), message);
        }
    }
    if value.get("status").is_some() {
        findings.invalid(place("/status"), "status is set by the cluster; remove it");
    }
}

/// Turns `stringData` into `data`, and refuses secret data that the source does not allow by name.
fn settle_secret(
    id: &ObjectId,
    value: &mut Value,
    source: &AppSource,
    place: &dyn Fn(&str) -> Place,
    findings: &mut Findings,
) {
    if id.group_kind() != "/Secret" {
        return;
    }
    let Some(fields) = value.as_object_mut() else { return };
    let mut data = match fields.remove("data") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(data)) => data,
        Some(_) => return findings.invalid(place("/data"), "data must be a mapping"),
    };
    match fields.remove("stringData") {
        None | Some(Value::Null) => {}
        Some(Value::Object(texts)) => {
            for (key, text) in texts {
                let Value::String(text) = text else {
                    findings
                        .invalid(place("/stringData"), format!("stringData.{key} must be text; quote it"));
                    continue;
                };
                let packed = base64::engine::general_purpose::STANDARD.encode(text);
                data.insert(key, Value::String(packed));
            }
        }
        Some(_) => return findings.invalid(place("/stringData"), "stringData must be a mapping"),
    }
    if data.is_empty() {
        return;
    }
    let name = format!("{}/{}", id.namespace.as_deref().unwrap_or_default(), id.name);
    if !source.allow_secret_data.contains(&name) {
        let message = format!(
            "secret {name} has data, and bundles are readable by all who carry them; leave it out, or list it under allow_secret_data"
        );
        findings.fault(place(""), Code::SecretInBundle, message);
    }
    fields.insert("data".into(), Value::Object(data));
}

fn check_scopes(objects: &[SourceObject], source: &AppSource, findings: &mut Findings) {
    let mut kinds = Kinds::new(&source.cluster_scoped);
    for object in objects {
        kinds.learn(&object.id, &object.value);
    }
    let mut seen: BTreeMap<_, &SourceObject> = BTreeMap::new();
    for object in objects {
        let id = &object.id;
        match (kinds.scope(id), &id.namespace) {
            (KindScope::Namespaced, None) => findings.invalid(
                object.place("/metadata"),
                format!("{id} needs metadata.namespace: a bundle has no default namespace"),
            ),
            (KindScope::Cluster, Some(_)) => findings.invalid(
                object.place("/metadata/namespace"),
                format!("{} has no namespace; remove it", id.kind),
            ),
            (KindScope::Unknown, None) => findings.invalid(
                object.place("/metadata"),
                format!(
                    "{id} needs metadata.namespace, or {} under cluster_scoped in airlift.yaml",
                    id.group_kind()
                ),
            ),
            _ => {}
        }
        let key = (id.group(), &id.kind, &id.namespace, &id.name);
        if let Some(first) = seen.insert(key, object) {
            findings.invalid(object.place(""), format!("{id} stands twice; first at {}", first.place("")));
        }
    }
}

fn check_sizes(objects: &[SourceObject], limits: &Limits, findings: &mut Findings) {
    for object in objects {
        let bytes = object.value.to_string().len();
        if bytes > limits.object_bytes {
            let message =
                format!("{} has {bytes} bytes, over the limit of {}", object.id, limits.object_bytes);
            findings.invalid(object.place(""), message);
        }
    }
}
