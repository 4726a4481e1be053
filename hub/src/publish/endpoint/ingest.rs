//! Where messages of sites go: the port that the hub's collecting side fills in.

use super::reason::Reason;
use airlift_bundles::ids::SiteId;
use airlift_bundles::wire::Topic;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Shows that a message is committed; only then is it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted;

/// Refuses a message of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The site may not say this: wrong signature, wrong fleet, revoked.
    #[error("the site may not say this")]
    Forbidden,
    /// The payload is not what the topic carries.
    #[error("the payload is not what the topic carries")]
    Malformed,
    /// The hub cannot take more now; the site sends it again later.
    #[error("the hub cannot take more now")]
    Busy,
    /// The commit failed; the site sends it again later.
    #[error("the commit failed")]
    NotCommitted,
}

impl Refused {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Forbidden => Reason::NOT_AUTHORIZED,
            Self::Malformed => Reason::PAYLOAD_INVALID,
            Self::Busy => Reason::QUOTA_EXCEEDED,
            Self::NotCommitted => Reason::UNSPECIFIED,
        }
    }
}

/// Takes what sites say.
pub trait Ingest: Send + Sync + 'static {
    /// Takes one message of the site `from`, whose identity and right to the topic are checked: it is the
    /// site's own `Status`, `Get` or `Conn`.
    ///
    /// The future resolves after the commit, and PUBACK waits for it. The endpoint keeps up to
    /// [`super::Limits::ingest_in_flight_max`] of them going for one site, so commits can be grouped;
    /// it drops them when the connection has been gone for a while, so a dropped future may have
    /// committed. The will of a lost connection comes the same way.
    fn publish(
        &self,
        from: &SiteId,
        topic: Topic,
        payload: Bytes,
    ) -> impl Future<Output = Result<Accepted, Refused>> + Send;
}

type Running = Pin<Box<dyn Future<Output = Result<Accepted, Refused>> + Send>>;

enum Slot {
    Running(Running),
    Done(Result<Accepted, Refused>),
}

/// One connection's messages that the ingest has not answered, in the order of their arrival.
///
/// They run side by side, but answers come out in order, as the standard wants PUBACKs.
#[derive(Default)]
pub(super) struct InProgress {
    slots: VecDeque<(Option<u16>, Slot)>,
}

impl InProgress {
    pub(super) fn push(&mut self, packet_id: Option<u16>, running: Running) {
        self.slots.push_back((packet_id, Slot::Running(running)));
    }

    /// Queues a refusal that is known at once, behind the answers before it.
    pub(super) fn push_refused(&mut self, packet_id: u16, refused: Refused) {
        self.slots.push_back((Some(packet_id), Slot::Done(Err(refused))));
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns how many wait for a PUBACK.
    pub(super) fn unacknowledged(&self) -> usize {
        self.slots.iter().filter(|(packet_id, _)| packet_id.is_some()).count()
    }

    pub(super) fn holds(&self, packet_id: u16) -> bool {
        self.slots.iter().any(|(id, _)| *id == Some(packet_id))
    }

    /// Returns the oldest answer when it is there; pends while there is none.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<u16>, Result<Accepted, Refused>)> {
        for (_, slot) in &mut self.slots {
            if let Slot::Running(running) = slot
                && let Poll::Ready(answer) = running.as_mut().poll(cx)
            {
                *slot = Slot::Done(answer);
            }
        }
        match self.slots.front() {
            Some((packet_id, Slot::Done(answer))) => {
                let done = (*packet_id, *answer);
                self.slots.pop_front();
                if self.slots.is_empty() {
                    self.slots = VecDeque::new();
                }
                Poll::Ready(done)
            }
            _ => Poll::Pending,
        }
    }
}
