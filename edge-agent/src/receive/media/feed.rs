//! Hands a media's documents to the core: roots in order, the releases that the site's assignment names, and the
//! assignment last, so that it finds what it needs.

use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{Sha256Digest, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaError, MediaName};
use tokio::sync::mpsc;

use super::Source;
use super::load::Fault;
use crate::core::Event;
use crate::core::event::{Carrier, DocumentKind, MediaId};

/// Documents on their way from the reading thread; each is at most 1 MiB.
const QUEUE: usize = 4;

/// What a media held for this site.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Documents that were handed to the core.
    pub(super) documents: u64,
    /// The site's assignment as the media has it: unverified, a hint at what to fetch.
    pub(super) assignment: Option<Assignment>,
    /// Entries that could not be read.
    pub(super) faults: Vec<Fault>,
}

enum Found {
    Document(DocumentKind, Vec<u8>),
    Assignment(Box<Assignment>),
    Fault(Fault),
}

/// Feeds everything that is newer than root `root_version`; ends early when the agent does.
pub(super) async fn feed(
    source: Source,
    media: MediaId,
    site: SiteId,
    root_version: u64,
    events: &mpsc::Sender<Event>,
) -> Fed {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let reading = tokio::task::spawn_blocking(move || {
        Reader { source, found: sender }.read(&site, root_version);
    });
    let mut fed = Fed::default();
    while let Some(found) = receiver.recv().await {
        match found {
            Found::Fault(fault) => fed.faults.push(fault),
            Found::Assignment(assignment) => fed.assignment = Some(*assignment),
            Found::Document(expected, bytes) => {
                fed.documents += 1;
                let carrier = Carrier::Media(media.clone());
                if events.send(Event::Document { expected, carrier, bytes }).await.is_err() {
                    break; // the agent is ending
                }
            }
        }
    }
    drop(receiver);
    let _ = reading.await; // it ends with its channel
    fed
}

/// The part that blocks.
struct Reader {
    source: Source,
    found: mpsc::Sender<Found>,
}

impl Reader {
    fn read(&self, site: &SiteId, root_version: u64) {
        for version in root_version + 1..=Limits::DEFAULT.root_versions {
            if !self.offer(DocumentKind::Root, &MediaName::Root(version)) {
                break;
            }
        }
        let name = MediaName::Assignment(site.clone());
        let Some(bytes) = self.open(&name) else { return };
        // What it names is only looked for; whether it may be believed is for the core to say.
        let assignment = Envelope::parse(&bytes, &Limits::DEFAULT)
            .and_then(|envelope| envelope.read_unverified::<Assignment>(&Limits::DEFAULT));
        if let Ok(assignment) = assignment {
            for release in releases(&assignment) {
                self.offer(DocumentKind::Release, &MediaName::Release(release));
            }
            self.tell(Found::Assignment(Box::new(assignment)));
        }
        self.tell(Found::Document(DocumentKind::Assignment, bytes));
    }

    /// Hands on a document; `false` where there is none.
    fn offer(&self, kind: DocumentKind, name: &MediaName) -> bool {
        let bytes = self.open(name);
        bytes.is_some_and(|bytes| self.tell(Found::Document(kind, bytes)))
    }

    fn open(&self, name: &MediaName) -> Option<Vec<u8>> {
        match self.source.read_document(name) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.tell(Found::Fault(fault(name, &error)));
                None
            }
        }
    }

    fn tell(&self, found: Found) -> bool {
        self.found.blocking_send(found).is_ok()
    }
}

fn releases(assignment: &Assignment) -> impl Iterator<Item = Sha256Digest> {
    assignment.desired.iter().map(|desired| desired.release).take(Limits::DEFAULT.desired)
}

pub(super) fn fault(name: &MediaName, error: &MediaError) -> Fault {
    Fault { name: name.to_string(), code: error.code(), reason: error.to_string() }
}
