//! What travels between operator, hub and site: documents, signatures, the bundle format and wire messages.
//!
//! Modules stand in the order of a bundle's journey. Nothing here opens a connection or needs a runtime.

pub mod accept;
pub mod causes;
pub mod code;
pub mod document;
pub mod envelope;
pub mod ids;
pub mod join;
pub mod json;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod media;
#[cfg(feature = "mutations")]
pub mod mutation;
pub mod pack;
pub mod parameters;
pub mod pieces;
pub mod quantity;
pub mod render;
pub mod reversal;
pub mod telling;
pub mod wire;

#[cfg(test)]
mod fixture;
