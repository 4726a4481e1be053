//! Rendering: which objects a choice of overlays and parameters gives, as a pure function of one object at a time.
//!
//! Overlays are content of the release, chosen by name and applied in the descriptor's order; parameters come
//! after them and replace scalars that are there. Neither adds or removes an object, nor makes it another one.

pub mod config_hash;
pub mod object;
pub mod overlay;
pub mod pods;
pub mod scope;
pub mod target;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::accept::EntryRefusal;
use crate::code::Code;
use crate::document::release::{ParameterType, Scalar};
use crate::ids::Name;
use crate::layout::app::AppDescriptor;
use crate::limits::Limits;
use crate::parameters::check_values;
use object::ObjectId;
use overlay::{Overlay, PatchError};

/// An object cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The choice itself is not one that the app declares.
    #[error(transparent)]
    Choice(#[from] EntryRefusal),
    /// The object has no valid identity, or would get another one.
    #[error("{id}: an overlay or parameter may not change which object it is")]
    Identity {
        /// The object before.
        id: Box<ObjectId>,
    },
    /// The object is none.
    #[error("not an object")]
    Object(#[from] object::ObjectError),
    /// A patch does not apply.
    #[error("{id}: overlay {overlay}")]
    Patch {
        /// The object.
        id: Box<ObjectId>,
        /// The overlay.
        overlay: Name,
        /// Why.
        #[source]
        source: PatchError,
    },
    /// A parameter's target is not a scalar of its type.
    #[error("{id}: parameter {parameter} targets {pointer}, where {fault}")]
    Target {
        /// The object.
        id: Box<ObjectId>,
        /// The parameter.
        parameter: Name,
        /// The target.
        pointer: String,
        /// What stands there.
        fault: &'static str,
    },
    /// The rendered object is larger than a cluster takes.
    #[error("{id} has {bytes} bytes once rendered, over the limit of {limit}")]
    TooLarge {
        /// The object.
        id: Box<ObjectId>,
        /// Bytes of its JSON.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl RenderError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Choice(refusal) => refusal.code,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Identity { .. } | Self::Object(_) | Self::Patch { .. } | Self::Target { .. } => {
                Code::BundleMalformed
            }
        }
    }
}

/// A choice of overlays and parameters of one app, checked, ready to render each of its objects.
#[derive(Debug, Clone)]
pub struct Renderer {
    overlays: Vec<(Name, Overlay)>,
    values: Vec<(ObjectId, String, Name, Scalar)>,
    limits: Limits,
}

impl Renderer {
    /// Checks a choice against the app's declarations.
    ///
    /// `overlays` holds the content of at least the chosen ones; their order is the descriptor's, whatever the
    /// order of `chosen`.
    ///
    /// # Errors
    /// [`RenderError::Choice`] for an overlay or parameter that the app does not declare, or a value outside its
    /// declaration.
    pub fn new(
        app: &AppDescriptor,
        overlays: &BTreeMap<Name, Overlay>,
        chosen: &BTreeSet<Name>,
        values: &BTreeMap<Name, Scalar>,
        limits: &Limits,
    ) -> Result<Self, RenderError> {
        let refuse = |code, detail: String| RenderError::Choice(EntryRefusal { code, detail });
        if let Some(unknown) = chosen.iter().find(|name| !app.overlays.contains(name)) {
            return Err(refuse(Code::OverlayUnknown, unknown.to_string()));
        }
        check_values(&app.parameters, values)?;
        let mut replacements = Vec::new();
        for (name, value) in values {
            for target in app.parameters.get(name).into_iter().flat_map(|declared| &declared.targets) {
                replacements.push((target.into(), target.pointer.clone(), name.clone(), value.clone()));
            }
        }
        let mut content = Vec::new();
        for name in app.overlays.iter().filter(|name| chosen.contains(name)) {
            let overlay = overlays.get(name).ok_or_else(|| refuse(Code::ContentMissing, name.to_string()))?;
            content.push((name.clone(), overlay.clone()));
        }
        Ok(Self { overlays: content, values: replacements, limits: limits.clone() })
    }

    /// Whether the choice changes this object at all.
    #[must_use]
    pub fn touches(&self, id: &ObjectId) -> bool {
        self.overlays.iter().any(|(_, overlay)| overlay.touches(id))
            || self.values.iter().any(|(target, ..)| target == id)
    }

    /// Renders one object of the app's objects layer.
    ///
    /// # Errors
    /// [`RenderError`]: a patch or parameter that does not fit the object, which the build would have refused.
    pub fn render(&self, mut object: Value) -> Result<(ObjectId, Value), RenderError> {
        let id = ObjectId::of(&object)?;
        if !self.touches(&id) {
            return Ok((id, object));
        }
        for (name, overlay) in &self.overlays {
            overlay.apply(&id, &mut object, &self.limits).map_err(|source| RenderError::Patch {
                id: Box::new(id.clone()),
                overlay: name.clone(),
                source,
            })?;
        }
        for (target, pointer, name, value) in self.values.iter().filter(|(target, ..)| *target == id) {
            let fault = |fault| RenderError::Target {
                id: Box::new(target.clone()),
                parameter: name.clone(),
                pointer: pointer.clone(),
                fault,
            };
            let place = object.pointer_mut(pointer).ok_or_else(|| fault("nothing stands"))?;
            check_scalar(place, type_of(value)).map_err(fault)?;
            *place = value.clone().into();
        }
        if ObjectId::of(&object).as_ref() != Ok(&id) {
            return Err(RenderError::Identity { id: Box::new(id) });
        }
        let bytes = object.to_string().len();
        if bytes > self.limits.object_bytes {
            return Err(RenderError::TooLarge { id: Box::new(id), bytes, limit: self.limits.object_bytes });
        }
        Ok((id, object))
    }
}

fn type_of(value: &Scalar) -> ParameterType {
    match value {
        Scalar::Boolean(_) => ParameterType::Boolean,
        Scalar::Integer(_) => ParameterType::Integer,
        Scalar::String(_) => ParameterType::String,
    }
}

/// Checks that a parameter of this type may replace what stands at its target.
pub(crate) fn check_scalar(found: &Value, expected: ParameterType) -> Result<(), &'static str> {
    match (expected, found) {
        (ParameterType::String, Value::String(_))
        | (ParameterType::Integer, Value::Number(_))
        | (ParameterType::Boolean, Value::Bool(_)) => Ok(()),
        (_, Value::Object(_) | Value::Array(_) | Value::Null) => Err("no scalar stands"),
        _ => Err("a scalar of another type stands; quote it, or change the parameter's type"),
    }
}

#[cfg(test)]
mod tests;
