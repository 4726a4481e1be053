//! The HTTPS API of the hub.

pub mod types;
