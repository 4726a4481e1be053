//! Which workloads have their replicas set by a HorizontalPodAutoscaler, the bundle's own or one found live.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::connection::{Ask, WHOLE};
use super::kube::KubeCluster;
use super::path::{of_kind, with_query};
use super::refusal::unusable;
use crate::core::api::{ApiError, ApiErrorClass};
use crate::core::object::{Gvk, ObjectRef};
use crate::ports::cluster::Resolved;

/// How long a look at a namespace serves: a version's workloads are updated one after the other.
const LOOK: Duration = Duration::from_secs(5);
/// Namespaces that are remembered.
const NAMESPACES_MAX: usize = 64;
/// Autoscalers of one namespace that are read; a site has a few.
const AUTOSCALERS_MAX: &str = "500";

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Autoscaler>,
}

#[derive(Debug, Deserialize)]
struct Autoscaler {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: Target,
}

/// What an autoscaler scales.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    api_version: String,
    kind: String,
    name: String,
}

impl Target {
    fn is(&self, object: &ObjectRef) -> bool {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        (group, &self.kind, &self.name) == (object.gvk.group.as_str(), &object.gvk.kind, &object.name)
    }
}

/// What the autoscalers of namespaces scale, and when that was seen.
#[derive(Debug, Default)]
pub(super) struct Autoscaled {
    seen: Mutex<BTreeMap<String, (Instant, Vec<Target>)>>,
}

impl KubeCluster {
    pub(super) async fn has_autoscaler(&self, object: &ObjectRef) -> Result<bool, ApiError> {
        let Some(namespace) = &object.namespace else { return Ok(false) };
        let lock = || self.shared.autoscaled.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((looked, targets)) = lock().get(namespace)
            && looked.elapsed() < LOOK
        {
            return Ok(targets.iter().any(|target| target.is(object)));
        }
        let resolved = Resolved { plural: "horizontalpodautoscalers".to_owned(), namespaced: true };
        let gvk = Gvk::new("autoscaling/v2", "HorizontalPodAutoscaler");
        let path = with_query(of_kind(&gvk, &resolved, Some(namespace)), &[("limit", AUTOSCALERS_MAX)]);
        let targets: Vec<Target> = match self.ask(&Ask::get(path, WHOLE)).await {
            Err(error) if matches!(error.class, ApiErrorClass::KindUnknown | ApiErrorClass::NotFound) => {
                Vec::new()
            }
            Err(error) => return Err(error),
            Ok(reply) => {
                let list: List = serde_json::from_slice(&reply)
                    .map_err(|error| unusable(&format!("list of autoscalers cannot be read: {error}")))?;
                list.items.into_iter().map(|item| item.spec.scale_target_ref).collect()
            }
        };
        let is_target = targets.iter().any(|target| target.is(object));
        let mut seen = lock();
        if seen.len() >= NAMESPACES_MAX {
            seen.clear();
        }
        seen.insert(namespace.clone(), (Instant::now(), targets));
        Ok(is_target)
    }
}
