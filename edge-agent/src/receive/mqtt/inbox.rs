//! What arrives over the link, sorted by topic: documents to the core, pieces and parts to the content store.

use std::sync::Arc;

use airlift_bundles::ids::{Name, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Desired, HubState, Part as WirePart, Topic, WantedItem};
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use super::assemble::Assembler;
use crate::core::Event;
use crate::core::event::{Carrier, DocumentKind};
use crate::ports::Content;
use crate::ports::content::{Part, PutOutcome};

/// Messages between connection and disk: 1 MiB of pieces.
const QUEUE: usize = 16;

/// Reads one connection's messages.
pub(super) struct Inbox {
    site: SiteId,
    prefix: Name,
    events: mpsc::Sender<Event>,
    content: Arc<dyn Content>,
    assembler: Assembler,
}

impl Inbox {
    pub(super) fn new(
        site: SiteId,
        prefix: Name,
        events: mpsc::Sender<Event>,
        content: Arc<dyn Content>,
    ) -> Self {
        Self { site, prefix, events, content, assembler: Assembler::default() }
    }

    /// Starts reading; ends when the sender is dropped and everything was handed on.
    pub(super) fn spawn(mut self) -> (mpsc::Sender<Publish>, JoinHandle<()>) {
        let (sender, mut queue) = mpsc::channel::<Publish>(QUEUE);
        let task = tokio::spawn(async move {
            while let Some(publish) = queue.recv().await {
                if let Err(fault) = self.read(&publish).await {
                    warn!(topic = %String::from_utf8_lossy(&publish.topic), fault, "message from the hub is dropped");
                }
            }
        });
        (sender, task)
    }

    async fn read(&mut self, publish: &Publish) -> Result<(), String> {
        let name = std::str::from_utf8(&publish.topic).map_err(|error| error.to_string())?;
        let topic = Topic::parse(name, &self.prefix).map_err(|error| error.to_string())?;
        let mine =
            |site: &SiteId| if *site == self.site { Ok(()) } else { Err("for another site".to_owned()) };
        match &topic {
            Topic::Desired(site) => {
                mine(site)?;
                if !publish.payload.is_empty() {
                    self.read_desired(&publish.payload).await?;
                }
            }
            Topic::Ack(site) => {
                mine(site)?;
                self.document(DocumentKind::Ack, unframe(&publish.payload)?).await;
            }
            Topic::Command(site) => {
                mine(site)?;
                self.document(DocumentKind::Command, unframe(&publish.payload)?).await;
            }
            Topic::Content(site) => {
                mine(site)?;
                let part = WirePart::decode(&publish.payload).ok_or("not a part of an item")?;
                if let Some((item, bytes)) = self.assembler.add(part) {
                    self.item(item, bytes).await?;
                }
            }
            Topic::BlobPiece(sha256, number) => {
                let number = u32::try_from(*number).map_err(|error| error.to_string())?;
                self.put(Part::Piece { sha256: *sha256, number, bytes: publish.payload.to_vec() }).await?;
            }
            Topic::EncodingPiece(root, number) => {
                let number = u32::try_from(*number).map_err(|error| error.to_string())?;
                self.put(Part::Encoded { root: *root, number, bytes: publish.payload.to_vec() }).await?;
            }
            Topic::HubState => {
                let state: HubState =
                    wire::decode(&publish.payload, &Limits::DEFAULT).map_err(|error| error.to_string())?;
                self.tell(Event::RootHint { version: state.root_version }).await;
                if let Some(id) = state.roll_call {
                    let (over_ms, retained) = (state.jitter_ms, publish.retain);
                    self.tell(Event::RollCall { id, over_ms, retained }).await;
                }
            }
            Topic::Status(_) | Topic::Get(_) | Topic::Conn(_) => return Err("a site's own topic".into()),
        }
        Ok(())
    }

    async fn read_desired(&mut self, payload: &[u8]) -> Result<(), String> {
        let desired: Desired = wire::decode(payload, &Limits::DEFAULT).map_err(|error| error.to_string())?;
        self.tell(Event::RootHint { version: desired.root_version }).await;
        match (desired.envelope, desired.pointer) {
            (Some(envelope), _) => {
                self.document(DocumentKind::Assignment, envelope.get().as_bytes().to_vec()).await
            }
            (None, Some(sha256)) => self.tell(Event::AssignmentHint { sha256 }).await,
            (None, None) => return Err("neither an assignment nor a pointer to one".into()),
        }
        Ok(())
    }

    /// An item that came in parts. Documents go to the core, which finds out by itself what a digest was wanted as.
    async fn item(&mut self, item: WantedItem, bytes: Vec<u8>) -> Result<(), String> {
        match item {
            WantedItem::Root(_) => self.document(DocumentKind::Root, bytes).await,
            WantedItem::Document(_) => {
                let kind = match peek_type(&bytes) {
                    Some(kind) => kind,
                    None => return Err("a document of no known type".into()),
                };
                self.document(kind, bytes).await;
            }
            WantedItem::Blob(sha256) => self.put(Part::Whole { sha256, bytes }).await?,
            WantedItem::Encoding(_) => return Err("encodings come in pieces".into()),
        }
        Ok(())
    }

    async fn put(&self, part: Part) -> Result<(), String> {
        match self.content.put(part).await {
            Ok(PutOutcome::Wrong) => Err("bytes do not match their digest".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn document(&self, expected: DocumentKind, bytes: Vec<u8>) {
        self.tell(Event::Document { expected, carrier: Carrier::Hub, bytes }).await;
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await; // an agent that is ending needs no news
    }
}

fn unframe(payload: &[u8]) -> Result<Vec<u8>, String> {
    wire::unframe(payload, &Limits::DEFAULT).map_err(|error| error.to_string())
}

/// Which of the two kinds that are wanted by digest an envelope says it is; the core verifies it as that kind.
fn peek_type(bytes: &[u8]) -> Option<DocumentKind> {
    use airlift_bundles::document::assignment::Assignment;
    use airlift_bundles::document::release::Statement;
    use airlift_bundles::envelope::{Document as _, Envelope};
    let envelope = Envelope::parse(bytes, &Limits::DEFAULT).ok()?;
    match envelope.payload_type() {
        Assignment::PAYLOAD_TYPE => Some(DocumentKind::Assignment),
        Statement::PAYLOAD_TYPE => Some(DocumentKind::Release),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
