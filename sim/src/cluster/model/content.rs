//! What objects contain, held once however many clusters have it: a release makes the same objects at every site.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use serde_json::Value;

use super::super::ownership::{self, Managers};

/// A body, and who owns its fields.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    pub(super) body: Value,
    pub(super) managers: Managers,
}

/// All contents of this process's clusters, by digest, and the count at which it is next cleared of those that no
/// cluster has any more.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(|| Mutex::new(Known::default()));

#[derive(Default)]
struct Known {
    contents: BTreeMap<[u8; 32], Weak<Content>>,
    cleared_at: usize,
}

/// Fewer are not worth clearing.
const CLEARED_AT_MIN: usize = 4096;

impl Content {
    /// The one content that is equal to this.
    pub(super) fn shared(body: Value, managers: Managers) -> Arc<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(body.to_string().as_bytes());
        hasher.update(ownership::managed_fields(&managers).to_string().as_bytes());
        let digest = *hasher.finalize().as_bytes();
        // A panic elsewhere cannot leave it half written: it only ever gains and loses whole entries.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = known.contents.get(&digest).and_then(Weak::upgrade) {
            // What is shown of owners does not tell a field from the fields in it.
            let same = content.body == body && content.managers == managers;
            return if same { content } else { Arc::new(Self { body, managers }) };
        }
        if known.contents.len() >= known.cleared_at.max(CLEARED_AT_MIN) {
            known.contents.retain(|_, content| content.strong_count() > 0);
            known.cleared_at = known.contents.len() * 2;
        }
        let content = Arc::new(Self { body, managers });
        known.contents.insert(digest, Arc::downgrade(&content));
        content
    }
}
