//! The hash over everything that happens: two runs with one seed have the same one, or something in them is not
//! determined by the seed.

use airlift_agent::core::{Step, Write};

/// A hash that grows with the story.
#[derive(Default)]
pub(super) struct Trace(blake3::Hasher);

impl Trace {
    /// Something planned happens.
    pub(super) fn happens(&mut self, now_ms: u64, (kind, place): (u8, u64)) {
        let mut bytes = [kind; 17];
        bytes[1..9].copy_from_slice(&now_ms.to_le_bytes());
        bytes[9..].copy_from_slice(&place.to_le_bytes());
        self.add(&bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A core decides something: how much, and every receipt word for word.
    pub(super) fn step(&mut self, step: &Step) {
        let sizes = [step.writes.len() as u64, step.effects.len() as u64];
        for size in sizes {
            self.add(&size.to_le_bytes());
        }
        for write in &step.writes {
            match write {
                Write::AppendReceipt(row) => self.add(row.sha256.as_bytes()),
                Write::PutApp(row) => self.add(row.step.as_str().as_bytes()),
                _ => {}
            }
        }
    }

    /// The hash so far.
    pub(super) fn digest(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
