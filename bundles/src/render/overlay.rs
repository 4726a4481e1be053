//! Overlays: named sets of JSON patches (RFC 6902) and merge patches (RFC 7386) over objects of the same release.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::ObjectId;
use crate::limits::Limits;

/// Patches of one overlay and operations of one patch, at most.
const PATCHES_MAX: usize = 1000;

/// The content of one overlay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// Its patches, in order.
    pub patches: Vec<OverlayPatch>,
}

/// One patch over one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayPatch {
    /// The object.
    pub target: ObjectId,
    /// How the patch is written.
    #[serde(rename = "type")]
    pub kind: PatchKind,
    /// The patch.
    pub patch: Value,
}

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchKind {
    /// A JSON merge patch (RFC 7386).
    Merge,
    /// A JSON patch (RFC 6902), without `copy`, which can grow an object without bound.
    Json,
}

/// A patch does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// Not an overlay at all.
    #[error("is not an overlay: {0}")]
    Shape(String),
    /// An operation that is not allowed, or too many.
    #[error("operation {0} is not allowed")]
    Operation(String),
    /// The object has not what an operation needs.
    #[error("does not apply: {0}")]
    Apply(String),
    /// The object would be nested deeper than a cluster takes.
    #[error("nests the object too deep")]
    TooDeep,
    /// The object would become too large.
    #[error("makes the object larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

impl Overlay {
    /// Reads an overlay's blob.
    ///
    /// # Errors
    /// [`PatchError`] when it is larger than allowed, has another shape, or holds a forbidden operation.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, PatchError> {
        if bytes.len() > limits.document_bytes {
            return Err(PatchError::TooLarge { limit: limits.document_bytes });
        }
        let overlay: Self =
            serde_json::from_slice(bytes).map_err(|error| PatchError::Shape(error.to_string()))?;
        overlay.check()?;
        Ok(overlay)
    }

    /// Checks every patch's form.
    ///
    /// # Errors
    /// [`PatchError`], the first fault.
    pub fn check(&self) -> Result<(), PatchError> {
        if self.patches.len() > PATCHES_MAX {
            return Err(PatchError::Operation(format!("number {}", PATCHES_MAX + 1)));
        }
        self.patches.iter().try_for_each(|patch| {
            patch.target.check().map_err(|error| PatchError::Shape(error.to_string()))?;
            patch.check()
        })
    }

    /// Whether a patch is over this object.
    #[must_use]
    pub fn touches(&self, id: &ObjectId) -> bool {
        self.patches.iter().any(|patch| patch.target == *id)
    }

    pub(super) fn apply(&self, id: &ObjectId, object: &mut Value, limits: &Limits) -> Result<(), PatchError> {
        for patch in self.patches.iter().filter(|patch| patch.target == *id) {
            match patch.kind {
                PatchKind::Merge => json_patch::merge(object, &patch.patch),
                PatchKind::Json => {
                    for operation in patch.operations()?.iter() {
                        json_patch::patch(object, std::slice::from_ref(operation))
                            .map_err(|error| PatchError::Apply(error.to_string()))?;
                        // Each operation could nest deeper below the one before it.
                        check_depth(object, limits.object_depth)?;
                    }
                }
            }
            check_depth(object, limits.object_depth)?;
            if object.to_string().len() > limits.object_bytes {
                return Err(PatchError::TooLarge { limit: limits.object_bytes });
            }
        }
        Ok(())
    }
}

fn check_depth(value: &Value, levels: usize) -> Result<(), PatchError> {
    let below = levels.checked_sub(1).ok_or(PatchError::TooDeep)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, below)),
        Value::Object(fields) => fields.values().try_for_each(|field| check_depth(field, below)),
        _ => Ok(()),
    }
}

impl OverlayPatch {
    fn operations(&self) -> Result<json_patch::Patch, PatchError> {
        serde_json::from_value(self.patch.clone()).map_err(|error| PatchError::Shape(error.to_string()))
    }

    fn check(&self) -> Result<(), PatchError> {
        match self.kind {
            PatchKind::Merge if self.patch.is_object() => Ok(()),
            PatchKind::Merge => Err(PatchError::Shape("a merge patch is a mapping".into())),
            PatchKind::Json => {
                let operations = self.operations()?;
                if operations.len() > PATCHES_MAX {
                    return Err(PatchError::Operation(format!("number {}", PATCHES_MAX + 1)));
                }
                let copies = operations
                    .iter()
                    .any(|operation| matches!(operation, json_patch::PatchOperation::Copy(_)));
                if copies { Err(PatchError::Operation("copy".into())) } else { Ok(()) }
            }
        }
    }
}
