//! Ends the process by a kill right after a named change became durable, before anything that the change asks for.
//!
//! Compiled with debug assertions only: no package has it. A kill from outside seldom falls between a commit and its
//! effects; the system tests name a change with [`VARIABLE`], and the next one when the process is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use airlift_bundles::ids::{RandomId, Sha256Digest};
use rustix::process::{Signal, getpid, kill_process};
use tracing::error;

use super::save::slot;
use crate::core::state::{GenerationVerdict, Purpose, Step};
use crate::core::write::{OutboxRow, ReceiptRow, Rows, Slot, Write};
use crate::ports::Boxed;
use crate::ports::store::{HeldContent, Store, StoreError};

/// Names the transitions at which the process is to end, with commas between them: at the first that is committed.
pub const VARIABLE: &str = "AIRLIFT_HALT_AT";

/// A change of rows after whose commit something is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transition {
    /// A root is taken over.
    Root,
    /// A release's document is here.
    Release,
    /// An assignment waits for documents, or is in force.
    Assignment(Slot),
    /// Some pieces of a blob are verified and synced.
    Pieces,
    /// A blob is complete.
    Blob,
    /// A generation is known, or its verdict is another.
    Verdict(GenerationVerdict),
    /// An app enters a step; the work for a purpose ends by entering [`Step::Rest`].
    Step(Purpose, Step),
    /// An object is in the cluster.
    Applied,
    /// An object is out of the inventory.
    Dropped,
    /// An app has left the site.
    Gone,
    /// A receipt is signed.
    Receipt,
    /// The hub has receipts.
    Acknowledged,
}

impl Transition {
    /// All that a site can come to.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let documents =
            [Self::Root, Self::Release, Self::Assignment(Slot::Parked), Self::Assignment(Slot::Current)];
        let content = [Self::Pieces, Self::Blob];
        let verdicts = GenerationVerdict::ALL.iter().copied().map(Self::Verdict);
        let steps_for = |purpose| Step::ALL.iter().map(move |step| Self::Step(purpose, *step));
        let steps = Purpose::ALL.iter().copied().flat_map(steps_for).filter(|step| step.is_walked());
        let ends = [Self::Applied, Self::Dropped, Self::Gone, Self::Receipt, Self::Acknowledged];
        documents.into_iter().chain(content).chain(verdicts).chain(steps).chain(ends).collect()
    }

    fn is_walked(self) -> bool {
        match self {
            // An app retires for no generation's sake, and what was healthy here waits for no other app.
            Self::Step(purpose, Step::RetireWait | Step::RetireDelete) => purpose == Purpose::Install,
            Self::Step(purpose, Step::Wait) => purpose != Purpose::Repair,
            _ => true,
        }
    }

    /// What a write changes in these rows, where that is a transition.
    fn of(before: &Rows, write: &Write) -> Option<Self> {
        match write {
            Write::PutRoot(_) => Some(Self::Root),
            Write::PutDocument(_) => Some(Self::Release),
            Write::PutAssignment(row) => Some(Self::Assignment(row.slot)),
            Write::PutTransfer(_) => Some(Self::Pieces),
            Write::PutBlob(_) => Some(Self::Blob),
            Write::PutGeneration(row) => {
                let known = before.generations.get(&row.generation.id).map(|known| known.verdict);
                (known != Some(row.verdict)).then_some(Self::Verdict(row.verdict))
            }
            Write::PutApp(row) => {
                let known = before.apps.get(&row.app).map(|known| (known.step, known.purpose));
                let (step, purpose) = known.unwrap_or((Step::Rest, row.purpose));
                let of = match row.step {
                    Step::Rest => purpose,
                    Step::RetireWait | Step::RetireDelete => Purpose::Install,
                    _ => row.purpose,
                };
                (row.step != step).then_some(Self::Step(of, row.step))
            }
            Write::PutObject(row) => {
                let known = before.objects.get(&row.app).and_then(|rows| rows.get(&row.object));
                let known = known.and_then(|known| known.applied.as_ref());
                (row.applied.is_some() && row.applied.as_ref() != known).then_some(Self::Applied)
            }
            Write::DropObject(app, object) => {
                let known = before.objects.get(app).and_then(|rows| rows.get(object));
                known.is_some_and(|known| known.applied.is_some()).then_some(Self::Dropped)
            }
            Write::DropApp(_) => Some(Self::Gone),
            Write::AppendReceipt(_) => Some(Self::Receipt),
            Write::ReceiptAcked { .. } => Some(Self::Acknowledged),
            // These only go with others of the same commit, or nothing is owed after them.
            Write::PutMeta(_)
            | Write::DropDocument(_)
            | Write::PutAccepted(_)
            | Write::PutCounter(_)
            | Write::DropAssignment(_)
            | Write::DropGeneration(_)
            | Write::PutImage(_)
            | Write::DropImage(..)
            | Write::DropReceipts { .. }
            | Write::PutOutbox(_)
            | Write::DropOutbox(_)
            | Write::PutRefusal(_)
            | Write::PutSecret(_)
            | Write::PutQuarantine(_)
            | Write::DropQuarantine(_)
            | Write::DropTransfer(_)
            | Write::DropBlob(_) => None,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Release => f.write_str("release"),
            Self::Assignment(at) => write!(f, "assignment-{}", slot(*at)),
            Self::Pieces => f.write_str("pieces"),
            Self::Blob => f.write_str("blob"),
            Self::Verdict(verdict) => write!(f, "verdict-{verdict}"),
            Self::Step(_, step @ (Step::RetireWait | Step::RetireDelete)) => write!(f, "{step}"),
            Self::Step(purpose, step) => write!(f, "{purpose}-{step}"),
            Self::Applied => f.write_str("object-applied"),
            Self::Dropped => f.write_str("object-dropped"),
            Self::Gone => f.write_str("app-gone"),
            Self::Receipt => f.write_str("receipt"),
            Self::Acknowledged => f.write_str("receipt-acknowledged"),
        }
    }
}

/// No transition has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: {0:?} is no transition")]
pub struct UnknownTransition(String);

impl FromStr for Transition {
    type Err = UnknownTransition;

    fn from_str(name: &str) -> Result<Self, UnknownTransition> {
        let found = Self::all().into_iter().find(|one| one.to_string() == name);
        found.ok_or_else(|| UnknownTransition(name.to_owned()))
    }
}

/// The same store where [`VARIABLE`] names nothing, else one whose commits may be the process's last.
///
/// # Errors
/// [`StoreError`] where the rows do not load, or a name is unknown.
pub async fn as_wanted(store: Arc<dyn Store>) -> Result<Arc<dyn Store>, StoreError> {
    let Ok(names) = std::env::var(VARIABLE) else { return Ok(store) };
    let names = names.split(',').filter(|name| !name.is_empty());
    let wanted: Result<BTreeSet<Transition>, _> = names.map(str::parse).collect();
    let wanted = wanted.map_err(|error| StoreError::Failed(error.to_string()))?;
    let rows = Mutex::new(store.load().await?);
    Ok(Arc::new(HaltingStore { store, wanted, rows }))
}

/// Looks at all that is committed.
struct HaltingStore {
    store: Arc<dyn Store>,
    wanted: BTreeSet<Transition>,
    /// The rows as they are once everything that is queued is committed.
    rows: Mutex<Rows>,
}

impl HaltingStore {
    /// Which of the wanted transitions these writes hold.
    fn reached(&self, writes: &[Write]) -> BTreeSet<Transition> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reached = BTreeSet::new();
        for write in writes {
            reached.extend(Transition::of(&rows, write).filter(|found| self.wanted.contains(found)));
            rows.apply(write);
        }
        reached
    }
}

/// Ends this process as a power cut would.
fn halt(at: &BTreeSet<Transition>) -> ! {
    let names: Vec<String> = at.iter().map(Transition::to_string).collect();
    error!(at = %names.join(","), "process ends here");
    loop {
        let _ = kill_process(getpid(), Signal::KILL); // nobody is left to be told
    }
}

impl Store for HaltingStore {
    fn commit(&self, writes: Vec<Write>) -> Boxed<'static, Result<(), StoreError>> {
        let reached = self.reached(&writes);
        let commit = self.store.commit(writes);
        if reached.is_empty() {
            return commit;
        }
        Box::pin(async move {
            match commit.await {
                Ok(()) => halt(&reached),
                failed => failed,
            }
        })
    }

    fn load(&self) -> Boxed<'_, Result<Rows, StoreError>> {
        self.store.load()
    }

    fn content(&self) -> Boxed<'_, Result<HeldContent, StoreError>> {
        self.store.content()
    }

    fn receipts(
        &self,
        chain_id: RandomId,
        from: u64,
        upto: u64,
        bytes_max: usize,
    ) -> Boxed<'_, Result<Vec<ReceiptRow>, StoreError>> {
        self.store.receipts(chain_id, from, upto, bytes_max)
    }

    fn outbox(&self, key: &str) -> Boxed<'_, Result<Option<OutboxRow>, StoreError>> {
        self.store.outbox(key)
    }

    fn document(&self, sha256: Sha256Digest) -> Boxed<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.store.document(sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transition_is_found_by_the_one_name_that_it_has() {
        let all = Transition::all();
        for one in &all {
            assert_eq!(one.to_string().parse(), Ok(*one));
        }
        let names: BTreeSet<String> = all.iter().map(Transition::to_string).collect();
        assert_eq!(names.len(), all.len());
        assert!("install-nothing".parse::<Transition>().is_err());
    }
}
