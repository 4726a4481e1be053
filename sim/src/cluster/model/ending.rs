//! How objects of the model end: at once, when their finalizers are gone, or with their namespace, kind or owner.

use std::sync::Arc;

use airlift_agent::core::api::ApiError;
use airlift_agent::core::event::Event;
use airlift_agent::core::object::{ObjectRef, Uid};
use airlift_agent::ports::cluster::Propagation;
use serde_json::Value;

use super::{Model, Stored, kinds, labelled, namespace_ref};

impl Model {
    /// Deletes with a UID precondition, and what its owner references reach unless they are orphaned.
    ///
    /// # Errors
    /// As an API server's.
    pub fn delete(
        &mut self,
        now_ms: u64,
        object: &ObjectRef,
        uid: &Uid,
        propagation: Propagation,
    ) -> Result<(), ApiError> {
        self.door()?;
        self.known(&object.gvk)?;
        if self.objects.get(object).is_none_or(|stored| stored.uid != *uid) {
            return Ok(());
        }
        if object.gvk.group.is_empty() && object.gvk.kind == "Namespace" {
            self.due.insert((now_ms + self.settings.namespace_gone_after_ms, object.clone()));
            self.mark_deleting(object);
            return Ok(());
        }
        if held(&self.objects[object].content.body) {
            self.mark_deleting(object);
            return Ok(());
        }
        self.vanish(object);
        if propagation != Propagation::Orphan {
            self.collect_dependents(uid);
        }
        Ok(())
    }

    /// Takes everything out of a namespace that is going, and then the namespace; what is held holds it too.
    pub(super) fn empty_namespace(&mut self, place: &ObjectRef) {
        for inner in self.inside(place) {
            match self.objects.get(&inner) {
                Some(stored) if !held(&stored.content.body) => self.remove(&inner),
                Some(stored) if !stored.deleting => self.mark_deleting(&inner),
                _ => {}
            }
        }
        if self.inside(place).is_empty() {
            self.remove(place);
        }
    }

    fn inside(&self, place: &ObjectRef) -> Vec<ObjectRef> {
        let inside = |inner: &&ObjectRef| inner.namespace.as_ref() == Some(&place.name);
        self.objects.keys().filter(inside).cloned().collect()
    }

    fn mark_deleting(&mut self, object: &ObjectRef) {
        if let Some(stored) = self.objects.get_mut(object) {
            stored.deleting = true;
        }
        self.touch(object);
    }

    pub(super) fn vanish(&mut self, object: &ObjectRef) {
        self.remove(object);
        // The last one in a namespace that is going lets it go, unless its own time has not come.
        let Some(place) = object.namespace.as_deref().map(namespace_ref) else { return };
        let due = self.due.iter().any(|(_, waiting)| *waiting == place);
        if self.objects.get(&place).is_some_and(|place| place.deleting) && !due {
            self.empty_namespace(&place);
        }
    }

    fn remove(&mut self, object: &ObjectRef) {
        let Some(stored) = self.objects.remove(object) else { return };
        self.version += 1;
        self.due.retain(|(_, other)| other != object);
        if labelled(&stored.content.body) {
            self.tell(&object.gvk, || Event::Gone { object: object.clone(), uid: stored.uid.clone() });
        }
        if object.gvk.kind == "CustomResourceDefinition" {
            for (gvk, _) in kinds::defined_by(&stored.content.body) {
                let of_kind: Vec<ObjectRef> =
                    self.objects.keys().filter(|other| *other.gvk == gvk).cloned().collect();
                for other in of_kind {
                    self.vanish(&other);
                }
                Arc::make_mut(&mut self.kinds).remove(&gvk);
            }
        }
    }

    fn collect_dependents(&mut self, owner: &Uid) {
        let owned = |stored: &Stored| {
            let references =
                stored.content.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            references.is_some_and(|list| list.iter().any(|reference| reference["uid"] == owner.0.as_str()))
        };
        let dependents: Vec<(ObjectRef, Uid)> = self
            .objects
            .iter()
            .filter(|(_, stored)| owned(stored))
            .map(|(object, stored)| (object.clone(), stored.uid.clone()))
            .collect();
        for (object, uid) in dependents {
            self.vanish(&object);
            self.collect_dependents(&uid);
        }
    }
}

/// Somebody wants to be asked before it goes.
pub(super) fn held(body: &Value) -> bool {
    let finalizers = body.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}
