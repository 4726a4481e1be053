//! Invariants broken on purpose, so that the simulator's checkers can be seen to be awake. Only with the feature
//! `mutations`, which no package is built with; each thread breaks at most one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::root::{Role, Root, TrustedRoot};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::keys::SecretKey;
use airlift_bundles::limits::Limits;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// One signature is enough for a release, whatever the root says.
    OneSignature,
    /// An assignment is accepted whatever its number is.
    OldAssignments,
    /// Receipts count as acknowledged when they are sent.
    EarlyForgetting,
    /// Configuration that the healthy version holds is pruned too.
    WidePruning,
    /// What a watch sees is no drift.
    BlindWatch,
    /// Files are taken for the blobs whose names they bear.
    UnreadDigests,
    /// Assignments that are younger than the wall clock are refused.
    ClockRefuses,
    /// Assignments may be of any size.
    WideLimits,
    /// Work that a killed process had begun stays locked until somebody orders other work.
    LeftLock,
    /// Pauses depend on what else ran in this process.
    Unseeded,
}

thread_local! {
    static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Breaks this from now on, or nothing, in cores that run on this thread.
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

/// Whether this is broken.
pub(crate) fn is(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}

/// How much of an assignment is read.
pub(crate) fn limits() -> Limits {
    if !is(Mutation::WideLimits) {
        return Limits::DEFAULT;
    }
    Limits { document_bytes: 64 << 20, json_depth: 1_000, signatures: 1_000, ..Limits::DEFAULT }
}

/// Whether an assignment is refused because the wall clock has not reached the moment of its signing.
pub(crate) fn refuses_as_young(now: crate::core::Now, bytes: &[u8]) -> bool {
    let read = || -> Option<Assignment> {
        Envelope::parse(bytes, &Limits::DEFAULT).ok()?.read_unverified(&Limits::DEFAULT).ok()
    };
    let issued_ms = read().and_then(|read| u64::try_from(read.issued_at.unix_s()).ok()).map(|s| s * 1000);
    is(Mutation::ClockRefuses) && now.wall_ms < issued_ms
}

/// What makes pauses depend on what else ran in this process, where that is broken.
pub(crate) fn unseeded() -> u64 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    if is(Mutation::Unseeded) { DRAWN.fetch_add(1, Ordering::Relaxed) } else { 0 }
}

/// The same root with a threshold of one for every release role, where that is broken.
pub(crate) fn weakened(root: TrustedRoot) -> TrustedRoot {
    if !is(Mutation::OneSignature) {
        return root;
    }
    let mut weak: Root = (*root).clone();
    weak.roles.releases.iter_mut().for_each(|role| role.threshold = 1);
    // A root vouches for itself when it is taken back, so this one does, with a key of nobody's.
    let key = SecretKey::from_seed(&[0xee; 32]);
    weak.roles.root = Role { keyids: vec![key.public().key_id()], threshold: 1 };
    weak.keys.insert(key.public().key_id(), key.public());
    let envelope = Envelope::signed(&weak, &key);
    TrustedRoot::stored(&envelope.to_json(), &Limits::DEFAULT).expect("it is signed by its own key")
}
