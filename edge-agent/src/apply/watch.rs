//! Watches of our own objects' metadata: one long request a kind, listed again when the server has lost the place.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Ask, METADATA};
use super::fields::{self, Metadata};
use super::kube::Shared;
use super::listing::Listing;
use super::path::{of_kind, with_query};
use super::refusal::{kind_unknown, unavailable};
use crate::core::api::{ApiError, ApiErrorClass};
use crate::core::event::Event;
use crate::core::object::{Gvk, ObjectRef, Uid};
use crate::ports::cluster::{APP_LABEL, Resolved};

/// How long one watch request lasts; the server is asked for it, and a little later it counts as dead.
const WATCH_SECONDS: &str = "290";
const WATCH_SILENCE: Duration = Duration::from_secs(310);
/// Bytes of one event: an object's metadata, whose managedFields may be long.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Pauses after failures double from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);
/// A kind that is not known is about to be: its CRD was just applied.
const PAUSE_UNKNOWN: Duration = Duration::from_secs(4);
/// A watch that lived this long was a good one, so its failure starts the pauses anew.
const GOOD_WATCH: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Why a watch ended.
enum End {
    /// The server closed it in order, or it was cut: go on from here.
    At(String),
    /// The place is too old: list again.
    Lost,
    /// Nobody listens any more.
    Unheard,
}

/// Watches one kind until nobody listens.
pub(super) async fn watch_kind(shared: Arc<Shared>, gvk: Arc<Gvk>, events: Sender<Event>) {
    let mut pause = PAUSE_FIRST;
    while !events.is_closed() {
        let start = Instant::now();
        let outcome = list_and_watch(&shared, &gvk, &events).await;
        if start.elapsed() >= GOOD_WATCH {
            pause = PAUSE_FIRST;
        }
        match outcome {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%gvk, %error, "watch begins again");
                if error.class == ApiErrorClass::KindUnknown {
                    shared.discovery.forget(&gvk);
                    pause = pause.min(PAUSE_UNKNOWN);
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// Lists, then watches from there for as long as the server keeps the place; `Ok` when it is lost.
async fn list_and_watch(shared: &Shared, gvk: &Arc<Gvk>, events: &Sender<Event>) -> Result<(), ApiError> {
    let resolved = shared.discovery.resolve(&shared.connection, gvk).await?;
    let path = of_kind(gvk, &resolved, None);
    let mut listing = Listing::new(&path, Some(("labelSelector", APP_LABEL)));
    let read = |metadata: Metadata<'_>| Some(seen(gvk, &resolved, metadata));
    while let Some(page) = listing.page(&shared.connection, read).await? {
        for event in page {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
    let mut version = listing.version;
    if events.send(Event::Listed { gvk: Arc::clone(gvk) }).await.is_err() {
        return Ok(());
    }
    loop {
        let start = Instant::now();
        match watch_from(shared, gvk, &resolved, &path, version, events).await? {
            End::At(at) => version = at,
            End::Lost | End::Unheard => return Ok(()),
        }
        // A server that ends each watch at once would be asked without a pause.
        if start.elapsed() < PAUSE_FIRST {
            sleep(PAUSE_FIRST).await;
        }
    }
}

async fn watch_from(
    shared: &Shared,
    gvk: &Arc<Gvk>,
    resolved: &Resolved,
    path: &str,
    mut version: String,
    events: &Sender<Event>,
) -> Result<End, ApiError> {
    let query = [
        ("watch", "1"),
        ("allowWatchBookmarks", "1"),
        ("timeoutSeconds", WATCH_SECONDS),
        ("labelSelector", APP_LABEL),
        ("resourceVersion", &version),
    ];
    let ask = Ask::get(with_query(path.to_owned(), &query), METADATA);
    let opened = timeout(WATCH_SILENCE, shared.connection.open(&ask)).await;
    let mut reply = match opened.map_err(|_| unavailable("watch was not opened in time"))? {
        Err(error) if error.status == 410 => return Ok(End::Lost),
        Err(error) if error.class == ApiErrorClass::NotFound => return Err(kind_unknown(&gvk.to_string())),
        other => other?,
    };
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let bytes = tokio::select! {
            biased;
            () = events.closed() => return Ok(End::Unheard),
            bytes = timeout(WATCH_SILENCE, reply.next()) => bytes,
        };
        // Silence, a broken connection and the end in order all mean: go on from the last event.
        let Ok(Some(Ok(bytes))) = bytes else { return Ok(End::At(version)) };
        buffer.extend_from_slice(&bytes);
        let mut begin = 0;
        while let Some(end) = buffer[begin..].iter().position(|&byte| byte == b'\n') {
            let line = &buffer[begin..begin + end];
            begin += end + 1;
            match read_line(line, gvk, resolved) {
                Some((at, event)) => {
                    version = at;
                    if let Some(event) = event
                        && events.send(event).await.is_err()
                    {
                        return Ok(End::Unheard);
                    }
                }
                None => return Ok(End::Lost),
            }
        }
        buffer.drain(..begin);
        if buffer.len() > EVENT_BYTES_MAX {
            return Ok(End::Lost);
        }
        if buffer.is_empty() {
            // One burst must not keep its buffer for the life of a quiet watch.
            buffer.shrink_to(4096);
        }
    }
}

/// Reads one event: the position after it, and what it says; `None` for an error, which ends the watch.
fn read_line(line: &[u8], gvk: &Arc<Gvk>, resolved: &Resolved) -> Option<(String, Option<Event>)> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    if line.kind == "ERROR" {
        return None;
    }
    let metadata = fields::read(line.object.get().as_bytes()).ok()?.metadata;
    let at = metadata.resource_version.clone();
    let event = match line.kind {
        "ADDED" | "MODIFIED" => Some(seen(gvk, resolved, metadata)),
        "DELETED" => {
            let object = name_of(gvk, resolved, &metadata);
            Some(Event::Gone { object, uid: Uid(metadata.uid) })
        }
        _ => None,
    };
    Some((at, event))
}

fn seen(gvk: &Arc<Gvk>, resolved: &Resolved, metadata: Metadata<'_>) -> Event {
    let object = name_of(gvk, resolved, &metadata);
    let entry = metadata.entry();
    Event::Seen { object, uid: Uid(metadata.uid), resource_version: metadata.resource_version, entry }
}

fn name_of(gvk: &Arc<Gvk>, resolved: &Resolved, metadata: &Metadata<'_>) -> ObjectRef {
    let namespace = metadata.namespace.clone().filter(|_| resolved.namespaced);
    ObjectRef { gvk: Arc::clone(gvk), namespace, name: metadata.name.clone() }
}

/// Watches of many kinds, which end when this is dropped.
pub(super) async fn watch_kinds(
    shared: Arc<Shared>,
    kinds: std::collections::BTreeSet<Arc<Gvk>>,
    events: Sender<Event>,
) {
    let mut watches = tokio::task::JoinSet::new();
    for gvk in kinds {
        watches.spawn(watch_kind(Arc::clone(&shared), gvk, events.clone()));
    }
    while watches.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gvk() -> Arc<Gvk> {
        Arc::new(Gvk::new("v1", "ConfigMap"))
    }

    fn read(line: &str) -> Option<(String, Option<Event>)> {
        read_line(line.as_bytes(), &gvk(), &Resolved { plural: "configmaps".into(), namespaced: true })
    }

    #[test]
    fn a_bookmark_moves_the_position_and_says_nothing() {
        let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}"#;
        assert_eq!(read(line), Some(("12".into(), None)));
    }

    #[test]
    fn a_change_tells_identity_version_and_our_entry() {
        let line = r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","namespace":"n","uid":"u",
            "resourceVersion":"13","managedFields":[{"manager":"airlift/shop","operation":"Apply",
            "apiVersion":"v1","fieldsV1":{"f:data":{}}}]}}}"#;
        let Some((_, Some(Event::Seen { object, uid, resource_version, entry }))) = read(line) else {
            panic!("not seen");
        };
        assert_eq!(object.to_string(), "ConfigMap n/a");
        assert_eq!((uid.0.as_str(), resource_version.as_str()), ("u", "13"));
        assert_eq!(entry.map(|(app, _)| app.to_string()).as_deref(), Some("shop"));
    }

    #[test]
    fn an_error_or_nonsense_ends_the_watch() {
        assert_eq!(read(r#"{"type":"ERROR","object":{"code":410,"reason":"Expired"}}"#), None);
        assert_eq!(read("<html>"), None);
    }
}
