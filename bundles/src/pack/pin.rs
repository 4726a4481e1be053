//! Pins every image that a pod names to the digest in the bundle, and refuses what would ask a registry.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Findings;
use super::manifests::SourceObject;
use crate::code::Code;
use crate::ids::Sha256Digest;
use crate::layout::reference::ImageReference;
use crate::render::object::ObjectId;
use crate::render::pods::find_images;

/// Images by the name that pods use, each with what it is pinned to.
pub(super) type ImageTable = BTreeMap<ImageReference, Sha256Digest>;

/// Pins the images of all objects.
pub(super) fn pin_objects(objects: &mut [SourceObject], table: &ImageTable, findings: &mut Findings) {
    for object in objects {
        let mut value = std::mem::take(&mut object.value);
        pin_images(&object.id, &mut value, table, &mut |pointer, code, message| {
            findings.fault(object.place(pointer), code, message);
        });
        object.value = value;
    }
}

/// Pins the images of one object, and reports what cannot be pinned or would be pulled.
pub(super) fn pin_images(
    id: &ObjectId,
    value: &mut Value,
    table: &ImageTable,
    report: &mut dyn FnMut(&str, Code, String),
) {
    for image in find_images(id, value) {
        let pinned = match pin(&image.image, table) {
            Ok(pinned) => pinned,
            Err(message) => {
                report(&image.pointer, Code::ImageMissing, message);
                continue;
            }
        };
        let name: Option<ImageReference> = pinned.parse().ok();
        let latest = name.as_ref().and_then(ImageReference::tag) == Some("latest");
        let policy = image.pull_policy.as_deref();
        if policy == Some("Always") || policy.is_none() && latest {
            let why = if latest { " (the default of the tag latest)" } else { "" };
            let message = format!(
                "pull policy of {} is Always{why}, but a site may have no registry; set it to IfNotPresent",
                image.image
            );
            report(&image.pointer, Code::PullPolicyAlways, message);
        }
        if let Some(place) = value.pointer_mut(&image.pointer) {
            *place = Value::String(pinned);
        }
    }
}

/// The name as it stands, with the digest of the bundle's image behind it.
pub(super) fn pin(image: &str, table: &ImageTable) -> Result<String, String> {
    let name: ImageReference = image.parse().map_err(|error: crate::ids::IdError| error.to_string())?;
    if let Some(digest) = name.digest() {
        let known = match name.without_digest() {
            Some(tagged) => table.get(&tagged) == Some(digest),
            None => table.iter().any(|(own, known)| own.repository() == name.repository() && known == digest),
        };
        let refused =
            || format!("{image} is not an image of this bundle: no such digest under images or preloaded");
        return if known { Ok(image.to_owned()) } else { Err(refused()) };
    }
    let digest = table.get(&name).ok_or_else(|| {
        format!("image {image} is not in the bundle; add it under images in airlift.yaml, or under preloaded with its digest")
    })?;
    let has_tag = image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if has_tag { "" } else { ":latest" };
    Ok(format!("{image}{tag}@{digest}"))
}
