//! Publish: the ways by which what the hub decided reaches sites.

pub mod endpoint;
