//! Asks the running core: one local command in, its answer out, after the commit of what it changed.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::Event;
use crate::core::event::LocalCommand;
use crate::core::status::{LocalReply, StatusReport};
use crate::run::ops::Replies;

/// Longest wait for an answer; a core that is busy with a large plan answers within a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// The core gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
    /// Its database fails, so nothing was decided.
    #[error("the local database fails: {0}")]
    Failed(String),
    /// It is too busy.
    #[error("the agent did not answer within {} s", PATIENCE.as_secs())]
    Busy,
}

/// Where the core is asked.
#[derive(Clone)]
pub struct Desk {
    events: mpsc::Sender<Event>,
    replies: Replies,
}

impl Desk {
    /// `events` goes into the queue of the agent that `replies` belongs to.
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>, replies: Replies) -> Self {
        Self { events, replies }
    }

    /// The queue into the core.
    #[must_use]
    pub fn events(&self) -> &mpsc::Sender<Event> {
        &self.events
    }

    /// Asks, and waits for the answer. Whatever was put into the queue before was decided and committed then.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(&self, command: LocalCommand) -> Result<LocalReply, AskError> {
        let (request, answer) = self.replies.expect();
        let exchange = async {
            self.events.send(Event::Local { request, command }).await.map_err(|_| AskError::Ending)?;
            answer.await.map_err(|_| AskError::Ending)
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| AskError::Busy)?
    }

    /// How everything is.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn status(&self) -> Result<StatusReport, AskError> {
        match self.ask(LocalCommand::Status).await? {
            LocalReply::Status(report) => Ok(*report),
            LocalReply::Refused { reason, .. } => Err(AskError::Failed(reason)),
            LocalReply::Done(_) => Err(AskError::Ending),
        }
    }
}
