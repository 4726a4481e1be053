//! How a model cluster behaves, and what can be wrong with it.

use std::sync::Arc;

use airlift_agent::ports::cluster::Room;
use serde_json::Value;

use super::behaviour::Trouble;

/// Says whether an object never becomes ready, and why.
pub type Diagnosis = Arc<dyn Fn(&Value) -> Option<Trouble> + Send + Sync>;

/// How a model cluster behaves.
#[derive(Clone)]
pub struct Settings {
    /// From an object's change to its pods being ready.
    pub ready_after_ms: u64,
    /// From a CustomResourceDefinition to its kind being known.
    pub established_after_ms: u64,
    /// From the deletion of a namespace to its end.
    pub namespace_gone_after_ms: u64,
    /// Says which objects never become ready, and why.
    pub trouble: Diagnosis,
    /// Space for images on the agent's node; `None`: enough.
    pub image_room: Option<Room>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ready_after_ms: 2000,
            established_after_ms: 500,
            namespace_gone_after_ms: 1000,
            trouble: Arc::new(Trouble::by_annotation),
            image_room: None,
        }
    }
}

/// What is wrong with the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing answers, and watches are silent.
    Down,
    /// Every n-th request is refused as one too many.
    Throttled {
        /// Which requests.
        every: u64,
        /// The advice that goes with it.
        retry_after_ms: u64,
    },
    /// Every n-th request fails with this status.
    Broken {
        /// Which requests.
        every: u64,
        /// 500 to 599.
        status: u16,
    },
}
