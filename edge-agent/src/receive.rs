//! Everything that comes in: content by digest, documents and pieces from the hub, and sticks.

pub mod content;
pub mod media;
pub mod mqtt;
