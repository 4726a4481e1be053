//! Judges whether objects are as desired, and gathers what explains it when they are not.
//!
//! All of it is pure: the Kubernetes edge reads objects, pods and nodes, and hands them in. The rows of
//! [`judge`] stand as a table in the crate's `DESIGN.md`, with a test for each.

pub mod evidence;
pub mod judge;
pub mod pod;
pub(crate) mod reading;
pub mod roster;
pub mod rules;
pub mod workload;

pub use judge::{Judgement, judge};

use std::collections::BTreeSet;

/// What a verdict needs to know beside the object itself.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The object's pods, for kinds that have any.
    pub pods: Vec<pod::Pod>,
    /// Names of the nodes that are Ready; `None` where nobody has looked.
    pub ready_nodes: Option<BTreeSet<String>>,
    /// The revision that a DaemonSet's controller wants; `None` where nobody has looked, or it has not seen the
    /// newest specification.
    pub revision: Option<String>,
    /// The claim's storage class binds only when a pod uses the claim.
    pub waits_for_consumer: bool,
}

#[cfg(test)]
mod tests;
