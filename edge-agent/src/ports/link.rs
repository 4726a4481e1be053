//! The way to the hub.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::Counter;

use super::Boxed;
use crate::core::effect::WantedDocument;
use crate::core::event::ConnId;

/// A way to the hub: MQTT, or the simulator's link.
///
/// What comes in goes out of the link by itself: documents and connection states as events to the core, pieces to
/// the content store. None of these calls waits for the network; where a queue is full the call says so, and the
/// core asks again after the next acknowledgement or connection.
pub trait Link: Send + Sync {
    /// Tries once to connect, after a pause; ends in `LinkUp` or `LinkDown`.
    fn connect(&self, after: Duration);

    /// Ends the connection in order; resolves when it is closed.
    fn disconnect(&self) -> Boxed<'_, ()>;

    /// Publishes over connection `conn`; a message for another connection is dropped.
    ///
    /// # Errors
    /// [`LinkBusy`] where the queue is full; nothing of the message was taken.
    fn publish(&self, conn: ConnId, message: Outgoing) -> Result<(), LinkBusy>;
}

/// What an agent publishes.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// `u/conn`, retained; the link sets its opposite as the will of the next connection.
    Birth {
        /// Counts connections.
        conn_seq: u64,
        /// The assignment in force.
        assignment: Option<Counter>,
        /// Version of the newest root.
        root_version: u64,
    },
    /// `u/s`: one signed batch as it travels, at most 128 KiB.
    Batch(Arc<[u8]>),
    /// `u/get` for documents; wants for content come from the content store.
    Documents(BTreeSet<WantedDocument>),
}

/// The link's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue to the hub is full")]
pub struct LinkBusy;
