//! One site: its node, its agent's process and disk, its cluster, its content, its link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use airlift_agent::core::event::{ConnId, OpId};
use airlift_agent::core::object::Uid;
use airlift_agent::core::time::BootId;
use airlift_agent::core::{Core, Effect, Now, Write};
use airlift_agent::store::MemoryStore;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::receipt::ClockQuality;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{RandomId, Sha256Digest, SiteId};
use airlift_bundles::keys::SecretKey;

use super::happening::Session;
use super::library::BEGINNING_S;
use crate::cluster::{Fault, Model, WatchId};
use crate::scenario::LinkSpec;

/// What the boot clock shows when the agent's machine is up.
const BOOT_TAKES_MS: u64 = 10_000;

/// One site.
pub(super) struct Site {
    pub(super) id: SiteId,
    pub(super) labels: BTreeMap<String, String>,
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
    /// What the wall clock is off by; `None` where it starts at 1970.
    pub(super) wall_off_ms: Option<i64>,
    pub(super) synchronised: bool,
}

/// The agent's database, with what is on its way there.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) durable: MemoryStore,
    pub(super) waiting: VecDeque<Batch>,
    /// When the last of those will be there.
    pub(super) ready_ms: u64,
    pub(super) full: bool,
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
    pub(super) held: BTreeSet<Sha256Digest>,
    /// Bytes of those that are not whole.
    pub(super) partial: BTreeMap<Sha256Digest, u64>,
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
}

/// The way to the hub.
pub(super) struct Link {
    pub(super) spec: LinkSpec,
    pub(super) open: bool,
    pub(super) session: Option<Session>,
    pub(super) conns: u64,
}

impl Site {
    /// The moment as the site's machine sees it, `at_ms` after the world began.
    pub(super) fn now(&self, place: usize, at_ms: u64) -> Now {
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&(place as u64).to_be_bytes());
        boot[8..].copy_from_slice(&self.node.boots.to_be_bytes());
        let mono_ms = self.mono_ms(at_ms);
        let world_ms = BEGINNING_S.saturating_mul(1000).saturating_add_unsigned(at_ms);
        let wall_ms = match self.node.wall_off_ms {
            Some(off_ms) => u64::try_from(world_ms.saturating_add(off_ms)).ok(),
            None => Some(mono_ms),
        };
        let quality = if self.node.synchronised { ClockQuality::Synchronised } else { ClockQuality::Floor };
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
