//! Plan: what each site should run. Pure functions over rows; the edges load and store them.

pub mod compose;
pub mod order;
pub mod select;
pub mod sign;
