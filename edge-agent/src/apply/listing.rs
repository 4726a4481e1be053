//! Lists of metadata, page by page, so that a thousand objects never lie in memory at once.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::connection::{Ask, Connection, METADATA_LIST};
use super::fields::{Metadata, MetadataOnly};
use super::path::with_query;
use super::refusal::unusable;
use crate::core::api::ApiError;
use crate::core::object::ObjectRef;

/// Objects of one page: 250 of the usual 1.5 KB are 0.4 MB.
const PAGE_OBJECTS: &str = "250";
/// Times that a listing begins again because its continuation token grew too old.
const RESTARTS_MAX: usize = 3;

#[derive(Debug, Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<MetadataOnly<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// A list, of which one page after the other is read.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    path: &'a str,
    /// `labelSelector` or `fieldSelector`, and its value.
    selector: Option<(&'a str, &'a str)>,
    next: String,
    restarts: usize,
    done: bool,
    /// The resource version of the list; set after its last page.
    pub(super) version: String,
}

impl<'a> Listing<'a> {
    pub(super) fn new(path: &'a str, selector: Option<(&'a str, &'a str)>) -> Self {
        Self { path, selector, next: String::new(), restarts: 0, done: false, version: String::new() }
    }

    /// Reads the next page and keeps what `read` makes of its objects; `None` after the last one. Where the
    /// server has lost its place everything begins again, so an object may come twice.
    pub(super) async fn page<T>(
        &mut self,
        connection: &Connection,
        mut read: impl FnMut(Metadata<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ApiError> {
        if self.done {
            return Ok(None);
        }
        let mut query = vec![("limit", PAGE_OBJECTS)];
        query.extend(self.selector);
        if !self.next.is_empty() {
            query.push(("continue", &self.next));
        }
        let ask = Ask::get(with_query(self.path.to_owned(), &query), METADATA_LIST);
        let reply = match connection.send(&ask).await {
            Err(error) if error.status == 410 && self.restarts < RESTARTS_MAX => {
                self.restarts += 1;
                self.next.clear();
                return Ok(Some(Vec::new()));
            }
            other => other?,
        };
        let page: Page<'_> = serde_json::from_slice(&reply)
            .map_err(|error| unusable(&format!("list of {}: {error}", self.path)))?;
        let items = page.items.unwrap_or_default();
        self.next = page.metadata.next;
        self.done = self.next.is_empty();
        self.version = page.metadata.resource_version;
        Ok(Some(items.into_iter().filter_map(|item| read(item.metadata)).collect()))
    }
}

/// The narrowest place that holds all of `only`: one namespace, and one name where there is only one.
pub(super) fn narrow(only: &BTreeSet<ObjectRef>) -> (Option<&str>, Option<String>) {
    let mut places = only.iter().map(|object| object.namespace.as_deref());
    let first = places.next().flatten();
    let namespace = first.filter(|first| places.all(|place| place == Some(*first)));
    let name = only.iter().next().filter(|_| only.len() == 1);
    (namespace, name.map(|object| format!("metadata.name={}", object.name)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::object::Gvk;

    fn objects(names: &[(&str, &str)]) -> BTreeSet<ObjectRef> {
        let gvk = Arc::new(Gvk::new("v1", "ConfigMap"));
        let make = |(namespace, name): &(&str, &str)| ObjectRef {
            gvk: Arc::clone(&gvk),
            namespace: Some((*namespace).into()),
            name: (*name).into(),
        };
        names.iter().map(make).collect()
    }

    #[test]
    fn a_list_asks_for_no_more_than_its_objects_need() {
        let one = objects(&[("shop", "a")]);
        assert_eq!(narrow(&one), (Some("shop"), Some("metadata.name=a".into())));
        assert_eq!(narrow(&objects(&[("shop", "a"), ("shop", "b")])), (Some("shop"), None));
        assert_eq!(narrow(&objects(&[("shop", "a"), ("other", "b")])), (None, None));
        assert_eq!(narrow(&BTreeSet::new()), (None, None));
    }
}
