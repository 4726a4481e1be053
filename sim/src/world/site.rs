//! One site: its node, its agent's process and disk, its cluster, its content, its link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use airlift_agent::core::event::{ConnId, OpId};
use airlift_agent::core::object::Uid;
use airlift_agent::core::time::BootId;
use airlift_agent::core::{Core, Effect, Now, Write};
use airlift_agent::store::MemoryStore;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{RandomId, Sha256Digest, SiteId};
use airlift_bundles::keys::SecretKey;
use airlift_hub::db::rows::sites::SiteKeyRow;

use super::clocks::WallClock;
use super::happening::Session;
use super::lying::Lies;
use crate::cluster::{Fault, Model, WatchId};
use crate::scenario::{ClockKind, LinkSpec};

/// What the boot clock shows when the agent's machine is up.
const BOOT_TAKES_MS: u64 = 10_000;

/// One site.
pub(super) struct Site {
    pub(super) id: SiteId,
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) contact: ContactClass,
    pub(super) key: Arc<SecretKey>,
    pub(super) chain_id: RandomId,
    pub(super) node: Node,
    pub(super) disk: Disk,
    /// `None` while the process, or the whole site, is down.
    pub(super) process: Option<Process>,
    pub(super) life: u64,
    pub(super) cluster: Model,
    /// The cluster's processes run; nothing else of it is known while they do not.
    pub(super) cluster_up: bool,
    pub(super) api_fault: Option<Fault>,
    pub(super) node_down: bool,
    /// When the cluster is next looked at because time changes it.
    pub(super) ripens_ms: Option<u64>,
    pub(super) content: SiteContent,
    pub(super) images: BTreeSet<String>,
    pub(super) link: Link,
    /// The stick that is in.
    pub(super) stick: Option<usize>,
    /// When something last went wrong here, or was last asked of it.
    pub(super) disturbed_ms: u64,
    /// Faults that last.
    pub(super) troubles: u32,
}

/// The machine.
pub(super) struct Node {
    pub(super) powered: bool,
    pub(super) boots: u64,
    pub(super) booted_ms: u64,
    pub(super) clock: WallClock,
    pub(super) clock_kind: ClockKind,
}

/// The agent's database, with what is on its way there.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) durable: MemoryStore,
    pub(super) waiting: VecDeque<Batch>,
    /// When the last of those will be there.
    pub(super) ready_ms: u64,
    /// What still fits onto a disk that is nearly full.
    pub(super) room_bytes: Option<u64>,
    /// It acknowledges what it does not keep.
    pub(super) lies: Option<Box<Lies>>,
}

/// One step's writes, with the effects that wait for them.
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) effects: Vec<Effect>,
}

/// The agent's process: what is lost with it.
pub(super) struct Process {
    pub(super) core: Core,
    pub(super) ops: BTreeSet<OpId>,
    pub(super) watch: Option<WatchId>,
    pub(super) alarm_ms: Option<u64>,
    pub(super) conn: Option<ConnId>,
    pub(super) kept_images: BTreeSet<String>,
    /// What the core was told of its surroundings.
    pub(super) told_api: Option<(bool, Option<Uid>)>,
    pub(super) told_nodes: Option<Vec<NodeStatus>>,
    pub(super) told_disk: bool,
}

/// Bundles at a site, whole and in part.
#[derive(Default)]
pub(super) struct SiteContent {
    /// Whole bundles, with the digest that their files have by now.
    pub(super) held: BTreeMap<Sha256Digest, Sha256Digest>,
    /// Bytes of those that are not whole.
    pub(super) partial: BTreeMap<Sha256Digest, u64>,
    /// Those of them of which some pieces are not what was synced.
    pub(super) doubtful: BTreeSet<Sha256Digest>,
    /// Fetches that wait or run.
    pub(super) wanted: BTreeMap<OpId, Sha256Digest>,
    pub(super) transfer: Option<Transfer>,
    pub(super) tickets: u64,
}

/// Bytes on their way.
pub(super) struct Transfer {
    pub(super) bundle: Sha256Digest,
    pub(super) ticket: u64,
    pub(super) by_stick: bool,
    pub(super) began_ms: u64,
    pub(super) bytes_per_s: u64,
    /// It brings the last piece.
    pub(super) to_end: bool,
}

/// The way to the hub.
pub(super) struct Link {
    pub(super) spec: LinkSpec,
    pub(super) open: bool,
    /// Its hours are over for today.
    pub(super) shut: bool,
    pub(super) session: Option<Session>,
    /// Since when.
    pub(super) since_ms: u64,
    pub(super) conns: u64,
}

impl Link {
    /// Whether there is a way to the hub now.
    pub(super) fn is_open(&self) -> bool {
        self.open && !self.shut
    }
}

impl Site {
    /// Its key as the hub knows it: a grant with certificates is made by no simulated site.
    pub(super) fn key_row(&self) -> SiteKeyRow {
        SiteKeyRow {
            key: self.key.public(),
            site: self.id.clone(),
            incarnation: 1,
            chain_id: self.chain_id.clone(),
            tls_sha256: Sha256Digest::of(self.id.as_str().as_bytes()),
            revoked: false,
        }
    }

    /// The moment as the site's machine sees it, `at_ms` after the world began.
    pub(super) fn now(&self, place: usize, at_ms: u64) -> Now {
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&(place as u64).to_be_bytes());
        boot[8..].copy_from_slice(&self.node.boots.to_be_bytes());
        let mono_ms = self.mono_ms(at_ms);
        let (wall_ms, quality) = self.node.clock.read(at_ms, mono_ms);
        Now { mono_ms, boot: BootId(boot), wall_ms, quality }
    }

    /// The boot clock.
    pub(super) fn mono_ms(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.node.booted_ms) + BOOT_TAKES_MS
    }

    /// When the boot clock will show this.
    pub(super) fn world_ms(&self, mono_ms: u64) -> u64 {
        (self.node.booted_ms + mono_ms).saturating_sub(BOOT_TAKES_MS)
    }

    /// Something is wrong, or new, as of now.
    pub(super) fn disturb(&mut self, now_ms: u64) {
        self.disturbed_ms = now_ms;
    }
}
