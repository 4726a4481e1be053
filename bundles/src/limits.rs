//! Bounds on everything that comes from outside; each field names the attack or accident that it stops.

/// Sizes, depths and counts that a reader allows. Nothing allocates beyond these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A document that fills memory before its signature is checked: bytes of an envelope or payload.
    pub document_bytes: usize,
    /// A document whose nesting overflows the stack: levels.
    pub json_depth: usize,
    /// An envelope whose signatures cost an hour to check: count.
    pub signatures: usize,
    /// A root chain without end: newest version that is followed.
    pub root_versions: u64,
    /// An assignment of endless apps: count of entries.
    pub desired: usize,
    /// A Kubernetes object nested to overflow the stack: levels.
    pub object_depth: usize,
    /// A Kubernetes object that no API server would store: bytes of its JSON.
    pub object_bytes: usize,
    /// An app of endless objects: count.
    pub objects: usize,
    /// A zstd frame that wants a huge window: log2 of bytes.
    pub zstd_window_log: u32,
    /// A blob without a piece list: bytes, because it is checked only as a whole.
    pub whole_item_bytes: u64,
    /// A single blob: bytes.
    pub blob_bytes: u64,
    /// A manifest or index of an image: bytes.
    pub manifest_bytes: usize,
    /// A wire payload: bytes, before and after decompression.
    pub wire_bytes: usize,
    /// Evidence in a receipt: bytes.
    pub evidence_bytes: usize,
}

impl Limits {
    /// What every reader uses unless it has a reason to be stricter.
    pub const DEFAULT: Self = Self {
        document_bytes: 1 << 20,
        json_depth: 32,
        signatures: 32,
        root_versions: 100_000,
        desired: 256,
        object_depth: 128,
        object_bytes: 1 << 20,
        objects: 20_000,
        zstd_window_log: 23,
        whole_item_bytes: 1 << 20,
        blob_bytes: 64 << 30,
        manifest_bytes: 4 << 20,
        wire_bytes: 128 << 10,
        evidence_bytes: 8 << 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
