//! The bed of the system tests: sites with a real control plane, kubelet and
//! containerd, each in a network namespace of its own, all on one machine.
//!
//! A site is made in this order: a directory and control group that end with
//! the run ([`bed`]), a namespace with no way out ([`namespace`]), processes in
//! both ([`process`]), keys ([`certificates`]), containerd and Kubernetes
//! ([`cluster`]), kept for the next test that needs one ([`site`]); where an API
//! server alone is enough all tests share one ([`api_server`]). What a test
//! sends there is made by [`image`], [`app`], [`sample`] and [`manifests`],
//! signed and published at a [`hub`], passes the [`relay`] and perhaps a [`broker`], and arrives at an
//! [`agent`] that may look at its cluster through a [`gate`]. A [`model_site`] has no Kubernetes, but a disk that may
//! lose what was not synced ([`lossy`]), by [`chance`]. [`sightings`] keeps
//! what was to be seen for moments only.

pub mod agent;
pub mod api_server;
pub mod app;
pub mod bed;
pub mod broker;
pub mod certificates;
pub mod chance;
pub mod clock;
pub mod cluster;
pub mod components;
pub mod gate;
pub mod hub;
pub mod image;
pub mod lossy;
pub mod manifests;
pub mod model_site;
pub mod namespace;
pub mod process;
pub mod relay;
pub mod sample;
pub mod sightings;
pub mod site;

/// Tells the reader of a failed test where it was, or where to look.
#[expect(clippy::print_stderr, reason = "shown by libtest with the test that failed")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
