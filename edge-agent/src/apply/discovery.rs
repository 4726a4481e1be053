//! Where kinds live in the API, asked of their own group-version alone.
//!
//! A broken APIService elsewhere stops nothing here. What was found is kept until the server answers that it
//! does not know the place; what was not found is asked for again each time, so that a new CRD is seen at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::connection::{Ask, Connection, WHOLE};
use super::path::of_group_version;
use super::refusal::{kind_unknown, unusable};
use crate::core::api::{ApiError, ApiErrorClass};
use crate::core::object::Gvk;
use crate::ports::cluster::Resolved;

#[derive(Debug, Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(default)]
    verbs: Vec<String>,
    name: String,
    #[serde(default)]
    namespaced: bool,
    kind: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct GroupList {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    versions: Vec<GroupVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: String,
}

/// Every kind that can be listed, each in the first version of its group that has it.
///
/// What cannot be asked is an error: whoever asks must know that nothing is left out.
pub(super) async fn listable_kinds(connection: &Connection) -> Result<Vec<(Gvk, Resolved)>, ApiError> {
    let reply = connection.send(&Ask::get("/apis".into(), WHOLE)).await?;
    let groups: GroupList = serde_json::from_slice(&reply)
        .map_err(|error| unusable(&format!("list of API groups cannot be read: {error}")))?;
    let named = groups.groups.into_iter().flat_map(|group| group.versions);
    let versions = named.map(|version| version.group_version);
    let mut kinds: Vec<(Gvk, Resolved)> = Vec::new();
    for group_version in std::iter::once("v1".to_owned()).chain(versions) {
        let any = Gvk::new(&group_version, "");
        let list = match resources(connection, &any).await {
            // Its last definition went since the groups were listed, and all its objects with it.
            Err(error) if error.status == 404 => continue,
            other => other?,
        };
        for found in list {
            let listable = !found.name.contains('/') && found.verbs.iter().any(|verb| verb == "list");
            let seen = |(gvk, _): &(Gvk, Resolved)| gvk.group == any.group && gvk.kind == found.kind;
            if listable && !kinds.iter().any(seen) {
                let resolved = Resolved { plural: found.name, namespaced: found.namespaced };
                kinds.push((Gvk { kind: found.kind, ..any.clone() }, resolved));
            }
        }
    }
    Ok(kinds)
}

async fn resources(connection: &Connection, gvk: &Gvk) -> Result<Vec<Resource>, ApiError> {
    let reply = connection.send(&Ask::get(of_group_version(gvk), WHOLE)).await?;
    let list: ResourceList = serde_json::from_slice(&reply)
        .map_err(|error| unusable(&format!("discovery of {}: {error}", gvk.api_version())))?;
    Ok(list.resources)
}

/// What is known of kinds.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    known: Mutex<BTreeMap<Gvk, Resolved>>,
}

impl Discovery {
    pub(super) async fn resolve(&self, connection: &Connection, gvk: &Gvk) -> Result<Resolved, ApiError> {
        if let Some(known) = self.lock().get(gvk) {
            return Ok(known.clone());
        }
        let list = resources(connection, gvk).await.map_err(|error| match error.class {
            ApiErrorClass::NotFound => kind_unknown(&gvk.to_string()),
            _ => error,
        })?;
        let mut known = self.lock();
        // Names with a slash are subresources, and `scale` names the kind and group of another place.
        let own = list.into_iter().filter(|found| {
            !found.name.contains('/')
                && (found.group.is_empty() || found.group == gvk.group)
                && (found.version.is_empty() || found.version == gvk.version)
        });
        for found in own {
            let resolved = Resolved { plural: found.name, namespaced: found.namespaced };
            known.insert(Gvk { kind: found.kind, ..gvk.clone() }, resolved);
        }
        known.get(gvk).cloned().ok_or_else(|| kind_unknown(&gvk.to_string()))
    }

    /// Forgets a kind whose place the server did not know any more.
    pub(super) fn forget(&self, gvk: &Gvk) {
        self.lock().remove(gvk);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Gvk, Resolved>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
