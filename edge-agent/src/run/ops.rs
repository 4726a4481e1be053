//! Operations under way, and local requests that wait for their answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use airlift_bundles::code::Code;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::core::event::{OpId, RequestId};
use crate::core::status::LocalReply;

/// The tasks of operations. A task that is aborted stops where it waits: between two objects, pieces or requests.
#[derive(Default)]
pub(super) struct Operations(BTreeMap<OpId, AbortHandle>);

impl Operations {
    pub(super) fn insert(&mut self, op: OpId, task: AbortHandle) {
        self.0.retain(|_, task| !task.is_finished());
        self.0.insert(op, task);
    }

    pub(super) fn cancel(&mut self, op: OpId) {
        if let Some(task) = self.0.remove(&op) {
            task.abort();
        }
    }

    pub(super) fn forget(&mut self, op: OpId) {
        self.0.remove(&op);
    }

    pub(super) fn cancel_all(&mut self) {
        std::mem::take(&mut self.0).into_values().for_each(|task| task.abort());
    }
}

/// Local requests that wait for the core's answer.
#[derive(Clone, Default)]
pub struct Replies(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    last: u64,
    requests: BTreeMap<RequestId, oneshot::Sender<LocalReply>>,
}

impl Replies {
    /// Names a new request, and gives the end on which its answer comes.
    #[must_use]
    pub fn expect(&self) -> (RequestId, oneshot::Receiver<LocalReply>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.last += 1;
        let request = RequestId(waiting.last);
        let (sender, receiver) = oneshot::channel();
        waiting.requests.retain(|_, sender| !sender.is_closed());
        waiting.requests.insert(request, sender);
        (request, receiver)
    }

    pub(crate) fn answer(&self, request: RequestId, reply: LocalReply) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).requests.remove(&request);
        if let Some(sender) = sender {
            let _ = sender.send(reply); // whoever asked has left
        }
    }

    /// Tells everybody who waits that nothing was done: the core that was asked is gone.
    pub(crate) fn refuse_all(&self, code: Code, reason: &str) {
        let waiting = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).requests);
        for sender in waiting.into_values() {
            let _ = sender.send(LocalReply::Refused { code, reason: reason.to_owned() }); // as above
        }
    }
}
