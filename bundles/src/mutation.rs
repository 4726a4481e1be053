//! Invariants broken on purpose, so that the simulator's checkers can be seen to be awake. Only with the feature
//! `mutations`, which no package is built with; each thread breaks at most one.

use std::cell::Cell;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A parameter may have any name and any value.
    AnyValue,
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
