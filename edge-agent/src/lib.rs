//! The agent that keeps one K3s site right, with or without a network.
//!
//! Modules stand in the order of a bundle's journey at the site; the core decides, everything else carries.

pub mod apply;
pub mod clock;
pub mod config;
pub mod core;
pub mod enrol;
pub mod http;
pub mod import;
pub mod observe;
pub mod ports;
pub mod prepare;
pub mod receive;
pub mod run;
pub mod store;
pub mod tls;
