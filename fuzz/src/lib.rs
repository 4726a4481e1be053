//! Hostile input: what the product does with bytes of others, as plain functions.
//!
//! [`targets`] has one function for each kind of input. libFuzzer calls them with what it finds (`tests/fuzz`), a test
//! calls them with what was kept (`corpus/`), and neither may see a panic. [`receive`] goes the whole way from a tar to
//! an accepted assignment, over the [`fleet`]'s samples; [`mutate`] makes the mutants that a test sends down that way.

mod endpoint;
pub mod fleet;
pub mod mutate;
pub mod receive;
pub mod targets;
