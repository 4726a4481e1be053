//! The Kubernetes edge: the `Cluster` port over a real API server.
//!
//! Requests are made by hand: a body goes out byte for byte as it was rendered, replies are asked for as metadata only,
//! and the status, `Retry-After` and continuation tokens are ours to read. Nothing is cached but where kinds live and
//! which nodes are Ready.

mod autoscaled;
mod client;
mod connection;
mod discovery;
pub mod fields;
mod holdings;
mod kube;
mod kubeconfig;
mod lease;
mod listing;
mod nodes;
pub mod others;
pub mod owned;
pub mod pace;
pub mod path;
pub mod refusal;
mod room;
mod watch;

pub(crate) use self::connection::Ask;
pub use self::kube::KubeCluster;
