//! Keeps the container runtime's images right: what kept generations need comes back, what nothing needs goes.
//!
//! The runtime tells when something changes; then all is looked at once. Nothing is asked periodically.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::info;

use super::Ports;
use crate::core::Event;
use crate::core::object::{Generation, GenerationId};
use crate::import::name::ImageName;
use crate::ports::images::{ChangeWatch, ImportError, Removal};
use crate::prepare::Bodies;

/// Between the first change and the look: a removal comes in many events.
const CHANGES_SETTLE: Duration = Duration::from_millis(500);
/// Between two attempts to subscribe to changes.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(5);

/// The generations whose images stay; `None` before the core has said so for the first time.
pub(super) type Kept = Option<Vec<Arc<Generation>>>;

/// Names of one generation's images: as its pods write them, and as the runtime records them.
struct Names {
    references: Vec<String>,
    records: BTreeSet<String>,
}

/// Looks after the images of the node.
pub(super) struct ImageKeeper {
    ports: Ports,
    bodies: Arc<Bodies>,
    kept: watch::Receiver<Kept>,
    events: mpsc::Sender<Event>,
    /// Of generations whose content was complete when they were looked at.
    names: BTreeMap<GenerationId, Names>,
}

impl ImageKeeper {
    pub(super) fn new(
        ports: Ports,
        bodies: Arc<Bodies>,
        kept: watch::Receiver<Kept>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self { ports, bodies, kept, events, names: BTreeMap::new() }
    }

    /// Works until the agent ends.
    pub(super) async fn run(mut self) {
        loop {
            if let Ok(mut changes) = self.ports.images.watch_changes().await {
                // What happened while nobody listened is found by the first look.
                while self.look().await.is_ok() && self.wait(changes.as_mut()).await {}
            }
            tokio::time::sleep(SUBSCRIBE_AGAIN).await;
        }
    }

    /// Waits for a change and until the storm has passed; `false` when the subscription ended.
    async fn wait(&mut self, changes: &mut dyn ChangeWatch) -> bool {
        let subscribed = tokio::select! {
            change = changes.next() => change.is_ok(),
            changed = self.kept.changed() => changed.is_ok(),
        };
        let more = async { while changes.next().await.is_ok() {} };
        // Either the time is over, or the subscription is, which the next wait finds out.
        let _ = tokio::time::timeout(CHANGES_SETTLE, more).await;
        subscribed
    }

    async fn look(&mut self) -> Result<(), ImportError> {
        let images = Arc::clone(&self.ports.images);
        // Listed before the core's word is read: what is imported from now on is not on this list.
        let owned = images.owned().await?;
        let known = self.read_names();
        let references: BTreeSet<String> =
            self.names.values().flat_map(|names| names.references.iter().cloned()).collect();
        let references: Vec<String> = references.into_iter().collect();
        if !references.is_empty() {
            let lost = images.missing(&references).await?;
            if !lost.is_empty() {
                // Without a core there is nobody to restore them for.
                let _ = self.events.send(Event::ImagesLost { references: lost }).await;
            }
        }
        for name in images.keep_system().await? {
            info!(name, "image name of kube-system was removed and is back");
        }
        if known {
            let needed = |name: &&String| self.names.values().any(|names| names.records.contains(*name));
            for name in owned.iter().filter(|name| !needed(name)) {
                if images.remove(name).await? == Removal::Removed {
                    info!(name, "image name that no app needs is gone");
                }
            }
        }
        Ok(())
    }

    /// Reads the names of the generations that are kept; `false` while those of some are not known.
    ///
    /// Content that is not complete says nothing; then nothing is removed, because nobody can say what is needed.
    fn read_names(&mut self) -> bool {
        let Some(generations) = self.kept.borrow_and_update().clone() else { return false };
        self.names.retain(|id, _| generations.iter().any(|generation| generation.id == *id));
        for generation in generations {
            if self.names.contains_key(&generation.id) {
                continue;
            }
            let Ok(images) = self.bodies.images(&generation) else { continue };
            let mut names = Names { references: Vec::new(), records: BTreeSet::new() };
            for image in images {
                for reference in image.references {
                    let records = ImageName::parse(&reference).map(|name| name.records(image.top));
                    names.records.extend(records.unwrap_or_default());
                    // A runtime may spell a name as it was given.
                    names.records.insert(reference.clone());
                    names.references.push(reference);
                }
            }
            self.names.insert(generation.id, names);
        }
        let count = self.kept.borrow().as_ref().map(Vec::len);
        count == Some(self.names.len())
    }
}
