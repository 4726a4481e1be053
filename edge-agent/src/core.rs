//! One site's life as a pure state machine: no clock, no randomness, no runtime, no input and output.
//!
//! The shell loads it from rows, asks what is owed, and then hands in one event at a time. Every fact that must
//! outlive a crash is a row (`write`); every deed is a request (`effect`).

pub mod api;
pub mod effect;
pub mod event;
pub mod object;
mod rows;
pub mod state;
pub mod status;
pub mod time;
pub mod write;

use std::sync::Arc;

use airlift_bundles::document::release::Platform;
use airlift_bundles::keys::SecretKey;

pub use effect::Effect;
pub use event::Event;
pub use time::Now;
pub use write::{Rows, Write};

/// What one step decided. The store commits the writes as a whole; only then do the effects start.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes of rows, in order.
    pub writes: Vec<Write>,
    /// Requests, in order.
    pub effects: Vec<Effect>,
}

/// What the core is told once, when it is loaded.
#[derive(Debug)]
pub struct Start {
    /// The site key; Ed25519 is deterministic, so receipts are signed inside the step.
    pub key: Arc<SecretKey>,
    /// The platform that content must be built for.
    pub platform: Platform,
    /// The program's own version.
    pub version: String,
    /// Whether there is a hub to connect to; a site that only sees sticks has none.
    pub hub: bool,
    /// The process has just begun; `false` where the core is loaded again after a failed commit.
    pub process_start: bool,
}

/// Rows that no core can be loaded from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no enrolment; `enrol` writes the first rows.
    #[error("the site is not enrolled")]
    NotEnrolled,
    /// A stored document that was verified before cannot be read now.
    #[error("stored {what} cannot be read: {reason}")]
    Damaged {
        /// Which one.
        what: String,
        /// Why.
        reason: String,
    },
}

/// One site's life.
#[derive(Debug)]
pub struct Core {
    start: Start,
    rows: Rows,
}

impl Core {
    /// Rebuilds the core from its rows.
    ///
    /// # Errors
    /// [`LoadError`] where there is no enrolment or a stored document is damaged.
    pub fn load(start: Start, rows: Rows) -> Result<Self, LoadError> {
        if rows.meta.is_none() { Err(LoadError::NotEnrolled) } else { Ok(Self { start, rows }) }
    }

    /// Counts this start of the process and asks for everything that is still owed.
    pub fn resume(&mut self, _now: Now) -> Step {
        let mut step = Step::default();
        if let Some(meta) = &mut self.rows.meta {
            meta.starts += 1;
            step.writes.push(Write::PutMeta(meta.clone()));
            step.effects.extend(self.start.hub.then_some(Effect::Connect { after_ms: 0 }));
        }
        step
    }

    /// Decides what happens next, and does none of it.
    pub fn step(&mut self, _now: Now, _event: Event) -> Step {
        Step::default()
    }
}
