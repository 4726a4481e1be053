//! Invariants broken on purpose, so that the simulator's checkers can be seen to be awake. Only with the feature
//! `mutations`, which no package is built with; each thread breaks at most one.

use std::cell::Cell;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A site that was ever heard of counts as fresh.
    AlwaysFresh,
    /// Every fifth receipt that comes over the line is let go without a word.
    LosesReceipts,
    /// Nobody is told anything while something waits for a site that was never heard of.
    OneStopsAll,
}

thread_local! {
    static CHOSEN: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Breaks this from now on, or nothing, in what runs on this thread.
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

/// Whether this is broken.
pub(crate) fn is(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}
