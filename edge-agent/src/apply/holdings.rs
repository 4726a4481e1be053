//! What is under a namespace, a definition of a kind, or a claim: listed before any of these is deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::connection::{Ask, WHOLE};
use super::discovery::listable_kinds;
use super::fields::Metadata;
use super::kube::KubeCluster;
use super::listing::Listing;
use super::others::{Holding, name_others, of_others};
use super::path::{of_kind, with_query};
use super::refusal::unusable;
use crate::core::api::{ApiError, ApiErrorClass};
use crate::core::object::{Gvk, ObjectRef, Uid};
use crate::ports::cluster::Resolved;

/// Pods of one namespace that are read at a time, as whole objects.
const PODS_PAGE: &str = "100";

/// Kinds by which pods belong to others.
const POD_OWNERS: [(&str, &str); 6] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
];

impl KubeCluster {
    /// Names what would go with an object and is not the app's.
    pub(super) async fn list_others(
        &self,
        object: &ObjectRef,
        ours: &BTreeSet<Uid>,
        claims: bool,
    ) -> Result<Vec<String>, ApiError> {
        let holdings = match object.gvk.kind.as_str() {
            "Namespace" => self.in_namespace(&object.name).await?,
            "CustomResourceDefinition" => self.of_definition(object).await?,
            "PersistentVolumeClaim" => return self.users_of_claim(object, ours).await,
            _ => Vec::new(),
        };
        Ok(name_others(&of_others(&holdings, ours, claims)))
    }

    async fn in_namespace(&self, namespace: &str) -> Result<Vec<Holding>, ApiError> {
        let mut holdings = Vec::new();
        for (gvk, resolved) in listable_kinds(&self.shared.connection).await? {
            if resolved.namespaced {
                holdings.extend(self.holdings(&gvk, &resolved, Some(namespace)).await?);
            }
        }
        Ok(holdings)
    }

    /// Every object of the kind that a definition defines.
    async fn of_definition(&self, object: &ObjectRef) -> Result<Vec<Holding>, ApiError> {
        let definition = match self.get_one(object).await {
            Err(error) if error.class == ApiErrorClass::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let mut served = versions.into_iter().flatten().filter(|version| version["served"] == true);
        let Some(version) = served.next().and_then(|version| version["name"].as_str()) else {
            return Err(unusable(&format!("{object} serves no version, so its objects cannot be listed")));
        };
        let gvk = Gvk {
            group: text("/spec/group").to_owned(),
            version: version.to_owned(),
            kind: text("/spec/names/kind").to_owned(),
        };
        let resolved = Resolved {
            plural: text("/spec/names/plural").to_owned(),
            namespaced: text("/spec/scope") == "Namespaced",
        };
        self.holdings(&gvk, &resolved, None).await
    }

    /// Pods of others that use a claim.
    async fn users_of_claim(&self, claim: &ObjectRef, ours: &BTreeSet<Uid>) -> Result<Vec<String>, ApiError> {
        let namespace = claim.namespace.as_deref().unwrap_or_default();
        let users = self.pods_with(namespace, &claim.name).await?;
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut holdings = Vec::new();
        let pods = Gvk::new("v1", "Pod");
        let kinds = POD_OWNERS.iter().map(|(api_version, kind)| Gvk::new(api_version, kind)).chain([pods]);
        for gvk in kinds {
            let resolved = self.shared.discovery.resolve(&self.shared.connection, &gvk).await?;
            holdings.extend(self.holdings(&gvk, &resolved, Some(namespace)).await?);
        }
        let others = of_others(&holdings, ours, false);
        let others: Vec<&Holding> = others.into_iter().filter(|held| users.contains(&held.uid)).collect();
        Ok(name_others(&others))
    }

    async fn pods_with(&self, namespace: &str, claim: &str) -> Result<BTreeSet<Uid>, ApiError> {
        let resolved = Resolved { plural: "pods".to_owned(), namespaced: true };
        let path = of_kind(&Gvk::new("v1", "Pod"), &resolved, Some(namespace));
        let (mut users, mut next) = (BTreeSet::new(), String::new());
        loop {
            let mut query = vec![("limit", PODS_PAGE)];
            if !next.is_empty() {
                query.push(("continue", &next));
            }
            let reply = self.ask(&Ask::get(with_query(path.clone(), &query), WHOLE)).await?;
            let page: Value = serde_json::from_slice(&reply)
                .map_err(|error| unusable(&format!("pods cannot be read: {error}")))?;
            let uses = |pod: &&Value| {
                let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
                let name = |volume: &Value| volume.pointer("/persistentVolumeClaim/claimName").cloned();
                volumes.into_iter().flatten().any(|volume| name(volume) == Some(claim.into()))
            };
            let pods = page["items"].as_array();
            let uid = |pod: &Value| Some(Uid(pod.pointer("/metadata/uid")?.as_str()?.to_owned()));
            users.extend(pods.into_iter().flatten().filter(uses).filter_map(uid));
            next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(users);
            }
        }
    }

    async fn holdings(
        &self,
        gvk: &Gvk,
        resolved: &Resolved,
        namespace: Option<&str>,
    ) -> Result<Vec<Holding>, ApiError> {
        let path = of_kind(gvk, resolved, namespace);
        let kind: Arc<str> = format!("{}/{}", gvk.group, gvk.kind).into();
        let read = |metadata: Metadata<'_>| {
            Some(Holding {
                kind: kind.to_string(),
                owners: metadata.owners(),
                terminating: metadata.deletion_timestamp.is_some(),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: Uid(metadata.uid),
            })
        };
        let mut listing = Listing::new(&path, None);
        let mut found: Vec<Holding> = Vec::new();
        loop {
            match listing.page(&self.shared.connection, read).await {
                Ok(Some(page)) => found.extend(page),
                Ok(None) => return Ok(found),
                // It was served a moment ago, and its objects went with it; or it cannot be listed after all.
                Err(error) if error.status == 404 || error.status == 405 => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }
}
