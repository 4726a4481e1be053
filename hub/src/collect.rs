//! Collect: what sites say happened. The chain's logic and freshness are pure; the edges verify and store.

pub mod chain;
pub mod freshness;
pub mod take;
pub mod verify;
