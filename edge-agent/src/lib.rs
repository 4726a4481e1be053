//! The agent that keeps one K3s site right, with or without a network.
//!
//! Modules stand in the order of a bundle's journey at the site; the core decides, everything else carries.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

pub mod apply;
mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod enrol;
pub mod http;
pub mod import;
mod memory;
#[cfg(feature = "mutations")]
pub mod mutation;
mod notify;
pub mod observe;
pub mod ports;
pub mod prepare;
pub mod receive;
pub mod run;
pub mod store;
pub mod support;
pub mod tls;

/// What an agent acts on; an empty place is filled as the configuration says.
#[derive(Clone, Default)]
pub struct World {
    /// The cluster, in the place of the one that `kubernetes.kubeconfig` names.
    pub cluster: Option<Arc<dyn ports::Cluster>>,
    /// The container runtime, in the place of the one at `containerd.socket`.
    pub images: Option<Arc<dyn ports::Images>>,
}

/// Runs `airlift-agent` with these arguments, the program's name first, to its exit code.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    main_with(args, World::default())
}

/// The same in another world: the demo's agents act on the simulator's cluster.
pub fn main_with(args: impl IntoIterator<Item = OsString>, world: World) -> ExitCode {
    // TLS has one provider in this process; where the caller has installed it already, that is the one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run(args, world)
}
