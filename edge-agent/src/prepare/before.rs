//! What objects of a generation may be now: other generations' content, compared with the new one's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::limits::Limits;
use airlift_bundles::render::object::ObjectId;
use airlift_bundles::reversal::{Comparison, Reason, Reversibility, is_guarded};
use serde_json::Value;
use tracing::warn;

use super::{Bodies, Opened, reference};
use crate::core::api::ApiErrorClass;
use crate::core::event::{Failure, FailureClass};
use crate::core::object::{Generation, Predecessors};
use crate::ports::Cluster;

/// A kind, a namespace and a name, whatever the version of the API.
type Key = (String, Option<String>, String);

fn key(id: &ObjectId) -> Key {
    (id.group_kind(), id.namespace.clone(), id.name.clone())
}

/// One generation that is compared with, and what the comparison came to so far.
struct Other {
    generation: Arc<Generation>,
    opened: Arc<Opened>,
    /// The site would come back to it.
    healthy: bool,
    /// Where the objects are whose updates can be refused.
    guarded: BTreeMap<Key, u32>,
    comparison: Comparison,
}

/// All generations that are compared with; the verdict is the healthy one's.
pub(super) struct Before<'c> {
    cluster: &'c dyn Cluster,
    others: Vec<Other>,
}

impl<'c> Before<'c> {
    pub(super) fn open(
        bodies: &Bodies,
        after: &Opened,
        generation: &Generation,
        before: &Predecessors,
        cluster: &'c dyn Cluster,
    ) -> Self {
        let mut others = Vec::new();
        let healthy = before.healthy.as_ref().map(|healthy| healthy.id);
        for before in before.all() {
            match Other::open(bodies, after, generation, before) {
                Ok(None) => {}
                Ok(Some(other)) => others.push(Other { healthy: healthy == Some(before.id), ..other }),
                // What is there cannot be read, so nobody can go back to it either; the dry-run still protects it.
                Err(failure) => warn!(app = %before.app, reason = failure.reason, "no comparison"),
            }
        }
        Self { cluster, others }
    }

    /// Compares one object; answers whether it must be created anew to get there from any of the others.
    pub(super) async fn compare(&mut self, id: &ObjectId, after: &Value) -> Result<bool, Failure> {
        let mut recreate = false;
        if self.others.is_empty() || !is_guarded(id) {
            return Ok(recreate);
        }
        for other in &mut self.others {
            let Some(index) = other.guarded.get(&key(id)) else { continue };
            let (_, before) = other.opened.render(&other.generation, *index)?;
            if before != *after {
                let stored = stored_versions(self.cluster, id).await?;
                recreate |= other.comparison.add(id, &before, after, &stored);
            }
        }
        Ok(recreate)
    }

    /// What keeps the site from going there, or from coming back.
    pub(super) fn irreversible(&self) -> Vec<Evidence> {
        let Some(other) = self.others.iter().find(|other| other.healthy) else { return Vec::new() };
        if other.comparison.verdict() != Reversibility::Irreversible {
            return Vec::new();
        }
        let reasons = other.comparison.reasons().iter().filter(|reason| !reason.recreated);
        let tell = |reason: &Reason| Evidence {
            object: reason.id.to_string(),
            reason: Code::Irreversible.id().to_owned(),
            message: reason.what(),
        };
        Evidence::bounded(reasons.map(tell).collect(), &Limits::DEFAULT)
    }
}

impl Other {
    /// `None` where both generations render the same objects.
    fn open(
        bodies: &Bodies,
        after: &Opened,
        generation: &Generation,
        before: &Arc<Generation>,
    ) -> Result<Option<Self>, Failure> {
        let bundle = bodies.bundle(before)?;
        let same = bundle.objects() == after.bundle.objects()
            && (&before.parameters, &before.overlays) == (&generation.parameters, &generation.overlays)
            && bundle.overlays() == after.bundle.overlays();
        if same {
            return Ok(None);
        }
        let opened = bodies.opened(before)?;
        let mut guarded = BTreeMap::new();
        for index in 0..opened.lines.count() {
            let object = opened.lines.read(index).map_err(|error| super::surroundings(error.to_string()))?;
            if let Ok(id) = ObjectId::of(&object)
                && is_guarded(&id)
            {
                guarded.insert(key(&id), index);
            }
        }
        let comparison = Comparison::new(opened.bundle.app(), after.bundle.app());
        Ok(Some(Self { generation: Arc::clone(before), opened, healthy: false, guarded, comparison }))
    }
}

/// The versions in which the cluster holds objects of the kind that `id` defines; empty for any other object.
async fn stored_versions(cluster: &dyn Cluster, id: &ObjectId) -> Result<BTreeSet<String>, Failure> {
    if id.group_kind() != "apiextensions.k8s.io/CustomResourceDefinition" {
        return Ok(BTreeSet::new());
    }
    let definition = match cluster.get(&reference(id.clone())).await {
        Ok(definition) => definition,
        Err(error) if matches!(error.class, ApiErrorClass::NotFound | ApiErrorClass::KindUnknown) => {
            return Ok(BTreeSet::new());
        }
        Err(error) => {
            let reason = format!("{id} cannot be read: {}", error.message);
            let (class, code) = (FailureClass::Environment, Code::ClusterUnavailable);
            return Err(Failure { class, code, reason, evidence: Vec::new() });
        }
    };
    let stored = definition.pointer("/status/storedVersions").and_then(Value::as_array);
    Ok(stored.into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
}
