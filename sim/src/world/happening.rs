//! Everything that can be planned to happen.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_agent::core::Event;
use airlift_agent::core::api::ApiCall;
use airlift_agent::core::effect::WantedDocument;
use airlift_agent::core::event::{DocumentKind, OpId};
use airlift_agent::core::object::{Generation, ObjectRef};
use airlift_bundles::wire::Conn;

use super::ahead::Ahead;
use super::link::SealedBatch;

/// A site's place in the world.
pub(super) type SiteNo = usize;
/// One life of a site's process; what was planned for another is void.
pub(super) type Life = u64;
/// One connection of a site; what was under way in another is lost.
pub(super) type Session = u64;

/// One planned happening.
#[derive(Debug)]
pub(super) enum Happening {
    /// A site's core is told something.
    Tell(SiteNo, Life, Box<Event>),
    /// The core's one wake-up, where it still stands for that moment.
    Alarm(SiteNo, Life, u64),
    /// The oldest commit of a site has reached its disk.
    Committed(SiteNo, Life),
    /// A site's process loads its rows, after a start or a failed commit.
    Load(SiteNo, Life, Start),
    /// A request has reached a site's API server.
    Call(SiteNo, Life, OpId, Box<ApiCall>),
    /// A reading of health has reached it.
    Read(SiteNo, Life, OpId, Box<(Arc<Generation>, ObjectRef)>),
    /// Time alone changes something in a cluster.
    Ripen(SiteNo),
    /// A site looks at its surroundings.
    Look(SiteNo, Life),
    /// A transfer of content should be complete.
    Arrived(SiteNo, u64),
    /// A site tries to connect.
    Connect(SiteNo, Life),
    /// A link's hours begin or end.
    Hours(SiteNo),
    /// The hub notices that a connection is no more.
    Missed(SiteNo, Session, Box<Conn>),
    /// A message of a site reaches the hub.
    Up(SiteNo, Session, Box<Upward>),
    /// A message of the hub reaches a site.
    Down(SiteNo, Session, Box<Downward>),
    /// The hub sends the acks that it owes.
    Acks,
    /// What a scenario's timeline has at this place.
    Act(usize),
    /// A scenario's fault strikes a site, or the hub.
    Strike(usize, SiteNo),
    /// A fault ends.
    Mend(Mending),
    /// A stick goes on its round.
    Stick(usize, Leg),
    /// An expectation's moment.
    Expect(usize),
    /// All sites and the hub are looked at from outside.
    Inspect,
    /// The hub's people look whether it waits for them.
    People,
    /// A bound begins to count, or ends.
    Bound(usize, bool),
}

/// How a process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A new process.
    Process,
    /// The same process, after a commit that failed.
    AfterFailure,
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mending {
    /// A site has power again.
    Power(SiteNo),
    /// A site's cluster has started.
    ClusterStarted(SiteNo, u64),
    /// A site's process starts again.
    Process(SiteNo, Life),
    /// A site's disk has room.
    Disk(SiteNo),
    /// A site's way to the hub is open.
    Way(SiteNo),
    /// A site's API server is well.
    Api(SiteNo),
    /// A site's node is Ready.
    Node(SiteNo),
    /// The hub's process is back.
    Hub,
    /// The hub is back, on another machine, with its last backup.
    HubRestored,
}

impl Mending {
    /// The site that is mended.
    pub(super) fn site(self) -> Option<SiteNo> {
        match self {
            Self::Power(site)
            | Self::ClusterStarted(site, _)
            | Self::Process(site, _)
            | Self::Disk(site)
            | Self::Way(site)
            | Self::Api(site)
            | Self::Node(site) => Some(site),
            Self::Hub | Self::HubRestored => None,
        }
    }
}

/// Where a stick is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leg {
    /// At the hub.
    AtHub,
    /// Put in at the site that is its round's n-th.
    In(usize),
    /// Still there: receipts made since may be written.
    Offer(usize),
    /// Pulled out there.
    Out(usize),
}

/// What sites send.
#[derive(Debug, Clone)]
pub(super) enum Upward {
    /// Presence.
    Conn(Conn),
    /// A signed batch.
    Batch(Ahead<SealedBatch>),
    /// Wanted documents.
    Get(BTreeSet<WantedDocument>),
}

impl Upward {
    /// Bytes of documents in it.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.get().envelope.len() as u64,
            Self::Conn(_) | Self::Get(_) => 0,
        }
    }
}

/// What the hub sends.
#[derive(Debug, Clone)]
pub(super) enum Downward {
    /// Which root is the newest.
    State { root_version: u64 },
    /// An assignment.
    Desired { envelope: Arc<[u8]>, root_version: u64 },
    /// A document that was wanted.
    Document(DocumentKind, Vec<u8>),
    /// An ack.
    Ack(Ahead<Vec<u8>>),
}

impl Downward {
    /// Bytes of documents in it.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Desired { envelope, .. } => envelope.len() as u64,
            Self::Document(_, bytes) => bytes.len() as u64,
            Self::Ack(ack) => ack.get().len() as u64,
            Self::State { .. } => 0,
        }
    }
}

impl Happening {
    /// The site that it is about.
    pub(super) fn site(&self) -> Option<SiteNo> {
        match self {
            Self::Acks
            | Self::Act(_)
            | Self::Mend(_)
            | Self::Stick(..)
            | Self::Expect(_)
            | Self::Inspect
            | Self::People
            | Self::Bound(..) => None,
            Self::Strike(_, site) => Some(*site),
            _ => usize::try_from(self.mark().1).ok(),
        }
    }

    /// Its kind and place, for the trace.
    pub(super) fn mark(&self) -> (u8, u64) {
        let site = |site: SiteNo| site as u64;
        match self {
            Self::Tell(at, ..) => (1, site(*at)),
            Self::Alarm(at, ..) => (2, site(*at)),
            Self::Committed(at, ..) => (3, site(*at)),
            Self::Load(at, ..) => (4, site(*at)),
            Self::Call(at, ..) => (5, site(*at)),
            Self::Read(at, ..) => (6, site(*at)),
            Self::Ripen(at) => (7, site(*at)),
            Self::Look(at, ..) => (8, site(*at)),
            Self::Arrived(at, ..) => (9, site(*at)),
            Self::Connect(at, ..) => (10, site(*at)),
            Self::Missed(at, ..) => (11, site(*at)),
            Self::Up(at, ..) => (12, site(*at)),
            Self::Down(at, ..) => (13, site(*at)),
            Self::Acks => (14, 0),
            Self::Act(at) => (15, *at as u64),
            Self::Strike(fault, at) => (16, (*fault as u64) << 32 | site(*at)),
            Self::Mend(_) => (17, 0),
            Self::Stick(at, _) => (18, *at as u64),
            Self::Expect(at) => (19, *at as u64),
            Self::Inspect => (20, 0),
            Self::Hours(at) => (21, site(*at)),
            Self::People => (22, 0),
            Self::Bound(at, _) => (23, *at as u64),
        }
    }
}
