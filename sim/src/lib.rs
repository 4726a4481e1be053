//! The demo and the simulator: the real cores in a simulated world.

pub mod cluster;
pub mod images;
