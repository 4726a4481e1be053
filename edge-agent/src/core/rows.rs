//! What a write means, row by row; the core, the store in memory and the tests share this one meaning.

use super::write::{Rows, Write};

impl Rows {
    /// Does one write. Doing it twice is doing it once.
    pub fn apply(&mut self, write: &Write) {
        match write.clone() {
            Write::PutMeta(row) => self.meta = Some(row),
            Write::PutRoot(row) => put(&mut self.roots, row.version, row),
            Write::PutDocument(row) => put(&mut self.documents, row.sha256, row),
            Write::DropDocument(sha256) => drop(self.documents.remove(&sha256)),
            Write::PutAccepted(row) => put(&mut self.accepted, (row.app, row.counter), row.release),
            Write::PutCounter(row) => put(&mut self.counters, row.key.clone(), row),
            Write::PutAssignment(row) => put(&mut self.assignments, row.slot, row),
            Write::DropAssignment(slot) => drop(self.assignments.remove(&slot)),
            Write::PutApp(row) => put(&mut self.apps, row.app.clone(), row),
            Write::DropApp(app) => drop(self.apps.remove(&app)),
            Write::PutGeneration(row) => put(&mut self.generations, row.generation.id, row),
            Write::DropGeneration(id) => drop(self.generations.remove(&id)),
            Write::PutObject(row) => {
                self.objects.entry(row.app.clone()).or_default().insert(row.object.clone(), row);
            }
            Write::DropObject(app, object) => {
                if let Some(objects) = self.objects.get_mut(&app) {
                    objects.remove(&object);
                    if objects.is_empty() {
                        self.objects.remove(&app);
                    }
                }
            }
            Write::PutImage(row) => {
                put(&mut self.images, (row.generation, row.image.reference.clone()), row);
            }
            Write::DropImage(generation, reference) => drop(self.images.remove(&(generation, reference))),
            Write::AppendReceipt(row) => put(&mut self.receipts, row.seq, row.sha256),
            Write::DropReceipts { below, .. } => self.receipts.retain(|seq, _| *seq >= below),
            Write::PutOutbox(row) => put(&mut self.outbox, row.key.clone(), row),
            Write::DropOutbox(key) => drop(self.outbox.remove(&key)),
            Write::PutRefusal(row) => put(&mut self.refusals, (row.code, row.carrier.clone()), row),
            Write::PutSecret(row) => put(&mut self.secrets, row.sha256, row),
            Write::PutQuarantine(row) => put(&mut self.quarantine, row.sha256, row),
            Write::DropQuarantine(sha256) => drop(self.quarantine.remove(&sha256)),
            // Acknowledged receipts are marked in the store, for `history`; the core counts them in `meta`. The
            // content task's rows are none of the core's.
            Write::ReceiptAcked { .. }
            | Write::PutTransfer(_)
            | Write::DropTransfer(_)
            | Write::PutBlob(_)
            | Write::DropBlob(_) => {}
        }
    }
}

fn put<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: V) {
    map.insert(key, value);
}
