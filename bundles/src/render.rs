//! Rendering: which objects a choice of overlays and parameters gives, as a pure function.

pub mod object;
pub mod pods;
