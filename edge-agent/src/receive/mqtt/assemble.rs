//! Parts on `d/c` become whole items again: small ones only, a few at a time, each checked by who takes it.

use std::collections::BTreeMap;

use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{Part, WantedItem};

/// Items under way at once; the oldest makes room for a new one.
const ITEMS_MAX: usize = 8;

/// Collects parts.
#[derive(Default)]
pub(super) struct Assembler {
    items: BTreeMap<WantedItem, Item>,
    clock: u64,
}

struct Item {
    parts: Vec<Option<Vec<u8>>>,
    since: u64,
}

impl Assembler {
    /// Takes a part; gives the item's bytes where it was the last one missing.
    pub(super) fn add(&mut self, part: Part) -> Option<(WantedItem, Vec<u8>)> {
        let parts = usize::try_from(part.parts).ok()?;
        let limit =
            usize::try_from(Limits::DEFAULT.whole_item_bytes).ok()?.max(Limits::DEFAULT.document_bytes);
        if parts == 0 || parts > limit.div_ceil(Part::BYTES) {
            return None;
        }
        if self.items.get(&part.item).is_some_and(|item| item.parts.len() != parts) {
            self.items.remove(&part.item); // the item changed its size: start over
        }
        if !self.items.contains_key(&part.item) && self.items.len() >= ITEMS_MAX {
            let oldest = self.items.iter().min_by_key(|(_, item)| item.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.items.remove(&key));
        }
        self.clock += 1;
        let since = self.clock;
        let item =
            self.items.entry(part.item.clone()).or_insert_with(|| Item { parts: vec![None; parts], since });
        *item.parts.get_mut(usize::try_from(part.part).ok()?)? = Some(part.bytes);
        if item.parts.iter().any(Option::is_none) {
            return None;
        }
        let whole = self.items.remove(&part.item)?.parts.into_iter().flatten().flatten().collect();
        Some((part.item, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(version: u64, part: u64, parts: u64, byte: u8) -> Part {
        let bytes = if part + 1 == parts { vec![byte; 3] } else { vec![byte; Part::BYTES] };
        Part { item: WantedItem::Root(version), part, parts, bytes }
    }

    #[test]
    fn parts_in_any_order_twice_become_one_item() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.add(part(1, 1, 2, 7)), None);
        assert_eq!(assembler.add(part(1, 1, 2, 7)), None);
        let (item, bytes) = assembler.add(part(1, 0, 2, 6)).unwrap();
        assert_eq!((item, bytes.len()), (WantedItem::Root(1), Part::BYTES + 3));
        assert_eq!((bytes[0], bytes[Part::BYTES]), (6, 7));
    }

    #[test]
    fn memory_stays_bounded_whatever_arrives() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.add(part(1, 0, 1 << 40, 1)), None);
        for version in 0..100 {
            assert_eq!(assembler.add(part(version, 0, 2, 1)), None);
        }
        assert_eq!(assembler.items.len(), ITEMS_MAX);
    }
}
