//! Overlays and parameters at build: read, pinned, and every choice rendered once, so that none fails at a site.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::build::SOURCE_FILE;
use super::manifests::{SourceObject, read_file};
use super::pin::{ImageTable, pin, pin_images};
use super::source::AppSource;
use super::yaml::Node;
use super::{Findings, PackError, Place};
use crate::causes::in_one_line;
use crate::code::Code;
use crate::document::release::{ParameterType, Scalar};
use crate::ids::Name;
use crate::layout::app::AppDescriptor;
use crate::limits::Limits;
use crate::render::object::ObjectId;
use crate::render::overlay::{Overlay, OverlayPatch, PatchKind};
use crate::render::target::check_target;
use crate::render::{Renderer, check_scalar};

/// Renderings of one build, at most.
const RENDERINGS_MAX: usize = 64;

/// Reads the overlays' patches and pins the images in them.
pub(super) fn read_overlays(
    folder: &Path,
    source: &AppSource,
    node: &Node,
    table: &ImageTable,
    limits: &Limits,
    findings: &mut Findings,
) -> Result<BTreeMap<Name, Overlay>, PackError> {
    let mut overlays = BTreeMap::new();
    for (at, overlay) in source.overlays.iter().enumerate() {
        let place = |rest: &str| Place::new(SOURCE_FILE, node.line_at(&format!("/overlays/{at}{rest}")));
        let mut patches = Vec::new();
        for (number, patch) in overlay.patches.iter().enumerate() {
            let Some(yaml) = findings.take(read_file(folder, &patch.file, limits))? else { continue };
            findings.yaml_warnings(&patch.file, yaml.warnings);
            let [document] = yaml.documents.as_slice() else {
                findings.invalid(place(&format!("/patches/{number}/file")), "must hold exactly one document");
                continue;
            };
            let mut content = document.to_value();
            match patch.kind {
                PatchKind::Merge => pin_fields(&mut content, table),
                PatchKind::Json => pin_operations(&mut content, table),
            }
            patches.push(OverlayPatch { target: patch.target.clone(), kind: patch.kind, patch: content });
        }
        let content = Overlay { patches };
        if let Err(error) = content.check() {
            findings.invalid(place(""), format!("overlay {}: {error}", overlay.name));
        }
        if overlays.insert(overlay.name.clone(), content).is_some() {
            findings.invalid(place("/name"), format!("overlay {} stands twice", overlay.name));
        }
    }
    Ok(overlays)
}

/// Pins every field `image` of a merge patch that names an image of the bundle.
fn pin_fields(value: &mut Value, table: &ImageTable) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(image) if key == "image" => pin_text(image, table),
                    field => pin_fields(field, table),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| pin_fields(item, table)),
        _ => {}
    }
}

fn pin_operations(operations: &mut Value, table: &ImageTable) {
    for operation in operations.as_array_mut().into_iter().flatten() {
        let at_image =
            operation.get("path").and_then(Value::as_str).is_some_and(|path| path.ends_with("/image"));
        match operation.get_mut("value") {
            Some(Value::String(image)) if at_image => pin_text(image, table),
            Some(value) => pin_fields(value, table),
            None => {}
        }
    }
}

/// Pins a name where it can; what cannot be pinned is refused when the choice is rendered.
fn pin_text(image: &mut String, table: &ImageTable) {
    if let Ok(pinned) = pin(image, table) {
        *image = pinned;
    }
}

/// Pins the choices of parameters that stand for images, and checks every declaration.
pub(super) fn settle_parameters(
    app: &mut AppDescriptor,
    node: &Node,
    table: &ImageTable,
    findings: &mut Findings,
) {
    for (name, parameter) in &mut app.parameters {
        let place = Place::new(SOURCE_FILE, node.line_at(&format!("/parameters/{name}")));
        if let Err(fault) = parameter.check() {
            findings.invalid(place.clone(), format!("parameter {name}: {fault}"));
        }
        let pattern = parameter.pattern.as_deref().map(regex_lite::Regex::new);
        if let Some(Err(error)) = pattern {
            findings.invalid(place.clone(), format!("parameter {name}: its pattern: {error}"));
        }
        for target in &parameter.targets {
            if let Err(fault) = check_target(parameter, target) {
                findings.invalid(place.clone(), format!("parameter {name}: {fault}"));
            }
        }
        if parameter.targets.iter().any(|target| target.pointer.ends_with("/image")) {
            for choice in &mut parameter.choices {
                if let Scalar::String(image) = choice {
                    pin_text(image, table);
                }
            }
        }
    }
}

/// Renders every choice: each set of overlays, and each value of each list.
pub(super) fn render_choices(
    app: &AppDescriptor,
    overlays: &BTreeMap<Name, Overlay>,
    objects: &[SourceObject],
    node: &Node,
    table: &ImageTable,
    limits: &Limits,
    findings: &mut Findings,
) {
    let place = |pointer: &str| Place::new(SOURCE_FILE, node.line_at(pointer));
    check_targets_exist(app, overlays, objects, node, findings);
    let values: Vec<(&Name, Scalar)> = app
        .parameters
        .iter()
        .flat_map(|(name, parameter)| {
            let both = [Scalar::Boolean(false), Scalar::Boolean(true)];
            let listed = match parameter.kind {
                ParameterType::Boolean if parameter.choices.is_empty() => both.to_vec(),
                _ => parameter.choices.clone(),
            };
            listed.into_iter().map(move |value| (name, value))
        })
        .collect();
    let sets =
        1_usize.checked_shl(u32::try_from(app.overlays.len()).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    let renderings = sets.saturating_add(values.len());
    if renderings > RENDERINGS_MAX {
        let message = format!(
            "{} overlays and {} listed values make {renderings} renderings, at most {RENDERINGS_MAX}; split the app, or use ranges and patterns",
            app.overlays.len(),
            values.len()
        );
        return findings.invalid(place("/overlays"), message);
    }
    let subsets = (0..sets).map(|set| {
        let chosen = app.overlays.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
        (chosen.map(|(_, name)| name.clone()).collect::<BTreeSet<_>>(), BTreeMap::new())
    });
    let listed =
        values.into_iter().map(|(name, value)| (BTreeSet::new(), BTreeMap::from([(name.clone(), value)])));
    for (chosen, values) in subsets.chain(listed) {
        let named: Vec<String> = chosen
            .iter()
            .map(ToString::to_string)
            .chain(values.iter().map(|(name, value)| format!("{name}={value}")))
            .collect();
        let place = match (chosen.first(), values.keys().next()) {
            (_, Some(name)) => place(&format!("/parameters/{name}")),
            _ => place("/overlays"),
        };
        let mut refuse = |code: Code, fault: String| {
            findings.fault(place.clone(), code, format!("with {}: {fault}", named.join(", ")));
        };
        let renderer = match Renderer::new(app, overlays, &chosen, &values, limits) {
            Ok(renderer) => renderer,
            Err(error) => {
                refuse(Code::BuildInvalid, error.to_string());
                continue;
            }
        };
        for object in objects.iter().filter(|object| renderer.touches(&object.id)) {
            match renderer.render(object.value.clone()) {
                Ok((id, rendered)) => {
                    check_images(&id, &rendered, table, &mut refuse);
                    check_parameter_places(app, &id, &rendered, &mut refuse);
                }
                Err(error) => refuse(Code::BuildInvalid, in_one_line(&error)),
            }
        }
    }
}

/// Every target of an overlay or parameter is an object of the bundle, and every parameter's scalar is there.
fn check_targets_exist(
    app: &AppDescriptor,
    overlays: &BTreeMap<Name, Overlay>,
    objects: &[SourceObject],
    node: &Node,
    findings: &mut Findings,
) {
    let find = |id: &ObjectId| objects.iter().find(|object| object.id == *id);
    for (at, name) in app.overlays.iter().enumerate() {
        for patch in overlays.get(name).into_iter().flat_map(|overlay| &overlay.patches) {
            if find(&patch.target).is_none() {
                let place = Place::new(SOURCE_FILE, node.line_at(&format!("/overlays/{at}")));
                let message = format!(
                    "overlay {name}: {} {} is not in the bundle",
                    patch.target.api_version, patch.target
                );
                findings.invalid(place, message);
            }
        }
    }
    for (name, parameter) in &app.parameters {
        for target in &parameter.targets {
            let id = ObjectId::from(target);
            let fault = match find(&id).map(|object| object.value.pointer(&target.pointer)) {
                None => format!("{} {id} is not in the bundle", id.api_version),
                Some(None) => {
                    format!(
                        "nothing stands at {}; a parameter replaces a scalar that is there",
                        target.pointer
                    )
                }
                Some(Some(found)) => match check_scalar(found, parameter.kind) {
                    Ok(()) => continue,
                    Err(fault) => format!("at {} {fault}", target.pointer),
                },
            };
            let place = Place::new(SOURCE_FILE, node.line_at(&format!("/parameters/{name}")));
            findings.invalid(place, format!("parameter {name}: {fault}"));
        }
    }
}

fn check_images(id: &ObjectId, rendered: &Value, table: &ImageTable, refuse: &mut dyn FnMut(Code, String)) {
    let mut pinned = rendered.clone();
    pin_images(id, &mut pinned, table, &mut |pointer, code, message| {
        refuse(code, format!("{id} {pointer}: {message}"))
    });
    if pinned != *rendered {
        refuse(
            Code::ImageMissing,
            format!("{id}: write images of overlays and parameters with their digest"),
        );
    }
}

/// No overlay may take away what a parameter replaces.
fn check_parameter_places(
    app: &AppDescriptor,
    id: &ObjectId,
    rendered: &Value,
    refuse: &mut dyn FnMut(Code, String),
) {
    for (name, parameter) in &app.parameters {
        for target in parameter.targets.iter().filter(|target| ObjectId::from(*target) == *id) {
            let found = rendered.pointer(&target.pointer);
            if found.is_none_or(|found| check_scalar(found, parameter.kind).is_err()) {
                refuse(
                    Code::BuildInvalid,
                    format!("parameter {name} finds no scalar of its type at {}", target.pointer),
                );
            }
        }
    }
}
