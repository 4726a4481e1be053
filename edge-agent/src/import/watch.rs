//! Follows containerd's events: images and blobs that somebody removes, containers that come and go.

use std::time::Duration;

use prost::Message;
use tonic::{Status, Streaming};

use super::messages::{Any, DeletedEvent, Empty, EventEnvelope, ListRequest, PublishRequest};
use super::socket::{CALL_TIMEOUT, NAMESPACE, Socket, within};
use crate::ports::Boxed;
use crate::ports::images::{Change, ChangeWatch, ImportError};

const IMAGE_DELETED: &str = "/images/delete";
const BLOB_DELETED: &str = "/content/delete";
const CONTAINER_MADE: &str = "/containers/create";
const CONTAINER_DELETED: &str = "/containers/delete";
/// Our own: containerd says nothing on a subscription, not even that it stands, before there is an event.
const GREETING: &str = "/airlift/watch";
const GREETING_PAUSE: Duration = Duration::from_millis(50);

/// Subscribes; a greeting to ourselves has come back once this returns, so nothing later goes unseen.
pub(super) async fn subscribe(socket: &Socket) -> Result<EventWatch, ImportError> {
    let filter = |topic: &str| format!("namespace==\"{NAMESPACE}\",topic==\"{topic}\"");
    let topics = [IMAGE_DELETED, BLOB_DELETED, CONTAINER_MADE, CONTAINER_DELETED, GREETING];
    let question = ListRequest { filters: topics.map(filter).into() };
    let method = "/containerd.services.events.v1.Events/Subscribe";
    let greeted = async {
        let subscribing = socket.subscribe(method, question);
        tokio::pin!(subscribing);
        loop {
            tokio::select! {
                biased;
                events = &mut subscribing => return events,
                () = tokio::time::sleep(GREETING_PAUSE) => greet(socket).await?,
            }
        }
    };
    let events = within(CALL_TIMEOUT, greeted).await;
    let events = events.map_err(|status| socket.failed("subscribing to events", &status))?;
    Ok(EventWatch { socket: socket.clone(), events })
}

async fn greet(socket: &Socket) -> Result<(), Status> {
    let method = "/containerd.services.events.v1.Events/Publish";
    // A type that every listener can read; the topic is ours alone.
    let type_url = "containerd.events.ContentDelete".to_owned();
    let event = Any { type_url, value: DeletedEvent::default().encode_to_vec() };
    let question = PublishRequest { topic: GREETING.to_owned(), event: Some(event) };
    socket.call::<_, Empty>(method, None, CALL_TIMEOUT, question).await.map(drop)
}

/// A subscription to containerd's events.
pub(super) struct EventWatch {
    socket: Socket,
    events: Streaming<EventEnvelope>,
}

impl ChangeWatch for EventWatch {
    fn next(&mut self) -> Boxed<'_, Result<Change, ImportError>> {
        Box::pin(async move {
            loop {
                let event = self.events.message().await;
                let event =
                    event.and_then(|event| event.ok_or_else(|| Status::unavailable("the events ended")));
                let event = event.map_err(|status| self.socket.failed("following events", &status))?;
                if let Some(change) = read(&event) {
                    return Ok(change);
                }
            }
        })
    }
}

/// What an event says; events of other kinds or that cannot be read say nothing.
fn read(event: &EventEnvelope) -> Option<Change> {
    let what = DeletedEvent::decode(event.event.as_ref()?.value.as_slice()).ok()?.what;
    match event.topic.as_str() {
        IMAGE_DELETED => Some(Change::ImageRemoved(what)),
        BLOB_DELETED => what.parse().ok().map(Change::BlobRemoved),
        CONTAINER_MADE | CONTAINER_DELETED => Some(Change::Containers),
        _ => None,
    }
}
